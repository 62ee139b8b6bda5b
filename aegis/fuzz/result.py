"""What a campaign tells on its way and at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aegis.fuzz.plan import Plan

__all__ = ["Progress", "Result"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a campaign is."""

    cases: int
    seconds: float
    findings: int
    behaviours: int


@dataclass(slots=True, kw_only=True)
class Result:
    """What came of a campaign; plain data throughout."""

    plan: Plan
    cases: int = 0
    seconds: float = 0.0
    chunks: list[int] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    behaviours: dict[str, list[Any]] = field(default_factory=dict)
    points: list[tuple[str, int, int]] = field(default_factory=list)
    line: list[tuple[float, int, int]] = field(default_factory=list)
    """Seconds, cases, behaviours: the time line."""
    interrupted: bool = False
    lost: list[str] = field(default_factory=list)
    """What went wrong with the campaign itself."""
