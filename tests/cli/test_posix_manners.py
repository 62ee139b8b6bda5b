"""A closed reader, SIGHUP, and the variables of Python: the command behaves as tools of POSIX do.

Oracle: the exit codes of a shell, 128 plus the number of the signal, and the modules that are on disk.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND, ROOT, aegis, guest
from tests.cli.test_signals import started
from tests.isolation.isolated import only_where_there_are_workers

HELLO = guest("hello")
WAYS: list[Any] = [(), pytest.param(("--isolate",), marks=only_where_there_are_workers)]

SAYS_FOR_EVER = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\10\\00\\00\\00\\06\\00\\00\\00") (data (i32.const 16) "ready\\0a")
  (func (export "_start")
    (loop $for_ever
      (drop (call $write (i32.const STREAM) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br $for_ever))))"""


def without_reader(*words: object, stream: str = "stdout", cwd: Path = ROOT) -> tuple[int, str]:
    """Run ``aegis`` with a stream whose reader is gone; return the exit code and the text of the other stream."""
    reader, writer = os.pipe()
    os.close(reader)
    other = "stderr" if stream == "stdout" else "stdout"
    streams: dict[str, Any] = {stream: writer, other: subprocess.PIPE}
    done = subprocess.run([*COMMAND, *map(str, words)], cwd=cwd, timeout=60, check=False, text=True, **streams)
    os.close(writer)
    return done.returncode, done.stderr if stream == "stdout" else done.stdout


@pytest.mark.usual("1-stdout-way1", "2-stderr-way0")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("number", "stream"), [(1, "stdout"), (2, "stderr")])
def test_a_guest_without_a_reader_ends_silently_with_141(
    tmp_path: Path, way: tuple[str, ...], number: int, stream: str
) -> None:
    """The guest ignores the error of its write, so it would write until the deadline."""
    path = tmp_path / "says.wat"
    path.write_text(SAYS_FOR_EVER.replace("STREAM", str(number)))
    events = tmp_path / "events"
    words = ["--timeout=300s", "--stdout-limit=none", "--stderr-limit=none", "--host-calls=none"]
    assert without_reader("run", *way, *words, "--events", events, path, stream=stream) == (141, "")
    ends = [json.loads(line) for line in events.read_text().splitlines()[-2:]]
    assert [(end["kind"], end["status"], end["exit_code"]) for end in ends] == [
        ("execution_completed", "interrupted", 141), ("run_ended", "interrupted", 141),
    ]  # fmt: skip


def test_metrics_are_printed_for_a_run_without_a_reader() -> None:
    code, err = without_reader("run", "--metrics", HELLO)
    assert code == 141
    assert err.startswith("status    interrupted, exit code 141\n")
    assert "error: " not in err


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(
    "words",
    [
        ["-f", "json", "run", HELLO], ["-f", "json", "run", "absent.wasm"],
        ["run", "-e", "add", guest("add"), "2", "3"],
        ["inspect", HELLO], ["validate", HELLO], ["doctor"], ["policy", "show"], ["-f", "json", "validate", HELLO],
        ["wit"],
    ],
    ids=lambda words: " ".join(map(str, words[:3])),
)  # fmt: skip
def test_a_result_without_a_reader_ends_silently(words: list[object]) -> None:
    code, err = without_reader(*words)
    assert code == (127 if "absent.wasm" in words else 141)
    assert ("error: " in err) == ("absent.wasm" in words), "an error that nothing else reports stands on stderr"


def test_metrics_on_stderr_without_a_reader_end_with_141() -> None:
    assert without_reader("run", "--metrics", HELLO, stream="stderr") == (141, "hello, world\n")


def test_a_run_whose_events_have_no_reader_does_not_start() -> None:
    assert without_reader("run", "--events", "-", HELLO, stream="stderr") == (141, "")


def test_in_the_library_a_guest_without_a_reader_gets_an_error_code(tmp_path: Path) -> None:
    program = (
        "import sys; from aegis import Aegis, StdioCapability\n"
        "for sigpipe in (False, True):\n"
        "    runtime = Aegis(stdio=StdioCapability(stdout='inherit', sigpipe=sigpipe))\n"
        f"    with runtime.sandbox(runtime.load_file({str(HELLO)!r})) as sandbox:\n"
        "        outcome = sandbox.run('_start')\n"
        "        print(outcome.status, type(outcome.error).__name__, file=sys.stderr)\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, cwd=ROOT,
        check=True,
    )  # fmt: skip
    os.close(writer)
    assert done.stderr == "returned NoneType\ninterrupted ReaderGone\n"


