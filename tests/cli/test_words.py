"""Options may stand anywhere before ``--``; every word after it belongs to the guest."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from aegis.cli.click_options import described
from aegis.cli.command_line import Line, read_line
from aegis.cli.commands import group
from tests.cli.command import aegis, guest

COMMANDS = ("run", "fuzz", "validate", "inspect", "bindgen", "doctor")
ADD = str(guest("add"))


def command(name: str) -> click.Command:
    """Return a subcommand."""
    found = group.get_command(click.Context(group), name)
    assert found is not None
    return found


def read(*words: str, name: str = "run") -> Line:
    """Split the words of a command into its options and the guest's words."""
    found = command(name)
    return read_line(words, described(found.get_params(click.Context(found))), guest=name == "run")


@pytest.mark.parametrize(
    ("words", "options", "rest"),
    [
        (["m.wasm", "-f", "main", "--timeout", "10s"], ["-f", "main", "--timeout=10s"], ["m.wasm"]),
        (["-f", "main", "m.wasm"], ["-f", "main"], ["m.wasm"]),
        (["m.wasm", "--timeout=10s", "2"], ["--timeout=10s"], ["m.wasm", "2"]),
        (["m.wasm", "2", "-e", "add", "3"], ["-e", "add"], ["m.wasm", "2", "3"]),
        (["m.wasm", "-eadd", "2"], ["-e", "add"], ["m.wasm", "2"]),
        (["m.wasm", "--", "-f", "main"], [], ["m.wasm", "-f", "main"]),
        (["m.wasm", "--", "--", "--help"], [], ["m.wasm", "--", "--help"]),
        (["--", "-m.wasm", "--version"], [], ["-m.wasm", "--version"]),
        (["m.wasm", "--isolate", "2"], ["--isolate=on"], ["m.wasm", "2"]),
        (["--isolate", "m.wasm"], ["--isolate=on"], ["m.wasm"]),
        (["m.wasm", "--isolate=strict"], ["--isolate=strict"], ["m.wasm"]),
        (["--allow-clock", "m.wasm", "deny"], ["--allow-clock=system"], ["m.wasm", "deny"]),
        (["m.wasm", "--allow-clock=deny"], ["--allow-clock=deny"], ["m.wasm"]),
        (["--allow-read", "a=b", "m.wasm", "c=d", ""], ["--allow-read=a=b"], ["m.wasm", "c=d", ""]),
        (["-", "-", "-2", "-0x10", "-1.5", "-inf"], [], ["-", "-", "-2", "-0x10", "-1.5", "-inf"]),
        (["--invoke", "-x", "m.wasm"], ["--invoke=-x"], ["m.wasm"]),
        (["-e", "--help", "m.wasm"], ["-e", "--help"], ["m.wasm"]),
        (["-qvv", "m.wasm"], ["-q", "-v", "-v"], ["m.wasm"]),
        (["-qeadd", "m.wasm"], ["-q", "-e", "add"], ["m.wasm"]),
    ],
)
def test_options_are_recognised_anywhere_before_two_dashes(
    words: list[str], options: list[str], rest: list[str]
) -> None:
    line = read(*words)
    assert (line.options, line.words, line.fault) == (options, rest, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_after_the_file_is_an_error_of_every_command(name: str) -> None:
    for words in (["x", "--bogus"], ["x", "--bogus=1", "y"], ["x", "-Z"], ["x", "-qZ"]):
        fault = read(*words, name=name).fault
        assert fault.startswith(f"no such option: -{'-bogus' if 'bogus' in words[1] else 'Z'}")
        assert fault.endswith(
            ": put options of the guest after --" if name == "run" else ": put names that begin with - after --"
        )
    assert "after --" not in read("--bogus", "x", name=name).fault


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_its_options_after_the_file(name: str) -> None:
    line = read("x", "--format", "json", "-v", "-q", "y", name=name)
    assert (line.options, line.words, line.form) == (["--format=json", "-v", "-q"], ["x", "y"], "json")


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["-2", "m.wasm"], "no such option: -2"),
        (["m.wasm", "--memory-limi", "1MB"], "did you mean --memory-limit?"),
        (["m.wasm", "--memory", "1MB"], "did you mean --memory-limit?"),
        (["m.wasm", "--time", "1s"], "no such option: --time"),
        (["m.wasm", "-e", "--", "2"], "-e needs a value"),
        (["m.wasm", "--timeout"], "--timeout needs a value"),
        (["m.wasm", "--metrics=yes"], "--metrics takes no value"),
        (["--isolate", "strict", "m.wasm"], "--isolate=strict"),
        (["--allow-logging", "warn", "m.wasm"], "--allow-logging=warn"),
        (["m.wasm", "-2x"], "no such option: -2"),
        (["m.wasm", "--2"], "no such option: --2"),
        (["m.wasm", "-\u0663"], "no such option"),
    ],
)
def test_an_unknown_option_is_not_guessed(words: list[str], fault: str) -> None:
    assert fault in read(*words).fault


