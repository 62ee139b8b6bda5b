"""``aegis fuzz --host``: campaigns that attack Aegis itself."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis.cli.dask_cluster import dask_executor
from aegis.cli.fuzz_files import read_baseline, write_ci_files, write_report
from aegis.cli.fuzz_signals import stopped_by_signals, until_stopped
from aegis.cli.output import Output
from aegis.cli.progress import Live
from aegis.errors import PolicyError
from aegis.limits import parse_count, parse_seconds

if TYPE_CHECKING:
    from aegis.attack.campaign import AttackCampaign
    from aegis.fuzz.plan import Progress

__all__ = ["attack"]

_DEFAULT_RUNS = 2000
_OPTIONS = frozenset({
    "runs", "seconds", "seed", "jobs", "dask", "corpus", "out", "replay", "sources", "baseline", "sarif", "junit",
})  # fmt: skip
"""The options of ``aegis fuzz`` that apply with ``--host``."""


def attack(output: Output, context: click.Context, artifacts: Sequence[str], options: dict[str, Any]) -> int:
    """Run a campaign against Aegis, or replay one of its findings. Exit 0: no findings, 1: findings."""
    from aegis.attack.sources import checked
    from aegis.attack.tools import available

    _reject_other_options(context, options)
    if options["replay"] is not None:
        if artifacts:
            raise click.UsageError("--replay runs one saved input: it takes no artifacts")
        return _replayed(output, options["replay"])
    sources = checked(options["sources"])
    available()
    return _attacked(output, artifacts, sources, options)


def _reject_other_options(context: click.Context, options: dict[str, Any]) -> None:
    given = [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        and parameter.name in options
        and parameter.name not in _OPTIONS
        and context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            f"{', '.join(sorted(given))}: not with --host, which sets the policy and limits of its guests itself"
        )
    if options["corpus"] and options["out"]:
        raise click.UsageError("--corpus and --out are the same with --host, the directory for findings: give one")


def _attacked(output: Output, artifacts: Sequence[str], sources: tuple[str, ...], options: dict[str, Any]) -> int:
    from aegis.attack.campaign import AttackCampaign
    from aegis.attack.report import SENTENCES, for_ci, to_data, to_text
    from aegis.attack.seeds import built_in, read_seeds
    from aegis.attack.worker import Attack
    from aegis.fuzz.regular_files import results_folder

    baseline = read_baseline(options["baseline"])
    seeds, left_out = read_seeds(artifacts) if artifacts else (built_in(), {})
    path = options["out"] or options["corpus"]
    folder = None if path is None else results_folder(path)
    seconds = None if options["seconds"] is None else parse_seconds(options["seconds"], "--time")
    campaign = AttackCampaign(
        Attack(seed=options["seed"], sources=sources, artifacts=tuple(seeds)), runs=_runs(options["runs"], seconds),
        seconds=seconds, jobs=options["jobs"] or os.cpu_count() or 1, executor=dask_executor(options["dask"]),
    )  # fmt: skip
    began, live, saved = time.time(), Live(output, "outcome"), set[str]()

    def show(progress: Progress) -> None:
        live.show(progress)
        if folder is not None:
            _save(folder, campaign, saved)

    with stopped_by_signals() as stop:
        try:
            if until_stopped(campaign.run(), show):
                campaign.result.interrupted = True
        finally:
            live.clear()
    result = campaign.result
    if folder is not None:
        _save(folder, campaign, set())  # again, because findings were minimised at the end
    data = to_data(result, left_out, None if folder is None else str(folder), baseline)
    try:
        if folder is not None:
            write_report(folder, data)
        write_ci_files(for_ci(data), SENTENCES, sarif=options["sarif"], junit=options["junit"], began=began)
    except PolicyError as error:  # print the findings even if they cannot be written
        result.lost.append(str(error))
    new = any(not finding["known"] for finding in data["findings"])
    code = stop.exit_code if result.interrupted and not new else int(new)
    code = 125 if result.lost else code
    output.result(data, to_text(data), code)
    return code


def _runs(given: str | None, seconds: float | None) -> int | None:
    if given is None:
        return _DEFAULT_RUNS if seconds is None else None
    return None if given == "none" else parse_count(given, "--runs")


def _save(folder: Path, campaign: AttackCampaign, saved: set[str]) -> None:
    """Save the findings that are not yet in ``saved``. It is called during the campaign, in case that is killed."""
    from aegis.attack.store import save

    for signature, finding in campaign.result.findings.items():
        if signature in saved:
            continue
        saved.add(signature)
        try:
            save(folder, {**finding, "seed": campaign.attack.seed})
        except PolicyError as error:  # print the findings even if they cannot be saved
            if str(error) not in campaign.result.lost:
                campaign.result.lost.append(str(error))


def _replayed(output: Output, path: str) -> int:
    from aegis.attack.store import replay

    found = replay(path)
    lines = [line for fault in found for line in (f"still there: {fault.text}", *(f"  {f}" for f in fault.frames[-5:]))]
    text = "\n".join(lines) or "no findings"
    output.result({"found": [fault.to_dict() for fault in found]}, text, int(bool(found)))
    return int(bool(found))
