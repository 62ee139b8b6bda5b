"""``aegis fuzz --host``: the attack on Aegis itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis.cli.cluster import dask_executor
from aegis.cli.progress import Live
from aegis.cli.render import Face
from aegis.errors import PolicyError
from aegis.limits import parse_count, parse_seconds

if TYPE_CHECKING:
    from aegis.attack.campaign import Campaign

__all__ = ["attack"]

_RUNS = 2000
_OURS = frozenset({"runs", "seconds", "seed", "jobs", "dask", "corpus", "out", "replay", "sources"})
"""The options of ``aegis fuzz`` that mean something here."""


def attack(face: Face, context: click.Context, artifacts: Sequence[str], options: dict[str, Any]) -> int:
    """Run a campaign against Aegis, or one of its findings again. Exit 0: nothing found, 1: findings."""
    from aegis.attack.sources import checked
    from aegis.attack.tools import available

    _refuse_what_means_nothing(context, options)
    if options["replay"] is not None:
        if artifacts:
            raise click.UsageError("--replay runs one saved input; it takes no artifacts")
        return _replayed(face, options["replay"])
    sources = checked(options["sources"])
    available()
    return _attacked(face, artifacts, sources, options)


def _refuse_what_means_nothing(context: click.Context, options: dict[str, Any]) -> None:
    given = [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        and parameter.name in options
        and parameter.name not in _OURS
        and context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            f"{', '.join(sorted(given))}: not with --host, whose guests have a policy and limits of their own"
        )
    if options["corpus"] and options["out"]:
        raise click.UsageError("--corpus and --out are one thing with --host, where findings are saved; give one")


def _attacked(face: Face, artifacts: Sequence[str], sources: tuple[str, ...], options: dict[str, Any]) -> int:
    from aegis.attack.campaign import Campaign
    from aegis.attack.report import to_data, to_text
    from aegis.attack.seeds import built_in, read_seeds
    from aegis.attack.store import folder_of
    from aegis.attack.work import Attack

    seeds, left_out = read_seeds(artifacts) if artifacts else (built_in(), {})
    place = options["out"] or options["corpus"]
    folder = None if place is None else folder_of(place)
    seconds = None if options["seconds"] is None else parse_seconds(options["seconds"], "--time")
    campaign = Campaign(
        Attack(seed=options["seed"], sources=sources, artifacts=tuple(seeds)), runs=_runs(options["runs"], seconds),
        seconds=seconds, jobs=options["jobs"] or os.cpu_count() or 1, executor=dask_executor(options["dask"]),
    )  # fmt: skip
    live = Live(face, "outcome")
    try:
        saved: set[str] = set()
        for progress in campaign.run():
            live.show(progress)
            if folder is not None:
                _save(folder, campaign, saved)
    finally:
        live.clear()
    result = campaign.result
    if folder is not None:
        _save(folder, campaign, set())  # again, for they are smaller now
    data = to_data(result, left_out, None if folder is None else str(folder))
    face.result(data, to_text(data))
    if result.lost:
        return 125
    return 130 if result.interrupted and not result.findings else int(bool(result.findings))


def _runs(given: str | None, seconds: float | None) -> int | None:
    if given is None:
        return _RUNS if seconds is None else None
    return None if given == "none" else parse_count(given, "--runs")


def _save(folder: Path, campaign: Campaign, saved: set[str]) -> None:
    """Save the findings that are not among ``saved``: as they are found, so that a killed attack loses none."""
    from aegis.attack.store import save

    for signature, finding in campaign.result.findings.items():
        if signature in saved:
            continue
        saved.add(signature)
        try:
            save(folder, {**finding, "seed": campaign.attack.seed})
        except PolicyError as error:  # what was found is told all the same
            if str(error) not in campaign.result.lost:
                campaign.result.lost.append(str(error))


def _replayed(face: Face, path: str) -> int:
    from aegis.attack.store import replay

    found = replay(path)
    lines = [line for fault in found for line in (f"still there: {fault.text}", *(f"  {f}" for f in fault.frames[-5:]))]
    face.result({"found": [fault.to_dict() for fault in found]}, "\n".join(lines) or "nothing to object to")
    return int(bool(found))
