"""Find the place where two values differ, so that a message shows that place and not two long, nearly equal texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aegis.text import printable
from aegis.wit.values import Err, Ok

__all__ = ["Difference", "difference"]

_MAX_CHARACTERS = 200
_WINDOW_CHARACTERS = 24
"""Characters or bytes that are shown from the first difference of two long texts on."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two values: ``place`` such as ``[3].name``, empty for the whole, and the two parts as text."""

    place: str
    first: str
    second: str

    @property
    def at(self) -> str:
        """The place as the beginning of a message, empty for the whole."""
        return f"at {self.place}: " if self.place else ""


def difference(one: Any, two: Any, equal: Callable[[Any, Any], bool]) -> Difference | None:
    """Return the innermost first difference of two values; ``None`` if ``equal`` accepts them."""
    if equal(one, two):
        return None
    place = ""
    while (inner := _inner(one, two, equal)) is not None:
        step, one, two = inner
        place += step
    if isinstance(one, (str, bytes)) and type(one) is type(two):
        at = next(
            (n for n, pair in enumerate(zip(one, two, strict=False)) if pair[0] != pair[1]), min(len(one), len(two))
        )
        if at > _WINDOW_CHARACTERS or max(len(one), len(two)) > _MAX_CHARACTERS // 4:
            place += f"[{at}:]"
            one, two = one[at : at + _WINDOW_CHARACTERS], two[at : at + _WINDOW_CHARACTERS]
    elif isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
        return Difference(printable(place, _MAX_CHARACTERS), f"a length of {len(one)}", f"a length of {len(two)}")
    return Difference(printable(place, _MAX_CHARACTERS), _shown(one), _shown(two))


def _shown(value: Any) -> str:
    return printable(repr(value), _MAX_CHARACTERS)


def _inner(one: Any, two: Any, equal: Callable[[Any, Any], bool]) -> tuple[str, Any, Any] | None:
    """Return the step into the first part that differs, and that part of both; ``None`` if the whole differs."""
    if type(one).__name__ != type(two).__name__:
        return None
    if isinstance(one, (list, tuple)) and len(one) == len(two):
        parts = [(f"[{n}]", *pair) for n, pair in enumerate(zip(one, two, strict=True))]
    elif isinstance(one, (Ok, Err)):
        parts = [(".value", one.value, two.value)]
    elif (fields := getattr(type(one), "__dataclass_fields__", None)) is not None:
        parts = [(f".{name}", getattr(one, name), getattr(two, name)) for name in fields]
    else:
        return None
    return next(((step, a, b) for step, a, b in parts if not equal(a, b)), None)
