"""The options of ``aegis fuzz``, by subject. Each group is one decorator; the help lists the groups in this order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from aegis.cli.options import CONFIG

__all__ = ["DEFAULT_RUNS", "fuzz_options"]

DEFAULT_RUNS = 20_000
"""Calls of a campaign without ``--runs`` and ``--time``."""

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Options = tuple[Callable[[Any], Any], ...]


_CAMPAIGN: _Options = (
    click.option("--invoke", "functions", multiple=True, metavar="NAME", help="Fuzz this export; repeatable. [all]"),
    click.option("--runs", metavar="N", help=f"Stop after N calls; none: run until --time. [{DEFAULT_RUNS}]"),
    click.option("--time", "seconds", metavar="TIME", help="Stop after this time, such as 60s or 1h."),
    click.option(
        "--seed", type=int, default=0, show_default=True, help="Seed; with the same corpus, it reproduces a campaign."
    ),
    click.option("--jobs", type=click.IntRange(1, 256), help="Number of processes. [one per core]"),
    click.option("--dask", metavar="ADDRESS", help="Run on the Dask cluster of this scheduler (aegis-wasm[dask])."),
    click.option("--corpus", metavar="DIR", help="Replay the corpus in DIR first, and save new test cases there."),
    click.option(
        "--out", metavar="DIR", help="Write report.json, report.html, and each finding as JSON and pytest file."
    ),
    click.option(
        "--continue",
        "resumed",
        metavar="DIR",
        help="Continue the campaign of --out DIR; --runs and --time are in addition.",
    ),
    click.option("-c", "--config", "--policy", "config", multiple=True, metavar="FILE", help=CONFIG.help),
    click.option(
        "--oracle", "oracles", multiple=True, metavar="NAME", help="Use this oracle; repeatable. [the default ones]"
    ),
    click.option(
        "--hostile-host", "hostile", is_flag=True, help="Make WASI functions fail or return extreme values too."
    ),
)
"""The campaign: its bounds, its oracles and its results."""

_VALUES: _Options = (
    click.option(
        "--args", "words", multiple=True, metavar="WORDS",
        help="Arguments of a program, as in a shell; @@ is replaced by generated text. Repeatable. [generated]",
    ),
    click.option(
        "--no-buffers", "numbers", is_flag=True, help="Pass core functions numbers only, no buffers in guest memory."
    ),
    click.option("--max-size", metavar="N", help="Largest string, list or buffer, in elements. [131072]"),
    click.option(
        "--dict", "dictionaries", multiple=True, metavar="FILE",
        help="Words for arguments, in AFL's format; repeatable. Constants of the guest are used by default.",
    ),
    click.option(
        "--example", "examples", multiple=True, metavar="CALL",
        help="Start from this call, written as in a finding; repeatable. #N is the handle that example N returned.",
    ),
    click.option(
        "--examples", "example_files", multiple=True, metavar="FILE",
        help="Start from the calls in FILE, one a line; an empty line begins a new sequence.",
    ),
    click.option("--skip", multiple=True, metavar="NAME", help="Do not call this export, such as debug_*; repeatable."),
    click.option(
        "--allocator", metavar="NAME[,FREE]", help="The core module's allocator for buffers. [found by its name]"
    ),
    click.option(
        "--signature", "signatures", multiple=True, metavar="TEXT",
        help="Parameters of a core function, such as 'render(cstr, buffer, out u32)'; repeatable.",
    ),
)  # fmt: skip
"""Generated values and calls."""

_CORPUS: _Options = (
    click.option(
        "--import", "imports", multiple=True, metavar="DIR|FILE",
        help="Start from these cases or raw inputs, such as a corpus of another fuzzer; repeatable.",
    ),
    click.option("--export", metavar="DIR", help="Write the corpus as a file per case, raw where a case is one input."),
    click.option(
        "--minimize", is_flag=True, help="With --corpus: keep only as many cases as show all behaviours. [0 runs]"
    ),
)  # fmt: skip
"""Test cases from other campaigns, and for them."""

_COVERAGE: _Options = (
    click.option(
        "--coverage", type=click.Choice(["edges", "off"]), default="edges", show_default=True,
        help="Guide the search by the edges of the guest's code, or by fuel and endings alone.",
    ),
    click.option(
        "--coverage-out", metavar="FILE", help="Write covered source lines for lcov, from the guest's DWARF sections."
    ),
)  # fmt: skip
"""Coverage of the guest's code."""

_CASES: _Options = (
    click.option("--find", "goal", type=click.Choice(["slow", "big", "chatty"]), help="Search for the worst input."),
    click.option("--replay", metavar="FILE", help="Run a saved finding again, and report whether it is still there."),
    click.option(
        "--call", "calls", multiple=True, metavar="CALL",
        help="Run one test case from these calls, written as in a finding.",
    ),
    click.option("--answers", metavar="N,N…", help="With --call: the answer plan for stubbed imports."),
)  # fmt: skip
"""Single test cases."""

_REPORTS: _Options = (
    click.option("--baseline", metavar="FILE", help="Do not fail for findings of this earlier report.json."),
    click.option("--sarif", metavar="FILE", help="Write the findings as SARIF 2.1.0, for code scanning."),
    click.option("--junit", metavar="FILE", help="Write the result as JUnit XML, a test case for each export."),
)
"""Reports for other tools, and what counts as a failure."""

_HOST: _Options = (
    click.option(
        "--host", is_flag=True, help="Attack Aegis itself with hostile bytes; the artifacts are the seed corpus."
    ),
    click.option(
        "--source",
        "sources",
        multiple=True,
        metavar="NAME",
        help="With --host: smith, wit, mutate, flips, liar, tasks.",
    ),
)
"""The attack on Aegis itself."""


def fuzz_options(command: _Command) -> _Command:
    """Add the options of the fuzzer to a command's function."""
    for option in reversed((*_CAMPAIGN, *_CORPUS, *_VALUES, *_COVERAGE, *_CASES, *_REPORTS, *_HOST)):
        command = option(command)  # click lists the option that is applied last first
    return command
