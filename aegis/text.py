"""Escape, truncate and compare text from guests: such text is hostile in every message, log and terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from aegis.support.lean import Any

__all__ = [
    "count",
    "is_visible",
    "last_lines",
    "literal",
    "misspelt",
    "printable",
    "quoted",
    "shell_word",
    "shown",
    "similar_names",
    "visible",
]

_KEPT = frozenset(map(chr, range(0x20, 0x7F))) - {"\\"}
_UNSEEN = frozenset(
    map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0))
) | frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
"""Fillers and variation selectors: ``str.isprintable`` accepts them, but a terminal draws nothing."""


def printable(text: str | bytes, limit: int = 200) -> str:
    """Return ``text`` on one line, with control and invisible characters escaped, truncated to ``limit`` characters.

    ``limit`` counts characters of the result; truncation is marked by an ellipsis and the full length.
    """
    if isinstance(text, bytes):
        text = text[: limit * 4].decode("utf-8", "backslashreplace")
    cut = text[: limit + 1]
    shown = "".join(c if is_visible(c) else _escape(c) for c in cut)
    if len(cut) <= limit and len(shown) <= limit:
        return shown
    return f"{shown[:limit]}… ({len(text)} characters)"


def last_lines(output: bytes, lines: int = 8, line_characters: int = 300) -> list[str]:
    """Return the last lines of a guest's output that are not empty, each escaped and truncated.

    The function reads a bounded part of ``output``.
    """
    tail = output[-4 * lines * line_characters :].splitlines()
    return [printable(line, line_characters) for line in [line for line in tail if line.strip()][-lines:]]


def shown(value: object, limit: int, text: Callable[[Any], str] = repr) -> str:
    """Return a value of a foreign class as text for a message, truncated to ``limit`` characters.

    ``text`` runs code of that class, which may raise any exception; ``int`` itself raises ``ValueError`` for thousands
    of digits. The result then names the class only.
    """
    try:
        return printable(text(value), limit)
    except Exception:
        return f"({type(value).__name__} without a text)"


def quoted(path: str, limit: int = 300) -> str:
    """Return a host path in quotes for a message, truncated to ``limit`` characters."""
    return repr(path) if len(path) <= limit else f"{path[:limit]!r}… ({len(path)} characters)"


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode("ascii") if char != "\\" else "\\\\"


def literal(text: str) -> str:
    """Return ``text`` as a Python string literal on one line, with every invisible character escaped."""
    inner = "".join('\\"' if c == '"' else c if is_visible(c) else _escape(c) for c in text)
    return f'"{inner}"'


def shell_word(text: str) -> str:
    """Return ``text`` as one quoted word for a POSIX shell; invisible characters need ``$'…'`` (bash, zsh, ksh).

    Surrogate escapes from :func:`os.fsdecode` are written as their original bytes. Raise ``ValueError`` for a NUL,
    which a command-line argument cannot contain.
    """
    if "\0" in text:
        raise ValueError("a command-line argument cannot contain a NUL")
    if all(is_visible(c) or c == "\\" for c in text):
        from shlex import quote

        return quote(text)
    return f"$'{''.join(map(_shell_char, text))}'"


def _shell_char(char: str) -> str:
    if is_visible(char):
        return "\\'" if char == "'" else char
    if char == "\\":
        return "\\\\"
    lone = "surrogateescape" if "\udc80" <= char <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", lone))


def visible(text: str) -> str:
    """Return ``text`` on one line, with control, invisible and direction-changing characters escaped.

    Backslashes are kept, so escaping is idempotent.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if is_visible(c) or c == "\\" else _escape(c) for c in text)


def is_visible(char: str) -> bool:
    """Return whether a terminal draws ``char`` and does nothing else; ``False`` for a backslash."""
    return char in _KEPT or (ord(char) > 0x7F and char.isprintable() and char not in _UNSEEN)


_MAX_NAMES_SCANNED, _MAX_NAMES_COMPARED = 4096, 256
_MAX_NAME_CHARACTERS = 100


def similar_names(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return up to ``most`` names of ``known`` that resemble ``name``, best match first.

    A guest chooses the number, length and similarity of the names, and comparing two names takes time proportional to
    the product of their lengths. So at most 4,096 names are scanned, 256 names of similar length are compared, and
    names of more than 100 characters are skipped.
    """
    import difflib  # takes a millisecond to import, and only error messages need it

    if len(name) > _MAX_NAME_CHARACTERS:
        return []
    # A ratio of 0.6 is only possible if the shorter name has at least 3/7 of the longer one's length.
    low, high = len(name) * 3 // 7, min(_MAX_NAME_CHARACTERS, len(name) * 7 // 3 + 1)
    similar = (one for one in islice(known, _MAX_NAMES_SCANNED) if low <= len(one) <= high)
    return difflib.get_close_matches(name, list(islice(similar, _MAX_NAMES_COMPARED)), n=most, cutoff=0.6)


def count(number: int, noun: str) -> str:
    """Return ``number`` and its noun in singular or plural: ``1 file``, ``2 files``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def misspelt(name: str, known: Iterable[str], what: str) -> str:
    """Return the error message for a name that is not in ``known``; ``what`` is a noun for the names."""
    alike = similar_names(name, known, 1)
    hint = f"did you mean {alike[0]!r}?" if alike else f"use one of {', '.join(sorted(known))}"
    return f"{name!r} is not a {what}: {hint}"
