"""Convert values to bounded and escaped JSON; values from a guest are hostile in logs and terminals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["MAX_TEXT_CHARACTERS", "cut", "dump", "plain"]

MAX_TEXT_CHARACTERS = 4096
"""Characters of one string in an event; longer strings are truncated and end in an ellipsis."""
_MAX_DEPTH = 8
_MAX_ITEMS = 1000


def cut(text: str, limit: int = MAX_TEXT_CHARACTERS) -> str:
    """Return ``text`` truncated to ``limit`` characters; the last one is an ellipsis if any were removed."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def plain(value: object) -> Any:
    """Return a bounded copy of ``value`` that consists of JSON types.

    Strings are truncated to :data:`MAX_TEXT_CHARACTERS`; at most 1000 items on at most eight levels are kept. Floats
    that JSON does not have become ``"nan"``, ``"inf"`` or ``"-inf"``; bytes become text; ``Ok(x)``, ``Err(x)`` and
    ``Some(x)`` become ``{"ok": x}``, ``{"err": x}`` and ``{"some": x}``. Any other object becomes the name of its
    type, because its ``repr`` may contain secrets of the embedder; so does an object that raises while it is read.
    """
    return _Plain().convert(value, _MAX_DEPTH)


class _Plain:
    """One conversion, with its remaining budgets."""

    __slots__ = ("items", "text")

    def __init__(self) -> None:
        self.items = _MAX_ITEMS
        self.text = 4 * MAX_TEXT_CHARACTERS

    def convert(self, value: object, depth: int) -> Any:
        try:
            return self.converted(value, depth)
        except Exception:  # a class of the embedder may raise anything from its methods
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
            return self.string(bytes(value[:MAX_TEXT_CHARACTERS]).decode("utf-8", "backslashreplace"))
        return self.container(value, depth)

    def string(self, value: str) -> str:
        shown = cut(str(value), max(1, min(MAX_TEXT_CHARACTERS, self.text)))
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
    """Return ``data`` as strict ASCII JSON that is safe on a terminal; on one line without ``indent``.

    A lone surrogate, which strict parsers reject, is written as literal text, such as ``\\udc80``.
    """
    import json  # slow to import, and only observed runs need it

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
