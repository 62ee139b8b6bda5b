"""The report of a campaign: as text, as JSON, and as one self-contained HTML page."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from aegis.fuzz.plan import FUEL, CampaignPlan, CampaignResult
from aegis.fuzz.portable import format_step
from aegis.fuzz.reproduce import command_of
from aegis.limits import format_count, format_seconds
from aegis.text import count, printable, visible

__all__ = ["to_data", "to_html", "to_text"]

_MAX_BEST_CALLS = 5
"""Most calls of one function among the ``best``."""
_MAX_PLOT_POINTS = 4000
_MAX_CALL_CHARACTERS = 200
"""Longest call in the text report, in characters."""


def to_data(result: CampaignResult, kind: str, left_out: Mapping[str, str]) -> dict[str, Any]:
    """Return the report as a JSON object. ``kind``: ``module`` or ``component``; ``left_out``: reasons by export."""
    plan = result.plan
    return {
        "artifact": plan.name,
        "seed": plan.seed,
        "goal": plan.goal or None,
        "cases": result.cases,
        "seconds": round(result.seconds, 3),
        "cases_per_second": round(result.cases / result.seconds, 1) if result.seconds else 0.0,
        "interrupted": result.interrupted,
        "statuses": dict(sorted(result.statuses.items())),
        "behaviours": len(result.behaviours),
        "left_out": dict(left_out),
        "problems": result.lost,
        "best": best(result),
        "findings": [_whole(plan, kind, finding) for finding in result.findings.values()],
    }


def _whole(plan: CampaignPlan, kind: str, finding: Mapping[str, Any]) -> dict[str, Any]:
    """Return a finding with its reproducer command."""
    found = {**finding, "hostile": plan.hostile, "numbers": not plan.buffers}
    found |= {"allocator": plan.allocator} if plan.allocator else {}
    found |= {"signatures": list(plan.signatures)} if plan.signatures else {}
    flags = plan.flags
    if plan.own_fuel and found["oracle"] == "no-limit":  # `aegis run` has no fuel limit: it would run to the deadline
        flags += (f"--fuel-limit={FUEL}",)
    return {**found, "command": command_of(plan.name, kind, found, plan.config, flags)}


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
    """Return the report as text. Each finding is followed by its reproducer command."""
    lines = []
    for finding in data["findings"]:
        lines += [f"finding: {visible(finding['oracle'])}: {visible(finding['text'])}", f"  {finding['command']}"]
        if len(finding["steps"]) > 1:
            lines += [f"  #{n} = {_step(step)}" for n, step in enumerate(finding["steps"])]
        lines += [f"  imports: {visible(answer)}" for answer in finding["answered"]] if any(finding["answers"]) else []
        lines += [f"  {visible(frame)}" for frame in finding["frames"][:5]]
    if data["goal"]:
        for one in data["best"][:_MAX_BEST_CALLS]:
            lines.append(
                f"{data['goal']}: {_step(one['step'])}: size {one['size']:,}, fuel "
                f"{one['fuel']:,}, memory {one['memory']:,}, host calls {one['host_calls']:,}"
            )
    return "\n".join([*lines, *_closing(data)])


def _closing(data: Mapping[str, Any]) -> list[str]:
    """Return the closing lines: exports that were skipped, problems, and the figures of the campaign."""
    lines = [f"left out: {printable(name)}: {visible(reason)}" for name, reason in data["left_out"].items()]
    lines += [f"problem: {visible(problem)}" for problem in data["problems"]]
    endings = ", ".join(f"{status} {format_count(number)}" for status, number in data["statuses"].items())
    lines.append(
        f"{count(data['cases'], 'case')} in {format_seconds(data['seconds'])} "
        f"({data['cases_per_second']:,.0f} a second), seed {data['seed']}: {endings or 'no calls'}; "
        f"{count(data['behaviours'], 'behaviour')}, "
        f"{count(len(data['findings']), 'finding')}{'; interrupted' if data['interrupted'] else ''}"
    )
    return lines


def _step(step: Sequence[Any]) -> str:
    """Return a call as escaped text, truncated to a line."""
    function, arguments = step
    text = format_step([printable(function), list(map(visible, arguments))])
    return text if len(text) < _MAX_CALL_CHARACTERS else text[:_MAX_CALL_CHARACTERS] + "…"


# -- HTML -------------------------------------------------------------------------------------------

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b1f24; }}
pre {{ background: #f4f5f7; padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }}
svg {{ background: #fbfbfc; border: 1px solid #ddd; }} .axis {{ font-size: 11px; fill: #555; }}
.finding {{ border-left: 4px solid #c0392b; padding-left: 1rem; margin: 1.5rem 0; }}
</style>
<h1>{title}</h1>
<p>{summary}</p>
{findings}
<h2>Fuel by input size</h2>
{fuel}
<h2>Call outcomes</h2>
{endings}
<h2>Behaviours over time</h2>
{line}
</html>
"""
_WIDTH, _HEIGHT, _EDGE = 720, 320, 48
_COLOURS = ("#1f77b4", "#d95f02", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#7f7f7f")


def to_html(data: Mapping[str, Any], result: CampaignResult) -> str:
    """Return the report as one HTML page with inline SVG plots; it loads no other resource."""
    findings = "".join(_finding(finding) for finding in data["findings"]) or "<p>No findings.</p>"
    return _PAGE.format(
        title=_html(f"aegis fuzz {data['artifact']}"), summary="<br>".join(map(_html, _closing(data))),
        findings=findings, fuel=_scatter(result.points[-_MAX_PLOT_POINTS:]), endings=_bars(data["statuses"]),
        line=_line(result.line),
    )  # fmt: skip


def _finding(finding: Mapping[str, Any]) -> str:
    calls = "\n".join(_html(format_step(step)) for step in finding["steps"])
    answers = "\n".join(map(_html, finding["answered"])) if any(finding["answers"]) else ""
    frames = "\n".join(map(_html, finding["frames"]))
    return (
        f'<div class="finding"><h3>{_html(finding["oracle"])}</h3><p>{_html(finding["text"])}</p>'
        f"<pre>{calls}</pre><pre>{_html(finding['command'])}</pre>"
        f"{f'<p>Answers of the import stubs:</p><pre>{answers}</pre>' if answers else ''}"
        f"{f'<pre>{frames}</pre>' if frames else ''}</div>"
    )


def _html(text: str) -> str:
    """Escape one line of text for HTML, including control and bidirectional characters."""
    return html.escape(visible(text))


def _scatter(points: Sequence[tuple[str, int, int]]) -> str:
    if not points:
        return "<p>No calls.</p>"
    names = sorted({name for name, _, _ in points})
    across = _scale([size for _, size, _ in points], _EDGE, _WIDTH - 10)
    up = _scale([fuel for _, _, fuel in points], _HEIGHT - _EDGE, 10)
    dots = "".join(
        f'<circle cx="{across(size):.1f}" cy="{up(fuel):.1f}" r="2.5" fill="{_COLOURS[names.index(name) % 8]}" '
        f'fill-opacity=".6"><title>{_html(name)}: size {size:,}, fuel {fuel:,}</title></circle>'
        for name, size, fuel in points
    )
    legend = " ".join(
        f'<span style="color:{_COLOURS[n % 8]}">&#9679; {_html(name)}</span>' for n, name in enumerate(names[:24])
    )
    return f"{_svg(dots, 'size', 'fuel (both logarithmic)')}<p>{legend}</p>"


def _scale(values: Sequence[float], start: float, stop: float) -> Any:
    low, high = math.log1p(min(values)), math.log1p(max(values))
    return lambda value: start + (math.log1p(value) - low) / ((high - low) or 1) * (stop - start)


def _line(points: Sequence[tuple[float, int, int]]) -> str:
    if not points:
        return "<p>No calls.</p>"
    latest, most = max(t for t, _, _ in points) or 1, max(b for _, _, b in points) or 1
    path = " ".join(
        f"{_EDGE + t / latest * (_WIDTH - 10 - _EDGE):.1f},{_HEIGHT - _EDGE - b / most * (_HEIGHT - _EDGE - 10):.1f}"
        for t, _, b in [(0.0, 0, 0), *points]
    )
    return _svg(
        f'<polyline points="{path}" fill="none" stroke="#1f77b4" stroke-width="2"/>',
        f"seconds, to {latest:.1f}", f"distinct behaviours, to {most:,}",
    )  # fmt: skip


def _svg(inside: str, across: str, up: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img">{inside}'
        f'<text class="axis" x="{_WIDTH / 2}" y="{_HEIGHT - 14}" text-anchor="middle">{html.escape(across)}</text>'
        f'<text class="axis" x="14" y="{_HEIGHT / 2}" transform="rotate(-90 14 {_HEIGHT / 2})" text-anchor="middle">'
        f"{html.escape(up)}</text></svg>"
    )


def _bars(statuses: Mapping[str, int]) -> str:
    most = max(statuses.values(), default=1)
    rows = "".join(
        f'<tr><td>{_html(status)}</td><td style="min-width:20rem"><div style="background:#1f77b4;height:1rem;'
        f'width:{max(0.3, number / most * 100):.1f}%"></div></td><td>{number:,}</td></tr>'
        for status, number in statuses.items()
    )
    return f"<table>{rows}</table>"
