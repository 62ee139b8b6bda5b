"""The tables of the reference, the README and the guides match the code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest

import aegis
from aegis.cli.commands import group
from aegis.limits import LIMIT_NAMES, flag_of
from scripts import reference

ROOT = Path(__file__).resolve().parents[2]


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def options(command: str) -> set[str]:
    """Return the long options of a command of ``aegis``."""
    context = click.Context(group, info_name="aegis")
    found = group.get_command(context, command)
    assert found is not None
    return {name for param in found.params for name in param.opts if name.startswith("--")}


@pytest.mark.parametrize("path", reference.pages(), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_tables_of_a_page_are_those_of_the_code(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert reference.filled(page) == page, "run scripts/docs --write"


def test_each_table_has_a_page() -> None:
    used = {name for path in reference.pages() for name in re.findall(r"<!-- table: ([a-z-]+) -->", path.read_text())}
    assert used == set(reference.TABLES)


def test_a_table_that_is_not_the_codes_is_found() -> None:
    page = text("docs/reference/limits.md")
    assert reference.filled(page.replace("64 MiB", "65 MiB")) == page
    assert reference.filled("# A page\n\n| no | table |\n") == "# A page\n\n| no | table |\n"


def test_each_limit_has_an_ending() -> None:
    assert set(reference.ENDINGS) == set(LIMIT_NAMES)


def test_each_public_name_is_on_the_page_of_the_api() -> None:
    page = text("docs/reference/api.md")
    described = set(re.findall(r"^\.\. auto\w+:: aegis\.(\w+)$", page, re.MULTILINE))
    assert described == {name for name in aegis.__all__ if not name.startswith("__")}


def test_the_readme_lists_every_grant() -> None:
    table = text("README.md").split("| grant |", 1)[1].split("\n\n", 1)[0]
    listed = set(re.findall(r"--[a-z][a-z-]*", table))
    grants = {name for name in options("run") if name.startswith(("--allow", "--deny"))}
    assert listed == grants | {"--listen", "--config-value", "--stdin"}


def test_options_in_prose_exist() -> None:
    """Every option that a page names in backticks belongs to a command, or to a tool that the page names."""
    names = set().union(*(options(name) for name in group.list_commands(click.Context(group)))) | {"--help"}
    names |= {name for param in group.params for name in param.opts} | {flag_of(name) for name in LIMIT_NAMES}
    tools = {"--time", "--adapt", "--json", "--only", "--check", "--write", "--dummy-names", "--pythons"}
    for path in reference.pages():
        for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", path.read_text(encoding="utf-8")):
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code):
                assert option in names | tools, f"{path.relative_to(ROOT)}: {option}"


def test_the_patterns_of_the_guide_to_the_network_are_patterns() -> None:
    table = text("docs/guides/network.md").split("| pattern | allows |", 1)[1].split("\n\n", 1)[0]
    patterns = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(patterns) >= 5
    assert [str(pattern) for pattern in aegis.NetworkCapability(allow=patterns).allow] == patterns


def test_the_scripts_refuse_words_that_mean_nothing() -> None:
    """Invalid options are rejected before an environment is prepared, and before a page is written."""
    for command in (["sh", "scripts/docs", "--chekc"], ["sh", "scripts/docs", "--check", "x"]):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (2, "usage: scripts/docs [--check | --write]\n")
    assert reference.main(["--chekc"]) == reference.main([]) == 2


def test_the_guide_to_fuzzing_lists_every_oracle() -> None:
    from aegis.fuzz import oracles

    page = text("docs/guides/fuzzing.md")
    for name in ("NoTrap", "NoLimit", "Deterministic", "Steady", "Scales", "HostUntouched"):
        assert f"`{getattr(oracles, name).name}`" in page, f"docs/guides/fuzzing.md lacks the oracle {name}"
