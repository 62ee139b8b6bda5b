"""Policy files on the command line: several ``-c``, standard input, and the command ``aegis policy``."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from aegis import Policy, load_policy, parse_policy
from tests.cli.command import COMMAND, ROOT, aegis, guest

HELLO = guest("hello")
ADD = guest("add")
COMMANDS = [
    ["run", HELLO], ["fuzz", ADD, "--runs", "1", "--jobs", "1"], ["fuzz", "--host", "--runs", "1", "--jobs", "1"],
    ["validate", HELLO], ["inspect", HELLO], ["bindgen", "--check", "-o", "x", "x.wit"], ["wit"], ["doctor"],
    ["policy", "show"], ["policy", "check"],
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.toml").write_text("[limits]\ntimeout = '5s'\nfuel = 1\n")
    (tmp_path / "more.toml").write_text("include = ['base.toml']\n\nlimits.fuel = 1000000\n")
    return tmp_path


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(map(str, words[:2])))
def test_every_command_reads_the_policy_before_and_after_its_name(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "typo.toml").write_text("\n[limits]\ntimout = 1\n")
    name, *rest = words
    for line in (["-c", "typo.toml", name, *rest], [name, "-c", "typo.toml", *rest], [name, *rest, "-ctypo.toml"]):
        ended = aegis(*line, cwd=tmp_path)
        assert (ended.code, ended.out) == (125, "")
        assert ended.err == "error: typo.toml:3: 'timout' is not a key of limits: did you mean 'timeout'?\n"


def test_help_needs_no_valid_policy() -> None:
    for name in ("doctor", "run", "policy"):
        assert aegis("-c", "absent.toml", name, "--help").code == 0


def test_several_policies_merge_in_their_order(folder: Path) -> None:
    assert aegis("-c", "base.toml", "run", HELLO, cwd=folder).code == 152
    for words in (
        ["-c", "base.toml", "-c", "more.toml", "run", HELLO],
        ["run", HELLO, "-c", "base.toml", "--config=more.toml"],
        ["-c", "base.toml", "run", "-c", "more.toml", HELLO],
        ["-c", "more.toml", "run", HELLO],
    ):
        assert aegis(*words, cwd=folder).code == 0, words
    assert aegis("-c", "more.toml", "-c", "base.toml", "run", HELLO, cwd=folder).code == 152
    assert aegis("-c", "more.toml", "run", HELLO, "--fuel-limit", "1", cwd=folder).code == 152


def test_validate_and_inspect_use_the_limits_of_the_policy(folder: Path) -> None:
    (folder / "small.toml").write_text("limits.module_size = 10")
    for name in ("validate", "inspect"):
        ended = aegis(name, "-c", "small.toml", HELLO, cwd=folder)
        assert ended.code == 126
        assert "/10" in ended.err
    assert aegis("validate", "-c", "small.toml", "--module-size", "1MiB", HELLO, cwd=folder).code == 0


def test_a_policy_may_come_from_standard_input_or_a_pipe(folder: Path) -> None:
    text = b"include = ['base.toml']\nlimits.timeout = '7s'\n"
    assert aegis("-c", "-", "run", HELLO, stdin=text, cwd=folder).code == 152
    assert aegis("-c", "-", "run", HELLO, stdin=b"", cwd=folder).code == 0
    assert aegis("policy", "show", "-", stdin=text, cwd=folder).out.splitlines()[-3:-1][::-1] == [
        "  timeout 7 s  standard input:2", "  fuel 1       base.toml:3",
    ]  # fmt: skip
    ended = aegis("-c", "-", "run", HELLO, stdin=b"\nlimit = 1", cwd=folder)
    assert (ended.code, ended.err.startswith("error: standard input:2: 'limit' is not a key")) == (125, True)
    reader, writer = os.pipe()
    os.write(writer, text)
    os.close(writer)
    piped = subprocess.run(
        [*COMMAND, "-c", f"/dev/fd/{reader}", "run", str(HELLO)], pass_fds=[reader], cwd=folder, timeout=60,
        check=False, capture_output=True,
    )  # fmt: skip
    os.close(reader)
    assert piped.returncode == 152


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-c", "-", "run", "-"], "-c - and the file - both read standard input: name a file for one of them"),
        (["validate", HELLO, "-", "-c", "-"], "-c - and the file - both read"),
        (["inspect", "-c-", "-"], "-c - and the file - both read"),
        (["fuzz", "-c-", "-"], "-c - and the file - both read"),
        (["run", "-c-", HELLO, "--stdin", "inherit"], "-c - and --stdin inherit both read standard input"),
        (["run", "-c", "-", "-c", "-", HELLO], "-c - and -c - both read standard input"),
        (["policy", "show", "-", "-"], "- is given twice, and standard input can be read once"),
        (["policy", "check", "-c-", "-"], "-c - and the file - both read"),
    ],
)
def test_two_readers_of_standard_input_are_a_usage_error(words: list[str], message: str) -> None:
    ended = aegis(*words)
    assert ended.code == 2
    assert message in ended.err


def test_show_prints_the_merge_with_the_place_of_each_statement(folder: Path) -> None:
    (folder / "net.toml").write_text("capabilities.network.deny = ['private']\n[isolation]\n")
    ended = aegis("policy", "show", "more.toml", "net.toml", cwd=folder)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "grants:\n  none\n"
        "denials:\n  network never private:*            net.toml:1\n"
        "isolation:\n  a worker process for each sandbox  net.toml:2\n"
        "limits:\n  fuel 1,000,000                     more.toml:3\n"
        "  timeout 5 s                        base.toml:2\n  the others have their defaults\n"
    )
    document = aegis("-f", "json", "-c", "more.toml", "policy", "show", "net.toml", cwd=folder).document
    assert document["files"] == ["base.toml", "more.toml", "net.toml"]
    assert document["grants"] == []
    assert document["denials"] == [{"text": "network never private:*", "file": "net.toml", "line": 1}]
    assert document["limits"][1] == {"text": "timeout 5 s", "file": "base.toml", "line": 2}


def test_show_without_files_is_the_default_policy() -> None:
    assert aegis("policy", "show").out == "grants:\n  none\nlimits:\n  the others have their defaults\n"


def test_show_prints_one_policy_file_that_states_the_same(folder: Path) -> None:
    (folder / "more files").mkdir()
    (folder / "net.toml").write_text(
        "[capabilities.network]\nallow = ['https://a.example']\ndeny = ['https://d.example:443']\n"
        "[capabilities.filesystem]\npaths = [{ path = 'm\u00fc', write = true }]\n[isolation]\ngrace = '1s'\n",
        encoding="utf-8",
    )
    words = ["-c", "more.toml", "-c", "net.toml"]
    for line in ([*words, "policy", "show", "-f", "toml"], ["policy", "show", "--format=toml", *words]):
        ended = aegis(*line, cwd=folder)
        assert (ended.code, ended.err) == (0, "")
        (folder / "more files" / "one.toml").write_text(ended.out, encoding="ascii")
        assert load_policy(folder / "more files" / "one.toml") == load_policy(folder / "more.toml").merged(
            load_policy(folder / "net.toml")
        )
    assert ended.out.splitlines()[:5] == [
        '# Merged from "base.toml", "more.toml", "net.toml".', "", "[limits]", "fuel = 1000000", "timeout = 5",
    ]  # fmt: skip
    again = aegis("policy", "show", "-f", "toml", "-", stdin=ended.out.encode(), cwd=folder)
    assert again.out.splitlines()[1:] == ended.out.splitlines()[1:]
    shown = aegis("policy", "show", "more files/one.toml", cwd=folder).out
    assert "network never https://d.example:443  " in shown  # without the port it would mean every port


def test_a_policy_file_is_ascii_and_one_comment_whatever_the_names_are(tmp_path: Path) -> None:
    name = "a\x1b[31m\n[limits]\u202e\u00e9.toml"
    (tmp_path / name).write_text("capabilities.config.set = { '\u00e9' = '\u202e' }", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(
        [*COMMAND, "policy", "show", "-f", "toml", name], capture_output=True, cwd=tmp_path, check=True, timeout=60,
        env=environment,
    )  # fmt: skip
    lines = done.stdout.decode("ascii").splitlines()
    assert lines[0] == '# Merged from "a\\u001B[31m\\n[limits]\\u202E\\u00E9.toml".'
    assert lines[1:] == ["", "[capabilities.config.set]", '"\\u00E9" = "\\u202E"']
    assert parse_policy(done.stdout.decode("ascii")).config.set == (("\u00e9", "\u202e"),)


def test_no_policy_is_a_file_with_a_comment() -> None:
    text = aegis("policy", "show", "-f", "toml").out
    assert text == "# Nothing is granted, and every limit has its default.\n"
    assert parse_policy(text) == Policy()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["policy", "check", "-f", "toml", "base.toml"], "toml is a format of show: check has human, json"),
        (["-f", "toml", "policy", "show"], "toml is a format of policy show alone: write aegis policy show -f toml"),
        (["--format", "toml", "doctor"], "write aegis policy show --format toml"),
        (["doctor", "-f", "toml"], "toml is a format of policy show alone"),
        (["run", "--format=toml", HELLO], "toml is a format of policy show alone"),
        (["policy", "show", "-f", "tml"], "-f is the format here, one of human, json, json-compact, toml, not tml"),
        (["policy", "show", "--format", "tml"], "'tml' is not one of 'human', 'json', 'json-compact', 'toml'"),
    ],
)  # fmt: skip
def test_the_format_toml_belongs_to_show(words: list[str], message: str, folder: Path) -> None:
    ended = aegis(*words, cwd=folder)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err


def test_a_mistake_in_a_file_is_an_error_in_every_format(folder: Path) -> None:
    (folder / "bad.toml").write_text("limit = 1\n")
    ended = aegis("policy", "show", "-f", "toml", "bad.toml", cwd=folder)
    assert (ended.code, ended.out) == (125, "")
    assert ended.err.startswith("error: bad.toml:1: 'limit' is not a key")


def test_check_prints_all_mistakes_of_all_files(folder: Path) -> None:
    (folder / "bad.toml").write_text("limit = 1\ninclude = ['gone.toml']\n[limits]\nfuel = -1\n")
    (folder / "worse.toml").write_text("[limits\n")
    good = aegis("policy", "check", "base.toml", "more.toml", cwd=folder)
    assert (good.code, good.out, good.err) == (0, "base.toml: valid\nmore.toml: valid\n", "")
    ended = aegis("policy", "check", "bad.toml", "base.toml", "worse.toml", "absent.toml", "", cwd=folder)
    assert (ended.code, ended.out) == (125, "base.toml: valid\n")
    starts = [line.removeprefix("error: ").split(" ")[0] for line in ended.err.splitlines()]
    assert starts == ["bad.toml:2:", "bad.toml:1:", "bad.toml:4:", "worse.toml:1:", "absent.toml:", "--config:"]
    document = aegis("-f", "json", "policy", "check", "bad.toml", "base.toml", cwd=folder).document
    assert (document["status"], document["exit_code"]) == ("policy-error", 125)
    assert [one["valid"] for one in document["policies"]] == [False, True]
    assert [error["line"] for error in document["policies"][0]["errors"]] == [2, 1, 4]


def test_check_merges_the_files_of_the_option(folder: Path) -> None:
    (folder / "strict.toml").write_text("isolation.strict = true")
    (folder / "without.toml").write_text("isolation.without = ['seccomp']")
    ended = aegis("-c", "strict.toml", "-c", "without.toml", "policy", "check", cwd=folder)
    assert (ended.code, ended.out) == (125, "")
    assert "without.toml:1: isolation: `strict` requires every layer" in ended.err
    assert ended.err.endswith("; the other is at strict.toml:1\n")
    good = aegis("-c", "base.toml", "-c", "more.toml", "policy", "check", cwd=folder)
    assert (good.code, good.out) == (0, "base.toml, more.toml: valid\n")


@pytest.mark.parametrize("option", [(), ("-c",)])
def test_check_merges_valid_files_and_names_both_lines(folder: Path, option: tuple[str, ...]) -> None:
    (folder / "a.toml").write_text("[capabilities.filesystem]\npaths = [\n '/a::/a',\n '/b::/d',\n]\n")
    (folder / "b.toml").write_text("[capabilities.filesystem]\npaths = ['/e::/e']\n")
    (folder / "c.toml").write_text("[[capabilities.filesystem.paths]]\npath = '/c'\nguest = '/d'\n")
    names = (*option, "a.toml", "b.toml", "c.toml")
    fault = "c.toml:1: filesystem: the guest path '/d' is granted for both '/b' and '/c': "
    fault += "give one of them another guest path with '::'; the other is at a.toml:4"
    ended = aegis("policy", "check", *names, cwd=folder)
    assert (ended.code, ended.err) == (125, f"error: {fault}\n")
    assert ended.out == "a.toml: valid\nb.toml: valid\nc.toml: valid\n"
    assert aegis("policy", "show", *names, cwd=folder).err == f"error: {fault}\n"
    merged = aegis("-f", "json", "policy", "check", *names, cwd=folder).document["policies"][-1]
    assert merged["files"] == ["a.toml", "b.toml", "c.toml"]
    assert [(one["file"], one["line"]) for one in merged["errors"]] == [("c.toml", 1)]
    assert aegis("policy", "check", "a.toml", "b.toml", "a.toml", cwd=folder).code == 0


def test_a_contradiction_in_standard_input_has_its_line(folder: Path) -> None:
    (folder / "a.toml").write_text("isolation.strict = true\n")
    ended = aegis("policy", "check", "a.toml", "-", stdin=b"[isolation]\nwithout = ['seccomp']\n", cwd=folder)
    assert ended.code == 125
    assert ended.err.startswith("error: standard input:2: isolation: ")
    assert ended.err.endswith("; the other is at a.toml:1\n")


def test_check_without_a_file_is_a_usage_error() -> None:
    ended = aegis("policy", "check")
    assert (ended.code, ended.out) == (2, "")
    assert "check needs a policy file" in ended.err


def test_names_of_files_are_escaped(tmp_path: Path) -> None:
    name = "a\x1b[31m\n.toml"
    (tmp_path / name).write_text("limits.fuel = 1")
    for action in ("show", "check"):
        done = subprocess.run(
            [*COMMAND, "policy", action, str(tmp_path / name)], capture_output=True, cwd=ROOT, check=True, timeout=60
        )
        assert b"\x1b" not in done.stdout


def test_a_finding_of_a_campaign_names_all_policies(folder: Path) -> None:
    (folder / "trap.wat").write_text('(module (func (export "f") unreachable))')
    ended = aegis(
        "-f", "json", "fuzz", "-c", "base.toml", "--policy", "more.toml", "trap.wat", "--runs", "2", "--jobs", "1",
        cwd=folder,
    )  # fmt: skip
    assert ended.code == 1
    assert "aegis -c base.toml -c more.toml run" in ended.document["findings"][0]["command"]
