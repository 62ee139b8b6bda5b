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

_COVERAGE: _Options = ()
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

_REPORTS: _Options = ()
"""Reports for other tools, and what counts as a failure."""

_HOST: _Options = (
    click.option(
        "--host", is_flag=True, help="Attack Aegis itself with hostile bytes; the artifacts are the seed corpus."
    ),
    click.option(
        "--source", "sources", multiple=True, metavar="NAME", help="With --host: smith, wit, mutate, flips, liar."
    ),
)
"""The attack on Aegis itself."""


def fuzz_options(command: _Command) -> _Command:
    """Add the options of the fuzzer to a command's function."""
    for option in reversed((*_CAMPAIGN, *_VALUES, *_COVERAGE, *_CASES, *_REPORTS, *_HOST)):
        command = option(command)  # click lists the option that is applied last first
    return command
