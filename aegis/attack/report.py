"""The report of an attack, as JSON and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aegis.attack.campaign import AttackResult
from aegis.attack.store import command_of
from aegis.attack.triage import file_and_line
from aegis.limits import format_count, format_seconds
from aegis.text import count, printable

if TYPE_CHECKING:
    from aegis.fuzz.baseline import Baseline

__all__ = ["SENTENCES", "for_ci", "to_data", "to_text"]

SENTENCES = {
    "undocumented": "Every error of Aegis is a documented one.",
    "internal": "Aegis contradicts none of its own assumptions.",
    "crash": "No guest ends the worker that runs it by a signal.",
    "late": "Every run ends within its deadline.",
    "escape": "No guest reaches anything that was not granted.",
    "left-behind": "A run leaves no file, descriptor, thread or process behind.",
    "left-open": "A run leaves no handle, stream or task open.",
    "differs": "The same input ends the same way in a second run.",
    "engines-differ": "Code of other compilers and settings of the engine behaves like the optimised code.",
    "died": "No input ends the process that compiles and runs it.",
    "hung": "No input keeps the process that compiles and runs it from going on.",
}
"""For each kind of fault, the property that it violates."""

_MAX_FRAMES = 5
"""Most frames of a finding in the text report."""


def to_data(
    result: AttackResult, left_out: Mapping[str, str], folder: str | None, baseline: Baseline | None = None
) -> dict[str, Any]:  # fmt: skip
    """Return the report as a JSON object.

    ``folder`` is the directory with the saved findings, if any. ``baseline`` has the findings that are known already.
    """
    cases = result.cases.total()
    findings = [_finding(result, f, folder) for f in result.findings.values()]
    known = [False] * len(findings) if baseline is None else baseline.known(findings)
    return {
        "seed": result.attack.seed,
        "cases": cases,
        "seconds": round(result.seconds, 3),
        "cases_per_second": round(cases / result.seconds, 1) if result.seconds else 0.0,
        "sources": {name: _source(result, name) for name in result.attack.sources if result.cases[name]},
        "outcomes": _outcomes(result),
        "distinct_outcomes": result.distinct,
        "seeds": len(result.attack.artifacts),
        "left_out": dict(left_out),
        "interrupted": result.interrupted,
        "problems": result.lost,
        "findings": [{**finding, "known": one} for finding, one in zip(findings, known, strict=True)],
        "absent": [] if baseline is None else baseline.absent(findings),
    }


def _source(result: AttackResult, name: str) -> dict[str, Any]:
    seconds, making = result.busy[name]
    return {
        "cases": result.cases[name],
        "cases_per_second": round(result.cases[name] / seconds, 1) if seconds else 0.0,
        "making": round(making / seconds, 2) if seconds else 0.0,
        "distinct_outcomes": len(result.endings[name]),
    }


def _outcomes(result: AttackResult) -> list[dict[str, Any]]:
    """Return the outcomes by phase and status: how often they occurred, and with how many distinct messages."""
    counted: dict[tuple[str, str], int] = {}
    distinct: dict[tuple[str, str], set[str]] = {}
    for endings in result.endings.values():
        for (phase, status, text), number in endings.items():
            counted[phase, status] = counted.get((phase, status), 0) + number
            distinct.setdefault((phase, status), set()).add(text)
    return [
        {"phase": phase, "status": status, "number": number, "distinct": len(distinct[phase, status])}
        for (phase, status), number in counted.items()
    ]


def _finding(result: AttackResult, finding: Mapping[str, Any], folder: str | None) -> dict[str, Any]:
    public = {key: value for key, value in finding.items() if key != "data"}
    return {
        **public,
        "key": finding["signature"],
        "seed": result.attack.seed,
        "command": command_of({**finding, "seed": result.attack.seed}, folder),
    }


def for_ci(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report in the form that the writers of SARIF and JUnit read: a source stands for an export."""
    row = {"warning": ""}
    return {
        "artifact": "aegis",
        "seed": data["seed"],
        "cases": data["cases"],
        "behaviours": data["distinct_outcomes"],
        "seconds": data["seconds"],
        "problems": data["problems"],
        "left_out": data["left_out"],
        "exports": [{"name": name, **row} for name in data["sources"]],
        "findings": [_for_ci(finding) for finding in data["findings"]],
    }


def _for_ci(finding: Mapping[str, Any]) -> dict[str, Any]:
    frames = [file_and_line(frame) for frame in reversed(finding["frames"])]  # those of a guest begin innermost
    return {**finding, "oracle": finding["kind"], "cause": finding["place"], "steps": [], "frames": frames}


def to_text(data: Mapping[str, Any]) -> str:
    """Return the report as text. Each finding is followed by its reproducer command."""
    lines = []
    for finding in data["findings"]:
        shrunk = f" (minimised from {finding['size_found']:,})" if "size_found" in finding else ""
        again = "" if finding["again"] else "; not reproduced by a second run"
        lines += [
            f"{'known finding' if finding['known'] else 'finding'}: {printable(finding['text'], 500)}",
            f"  {printable(finding['label'], 200)}; {finding['size']:,} bytes{shrunk}; "
            f"seen {count(finding['times'], 'time')}{again}",
            f"  {finding['command']}",
            *(f"  {frame}" for frame in finding["frames"][-_MAX_FRAMES:]),
        ]
    lines += [f"baseline: {printable(key, 200)} was not found" for key in data["absent"]]
    lines += [f"left out: {printable(name)}: {reason}" for name, reason in data["left_out"].items()]
    lines += [f"problem: {problem}" for problem in data["problems"]]
    lines += [_outcome_line(data["outcomes"], phase) for phase in dict.fromkeys(o["phase"] for o in data["outcomes"])]
    for name, figures in data["sources"].items():
        lines.append(
            f"{name}: {count(figures['cases'], 'case')} ({figures['cases_per_second']:,.1f} per process second, "
            f"{figures['making']:.0%} of it for generation), {count(figures['distinct_outcomes'], 'distinct outcome')}"
        )
    lines.append(
        f"{count(data['cases'], 'case')} in {format_seconds(data['seconds'])} "
        f"({data['cases_per_second']:,.1f} a second), seed {data['seed']}: "
        f"{count(data['distinct_outcomes'], 'distinct outcome')}, "
        f"{_number(data['findings'])}{'; interrupted' if data['interrupted'] else ''}"
    )
    return "\n".join(lines)


def _number(findings: Sequence[Mapping[str, Any]]) -> str:
    """Return the number of findings, and of those that no baseline knows."""
    text, new = count(len(findings), "finding"), sum(not finding["known"] for finding in findings)
    return text if new == len(findings) else f"{text}, {new} new"


def _outcome_line(outcomes: list[dict[str, Any]], phase: str) -> str:
    endings: Counter[str] = Counter({o["status"]: o["number"] for o in outcomes if o["phase"] == phase})
    return f"{phase}: {', '.join(f'{status} {format_count(n)}' for status, n in endings.most_common())}"
