"""The command ``aegis doctor``."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import click

from aegis.cli.click_options import FileCommand
from aegis.cli.output import Output
from aegis.engine.compile.cache import Cache
from aegis.engine.compile.config import EngineConfig, engine_for
from aegis.engine.native.advisories import TABLE_DATE, engine_facts
from aegis.engine.native.library import MAJOR, lib
from aegis.engine.store.memory_accounting import available
from aegis.errors import AegisError
from aegis.limits import Limits, format_bytes
from aegis.support.proposals import IN_PROCESS, ISOLATED, OFF, ON, OPTIONAL, PROPOSALS, Proposal
from aegis.text import count

__all__ = ["CACHE_REMEDY", "command"]

CACHE_REMEDY = "make room, let this user own and write the folder, or name another one with XDG_CACHE_HOME"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. A warning means that a feature is missing; a failure means that guests cannot run."""

    name: str
    level: str
    text: str
    remedy: str | None = None
    """How to make the feature available."""


@click.command(cls=FileCommand)
@click.option("--strict", is_flag=True, help="Exit 1 for a warning, such as a missing layer of isolation.")
@click.pass_obj
def command(output: Output, /, strict: bool) -> int:
    """Check this system: engine, cache and kernel features. Exit 0 if guests can run safely."""
    checks = [check for look in _LOOKS for check in _guarded(look)]
    levels = {check.level for check in checks}
    code = 125 if "failure" in levels else 1 if strict and "warning" in levels else 0
    lines = [line for check in checks for line in _lines(check)]
    output.result(
        {
            "engine": _facts(),
            "checks": list(map(asdict, checks)),
            "proposals": [_proposal(row) for row in PROPOSALS],
        },
        "\n".join(lines),
        code,
    )
    return code


def _lines(check: Check) -> Iterator[str]:
    yield f"{check.level:<8} {check.name:<14} {check.text}"
    if check.remedy is not None:
        yield f"{'':<8} {'':<14} to do: {check.remedy}"


def _facts() -> dict[str, Any] | None:
    try:
        return engine_facts().to_dict()
    except (AegisError, OSError):  # the check "engine" reports it
        return None


def _proposal(row: Proposal) -> dict[str, Any]:
    """Return a row of the table of proposals, and for one that can be enabled the advisories it makes reachable."""
    try:
        reachable = engine_facts((row.name,)).reachable if row.state == OPTIONAL else ()
    except (AegisError, OSError):
        reachable = ()
    return {**row.to_dict(), "advisories": [finding.advisory.id for finding in reachable]}


def _proposals() -> Iterator[Check]:
    for state, place in ((ON, ""), (OPTIONAL, IN_PROCESS), (OPTIONAL, ISOLATED), (OFF, "")):
        rows = [row for row in PROPOSALS if (row.state, row.place) == (state, place)]
        named = ", ".join(_shown(_proposal(row)) for row in rows)
        yield Check("proposals", "ok", f"{state}{f' with --enable, {place}' if place else ''}: {named}")


def _shown(row: Mapping[str, Any]) -> str:
    known = row["advisories"]
    return f"{row['name']} (makes {', '.join(known)} reachable)" if known else str(row["name"])


def _guarded(look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from look()
    except (AegisError, OSError) as error:
        yield Check(look.__name__.strip("_"), "failure", str(error))


def _python() -> Iterator[Check]:
    yield Check(
        "python", "ok" if sys.version_info >= (3, 11) else "failure", f"{platform.python_version()} on {sys.platform}"
    )


def _engine() -> Iterator[Check]:
    facts = engine_facts()
    engine_for(EngineConfig.from_limits(Limits()))
    yield Check("engine", "ok", f"{facts}, tested with {MAJOR}: {lib.path}")
    reachable = len(facts.reachable)
    text = f"{len(facts.findings)} without a fix in this version, {reachable or 'none'} reachable here"
    yield Check("advisories", "warning" if reachable else "ok", f"{text} (table of {TABLE_DATE})")
    for finding in facts.findings:
        one = finding.advisory
        text = f"{one.title}, fixed in {one.fixed_in}; reachable here: {finding.reason}"
        yield Check(one.id, "warning" if finding.reachable else "ok", text)


def _cache() -> Iterator[Check]:
    cache = Cache()
    try:
        cache.try_out()
        used = cache.use()
    except OSError as error:
        text = f"compiled code is not stored: {cache.explained(error)}"
        yield Check("cache", "warning", text, CACHE_REMEDY)
        return
    most = "no limit" if cache.size is None else format_bytes(cache.size)
    text = f"{cache.folder} has {count(used.files, 'file')}, {format_bytes(used.bytes)} of {most}"
    yield Check("cache", "ok", text)


def _paths() -> Iterator[Check]:
    from aegis.host.files.beneath import kernel_resolves

    if sys.platform == "win32":
        yield Check("files", "warning", "this system has no openat; file grants are rejected")
    elif kernel_resolves():
        yield Check("files", "ok", "the kernel resolves paths beneath a directory (openat2)")
    else:
        yield Check("files", "ok", "Aegis resolves paths segment by segment; the kernel has no openat2")


def _memory() -> Iterator[Check]:
    pooled = EngineConfig.from_limits(Limits(), pooled=True).pooled
    text = "sandboxes are allocated from a pool" if pooled else "no pool: creating a sandbox takes several times longer"
    yield Check("memory", "ok" if pooled else "warning", text)
    if not available():
        text = "growth cannot be counted: each memory that can grow is limited to an equal share of the limit"
        yield Check("memory", "warning", text)


def _isolation() -> Iterator[Check]:
    from aegis.isolation.confine import available
    from aegis.isolation.confine.remedies import REMEDIES

    layers = available()
    missing = [layer.name for layer in layers if not layer.active]
    if missing:
        text = f"{len(layers) - len(missing)} of {len(layers)} layers; strict isolation also needs {', '.join(missing)}"
    else:
        text = f"all {len(layers)} layers; strict isolation is possible"
    yield Check("isolation", "warning" if missing else "ok", text)
    for layer in layers:
        if layer.active:
            yield Check(layer.name, "ok", layer.detail)
        else:
            yield Check(layer.name, "warning", layer.detail, REMEDIES[layer.name])


_LOOKS = (_python, _engine, _cache, _paths, _memory, _isolation, _proposals)
