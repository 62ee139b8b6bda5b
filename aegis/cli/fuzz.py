"""The command ``aegis fuzz``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis.cli.click_options import FileCommand, limit_options, policy_options, with_options
from aegis.cli.dask_cluster import dask_executor
from aegis.cli.fuzz_options import DEFAULT_RUNS, fuzz_options
from aegis.cli.input_files import read_artifact, read_bounded
from aegis.cli.options import (
    ENABLE,
    make_policy,
    policy_files,
    refuse_second_reader,
    use_python_path,
)
from aegis.cli.output import Output
from aegis.cli.own_files import refuse_shared_files
from aegis.cli.progress import Live
from aegis.errors import AegisError, PolicyError
from aegis.limits import parse_count, parse_seconds
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.fuzz.campaign import Campaign
    from aegis.fuzz.plan import CampaignPlan

__all__ = ["command"]

_MAX_FINDING_BYTES = 64 << 20


@click.command(cls=FileCommand, reads_policy=True)
@fuzz_options
@policy_options
@with_options([ENABLE])
@partial(limit_options, fuel="1e9")
@click.argument("artifacts", nargs=-1, metavar="COMPONENT|MODULE")
@click.pass_context
def command(context: click.Context, /, artifacts: tuple[str, ...], host: bool, **options: Any) -> int:
    """Fuzz the exports of a guest with generated values, inside limits, and check every call with oracles.

    Missing imports are stubbed with values of their types. Exit 0: no findings, 1: findings.
    With --host, attack Aegis itself: the artifacts, files or directories, are the seed corpus for hostile bytes.
    """
    from aegis.fuzz.plan import CampaignPlan

    output: Output = context.obj
    output.config += options["config"]
    refuse_second_reader(output.config, artifacts)
    for name in ("out", "corpus", "replay"):
        if options[name] == "":
            raise PolicyError(f"--{name}: the name is empty: name a {'file' if name == 'replay' else 'directory'}")
    if host:
        from aegis.cli.fuzz_host import attack

        policy_files(output.config).policy()  # the attack has limits of its own, but a mistake must not pass
        return attack(output, context, artifacts, options)
    if options["sources"]:
        raise click.UsageError("--source requires --host: without it, the artifact is run unchanged")
    if len(artifacts) != 1:
        raise click.UsageError("name one component or module; several require --host")
    artifact = artifacts[0]
    if options["limit_fuel"] == "none":
        raise PolicyError("--fuel-limit: a campaign needs a fuel limit to be reproducible: give a number, such as 1e9")
    if any(":" in name for name in options["oracles"]):
        use_python_path()
    from aegis.cli.fuzz_values import given_values

    policy = make_policy(output.config, options, capture=True)
    refuse_shared_files(policy, {f"--{name}": options[name] for name in ("out", "corpus", "replay")})
    plan = CampaignPlan(
        data=read_artifact(artifact, policy.limits), name=artifact, policy=policy, functions=options["functions"],
        oracles=options["oracles"], hostile=options["hostile"], goal=options["goal"] or "", seed=options["seed"],
        buffers=not options["numbers"], **given_values(options),
        others=tuple(_others(options["oracles"], policy)), config=output.config,
        flags=tuple(_flags(context)),
    )  # fmt: skip
    if options["replay"] is not None:
        return _replayed(output, plan, options["replay"], options["oracles"])
    if options["calls"]:
        return _called(output, plan, options["calls"], options["answers"])
    return _Fuzz(output, plan, options).go()


def _flags(context: click.Context) -> Iterable[str]:
    """Yield the policy options of the command line, each as one word ``--option=value``."""
    for option in context.command.params:
        name, value = option.name or "", context.params.get(option.name or "")
        if name.startswith(("limit_", "allow_")) or name in ("isolate", "enable", "listen", "deny_net", "config_value"):
            values = value if isinstance(value, tuple) else () if value is None else (value,)
            yield from (f"{option.opts[0]}={one}" for one in values)


def _others(oracles: Iterable[str], policy: Any) -> Iterable[tuple[str, bytes]]:
    for oracle in oracles:
        kind, _, path = oracle.partition(":")
        if kind == "differential" and path:
            yield path, read_artifact(path, policy.limits)


class _Fuzz:
    """A campaign started by the command."""

    def __init__(self, output: Output, plan: CampaignPlan, options: dict[str, Any]) -> None:
        self.output, self.plan, self.options = output, plan, options

    def go(self) -> int:
        from aegis.fuzz.campaign import Campaign
        from aegis.fuzz.corpus import Corpus
        from aegis.fuzz.report import to_data, to_text
        from aegis.fuzz.worker import WorkerState

        options = self.options
        state = WorkerState(self.plan)  # raises for an artifact that cannot be fuzzed, before processes start
        isolation = self.plan.policy.isolation
        if isolation is not None and not self.output.quiet and not self.output.json:
            from aegis.isolation.confine import available

            self.output.note_layers(available(), isolation)
        seconds = None if options["seconds"] is None else parse_seconds(options["seconds"], "--time")
        campaign = Campaign(
            self.plan, runs=self.runs(seconds), seconds=seconds, jobs=options["jobs"] or os.cpu_count() or 1,
            executor=dask_executor(options["dask"]), corpus=Corpus(options["corpus"]) if options["corpus"] else None,
        )  # fmt: skip
        out = _folder(options["out"])
        live = Live(self.output)
        try:
            for progress in campaign.run():
                live.show(progress)
        finally:
            live.clear()
        data = to_data(campaign.result, state.target.artifact.kind, state.target.left_out)
        try:
            if out is not None:
                _write(out, data, campaign, self.plan)
        except PolicyError as error:  # print the findings even if they cannot be written
            campaign.result.lost.append(str(error))
        if campaign.result.lost:
            code = 125
        else:
            code = 130 if campaign.result.interrupted and not data["findings"] else int(bool(data["findings"]))
        self.output.result(data, to_text(data), code)
        return code

    def runs(self, seconds: float | None) -> int | None:
        given = self.options["runs"]
        if given is None:
            return DEFAULT_RUNS if seconds is None else None
        return None if given == "none" else parse_count(given, "--runs")


def _folder(path: str | None) -> Path | None:
    if path is None:
        return None
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PolicyError(f"{printable(path)} cannot be written: {error.strerror or error}") from None
    return folder


def _write(folder: Path, data: dict[str, Any], campaign: Campaign, plan: CampaignPlan) -> None:
    from aegis.fuzz.regular_files import write_regular
    from aegis.fuzz.report import to_html
    from aegis.fuzz.reproduce import file_name, pytest_file
    from aegis.observe.encode import dump

    files = {"report.json": dump(data, indent=2), "report.html": to_html(data, campaign.result)}
    for finding in data["findings"]:
        name = file_name(finding)
        files[f"{name}.json"] = dump(finding, indent=2)
        files[f"test_{name}.py"] = pytest_file(os.path.abspath(plan.name), finding, plan.policy)
    try:
        for name, text in files.items():
            write_regular(folder / name, text)
    except OSError as error:
        raise PolicyError(f"{printable(str(folder / name))} cannot be written: {error.strerror or error}") from None


def _called(output: Output, plan: CampaignPlan, calls: Sequence[str], answers: str | None) -> int:
    from aegis.fuzz.reproduce import run_calls

    try:
        words = [word.strip() for word in (answers or "").split(",") if word.strip()]
        if not all(word.isdecimal() for word in words):
            raise ValueError(f"--answers: expected comma-separated numbers such as 0,3, not {answers}")
        numbers = [int(word) for word in words]
        found = run_calls(plan, calls, numbers)
    except ValueError as error:
        if isinstance(error, AegisError):
            raise
        raise click.UsageError(printable(str(error), 300)) from None
    lines = [f"{oracle}: {text}" for oracle, text in found]
    output.result(
        {"found": [{"oracle": o, "text": t} for o, t in found]}, "\n".join(lines) or "no findings", int(bool(found))
    )
    return int(bool(found))


def _replayed(output: Output, plan: CampaignPlan, path: str, oracles: Sequence[str]) -> int:
    import json

    from aegis.fuzz.reproduce import replay_finding
    from aegis.fuzz.worker import is_code

    try:
        finding = json.loads(read_bounded(path, _MAX_FINDING_BYTES))
        oracle = str(finding["oracle"])
        if is_code(oracle) and oracle not in oracles:  # the file is untrusted: it must not choose a module to import
            raise PolicyError(
                f"{printable(path)} names an oracle that is Python code, {printable(oracle)}: if you trust it, add"
                f" --oracle {printable(oracle)}"
            )
        found = replay_finding(plan, finding)
    except OSError as error:
        raise PolicyError(f"{printable(path)} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, AegisError):
            raise
        raise PolicyError(f"{printable(path)} is not a finding of aegis fuzz: {printable(str(error), 200)}") from None
    text = f"still there: {found}" if found else "no longer there"
    output.result({"found": found}, text, int(found is not None))
    return int(found is not None)
