"""``aegis run``: results, grants in pairs, exit codes, and one line with a remedy for bad input."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import ROOT, aegis, guest

LIMIT = "--fuel-limit=none"


def test_a_program_writes_to_stdout() -> None:
    ended = aegis("run", guest("hello"))
    assert ended == (0, "hello, world\n", "")


def test_a_function_by_its_signature() -> None:
    assert aegis("run", "-e", "add", guest("add"), "2", "-3").out == "-1\n"
    assert aegis("run", "-f", "add", guest("add"), "--", "0x10", "2").out == "18\n"
    assert aegis("run", "--function", "addf", guest("add"), "1.5", "2").out == "3.5\n"


def test_a_granted_file_is_read_and_another_is_not(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("one two\nthree\n")
    (tmp_path / "other").write_text("secret\n")
    granted = aegis("run", "--allow-read", "words", guest("wordcount"), "--", "words", cwd=tmp_path)
    assert granted.code == 0
    assert granted.out.split() == ["2", "3", "14", "words"]
    denied = aegis("run", "--allow-read", "words", guest("wordcount"), "--", "other", cwd=tmp_path)
    assert denied.code == 1
    assert "secret" not in denied.out


def test_standard_input_is_empty_unless_given() -> None:
    assert aegis("run", guest("wordcount"), stdin=b"a b c\n").out.split()[:3] == ["0", "0", "0"]
    assert aegis("run", "--stdin", "inherit", guest("wordcount"), stdin=b"a b c\n").out.split()[:3] == ["1", "3", "6"]


def test_the_module_comes_from_standard_input() -> None:
    from tests.cli.test_inspect import binary

    assert aegis("run", "-", stdin=binary(guest("hello"))).out == "hello, world\n"


@pytest.mark.parametrize(
    ("name", "options", "code", "status"),
    [
        ("hostile/spin", ["--timeout=300ms", LIMIT], 124, "timeout"),
        ("hostile/spin", ["--fuel-limit=1e6"], 152, "out-of-fuel"),
        ("hostile/spin-in-start", ["--timeout=300ms", LIMIT], 124, "timeout"),
        ("hostile/deep-recursion", [], 134, "stack-exhausted"),
        ("hostile/memory-initial", [], 137, "memory-exceeded"),
        ("hostile/memory-grown", [], 137, "memory-exceeded"),
        ("hostile/table-initial", [], 137, "memory-exceeded"),
        ("hostile/stdout-flood", [LIMIT], 153, "output-exceeded"),
        ("hostile/host-call-flood", ["--host-calls=1000", LIMIT], 153, "quota-exceeded"),
        ("hostile/wasi-unstable", [], 126, "refused"),
    ],
)
def test_each_ending_has_its_code_and_status(name: str, options: list[str], code: int, status: str) -> None:
    ended = aegis("-f", "json", "run", *options, guest(name))
    assert ended.code == code
    assert ended.document["status"] == status
    assert ended.document["exit_code"] == code
    assert ended.document["error"]["message"]


def test_a_killed_run_says_which_option_raises_the_limit() -> None:
    ended = aegis("run", "--fuel-limit=1e6", guest("hostile/spin"))
    assert ended.err.startswith(
        "error: fuel limit exceeded (1,000,000/1,000,000 units in one call): raise it with fuel or --fuel-limit"
    )
    assert "--fuel-limit" in ended.err
    assert ended.err.count("\n") == 1


def test_a_trap_after_one_growth_that_was_refused_names_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "grows.wat"
    path.write_text("""(module (memory (export "memory") 1) (func (export "_start")
      (if (i32.eq (memory.grow (i32.const 4096)) (i32.const -1)) (then unreachable))))""")
    ended = aegis("run", path)
    assert (ended.code, ended.err.partition(":")[0]) == (137, "error")
    assert "268,435,456 more were refused) and the guest trapped: raise it with memory or --memory-limit" in ended.err


def test_metrics_and_events(tmp_path: Path) -> None:
    log = tmp_path / "events"
    ended = aegis("run", "--metrics", "--events", log, guest("hello"))
    assert ended.out == "hello, world\n"
    assert "fuel" in ended.err
    kinds = [line.split('"kind":"')[1].split('"')[0] for line in log.read_text().splitlines()]
    assert kinds[:2] == ["run_started", "module_loaded"]
    assert "host_function_called" in kinds
    assert kinds[-2:] == ["execution_completed", "run_ended"]
    assert '"kind":"module_loaded"' in aegis("run", "--events", "-", guest("hello")).err


def test_clock_and_randomness_are_stand_ins_unless_granted() -> None:
    again = [aegis("run", "--timeout=5s", guest("hostile/sleep-hour")).out for _ in range(2)]
    assert again[0] == again[1]
    waited = aegis("run", "--timeout=300ms", "--allow-clock", guest("hostile/sleep-hour"))
    assert waited.code == 124


def test_a_policy_file_and_flags_on_top(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("one\n")
    (tmp_path / "aegis.toml").write_text('[capabilities.filesystem]\npaths = [{ path = "words", guest = "words" }]\n')
    ended = aegis("-c", tmp_path / "aegis.toml", "run", guest("wordcount"), "--", "words")
    assert ended.out.split()[:3] == ["1", "1", "4"]
    assert aegis("run", "-c", tmp_path / "aegis.toml", "--fuel-limit=10", guest("wordcount"), "--", "words").code == 152


BAD = [
    (["run"], 2, "MODULE"),
    (["run", "no-such-file.wasm"], 127, "no such file"),
    (["run", "."], 126, "directory"),
    (["run", "-e", "ad", guest("add"), "1", "2"], 127, "did you mean add"),
    (["run", "-e", "add", guest("add"), "1"], 2, "add(i32, i32) -> (i32)"),
    (["run", "-e", "add", guest("add"), "1", "x"], 2, "argument 2"),
    (["run", "-e", "add", guest("add"), "1", "99999999999"], 2, "out of range"),
    (["run", "--memory-limit", "12parsecs", guest("hello")], 125, "'parsecs' is not a unit"),
    (["run", "--timeout", "0", guest("hello")], 125, "timeout"),
    (["run", "--stack-limit", "3MiB", guest("hello")], 125, "stack"),
    (["run", "--allow-read", "", guest("hello")], 125, "empty path"),
    (["run", "--allow-read", "/no/such/path", guest("wordcount"), "--", "x"], 125, "/no/such/path"),
    (["run", "--allow-read", "/proc", guest("hello")], 125, "/proc"),
    (["run", "--stdin", "inherit", "--stdin", "empty", guest("hello")], 2, "--stdin"),
    (["run", "--stdin", "/no/such/file", guest("hello")], 125, "/no/such/file"),
    (["run", "--allow-clock=sundial", guest("hello")], 125, "sundial"),
    (["run", "--invoke", "f()", guest("hello")], 126, "--invoke is for components: use -e for a core module"),
    (["run", guest("greet")], 126, "env.log"),
    (["-c", "/no/such/aegis.toml", "run", guest("hello")], 125, "/no/such/aegis.toml"),
    (["frobnicate"], 2, "frobnicate"),
    (["run", "--frobnicate", guest("hello")], 2, "--frobnicate"),
]


@pytest.mark.parametrize(("words", "code", "says"), BAD, ids=lambda v: None)
def test_bad_input_gets_one_line_and_its_code(words: list[object], code: int, says: str) -> None:
    ended = aegis(*words)
    assert ended.code == code
    assert says in ended.err
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    document = aegis("-f", "json", *words).document
    assert document["exit_code"] == code
    assert says in document["error"]["message"]


@pytest.mark.parametrize(
    ("name", "data", "code", "says"),
    [
        ("empty.wasm", b"", 126, "is empty"),
        ("text.wasm", b"hello", 126, "magic bytes"),
        ("wat.wasm", b"(module)", 126, ".wat"),
        ("cut.wasm", b"\0asm\1\0\0\0\1\5", 126, "past the end"),
        ("component.wasm", b"\0asm\x0d\0\1\0", 127, "the component exports no wasi:cli/run"),
        ("large.wasm", bytes(33 << 20), 126, "/33,554,432 bytes"),
        ("bad.wat", b"(module (func", 126, "not valid WebAssembly text"),
    ],
)
def test_an_invalid_module_is_refused(tmp_path: Path, name: str, data: bytes, code: int, says: str) -> None:
    (tmp_path / name).write_bytes(data)
    ended = aegis("run", tmp_path / name)
    assert ended.code == code
    assert says in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [["run", guest("hello")], ["inspect", guest("hello")], ["doctor"]])
def test_a_full_disk_is_reported(words: list[object]) -> None:
    import subprocess

    from tests.cli.command import COMMAND

    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, *map(str, words)], stdout=full, stderr=subprocess.PIPE, timeout=60, cwd=ROOT, check=False
        )
    assert done.returncode == 125
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1


def test_guest_text_is_escaped_in_reports() -> None:
    ended = aegis("run", "-e", "_start", guest("hostile/escape-codes"))
    assert "\x1b" not in ended.err
    document = aegis("-f", "json", "run", guest("hostile/escape-codes"))
    assert "\x1b" not in document.out


def test_the_log_is_shown_where_it_is_granted() -> None:
    granted = aegis("run", "--allow-logging=warn", guest("logging"))
    assert granted.err.splitlines() == ["log: warn: warn", "log: error: error", "log: critical: critical"]
    assert aegis("run", guest("logging")).err == ""


@pytest.mark.parametrize("word", ["9" * 20, "9" * 5000, "-" + "9" * 5000])
def test_a_number_of_any_length_beyond_the_type_is_out_of_range(word: str) -> None:
    done = aegis("run", "-f", "add", guest("add"), "--", word, "1")
    assert done.code == 2
    assert "out of range" in done.err
