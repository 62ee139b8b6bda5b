"""A guest's names are text: no terminal, browser or shell interprets the command's output as instructions.

Every name in the module is hostile; each command prints it in each of its formats.
"""

from __future__ import annotations

import ast
import html.parser
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aegis.cli.main import main
from aegis.engine.compile.artifact import text_to_binary
from aegis.text import is_visible
from tests.cli.command import COMMAND, ROOT

EVIL = [
    "\x1b]0;owned\x07", "\x1b[2J\x1b[31m", "a\r\nerror: forged", "\x9b31m", "\x85", "\x7f", "\u202egpj.exe",
    "\u2066x\u2069", "\u200b\u200d\ufeff", "\u2028\u2029", "\u00ad", "\u3164\u115f", "x\ufe0f\U000e0101", 'ends in "',
    "ends in '''", '"""', "\\", "{0}{x}", "%s%n", "</pre><script>alert(1)</script>", "' onmouseover='x", "&amp;",
    "$(touch pwned)", "`touch pwned`", "; touch pwned #", "-rf", "--help", "--", "-", "a(b, c)", " lead", "trail ",
    "é漢", "\U0001f600", "#0", "\ud7ff", "",
]  # fmt: skip
LINUX_NAME = b"evil\xff\x1b[31m'\n.wasm"
BASH = shutil.which("bash") or ""
LONG = os.environ.get("AEGIS_LONG", "") not in ("", "0")


def wat(name: str) -> str:
    return "".join(f"\\{byte:02x}" for byte in name.encode())


def module(*, trap: bool = True) -> bytes:
    """Return a module whose names are all hostile: exports, imports, functions, custom sections, the module itself."""
    body = "unreachable" if trap else "nop"
    exports = "".join(
        f'(func $"{wat(name or "none")} {n}" (export "{wat(name)}") (param i32) {body})' for n, name in enumerate(EVIL)
    )
    imports = "".join(f'(import "{wat(name)}" "{wat(name)}" (func))' for name in EVIL[:8])
    custom = "".join(f'(@custom "{wat(name)}" "x")' for name in EVIL)
    return text_to_binary(f'(module (@name "{wat(EVIL[0])}") {imports} {exports} {custom})')


def run(*words: str | bytes, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, cwd=cwd, timeout=120, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
    )  # fmt: skip


def harmless(data: bytes, what: Any) -> str:
    """Check that bytes are UTF-8 lines without terminal control characters; return them as text."""
    text = data.decode("utf-8")
    odd = {char for char in text if not is_visible(char) and char not in "\n\\"}
    assert not odd, f"{what}: {sorted(odd)!r} in {text[:2000]!r}"
    return text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.wasm").write_bytes(module())
    return tmp_path


SHOWING = [
    ("validate",), ("validate", "--strict"), ("inspect",), ("inspect", "--all"), ("inspect", "--exports"),
    ("inspect", "--imports"), ("inspect", "--memory"), ("inspect", "--wit"), ("run",), ("run", "--metrics"),
    ("run", "-e", "\x1b[31m"), ("run", "--invoke", "\x1b[31m(1)"), ("run", "--trap-missing", "-e", EVIL[0]),
    ("run", "--allow-read", "/\x1b"), ("run", "--\x1b[31m"), ("run", "--timeout", "\x1b[31m"),
    ("run", "--stdin", "/\x1b"), ("run", "--events", "/\x1b/x"), ("run", "--config-value", "\x1b"),
    ("run", "--allow-env", "\x1b=\x1b"), ("run", "--allow-net", "\x1b"), ("run", "-c", "/\x1b"),
    ("bindgen", "-o", "out"), ("bindgen", "-w", "\x1b", "-o", "o"), ("fuzz", "--invoke", "\x1b"),
    ("fuzz", "--replay", "\x1b"), ("fuzz", "--call", "\x1b(1)"), ("fuzz", "--oracle", "\x1b"),
]  # fmt: skip


