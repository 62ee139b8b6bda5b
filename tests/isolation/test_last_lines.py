"""An error of a guest shows the guest's last lines on stderr, escaped and bounded, in process and isolated."""

from __future__ import annotations

import json

import pytest

from aegis import ExecutionReport, GuestError, GuestExit, GuestTrap, OutputExceeded, Sandbox, StdioCapability
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

pytestmark = only_where_there_are_workers
everywhere = pytest.mark.parametrize("place", PLACES)


def guest(text: str, end: str, stream: int = 2) -> str:
    data = "".join(f"\\{byte:02x}" for byte in text.encode("latin-1"))
    return f"""
    (module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 2)
      (data (i32.const 0) "\\10\\00\\00\\00") (data (i32.const 4) "{length(text)}") (data (i32.const 16) "{data}")
      (func (export "go")
        (drop (call $write (i32.const {stream}) (i32.const 0) (i32.const 1) (i32.const 8)))
        {end}))
    """


def length(text: str) -> str:
    return "".join(f"\\{byte:02x}" for byte in len(text).to_bytes(4, "little"))


def failed(place: str, text: str, end: str = "unreachable", stream: int = 2, **stdio: str) -> GuestError:
    made = runtime(place, stdio=StdioCapability(**stdio))
    with made.sandbox(made.load_wat(guest(text, end, stream))) as sandbox:
        with pytest.raises(GuestError) as caught:
            sandbox.call("go")
        return caught.value


def notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


@everywhere
def test_a_trap_has_the_last_lines_as_a_note(place: str) -> None:
    error = failed(place, "first\n\npanicked at src/main.rs: index out of bounds\n")
    assert isinstance(error, GuestTrap)
    assert notes(error) == [
        "the guest's last lines on stderr:\n  | first\n  | panicked at src/main.rs: index out of bounds"
    ]


@everywhere
def test_an_exit_with_an_error_has_them_and_one_with_0_does_not(place: str) -> None:
    error = failed(place, "usage: prog FILE\n", "(call $exit (i32.const 3))")
    assert isinstance(error, GuestExit)
    assert notes(error) == ["the guest's last lines on stderr:\n  | usage: prog FILE"]
    assert notes(failed(place, "all well\n", "(call $exit (i32.const 0))")) == []


@everywhere
def test_a_limit_has_them_too(place: str) -> None:
    made = runtime(place, stderr="20B")
    with made.sandbox(made.load_wat(guest("a" * 15 + "\n" + "b" * 15, "unreachable"))) as sandbox:
        with pytest.raises(OutputExceeded) as caught:
            sandbox.call("go")
        assert notes(caught.value) == ["the guest's last lines on stderr:\n  | aaaaaaaaaaaaaaa\n  | bbbb"]


@everywhere
def test_the_note_is_escaped_and_bounded(place: str) -> None:
    text = "".join(f"{n}\x1b]0;title\x07\x9b31m\r{'x' * 400}\n" for n in range(40))
    (note,) = notes(failed(place, text))
    lines = note.split("\n")
    assert len(lines) == 9
    assert len(note) < 9 * 340
    assert note.replace("\n", "").replace("…", "").isprintable()
    assert "\x1b" not in note


@everywhere
@pytest.mark.parametrize(
    ("text", "stdio", "stream"), [("", {}, 2), ("out\n", {}, 1), ("err\n", {"stderr": "discard"}, 2)]
)
def test_without_captured_lines_there_is_no_note(place: str, text: str, stdio: dict[str, str], stream: int) -> None:
    assert notes(failed(place, text, stream=stream, **stdio)) == []


@everywhere
def test_reports_and_checks_of_outcomes_show_them(place: str) -> None:
    made = runtime(place)
    with made.sandbox(made.load_wat(guest("panic: no\x1b[1m disk\n", "unreachable"))) as sandbox:
        outcome = sandbox.run("go")
    report = ExecutionReport.of(outcome)
    assert "  | panic: no\\x1b[1m disk" in report.to_text()
    assert json.loads(report.to_json())["error"]["notes"] == notes(outcome.error)  # type: ignore[arg-type]
    assert repr(outcome.returned()).endswith("its last line on stderr: panic: no\\x1b[1m disk")


def test_a_start_function_that_traps_has_them() -> None:
    made = runtime("in-process")
    text = guest("cannot start\n", "unreachable").replace('(export "go")', "$go").rstrip()[:-1] + "(start $go))"
    with pytest.raises(GuestTrap) as caught:
        made.sandbox(made.load_wat(text))
    assert notes(caught.value) == ["the guest's last lines on stderr:\n  | cannot start"]


def test_an_error_that_passes_through_twice_has_one_note() -> None:
    made = runtime("in-process")
    with made.sandbox(made.load_wat(guest("once\n", "unreachable"))) as sandbox:
        outcome = sandbox.run("go")
        assert isinstance(sandbox, Sandbox)
        assert len(notes(outcome.error)) == 1  # type: ignore[arg-type]