def test_an_option_given_twice_holds_as_it_was_given_last() -> None:
    assert aegis("run", ADD, "-e", "swap", "2", "3", "--function=add").out == "5\n"
    assert aegis("run", "--fuel-limit=1", ADD, "-e", "add", "2", "3", "--fuel-limit", "1e6").code == 0


def test_the_classic_forms_call_the_named_export() -> None:
    assert aegis("run", ADD, "-f", "add", "--memory-limit", "64MB", "--timeout", "10s", "--", "2", "3").out == "5\n"
    assert aegis("run", ADD, "-f", "add", "2", "-3").out == "-1\n"
    assert aegis("run", "-e", "add", ADD, "--", "-2", "3").out == "1\n"
    assert aegis("run", "--", ADD).code == 127
    from tests.cli.test_components import built

    assert aegis("run", built("c-text"), "--invoke", 'reverse("ab")').out == 'ok("ba")\n'


def test_a_grant_after_the_file_is_a_grant(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("one two\n")
    granted = aegis("run", guest("wordcount"), "--allow-read", "words", "--", "words", cwd=tmp_path)
    assert granted.out.split()[:3] == ["1", "2", "8"]
    passed_on = aegis("run", guest("wordcount"), "--", "--allow-read", "words", cwd=tmp_path)
    assert passed_on.code == 1
    assert "no grant covers" in passed_on.err


ARGUMENTS = """(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $sizes (i32.const 0) (i32.const 20)))
    (drop (call $get (i32.const 100) (i32.const 1000)))
    (i32.store (i32.const 16) (i32.const 1000))
    (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 0)))))"""


def test_a_program_gets_its_words_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "-m.wat").write_text(ARGUMENTS)
    words = ["--help", "", "-f", "--", "a=b", "--version"]
    for given in (["./-m.wat", "plain", "--", *words], ["--", "-m.wat", "plain", *words]):
        ended = aegis("run", *given, cwd=tmp_path)
        assert ended.out.split("\0") == ["-m.wat", "plain", *words, ""]


def test_a_component_takes_its_options_after_it() -> None:
    ended = aegis("validate", ADD, "--strict", "--memory-limit", "1MiB")
    assert ended.code == 0
    assert aegis("inspect", ADD, "--exports").out.startswith("exports:")
    assert aegis("fuzz", ADD, "--runs", "1", "--jobs", "1", "--invoke", "add").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["-f", "json", "run", ADD, "--bogus"],
        ["-c", "x", "--format=json-compact", "run", ADD, "--bogus"],
        ["run", ADD, "--bogus", "--format", "json"],
        ["validate", "--format=json", ADD, "--bogus"],
        ["-f", "json", "frobnicate"],
        ["-f", "json", "--bogus"],
        ["-f", "json"],
        ["-f", "json", "doctor", "one"],
        ["-f", "json", "fuzz"],
        ["-f", "json", "run", "--stdin", "a", "--stdin", "b", ADD],
    ],
)
def test_a_wrong_command_line_is_one_json_document_on_request(words: list[str]) -> None:
    ended = aegis(*words)
    assert (ended.code, ended.err) == (2, "")
    assert ended.document["status"] == "usage"
    assert ended.document["exit_code"] == 2


def test_a_format_given_as_a_function_is_explained() -> None:
    ended = aegis("run", ADD, "-f", "json")
    assert ended.code == 127
    assert ended.err.endswith("; -f names a function here: the format is --format json\n")
