"""From values to JSON and to a terminal, bounded and escaped: what a guest wrote is hostile in both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["TEXT_LIMIT", "cut", "dump", "plain"]

TEXT_LIMIT = 4096
"""Characters of one string in an event; a longer one is cut and ends in an ellipsis."""
_DEPTH = 8
_ITEMS = 1000


def cut(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return ``text`` of at most ``limit`` characters, the last one an ellipsis where it was cut."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def plain(value: object) -> Any:
    """Return ``value`` as data that JSON can hold, detached from the original and bounded.

    Strings are cut at :data:`TEXT_LIMIT`, at most 1000 items are kept over all levels, eight levels
    deep. A float that JSON lacks becomes ``"nan"``, ``"inf"`` or ``"-inf"``; bytes become text;
    ``Ok(x)``, ``Err(x)`` and ``Some(x)`` become ``{"ok": x}``, ``{"err": x}`` and ``{"some": x}``. An object of
    another type becomes its type's name, because its ``repr`` is the embedder's secret; so does one that
    raises while it is read.
    """
    return _Plain().convert(value, _DEPTH)


class _Plain:
    """One conversion, with what is left of its budgets."""

    __slots__ = ("items", "text")

    def __init__(self) -> None:
        self.items = _ITEMS
        self.text = 4 * TEXT_LIMIT

    def convert(self, value: object, depth: int) -> Any:
        try:
            return self.converted(value, depth)
        except Exception:  # an embedder's class may do anything when it is asked for its value
            return f"<{type(value).__name__}>"

    def converted(self, value: object, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int(value) if -(1 << 256) < value < 1 << 256 else f"an integer of {value.bit_length()} bits"
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else str(float(value))
        if isinstance(value, str):
            return self.string(value)
        if isinstance(value, (bytes, bytearray)):
            return self.string(bytes(value[:TEXT_LIMIT]).decode("utf-8", "backslashreplace"))
        return self.container(value, depth)

    def string(self, value: str) -> str:
        shown = cut(str(value), max(1, min(TEXT_LIMIT, self.text)))
        self.text -= len(shown)
        return shown

    def container(self, value: object, depth: int) -> Any:
        if depth <= 0:
            return "…"
        if isinstance(value, Mapping):
            pairs = self.take(value.items())
            return {self.key(key): self.convert(item, depth - 1) for key, item in pairs}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.convert(item, depth - 1) for item in self.take(value)]
        case = getattr(type(value), "__wit_case__", None)
        if isinstance(case, str):
            return {case: self.convert(value.value, depth - 1)}  # type: ignore[attr-defined]
        return f"<{type(value).__name__}>"

    def key(self, key: object) -> str:
        return self.string(key if isinstance(key, str) else f"<{type(key).__name__}>")

    def take(self, items: Any) -> Any:
        for item in items:
            if self.items <= 0:
                return
            self.items -= 1
            yield item


def dump(data: object, *, indent: int | None = None) -> str:
    """Return ``data`` as strict ASCII JSON that is safe on a terminal, on one line without ``indent``.

    A lone surrogate, which strict parsers refuse, is written out as its escape's text.
    """
    import json  # only who observes pays for it

    text = json.dumps(data, indent=indent, allow_nan=False, separators=None if indent else (",", ":"))
    if "\\ud" in text:
        text = json.dumps(_repaired(data), indent=indent, allow_nan=False, separators=None if indent else (",", ":"))
    return text.replace("\x7f", "\\u007f")


def _repaired(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(data, dict):
        return {_repaired(key): _repaired(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_repaired(item) for item in data]
    return data
