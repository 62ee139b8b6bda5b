"""Help, the man page and completion: all options of all commands, from click, and in the form that each reader needs.

Oracle: click's own commands, ``man`` and ``bash`` where they are installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from aegis.cli.commands import group
from aegis.cli.help_pages import SHELLS, completion_script, man_page
from aegis.limits import LIMIT_NAMES, flag_of
from tests.cli.command import COMMAND, ROOT, aegis, guest
from tests.cli.test_components import SHOP

CONTEXT = click.Context(group)
NAMES = group.list_commands(CONTEXT)
BASH = shutil.which("bash")


def spellings(name: str) -> set[str]:
    """Return the option names of a command."""
    command = group.get_command(CONTEXT, name)
    assert command is not None
    return {opt for param in command.get_params(CONTEXT) for opt in param.opts if opt.startswith("-")}


@pytest.mark.parametrize("words", [[], *([name] for name in NAMES)], ids=lambda words: " ".join(words) or "aegis")
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_a_result_on_stdout_with_exit_code_0(words: list[str], flag: str) -> None:
    ended = aegis(*words, flag)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("Usage: aegis")


def test_the_version_is_a_result_too() -> None:
    ended = aegis("--version")
    assert (ended.code, ended.err) == (0, "")
    assert re.fullmatch(r"aegis \d+\.\d+\.\d+\S*\n", ended.out)


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"], ["man"], ["completion", "bash"]])
def test_a_result_whose_reader_is_gone_ends_silently_with_141(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, *words], stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("name", ["run", "fuzz", "validate"])
def test_limits_have_a_section_of_their_own(name: str) -> None:
    options, mark, limits = aegis(name, "--help").out.partition("\nLimits (none lifts one):\n")
    assert mark
    for limit in LIMIT_NAMES:
        assert f"  {flag_of(limit)} LIMIT" in limits
        assert f"  {flag_of(limit)} LIMIT" not in options
    assert "--format" in options


def test_help_has_no_empty_section() -> None:
    assert "Limits" not in aegis("doctor", "--help").out


@pytest.mark.parametrize("environment", [{"COLUMNS": "40"}, {"NO_COLOR": "1"}, {"TERM": "dumb"}, {"COLUMNS": "x"}])
def test_help_holds_no_escapes_in_any_environment(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*COMMAND, "run", "--help"], env={**os.environ, **environment}, capture_output=True, text=True, cwd=ROOT,
        timeout=60, check=True,
    )  # fmt: skip
    assert "\x1b" not in done.stdout
    if environment.get("COLUMNS") == "40":
        assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_man_page_has_every_command_and_option() -> None:
    page = man_page(group, "1.2.3")
    assert aegis("man").out == page.replace("1.2.3", aegis("--version").out.split()[1])
    plain = page.replace("\\-", "-").replace("\\fB", "")
    for name in NAMES:
        section = plain.partition(f".SS aegis {name} ")[2]
        assert section, name
    for option in set().union(*map(spellings, NAMES)):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", plain), option
    assert plain.count("--table-elements") == 1, "limits stand in one section"


@pytest.mark.skipif(shutil.which("man") is None or shutil.which("groff") is None, reason="needs man and groff")
def test_man_reads_the_page_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "aegis.1").write_text(man_page(group, "1.2.3"))
    done = subprocess.run(
        ["man", "--warnings", "-l", str(tmp_path / "aegis.1")], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANPAGER": "cat", "MANWIDTH": "100", "MAN_KEEP_FORMATTING": ""},
    )  # fmt: skip
    assert done.stderr == ""
    text = re.sub(r".\x08|\x1b\[[0-9;]*m", "", done.stdout)
    assert "--isolate[=strict]" in text
    assert "run untrusted WebAssembly" in text


def completed(tmp_path: Path, *words: str) -> list[str]:
    """Return the words that bash offers for the last of ``words``, in a folder with one file, ``plugin.wasm``."""
    (tmp_path / "plugin.wasm").touch()
    (tmp_path / "aegis.bash").write_text(completion_script(group, "bash"))
    line = " ".join(f"'{word}'" for word in words)
    program = f"source ./aegis.bash; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _aegis; printf '%s\\n' "
    assert BASH is not None
    done = subprocess.run(
        [BASH, "--norc", "-c", program + '"${COMPREPLY[@]}"'], cwd=tmp_path, capture_output=True, text=True,
        timeout=60, check=True, env={"PATH": ""},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_bash_offers_commands_options_choices_and_files(tmp_path: Path) -> None:
    assert completed(tmp_path, "aegis", "") == NAMES
    assert completed(tmp_path, "aegis", "val") == ["validate"]
    assert completed(tmp_path, "aegis", "-c", "x.toml", "do") == ["doctor"]
    for name in NAMES:
        offered = set(completed(tmp_path, "aegis", name, "-"))
        assert spellings(name) <= offered, name
    assert completed(tmp_path, "aegis", "run", "--isol") == ["--isolate", "--isolate=on", "--isolate=strict"]
    assert completed(tmp_path, "aegis", "run", "--format", "") == ["human", "json", "json-compact"]
    assert completed(tmp_path, "aegis", "-f", "js") == ["json", "json-compact"]
    assert completed(tmp_path, "aegis", "run", "pl") == ["plugin.wasm"]
    assert completed(tmp_path, "aegis", "run", "-c", "pl") == ["plugin.wasm"]
    assert completed(tmp_path, "aegis", "run", "--timeout", "") == []
    assert completed(tmp_path, "aegis", "policy", "") == ["show", "check"]
    assert completed(tmp_path, "aegis", "policy", "check", "pl") == ["plugin.wasm"]
    assert completed(tmp_path, "aegis", "run", "plugin.wasm", "--", "-") == [], "words after -- are the guest's"


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_accepts_its_script(shell: str, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(aegis("completion", shell).out)
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"needs {shell}")
    done = subprocess.run([program, "-n", str(tmp_path / "script")], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_option_is_in_the_script_of_every_shell(shell: str) -> None:
    text = completion_script(group, shell)
    for option in set().union(*map(spellings, NAMES)):
        shown = option if shell != "fish" else re.sub("^--", "-l ", option) if option[1] == "-" else f"-s {option[1:]}"
        assert re.search(rf"(?<![\w-]){re.escape(shown)}(?![\w-])", text), option


def test_a_missing_shell_is_a_usage_error_that_lists_the_shells_on_one_line() -> None:
    ended = aegis("completion")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert f"Choose from: {', '.join(SHELLS)} (see" in ended.err


def test_an_unknown_shell_is_a_usage_error() -> None:
    ended = aegis("completion", "tcsh")
    assert (ended.code, ended.out) == (2, "")
    assert "bash" in ended.err


# -- one meaning for each option -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["-f", "add", "run"], ["-fadd", "run"], ["fuzz", "-f", "add"], ["inspect", "-f", "x"]]
)
def test_the_short_option_of_the_format_names_that_of_the_function(words: list[str]) -> None:
    ended = aegis(*words, guest("add"))
    assert ended.code == 2
    assert "-f is the format here, one of human, json, json-compact, not" in ended.err
    assert "run -e NAME" in ended.err


def test_the_short_option_of_the_function_names_that_of_the_format() -> None:
    for words in (["-f", "json", guest("add")], [guest("hello"), "-f", "json"]):
        ended = aegis("run", *words)
        assert ended.code == 127
        assert "the format is --format json" in ended.err


@pytest.mark.parametrize("option", ["--isolate strict", "--isolate on", "--allow-clock deny", "--allow-logging warn"])
def test_an_optional_value_after_a_space_gets_a_hint_before_and_after_the_file(option: str) -> None:
    name, value = option.split()
    for words in ([name, value, guest("hello")], [guest("hello"), name, value], [guest("hello"), "x", name, value]):
        ended = aegis("run", *words)
        assert ended.code == 2
        assert f"write {name}={value}" in ended.err
    assert aegis("run", guest("hello"), name, "--", value).code == 0


def test_verbosity_stands_before_and_after_the_name_of_every_command() -> None:
    for words in (["run", "-v", guest("hello")], ["-v", "run", guest("hello")], ["validate", "-vv", guest("hello")]):
        assert aegis(*words).code == 0
    for name in NAMES:
        assert {"-v", "-q", "--format", "-c"} <= spellings(name)


def test_run_validate_and_inspect_word_a_missing_import_alike(tmp_path: Path) -> None:
    module = tmp_path / "needs.wat"
    module.write_text('(module (import "env" "a" (func (param i32))) (func (export "_start")))')
    interface = "acme:shop/prices@1.2.0 (interface of 1 function)"
    for path, run, fact in (
        (module, ["run"], "env.a (i32) -> ()"),
        (SHOP, ["run", "--invoke", "total([])"], interface),
    ):
        text = f"nothing provides 1 import: {fact}: provide it from Python"
        assert text in aegis(*run, path).err
        assert text in aegis("validate", "--strict", path).err
        assert text in aegis("inspect", path).out
        assert aegis("validate", path).out.endswith("; nothing provides 1 import\n")
