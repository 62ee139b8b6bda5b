"""One row of the benchmark table, shared by all parts."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Row"]


class Row(NamedTuple):
    """A measurement: the times of Aegis and of the reference in ``unit``, their ratio, and the gate, met or not."""

    what: str
    measured: float
    reference: float
    ratio: float
    gate: str = ""
    met: bool | None = None
    unit: str = "s"
