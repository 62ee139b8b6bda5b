# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:clocks/wall-clock@0.2.12``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aegis.wit.types import Function, Interface, Record

__all__ = ["DATETIME", "INTERFACE", "Datetime", "Host"]


@dataclass(frozen=True, slots=True)
class Datetime:
    """The record ``datetime``."""

    seconds: int
    nanoseconds: int


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def now(self) -> Datetime: ...

    def resolution(self) -> Datetime: ...


_NAME = "wasi:clocks/wall-clock@0.2.12"

DATETIME = Record("datetime", (("seconds", "u64"), ("nanoseconds", "u32")), python=Datetime, owner=_NAME)

INTERFACE = Interface(
    _NAME,
    functions={"now": Function((), DATETIME), "resolution": Function((), DATETIME)},
    types={"datetime": DATETIME},
)
