"""Text from standard input, clear messages for damaged files, lost reports, and progress on a terminal."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aegis.cli.output import Output
from aegis.cli.progress import working
from tests.cli.command import COMMAND, ROOT, SECONDS, aegis, guest

ADD = b'(module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))'


@pytest.mark.parametrize("before", [b"", b"\n  ", b";; a comment\n", b"(; block ;) "])
def test_text_from_standard_input_is_translated(before: bytes) -> None:
    done = aegis("run", "-", "-e", "add", "2", "3", stdin=before + ADD)
    assert (done.code, done.out, done.err) == (0, "5\n", "")
    assert aegis("validate", "-", stdin=before + ADD).code == 0
    assert "add func" in aegis("inspect", "-", stdin=before + ADD).out


def test_a_binary_from_standard_input_still_runs(tmp_path: Path) -> None:
    from aegis.engine.compile.artifact import text_to_binary

    assert aegis("run", "-", "-e", "add", "2", "3", stdin=text_to_binary(ADD)).out == "5\n"


def test_invalid_text_from_standard_input_names_line_and_column() -> None:
    done = aegis("run", "-", stdin=b"(module\n  (func i32.const))")
    assert done.code == 126
    assert done.err.startswith("error: standard input:2:")
    assert aegis("run", "-", "--module-size", "10B", stdin=ADD).err.startswith(
        "error: standard input: module-size limit exceeded"
    )


def test_a_file_that_holds_text_needs_the_name_of_one(tmp_path: Path) -> None:
    path = tmp_path / "add.wasm"
    path.write_bytes(ADD)
    assert "it is WebAssembly text: give the file a name that ends in .wat" in aegis("run", path).err


@pytest.mark.parametrize(
    ("text", "place"),
    [('(module\n  (func (export "a")\n   i32.const))', "3:13"), ("(module", "1:8"), ("(modul)", "1:2")],
)  # fmt: skip
def test_an_error_in_text_names_file_line_and_column(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "bad.wat"
    path.write_text(text)
    for command in ("run", "validate", "inspect"):
        done = aegis(command, path)
        assert f"{path}:{place}: not valid WebAssembly text: expected" in done.err + done.out
        assert "<anon>" not in done.err + done.out


@pytest.mark.parametrize("header", [b"\0asm\1\0\0\0", b"\0asm\x0d\0\1\0"], ids=["module", "component"])
@pytest.mark.parametrize("size", range(1, 8))
def test_a_truncated_header_is_not_a_wrong_version(tmp_path: Path, header: bytes, size: int) -> None:
    path = tmp_path / "x.wasm"
    path.write_bytes(header[:size])
    done = aegis("run", path)
    assert done.code == 126
    assert f"it ends after {size} byte{'s' * (size > 1)}, but the header has 8: the file is truncated" in done.err


def test_a_wrong_version_and_other_bytes_are_still_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.wasm"
    for data, message in (
        (b"\0asm\2\0\0\0", "its version is 2"),
        (b"\x7fELF", "magic bytes"),
        (b"\0" * 20, "zero bytes"),
    ):
        path.write_bytes(data)
        assert message in aegis("run", path).err


HANDLER = """(component
  (component $c (type $i (instance)) (core module $m (func (export "f"))) (core instance $n (instantiate $m))
    (func (export "handle") (canon lift (core func $n "f"))))
  (instance $x (instantiate $c))
  (export "wasi:http/%s" (instance $x)))"""


@pytest.mark.parametrize("version", ["incoming-handler@0.2.0", "handler@0.3.0"])
def test_a_component_that_handles_http_is_named_as_one(tmp_path: Path, version: str) -> None:
    path = tmp_path / "server.wat"
    path.write_text(HANDLER % version)
    done = aegis("run", path)
    assert done.code == 127
    assert f"handles HTTP requests (wasi:http/{version.partition('@')[0]}) and is no program" in done.err
    assert "argument" not in done.err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
@pytest.mark.parametrize("words", [("--metrics",), ("--metrics", "-q")])
def test_a_report_that_was_lost_is_an_error(words: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        command = [*COMMAND, "run", *words, "-e", "add", str(guest("add")), "--", "2", "3"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, timeout=SECONDS, cwd=ROOT, check=False)
        assert (done.returncode, done.stdout) == (125, b"5\n")
        command.remove("--metrics")
        assert subprocess.run(command, stdout=subprocess.PIPE, stderr=full, cwd=ROOT, check=False).returncode == 0


def test_modules_and_components_have_one_layout() -> None:
    for path, kind in ((guest("add"), "module"), (ROOT / "guests" / "components" / "counter.wat", "component")):
        lines = aegis("inspect", path).out.splitlines()
        assert [line.split()[0] for line in lines[:3]] == [kind, "size", "digest"]
        assert {line[:10].rstrip() for line in lines[:3]} == {kind, "size", "digest"}
        assert {"imports:", "exports:", "memories:", "tables:", "needs:"} <= set(lines)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, output: Output, until: str) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("aegis.cli.progress._QUIET_SECONDS", 0.0)
    with working(output, "compiling", "a\x1b.wasm"):
        end = time.monotonic() + 20
        while until and until not in stream.getvalue() and time.monotonic() < end:
            time.sleep(0.001)
    return stream.getvalue()


def test_a_long_step_shows_its_time_on_a_terminal_and_leaves_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, Terminal(), Output(), "compiling")
    assert text.startswith("\r\x1b[Kcompiling a\\x1b.wasm: 0 s")
    assert text.endswith("\r\x1b[K")


@pytest.mark.parametrize(
    ("stream", "output"),
    [(io.StringIO(), Output()), (Terminal(), Output(quiet=True)), (Terminal(), Output(form="json"))],
    ids=["no terminal", "quiet", "json"],
)
def test_nothing_is_shown_elsewhere(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, output: Output) -> None:
    assert shown(monkeypatch, stream, output, "") == ""


def test_a_step_that_fails_leaves_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(RuntimeError), working(Output(), "compiling", "x"):
        raise RuntimeError
    assert stream.getvalue() in ("", "\r\x1b[K")
