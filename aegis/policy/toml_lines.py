"""Find the line of each value in a TOML text, for error messages. The text must be valid TOML."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping

__all__ = ["ValuePath", "line_among", "line_of", "lines_of"]

ValuePath = tuple["str | int", ...]
"""The path of a value: keys from the top level, and indices into lists."""

_BLANK = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_TEXT = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|' r"'''.*?'{3,5}|" r'"(?:[^"\\\n]|\\.)*"|' r"'[^'\n]*'", re.DOTALL
)  # fmt: skip
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_OTHER = re.compile(r"[^,\]}#\n]*")


def line_of(text: str, path: ValuePath) -> int | None:
    """Return the line, from 1, of the value at ``path``, or of its nearest parent; ``None`` if there is neither."""
    return line_among(lines_of(text), path)


def lines_of(text: str) -> Mapping[ValuePath, int]:
    """Return the line of every table, key and list item."""
    return _LineScanner(text).lines


def line_among(lines: Mapping[ValuePath, int], path: ValuePath) -> int | None:
    """Return the line of the value at ``path`` or of its nearest parent in ``lines``."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


class _LineScanner:
    """One pass over a TOML text; ``lines`` maps every table, key and list item to its line."""

    def __init__(self, text: str) -> None:
        self.lines: dict[ValuePath, int] = {}
        self._text = text
        self._position = 0
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._last: dict[ValuePath, int] = {}  # for each array of tables, the index of its last table so far
        self._document()

    def _document(self) -> None:
        table: ValuePath = ()
        while self._skip(_GAP):
            if self._take("[["):
                table = self._enter(self._key(), array=True)
                self._take("]]")
            elif self._take("["):
                table = self._enter(self._key(), array=False)
                self._take("]")
            else:
                self._pair(table)

    def _enter(self, key: ValuePath, *, array: bool) -> ValuePath:
        """Return the path of the table that a header opens; in an array of tables that is its last table."""
        path: ValuePath = ()
        for depth, piece in enumerate(key, 1):
            path = (*path, piece)
            self._mark(path)
            if array and depth == len(key):
                self._last[path] = self._last.get(path, -1) + 1
            if path in self._last:
                path = (*path, self._last[path])
                self._mark(path)
        return path

    def _pair(self, table: ValuePath) -> None:
        path = table
        for piece in self._key():
            path = (*path, piece)
            self._mark(path)
        self._skip(_BLANK)
        self._take("=")
        self._skip(_BLANK)
        self._value(path)

    def _value(self, path: ValuePath) -> None:
        self._mark(path)
        if self._take("["):
            item = 0
            while self._skip(_GAP) and not self._take("]"):
                self._value((*path, item))
                item += 1
                self._skip(_GAP)
                self._take(",")
        elif self._take("{"):
            while self._skip(_GAP) and not self._take("}"):
                self._pair(path)
                self._skip(_GAP)
                self._take(",")
        elif not self._match(_TEXT):
            self._match(_OTHER)

    def _key(self) -> tuple[str, ...]:
        pieces = []
        while True:
            self._skip(_BLANK)
            quoted = self._match(_TEXT)
            pieces.append(_unquoted(quoted) if quoted else self._match(_BARE))
            self._skip(_BLANK)
            if not self._take("."):
                return tuple(pieces)

    def _mark(self, path: ValuePath) -> None:
        self.lines.setdefault(path, bisect_right(self._starts, self._position))

    def _take(self, mark: str) -> bool:
        found = self._text.startswith(mark, self._position)
        self._position += len(mark) if found else 0
        return found

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._position)
        self._position = found.end() if found else self._position
        return found[0] if found else ""

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Skip ``pattern``; return whether text is left."""
        self._match(pattern)
        return self._position < len(self._text)


def _unquoted(quoted: str) -> str:
    import tomllib

    return str(tomllib.loads(f"key = {quoted}")["key"])
