"""Names and text that cross the boundary: what a guest wrote is hostile wherever it is shown."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["count", "near", "printable"]

_KEPT = frozenset(map(chr, range(0x20, 0x7F))) - {"\\"}


def printable(text: str | bytes, limit: int = 200) -> str:
    """Return ``text`` on one line, controls and invisible characters escaped, cut at ``limit``.

    ``limit`` counts characters of the result; a cut is marked with an ellipsis and the full length.
    """
    if isinstance(text, bytes):
        text = text[: limit * 4].decode("utf-8", "backslashreplace")
    cut = text[: limit + 1]
    shown = "".join(c if c in _KEPT or (ord(c) > 0x7F and c.isprintable()) else _escape(c) for c in cut)
    if len(cut) <= limit and len(shown) <= limit:
        return shown
    return f"{shown[:limit]}… ({len(text)} characters)"


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode("ascii") if char != "\\" else "\\\\"


def near(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return up to ``most`` of ``known`` that look like ``name``, best first."""
    import difflib  # costs a start-up millisecond that only failures need

    return difflib.get_close_matches(name, list(known), n=most, cutoff=0.6)


def count(number: int, noun: str) -> str:
    """Return ``number`` with its noun, ``1 file`` or ``2 files``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
