"""The figures of coverage for the report of a campaign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aegis.fuzz.coverage.edge_map import reached
from aegis.text import visible

if TYPE_CHECKING:
    from aegis.fuzz.coverage.copies import Copies
    from aegis.fuzz.plan import CampaignResult

__all__ = ["add_cost", "coverage_data", "coverage_line"]


def add_cost(one: tuple[float, float, float], two: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return the sum of two costs."""
    return one[0] + two[0], one[1] + two[1], one[2] + two[2]


def coverage_data(result: CampaignResult, copies: Copies | None, reason: str = "") -> dict[str, Any]:
    """Return the figures as a JSON object; ``reason`` says why there is no coverage, if the plan wants it.

    ``slowdown`` is the ratio of the times of equal calls with and without instrumentation. ``share`` is the share of
    the processors' time that went to runs which a campaign without coverage does not make. Both are measured.
    """
    if copies is None:
        return {"edges": None, "total": None, "slowdown": None, "share": None, "reason": reason}
    instrumented, original, further = result.cost
    return {
        "edges": reached(result.coverage),
        "total": copies.size,
        "slowdown": round(instrumented / original, 2) if original else None,
        "share": round(min(1.0, further / result.work), 3) if result.work else None,
        "reason": "",
    }


def coverage_line(data: Mapping[str, Any]) -> list[str]:
    """Return the line of the text report about coverage; none if the plan does not want it."""
    if data["reason"]:
        return [f"coverage: none: {visible(data['reason'])}"]
    if data["edges"] is None:
        return []
    share = f" ({data['edges'] / data['total']:.0%})" if data["total"] else ""
    line = f"coverage: {data['edges']:,} of {data['total']:,} edges{share}"
    if data["slowdown"] is not None and data["share"] is not None:
        line += f"; cost: calls took {data['slowdown']:.1f} times as long, further runs {data['share']:.0%} of the time"
    return [line]