@pytest.mark.parametrize("way", WAYS)
def test_a_hangup_ends_a_guest_with_129(tmp_path: Path, way: tuple[str, ...]) -> None:
    path = tmp_path / "spin.wat"
    path.write_text('(module (func (export "_start") (loop $for_ever (br $for_ever))))')
    with started("run", "--events=-", "--timeout=500s", *way, path) as process:
        assert process.stderr is not None
        assert any(b"execution_started" in line for line in iter(process.stderr.readline, b""))
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 129
    assert b"error: hung up\n" in err


def test_a_hangup_that_the_parent_ignores_is_ignored(tmp_path: Path) -> None:
    """``nohup aegis run`` goes on: the guest ends by itself after the signal has come."""
    path = tmp_path / "says.wat"
    path.write_text(SAYS_FOR_EVER.replace("STREAM", "1"))
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *COMMAND, "run", "--stdout-limit=none", "--timeout=300s", path],
        stdout=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.stdout.read(1 << 18)  # far more than the pipe holds, so written after the signal
    process.stdout.close()
    assert process.wait(60) == 141


PLANTED = ("click", "tomllib", "wasmtime", "tempfile", "h11")
COMMANDS = [
    [sys.executable, "-P", "-c", "from aegis.cli import main; main()"], [sys.executable, "-P", "-m", "aegis"],
]  # fmt: skip


@pytest.mark.usual(every=5)
@pytest.mark.parametrize("command", COMMANDS, ids=["entry point", "module"])
@pytest.mark.parametrize("variable", ["PYTHONPATH", "PYTHONUSERBASE"])
@pytest.mark.parametrize("words", [["run", str(HELLO)], ["doctor"], ["policy", "show"]], ids=lambda words: words[0])
def test_the_environment_puts_no_module_into_the_command(
    tmp_path: Path, command: list[str], variable: str, words: list[str]
) -> None:
    for name in PLANTED:
        (tmp_path / f"{name}.py").write_text(f"print('planted {name}')")
    done = subprocess.run(
        [*command, *words], cwd=ROOT, env={**os.environ, variable: str(tmp_path)}, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert "planted" not in done.stdout + done.stderr


def test_python_home_is_as_without() -> None:
    environment = {**os.environ, "PYTHONHOME": f"{sys.base_prefix}:{sys.base_exec_prefix}"}
    done = subprocess.run(
        [*COMMAND, "run", str(HELLO)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "hello, world\n")


def test_arguments_survive_the_second_start(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for words, code in ((["run", "-e", "add", str(guest("add")), "2", "-3"], 0), (["--", "-x"], 2), ([""], 2)):
        plain, again = (
            subprocess.run([*COMMAND, *words], cwd=ROOT, env=env, capture_output=True, timeout=60, check=False)
            for env in (dict(os.environ), environment)
        )
        assert (again.returncode, again.stdout, again.stderr) == (code, plain.stdout, plain.stderr)


def test_objects_that_the_command_names_come_from_the_path(tmp_path: Path) -> None:
    (tmp_path / "predicates.py").write_text("def never(case):\n    return None\n")
    (tmp_path / "click.py").write_text("print('planted click')")
    words = [
        "fuzz",
        "--runs",
        "20",
        "--jobs",
        "1",
        "--invoke",
        "add",
        "--oracle",
        "predicates:never",
        str(guest("add")),
    ]
    for environment, found in (({"PYTHONPATH": str(tmp_path)}, True), ({}, False)):
        env = {**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, **environment}
        done = subprocess.run(
            [*COMMAND, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert ("No module named 'predicates'" not in done.stderr) is found
        assert "planted" not in done.stdout + done.stderr


def test_the_guest_may_come_from_a_pipe() -> None:
    reader, writer = os.pipe()
    os.write(writer, HELLO.read_bytes())
    os.close(writer)
    done = subprocess.run(
        [*COMMAND, "run", f"/dev/fd/{reader}"],
        pass_fds=[reader],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    os.close(reader)
    assert (done.returncode, done.stdout) == (0, b"hello, world\n")


def test_two_dashes_end_the_options_of_every_command() -> None:
    assert aegis("--", "validate", "--", HELLO).code == 0
    assert aegis("inspect", "--", "--no-such-file").code == 127
    assert aegis("policy", "--", "check", "--no-such-file").code == 125