@pytest.mark.parametrize("form", ["human", "json", "json-compact"])
@pytest.mark.parametrize("words", SHOWING, ids=lambda words: repr(" ".join(words)))
def test_no_command_prints_terminal_control_characters(
    words: tuple[str, ...], form: str, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    main(["-f", form, words[0], "m.wasm", *words[1:]])
    out, err = (harmless(stream, words) for stream in capfdbinary.readouterr())
    assert "internal error of aegis" not in out + err
    assert "Traceback" not in err
    assert not any(line.startswith("error: forged") for line in (out + err).splitlines())
    if form != "human":
        json.loads(out)


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("command", ["run", "validate", "inspect", "fuzz", "bindgen"])
@pytest.mark.parametrize("there", [True, False])
def test_the_name_of_a_file_is_escaped_too(command: str, there: bool, tmp_path: Path) -> None:
    if there:
        try:
            (tmp_path / os.fsdecode(LINUX_NAME)).write_bytes(text_to_binary('(module (func (export "f") unreachable))'))
        except OSError:
            pytest.skip("this file system has no such names")
    options = {"fuzz": ["--runs", "50", "--jobs", "1", "--out", "out"], "bindgen": ["-o", "out"]}.get(command, [])
    for form in ("human", "json"):
        done = run("-f", form, command, LINUX_NAME, *options, cwd=tmp_path)
        harmless(done.stderr, command)
        assert "internal error of aegis" not in harmless(done.stdout, command) + done.stderr.decode()
    for path in (tmp_path / "out").glob("*"):
        harmless(path.read_bytes(), path.name)


@pytest.mark.parametrize(
    "how", [[], pytest.param(["--isolate"], marks=pytest.mark.skipif(sys.platform != "linux", reason=""))]
)
def test_a_trap_shows_its_frames_escaped(how: list[str], folder: Path) -> None:
    for name in EVIL if LONG else EVIL[::3]:
        for form in ("human", "json") if name in EVIL[:3] else ("human",):
            done = run("-f", form, "run", *how, "--trap-missing", "--function=" + name, "m.wasm", "--", "1", cwd=folder)
            harmless(done.stdout + done.stderr, name)


class Tags(html.parser.HTMLParser):
    """Collects the elements of a page, and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen |= {tag, *(f"{tag}@{name}" for name, _ in attrs)}


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A campaign on the hostile module, with all its outputs; yields its directory and its output."""
    folder = tmp_path_factory.mktemp("campaign")
    (folder / "m.wasm").write_bytes(module())
    done = run(
        "fuzz", "m.wasm", "--runs", "400", "--jobs", "1", "--out", "out", "--corpus", "corpus", "--find", "slow",
        *(word for name in EVIL for word in ("--invoke=" + name,)), cwd=folder,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    return folder, harmless(done.stdout, "fuzz") + harmless(done.stderr, "fuzz")


def test_every_output_of_a_campaign_is_harmless(campaign: tuple[Path, str]) -> None:
    folder, text = campaign
    assert text.count("finding: ") == len(EVIL)
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".wasm"]
    assert {path.suffix for path in files} >= {".json", ".html", ".py"}
    for path in files:
        harmless(path.read_bytes(), path.name)
    page = Tags()
    page.feed((folder / "out" / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.seen
    assert not any("@on" in name for name in page.seen)


def test_the_file_for_pytest_of_every_name_fails_as_the_campaign_did(campaign: tuple[Path, str]) -> None:
    folder, _ = campaign
    tests = sorted((folder / "out").glob("test_*.py"))
    assert len(tests) == len(EVIL)
    for test in tests:
        ast.parse(test.read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=line", "out"],
        capture_output=True, text=True, cwd=folder, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert f"{len(tests)} failed" in done.stdout, done.stdout[-3000:]
    assert "passed" not in done.stdout.splitlines()[-1]
    assert done.stdout.count("ended as trap") >= len(tests)


@pytest.mark.skipif(not BASH, reason="there is no bash here")
def test_every_command_of_a_campaign_runs_in_bash_and_shows_its_finding(campaign: tuple[Path, str]) -> None:
    folder, _ = campaign
    report = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    (folder / "bin").mkdir(exist_ok=True)
    shim = folder / "bin" / "aegis"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aegis "$@"\n')
    shim.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{shim.parent}:{os.environ['PATH']}"}
    assert len(report["findings"]) == len(EVIL)
    for number, finding in enumerate(report["findings"]):
        if not LONG and number % 3 and "touch" not in finding["command"]:
            continue
        done = subprocess.run(
            [BASH, "-c", finding["command"]], capture_output=True, cwd=folder, env=env, timeout=60, check=False
        )
        assert done.returncode in (1, 134), (finding["command"], done.stderr)
        assert b"trap" in done.stdout + done.stderr, finding["command"]
    assert not list(folder.rglob("pwned"))


@pytest.mark.skipif(not BASH, reason="there is no bash here")
def test_input_of_a_program_reaches_it_byte_by_byte() -> None:
    """Oracle: the shell's printf writes the input of the finding, for every byte."""
    from aegis.fuzz.reproduce import command_of
    from aegis.wit.types import List
    from aegis.wit.wave_read import format_value

    every = bytes(range(256)) + b"%s\\n'\xc3\xa9\xff"
    steps = [["_start", ["[]", format_value(every, List("u8"))]]]
    finding = {"steps": steps, "answers": [], "oracle": "no-trap", "signature": "x"}
    command = command_of("m.wasm", "module", finding)
    printf, bar, rest = command.rpartition(" | ")
    assert bar
    assert rest.startswith("aegis run ")
    for locale in ("C", "C.UTF-8"):
        done = subprocess.run(
            [BASH, "-c", printf], capture_output=True, env={**os.environ, "LC_ALL": locale}, timeout=30, check=True
        )
        assert done.stdout == every


@pytest.mark.parametrize("name", ["a\0b", "\0"])
def test_a_name_that_no_command_line_can_hold_is_run_from_its_file(name: str) -> None:
    from aegis.fuzz.reproduce import command_of

    finding = {"steps": [[name, []]], "answers": [], "oracle": "no-trap", "signature": "x"}
    assert " --replay no_trap_" in command_of("m.wasm", "module", finding)


def test_names_inside_a_component_are_escaped(tmp_path: Path) -> None:
    custom = "".join(f'(@custom "{wat(name)}" "x")' for name in EVIL)
    inner = f'(core module (@name "{wat(EVIL[1])}") (func $"{wat(EVIL[0])}" (export "f") unreachable))'
    text = f"""(component {custom} {inner} (core instance $i (instantiate 0))
      (func (export "boom") (canon lift (core func $i "f"))))"""
    (tmp_path / "c.wasm").write_bytes(text_to_binary(text))
    for words in (("inspect", "--all"), ("inspect", "--wit"), ("validate",), ("run", "--invoke", "boom()")):
        for form in ("human", "json"):
            done = run("-f", form, words[0], "c.wasm", *words[1:], cwd=tmp_path)
            harmless(done.stdout + done.stderr, words)
            assert "a defect" not in done.stdout.decode() + done.stderr.decode()


def test_a_result_is_written_so_that_it_is_read_back() -> None:
    from aegis.wit.wave_read import format_value, parse_value

    for said in (*EVIL, "".join(EVIL), "'\u3164'"):
        written = format_value(said, "string")
        harmless(written.encode(), said)
        assert parse_value(written, "string") == said


def test_an_output_that_is_not_unicode_gets_escapes(folder: Path) -> None:
    done = run("inspect", "--exports", "m.wasm", cwd=folder, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert b"\\xe9\\u6f22" in done.stdout
