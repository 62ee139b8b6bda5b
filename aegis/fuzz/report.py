"""The report of a campaign as plain data and as text; :mod:`aegis.fuzz.report_html` has the HTML page.

Findings are grouped by cause. The text shows one case of each group, and JSON all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aegis.fuzz.causes import grouped
from aegis.fuzz.coverage.summary import coverage_line
from aegis.fuzz.export_table import export_rows, table_lines, warnings_of
from aegis.fuzz.plan import FUEL, CampaignPlan, CampaignResult
from aegis.fuzz.portable import format_step
from aegis.fuzz.reproduce import command_of
from aegis.limits import format_count, format_seconds
from aegis.text import count, printable, visible

if TYPE_CHECKING:
    from aegis.fuzz.baseline import Baseline
    from aegis.fuzz.target import TargetExport

__all__ = ["closing", "new_findings", "to_data", "to_text", "with_command"]

_MAX_BEST_CALLS = 5
"""Most calls of one function among the ``best``."""
_MAX_LISTED_NAMES = 8
"""Most exports that are listed beside the case of a group of findings."""
_MAX_CALL_CHARACTERS = 200
"""Longest call in the text report, in characters."""


def to_data(
    result: CampaignResult, kind: str, left_out: Mapping[str, str], *,
    exports: Mapping[str, TargetExport] | None = None, baseline: Baseline | None = None, folder: str = "",
    coverage: Mapping[str, Any] | None = None, notes: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Return the report as a JSON object.

    ``kind``: ``module`` or ``component``; ``left_out``: reasons by export; ``exports``: those that the campaign calls.
    ``coverage`` has the figures of :func:`aegis.fuzz.coverage.summary.coverage_data`. ``baseline`` has the findings
    that are known already, ``folder`` is the directory for findings as files. ``notes`` say how the exports are called.
    """
    plan = result.plan
    findings = [with_command(plan, kind, finding, folder) for finding in result.findings.values()]
    known = [False] * len(findings) if baseline is None else baseline.known(findings)
    findings = [{**finding, "known": one} for finding, one in zip(findings, known, strict=True)]
    groups = grouped(findings)
    return {
        "artifact": plan.name,
        "seed": plan.seed,
        "goal": plan.goal or None,
        "cases": result.cases,
        "replayed": result.replayed,
        "seconds": round(result.seconds, 3),
        "cases_per_second": round(result.cases / result.seconds, 1) if result.seconds else 0.0,
        "interrupted": result.interrupted,
        "statuses": dict(sorted(result.statuses.items())),
        "behaviours": len(result.behaviours),
        "coverage": None if coverage is None else dict(coverage),
        "exports": [asdict(row) for row in export_rows(result, exports or {})],
        "left_out": dict(left_out),
        "notes": list(notes),
        "problems": result.lost,
        "best": best(result),
        "groups": [_group(some) for some in groups],
        "findings": [finding for some in groups for finding in some],
        "absent": [] if baseline is None else baseline.absent(findings),
    }


def new_findings(data: Mapping[str, Any]) -> int:
    """Return the number of findings that no baseline knows."""
    return sum(not finding["known"] for finding in data["findings"])


