"""Names and text that cross the boundary: what a guest wrote is hostile wherever it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from aegis.support.lean import Any

__all__ = ["count", "is_seen", "literal", "near", "printable", "quoted", "shell_word", "shown", "visible"]

_KEPT = frozenset(map(chr, range(0x20, 0x7F))) - {"\\"}
_UNSEEN = frozenset(
    map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0))
) | frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
"""Characters that ``str.isprintable`` accepts and a terminal draws as nothing: fillers and variation selectors."""


def printable(text: str | bytes, limit: int = 200) -> str:
    """Return ``text`` on one line, controls and invisible characters escaped, cut at ``limit``.

    ``limit`` counts characters of the result; a cut is marked with an ellipsis and the full length.
    """
    if isinstance(text, bytes):
        text = text[: limit * 4].decode("utf-8", "backslashreplace")
    cut = text[: limit + 1]
    shown = "".join(c if is_seen(c) else _escape(c) for c in cut)
    if len(cut) <= limit and len(shown) <= limit:
        return shown
    return f"{shown[:limit]}… ({len(text)} characters)"


def shown(value: object, limit: int, text: Callable[[Any], str] = repr) -> str:
    """Return a value that is not ours as text for a message, cut at ``limit``.

    To make its text is to run code of its class, which may raise, and Python refuses integers of thousands of digits.
    """
    try:
        return printable(text(value), limit)
    except Exception:
        return f"({type(value).__name__} without a text)"


def quoted(path: str, limit: int = 300) -> str:
    """Return a host path in quotes for a message, cut at ``limit`` characters."""
    return repr(path) if len(path) <= limit else f"{path[:limit]!r}… ({len(path)} characters)"


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode("ascii") if char != "\\" else "\\\\"


def literal(text: str) -> str:
    """Return ``text`` as a literal of Python on one line, that shows and holds exactly these characters."""
    inner = "".join('\\"' if c == '"' else c if is_seen(c) else _escape(c) for c in text)
    return f'"{inner}"'


def shell_word(text: str) -> str:
    """Return ``text`` as one word for a shell; where it has characters that cannot be seen, for bash, zsh and ksh.

    Bytes that are no text, as :func:`os.fsdecode` keeps them, stay the same bytes. Raise ``ValueError`` for a NUL,
    which no word of a command line can hold.
    """
    if "\0" in text:
        raise ValueError("a word of a command line holds no NUL")
    if all(is_seen(c) or c == "\\" for c in text):
        from shlex import quote

        return quote(text)
    return f"$'{''.join(map(_shell_char, text))}'"


def _shell_char(char: str) -> str:
    if is_seen(char):
        return "\\'" if char == "'" else char
    if char == "\\":
        return "\\\\"
    lone = "surrogateescape" if "\udc80" <= char <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", lone))


def visible(text: str) -> str:
    """Return ``text`` on one line without control, invisible or direction-changing characters.

    A backslash stays as it is, so text that was escaped before passes unchanged.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if is_seen(c) or c == "\\" else _escape(c) for c in text)


def is_seen(char: str) -> bool:
    """Tell whether a terminal draws a character, and does nothing else; a backslash does not count."""
    return char in _KEPT or (ord(char) > 0x7F and char.isprintable() and char not in _UNSEEN)


_MAX_NAMES_SCANNED, _MAX_NAMES_COMPARED = 4096, 256
_MAX_NAME_CHARACTERS = 100


def near(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return up to ``most`` of ``known`` that look like ``name``, best first.

    A guest chooses how many names there are, how long they are and how alike. Comparing two names takes time
    proportional to the product of their lengths, so this looks at the first 4,096 names, compares 256 whose length is
    similar, and leaves out names of more than 100 characters.
    """
    import difflib  # costs a start-up millisecond that only failures need

    if len(name) > _MAX_NAME_CHARACTERS:
        return []
    # The ratio of 0.6 needs so many characters in common that the shorter has 3/7 of the longer's length at least.
    low, high = len(name) * 3 // 7, min(_MAX_NAME_CHARACTERS, len(name) * 7 // 3 + 1)
    similar = (one for one in islice(known, _MAX_NAMES_SCANNED) if low <= len(one) <= high)
    return difflib.get_close_matches(name, list(islice(similar, _MAX_NAMES_COMPARED)), n=most, cutoff=0.6)


def count(number: int, noun: str) -> str:
    """Return ``number`` with its noun, ``1 file`` or ``2 files``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
