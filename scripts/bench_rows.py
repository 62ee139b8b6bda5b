"""One line of what scripts/bench measures: shared by its parts."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Row"]


class Row(NamedTuple):
    """What was measured, ours and theirs in ``unit``, their ratio, and what it must be, with whether it is."""

    what: str
    ours: float
    theirs: float
    ratio: float
    gate: str = ""
    met: bool | None = None
    unit: str = "s"