def _group(findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = findings[0]
    exports = dict.fromkeys(finding["steps"][-1][0] for finding in findings if finding["steps"])
    return {
        "oracle": first["oracle"],
        "cause": first["cause"],
        "exports": list(exports),
        "signatures": [finding["signature"] for finding in findings],
    }


def with_command(plan: CampaignPlan, kind: str, finding: Mapping[str, Any], folder: str = "") -> dict[str, Any]:
    """Return a finding with its reproducer command."""
    found = {"cause": "", "key": "", **finding, "hostile": plan.hostile, "numbers": not plan.buffers}
    found |= {"allocator": plan.allocator} if plan.allocator else {}
    found |= {"signatures": list(plan.signatures)} if plan.signatures else {}
    flags = plan.flags
    if plan.own_fuel and found["oracle"] == "no-limit":  # `aegis run` has no fuel limit: it would run to the deadline
        flags += (f"--fuel-limit={FUEL}",)
    return {**found, "command": command_of(plan.name, kind, found, plan.config, flags, folder)}


def best(result: CampaignResult) -> list[dict[str, Any]]:
    """Return the calls that come closest to the goal; without a goal, those that burned most fuel for their size."""
    goal = result.plan.goal
    measure = {"big": 4, "chatty": 5}.get(goal, 3)  # of [signature, case, size, fuel, memory, host calls]

    def score(entry: Sequence[Any]) -> float:
        return float(entry[measure]) / (1 if goal == "big" else max(1, entry[2]))

    chosen: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for entry in sorted(result.behaviours.values(), key=score, reverse=True):
        function = entry[1]["steps"][-1][0]
        seen[function] = seen.get(function, 0) + 1
        if seen[function] > _MAX_BEST_CALLS or len(chosen) >= 4 * _MAX_BEST_CALLS:
            continue
        step, size, fuel, memory, calls = entry[1]["steps"][-1], *entry[2:6]
        chosen.append({"step": step, "size": size, "fuel": fuel, "memory": memory, "host_calls": calls})
    return chosen


def to_text(data: Mapping[str, Any]) -> str:
    """Return the report as text: a case of each group of findings with its reproducer command, then the exports."""
    by_signature = {finding["signature"]: finding for finding in data["findings"]}
    lines = []
    for group in data["groups"]:
        findings = [by_signature[signature] for signature in group["signatures"]]
        lines += _finding(next((finding for finding in findings if not finding["known"]), findings[0]), findings)
    lines += [f"baseline: {printable(key, 200)} was not found" for key in data["absent"]]
    if data["goal"]:
        for one in data["best"][:_MAX_BEST_CALLS]:
            lines.append(
                f"{data['goal']}: {_step(one['step'])}: size {one['size']:,}, fuel "
                f"{one['fuel']:,}, memory {one['memory']:,}, host calls {one['host_calls']:,}"
            )
    return "\n".join([*lines, *table_lines(data["exports"]), *closing(data)])


def _finding(finding: Mapping[str, Any], group: Sequence[Mapping[str, Any]]) -> list[str]:
    word = "known finding" if finding["known"] else "finding"
    lines = [f"{word}: {visible(finding['oracle'])}: {visible(finding['text'])}", f"  {finding['command']}"]
    if len(finding["steps"]) > 1:
        lines += [f"  #{n} = {_step(step)}" for n, step in enumerate(finding["steps"])]
    lines += [f"  imports: {visible(answer)}" for answer in finding["answered"]] if any(finding["answers"]) else []
    lines += [f"  {visible(frame)}" for frame in finding["frames"][:5]]
    others = dict.fromkeys(other["steps"][-1][0] for other in group if other is not finding and other["steps"])
    if others:
        names = ", ".join(printable(name, 60) for name in list(others)[:_MAX_LISTED_NAMES])
        more = f" and {len(others) - _MAX_LISTED_NAMES} more" if len(others) > _MAX_LISTED_NAMES else ""
        lines.append(f"  same cause ({visible(finding['cause'])}): {names}{more}")
    return lines


def closing(data: Mapping[str, Any]) -> list[str]:
    """Return the closing lines: exports without a test, problems, and the figures of the campaign."""
    lines = [f"warning: {visible(warning)}" for warning in warnings_of(data["exports"])]
    lines += [f"left out: {printable(name)}: {visible(reason)}" for name, reason in data["left_out"].items()]
    lines += [f"note: {visible(note)}" for note in data["notes"]]
    lines += [f"problem: {visible(problem)}" for problem in data["problems"]]
    lines += coverage_line(data["coverage"]) if data["coverage"] else []
    endings = ", ".join(f"{status} {format_count(number)}" for status, number in data["statuses"].items())
    lines.append(
        f"{count(data['cases'], 'case')} in {format_seconds(data['seconds'])} "
        f"({data['cases_per_second']:,.0f} a second), seed {data['seed']}: {endings or 'no calls'}; "
        f"{count(data['behaviours'], 'behaviour')}, "
        f"{_findings(data)}{'; interrupted' if data['interrupted'] else ''}"
    )
    return lines


def _findings(data: Mapping[str, Any]) -> str:
    """Return the number of findings, of their causes if these are fewer, and of those that a baseline knows."""
    found, causes, new = len(data["findings"]), len(data["groups"]), new_findings(data)
    text = count(found, "finding")
    if causes < found:
        text += f" of {count(causes, 'cause')}"
    return text if new == found else f"{text}, {new} new"


def _step(step: Sequence[Any]) -> str:
    """Return a call as escaped text, truncated to a line."""
    function, arguments = step
    text = format_step([printable(function), list(map(visible, arguments))])
    return text if len(text) < _MAX_CALL_CHARACTERS else text[:_MAX_CALL_CHARACTERS] + "…"
