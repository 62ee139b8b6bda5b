"""A plain run imports no module it does not need, and parses its command line exactly as click does.

Oracles: the interpreter's own list of imports, and click's values for the same words.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aegis.cli.command_line import read_line
from aegis.cli.main import plain_run
from aegis.cli.options import GROUP, run_options, shared
from aegis.cli.output import Output
from aegis.cli.run_command import command
from tests.cli.command import COMMAND, guest

HEAVY = {
    "asyncio", "click", "dataclasses", "enum", "hashlib", "inspect", "json", "logging", "pathlib", "pickle", "re",
    "socket", "subprocess", "typing", "wasmtime",
}  # fmt: skip


def imported(*words: str) -> set[str]:
    """Return the modules that Python imports for a command, as reported by ``-X importtime``."""
    python, *rest = COMMAND
    ended = subprocess.run(
        [python, "-X", "importtime", *rest, *words], capture_output=True, text=True, check=True,
        env={
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": "",
        },
    )  # fmt: skip
    return {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines() if line.startswith("import time:")}


def at_birth() -> set[str]:
    """Return the modules that an interpreter of this environment imports on start."""
    code = "import sys; print(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )


def test_a_cached_run_imports_nothing_heavy() -> None:
    hello = str(guest("hello"))
    imported("run", hello)
    assert imported("run", hello) & HEAVY <= at_birth()


def test_a_line_for_click_imports_click() -> None:
    assert "click" in imported("run", "--help")


def test_the_package_alone_imports_nothing_of_its_own() -> None:
    code = "import sys, aegis; print(*(n for n in sys.modules if n.startswith('aegis.')))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == []


LINES = [
    ["m.wasm"],
    ["m.wasm", "a", "-2", "--", "--help", "-x"],
    ["-e", "add", "m.wasm", "2", "3"],
    ["-eadd", "m.wasm", "--function=sub"],
    ["m.wasm", "--isolate"],
    ["m.wasm", "--isolate=strict", "--isolate=on"],
    ["--allow-read", "a", "--allow-read=b::/c", "--allow-write", "", "m.wasm"],
    ["m.wasm", "--allow-clock", "--allow-random=seed:1", "--allow-logging"],
    ["m.wasm", "--memory-limit", "1MiB", "--memory-limit=2MiB", "--fuel-limit", "none"],
    ["-qvv", "m.wasm", "--format", "json", "--metrics", "--no-cache", "--trap-missing"],
    ["--", "-m.wasm", "--version"],
    ["m.wasm", "--invoke", "f(1)", "--events", "-", "-c", "aegis.toml"],
    ["m.wasm", "--config-value", "a=b", "--stdin", "inherit", "--stdin", "x", "--allow-env", "A=\udce9"],
    ["m.wasm", "--allow-net", "tcp://127.0.0.1:1", "--deny-net", "private", "--listen", "tcp://127.0.0.1:*"],
    ["-", "\u00fc", "a b", ""],
]


@pytest.mark.parametrize("words", LINES)
def test_a_plain_line_is_parsed_as_by_click(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr("aegis.cli.run.run", lambda *values: seen.append(values) or 0)
    output, other = Output(), Output()
    run = plain_run(["run", *words], output)
    assert run is not None
    run()
    ((_, module, args, options),) = seen
    context = command.make_context("run", list(words), obj=other)
    expected = dict(context.params)
    assert (module, args) == (expected.pop("module"), expected.pop("args"))
    omitted = {name: value for name, value in expected.items() if name not in options}
    assert options == {name: value for name, value in expected.items() if name in options}
    assert set(omitted.values()) <= {None, ()}, "the plain line omits only grants that no word names"
    assert (output.form, output.verbose, output.quiet) == (other.form, other.verbose, other.quiet)


@pytest.mark.parametrize(
    "words",
    [
        [], ["run"], ["run", "--help"], ["--version"], ["run", "-h", "m.wasm"], ["run", "m.wasm", "--bogus"],
        ["run", "m.wasm", "--format", "xml"], ["-f", "xml", "run", "m.wasm"], ["run", "--isolate=maybe", "m.wasm"],
        ["validate", "m.wasm"], ["run", "m.wasm", "--timeout"], ["run", "m.wasm", "--metrics=1"], ["--bogus", "run"],
    ],
)  # fmt: skip
def test_other_command_lines_are_parsed_by_click(words: list[str]) -> None:
    assert plain_run(words, Output()) is None


def test_every_option_is_one_of_clicks_with_the_same_names() -> None:
    actual = {
        option.dest: {n for n in option.names if n.startswith("-")} for option in (*run_options(), *shared(short=False))
    }
    expected = {param.name: set(param.opts) for param in command.params if param.param_type_name == "option"}
    assert actual == expected


def test_options_before_the_command_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aegis.cli.run.run", lambda *_: 0)
    output = Output()
    assert plain_run(["-f", "json", "-v", "-c", "a.toml", "run", "m.wasm", "-v", "-q"], output) is not None
    assert (output.form, output.config, output.quiet) == ("json", ("a.toml",), True)
    line = read_line(["-c", "x", "run"], GROUP, leading=True)
    assert line.values(GROUP) == {"config": ("x",), "form": "human", "verbose": 0, "quiet": False}
