"""Bad input ends the command with one clear line and the documented exit code, as JSON if requested."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from aegis.cli.main import main
from tests.cli.command import COMMAND, Ended, aegis, guest

HELLO = str(guest("hello"))
FILES = ("run", "validate", "inspect", "fuzz")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the command in this process, in the test's directory; rejected input never reaches a guest."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Ended:
        code = main(words)
        return Ended(code, *capfd.readouterr())

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory of files that are neither modules nor policies."""
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


ARTIFACTS = [
    ("empty", 126, "is empty, not a WebAssembly module"),
    ("folder", 126, "is a directory, not a WebAssembly module"),
    ("pipe", 127, "is a pipe without a writer"),
    ("/dev/zero", 126, "(33,554,433/33,554,432 bytes, or more): raise it with module_size or --module-size"),
    ("", 127, "the file name is empty"),
    ("missing", 127, "no such file"),
]


@pytest.mark.parametrize("command", FILES)
@pytest.mark.parametrize(("name", "code", "says"), ARTIFACTS)
def test_an_invalid_module_gets_one_line_from_every_command(
    command: str, name: str, code: int, says: str, folder: Path, here: Callable[..., Ended]
) -> None:
    ended = here(command, name)
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith("error: ")
    assert says in ended.err
    assert ended.err.count("\n") == 1
    document = here("-f", "json", command, name).document
    assert says in str(document)


def test_a_pipe_with_a_writer_is_read_as_a_file(folder: Path) -> None:
    from tests.cli.test_inspect import binary

    data = binary(guest("hello"))
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(data)
    done = subprocess.run(
        [*COMMAND, "run", f"/dev/fd/{reading}"], pass_fds=[reading], capture_output=True, timeout=60, check=False
    )
    os.close(reading)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello, world\n", b"")


POLICIES = [
    (b"\xff\xfe\x00binary", "is not UTF-8 text"),
    (b"[limits]\nfuel = 1\nfuel = 2\n", "policy:3: not valid TOML"),
    (b"[limits]\nfuel = nan\n", "policy:2: fuel: the number is not finite"),
    (b"limits = 1\n", "policy:1: 'limits' must be a table, not a number"),
    (b"[capabilities]\nfilesystem = 3\n", "policy:2: 'filesystem' must be a table"),
    (b"[capabilities.filesystem]\npaths = 'x'\n", "policy:2: paths must be a list"),
    (b"[limits]\nmemory = [1]\n", "policy:2: memory: expected a quantity"),
    (b"#" * (1 << 21), "is larger than 1 MiB"),
    (b"a = " + b"[" * 20_000, "is nested too deeply for a policy file"),
]


@pytest.mark.parametrize(("text", "says"), POLICIES, ids=lambda value: "")
def test_a_bad_policy_file_gets_one_line_with_its_place(
    text: bytes, says: str, tmp_path: Path, here: Callable[..., Ended]
) -> None:
    (tmp_path / "policy").write_bytes(text)
    ended = here("-c", "policy", "run", HELLO)
    assert (ended.code, ended.out) == (125, "")
    assert says in ended.err
    assert ended.err.count("\n") == 1
    assert here("-f", "json", "-c", "policy", "run", HELLO).document["exit_code"] == 125


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("folder", 125, "cannot be read: is a directory"),
        ("pipe", 125, "is a pipe without a writer"),
        ("/dev/zero", 125, "is larger than 1 MiB"),
        ("", 125, "the file name is empty"),
    ],
)
def test_an_invalid_policy_file_is_reported(
    name: str, code: int, says: str, folder: Path, here: Callable[..., Ended]
) -> None:
    for words in (["-c", name, "run"], ["run", "-c", name], ["run", HELLO, f"--config={name}"]):
        ended = here(*words, *([] if HELLO in words else [HELLO]))
        assert ended.code == code
        assert says in ended.err
        assert ended.err.count("\n") == 1


def test_a_byte_order_mark_is_no_part_of_a_policy(tmp_path: Path) -> None:
    (tmp_path / "policy").write_bytes(b"\xef\xbb\xbf[limits]\nfuel = 1\n")
    assert aegis("-c", "policy", "run", HELLO, cwd=tmp_path).code == 152


LIMITS = [
    "0", "-1", "inf", "-inf", "nan", "9223372036854775808", "1e400", "", " ", "0x10", "1,5", "\u0661", "NONE", "1 2",
    "1kbit", "--", "9" * 400,
]  # fmt: skip


@pytest.mark.parametrize("flag", ["--memory-limit", "--timeout", "--fuel-limit", "--stack-limit"])
@pytest.mark.parametrize("value", LIMITS)
def test_a_limit_that_means_nothing_gets_one_line(flag: str, value: str, here: Callable[..., Ended]) -> None:
    ended = here("run", f"{flag}={value}", HELLO)
    assert (ended.code, ended.out) == (125, "")
    assert ended.err.startswith(f"error: {flag.removeprefix('--').removesuffix('-limit')}: ")
    assert ended.err.count("\n") == 1
    assert len(ended.err) < 400


@pytest.mark.parametrize("value", ["1gIb", "1GIB", "64mb", "1e6", "1_000_000", " 1MiB ", "none"])
def test_units_are_read_in_any_case(value: str, here: Callable[..., Ended]) -> None:
    assert here("validate", "--strict", f"--memory-limit={value}", HELLO).code == 0


@pytest.mark.usual(every=5)
@pytest.mark.parametrize("form", ["human", "json"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["run", HELLO], 125),
        (["run", HELLO, "--bogus"], 2),
        (["frobnicate"], 2),
        (["run", "missing"], 127),
        (["validate", HELLO], 125),
        (["inspect", "--all", HELLO], 125),
        (["doctor"], 125),
        (["run", "--help"], 125),
        (["--version"], 125),
    ],
)
@pytest.mark.parametrize("out", ["/dev/full", "read-only"])
def test_an_output_that_cannot_be_written_is_reported_on_stderr(
    out: str, words: list[str], code: int, form: str
) -> None:
    with open("/dev/full", "wb") if out == "/dev/full" else open("/dev/null", "rb") as stdout:
        done = subprocess.run(
            [*COMMAND, "-f", form, *words], stdout=stdout, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert done.returncode == code
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1
