"""The command ``aegis fuzz``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from aegis.cli.click_options import FileCommand, limit_options, policy_options, with_options
from aegis.cli.fuzz_campaign import run_campaign
from aegis.cli.fuzz_options import fuzz_options
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
from aegis.errors import AegisError, PolicyError
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.fuzz.plan import CampaignPlan

__all__ = ["command"]

_MAX_FINDING_BYTES = 64 << 20
_OWN_FILES = {
    "out": "directory", "corpus": "directory", "replay": "file", "resumed": "directory", "export": "directory",
    "baseline": "file", "sarif": "file", "junit": "file", "coverage_out": "file",
}  # fmt: skip
"""The options that name files of Aegis itself, with the kind of file."""


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
    from aegis.fuzz.program_words import parse_words

    output: Output = context.obj
    output.config += options["config"]
    refuse_second_reader(output.config, artifacts)
    for name, kind in _OWN_FILES.items():
        if options[name] == "":
            raise PolicyError(f"--{_word(name)}: the name is empty: name a {kind}")
    _reject_reports(options)
    if host:
        from aegis.cli.fuzz_host import attack

        policy_files(output.config).policy()  # the attack has limits of its own, but a mistake must not pass
        return attack(output, context, artifacts, options)
    if options["sources"]:
        raise click.UsageError("--source requires --host: without it, the artifact is run unchanged")
    saved = None
    if options["resumed"] is not None:
        from aegis.fuzz.continuation import SavedCampaign

        saved = SavedCampaign(options["resumed"])
        artifacts = artifacts or (saved.artifact,)
        if context.get_parameter_source("seed") is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("--seed: --continue keeps the seed of its campaign")
        options["seed"] = saved.seed
    if not artifacts and options["replay"] is not None:
        raise click.UsageError(_no_guest(options["replay"]))
    if len(artifacts) != 1:
        raise click.UsageError("name one component or module; several require --host")
    artifact = artifacts[0]
    if options["limit_fuel"] == "none":
        raise PolicyError("--fuel-limit: a campaign needs a fuel limit to be reproducible: give a number, such as 1e9")
    if any(":" in name for name in options["oracles"]):
        use_python_path()
    from aegis.cli.fuzz_values import given_values

    policy = make_policy(output.config, options, capture=True)
    refuse_shared_files(policy, {f"--{_word(name)}": options[name] for name in _OWN_FILES})
    plan = CampaignPlan(
        data=read_artifact(artifact, policy.limits), name=artifact, policy=policy, functions=options["functions"],
        oracles=options["oracles"], hostile=options["hostile"], goal=options["goal"] or "", seed=options["seed"],
        buffers=not options["numbers"], programs=tuple(map(parse_words, options["words"])),
        **given_values(options), coverage=options["coverage"] == "edges",
        others=tuple(_others(options["oracles"], policy)), config=output.config,
        flags=tuple(_flags(context)),
    )  # fmt: skip
    if options["replay"] is not None:
        return _replayed(output, plan, options["replay"], options["oracles"])
    if options["calls"]:
        return _called(output, plan, options["calls"], options["answers"])
    return run_campaign(output, plan, {**options, "line": list(_repeated(context))}, saved)


def _reject_reports(options: dict[str, Any]) -> None:
    """Raise ``UsageError`` for reports of a campaign if there is none: ``--replay`` and ``--call`` run one case."""
    single = "--replay" if options["replay"] is not None else "--call" if options["calls"] else ""
    given = [f"--{name}" for name in ("baseline", "sarif", "junit") if options[name] is not None]
    if single and given:
        raise click.UsageError(f"{', '.join(given)}: not with {single}, which runs one case: leave one of them out")


def _word(name: str) -> str:
    return "continue" if name == "resumed" else name


_POLICY_OPTIONS = ("isolate", "enable", "listen", "deny_net", "config_value", "stdin")


_NOT_REPEATED = frozenset({
    "out", "resumed", "seed", "runs", "seconds", "jobs", "imports", "export", "minimize", "baseline", "sarif", "junit",
    "coverage_out",
})  # fmt: skip
"""The options that a command to continue a campaign does not repeat."""


def _repeated(context: click.Context) -> Iterable[str]:
    """Yield the words of the command line that a command to continue this campaign repeats."""
    for option in context.command.params:
        name = option.name or ""
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if not isinstance(option, click.Option) or not given or name in _NOT_REPEATED:
            continue
        value = context.params.get(name)
        longest = max(option.opts, key=len)
        for one in value if isinstance(value, tuple) else (value,):
            yield longest if one is True else f"{longest}={one}"


def _flags(context: click.Context) -> Iterable[str]:
    """Yield the policy options of the command line, each as one word ``--option=value``."""
    for option in context.command.params:
        name, value = option.name or "", context.params.get(option.name or "")
        if name.startswith(("limit_", "allow_")) or name in _POLICY_OPTIONS:
            values = value if isinstance(value, tuple) else () if value is None else (value,)
            yield from (f"{option.opts[0]}={one}" for one in values)


def _others(oracles: Iterable[str], policy: Any) -> Iterable[tuple[str, bytes]]:
    for oracle in oracles:
        kind, _, path = oracle.partition(":")
        if kind == "differential" and path:
            yield path, read_artifact(path, policy.limits)


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


def _no_guest(path: str) -> str:
    """Return the error for ``--replay`` without a guest; it has the command of the finding, which names the guest."""
    import json

    file = printable(path)
    text = f"--replay {file}: name the component or module of the finding, too: aegis fuzz GUEST --replay {file}"
    try:
        command = json.loads(read_bounded(path, _MAX_FINDING_BYTES))["command"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return text
    return f"{text}; the file has this command: {printable(command, 300)}" if isinstance(command, str) else text


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
