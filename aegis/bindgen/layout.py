"""Lay out generated code as ``ruff format`` does, without running it: lines of at most 120 columns.

A bracketed expression that does not fit is split after its opening bracket, with one part per line and a trailing
comma. ``ruff format`` keeps that form, so formatting the generated files changes nothing.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "WIDTH", "Bracketed", "Part", "assigned", "docstring", "flat", "indented", "lay", "natural", "quoted", "signature",
    "union",
]  # fmt: skip

WIDTH = 120
"""The maximum columns of a line."""


@dataclass(frozen=True, slots=True)
class Bracketed:
    """A bracketed expression: ``head`` ends with the opening bracket, ``tail`` begins with the closing one."""

    head: str
    parts: tuple[Part, ...]
    tail: str
    lone: bool = False
    """Whether a single part needs a trailing comma, as in a tuple."""


Part: TypeAlias = "str | Bracketed"


def flat(part: Part) -> str:
    """Return a part on one line."""
    if isinstance(part, str):
        return part
    inside = ", ".join(map(flat, part.parts))
    comma = "," if part.lone and len(part.parts) == 1 else ""
    return f"{part.head}{inside}{comma}{part.tail}"


def lay(part: Part, column: int, indent: int = 0, after: int = 0) -> str:
    """Return a part that starts at ``column`` in a block at ``indent``; ``after`` columns of text follow it."""
    whole = flat(part)
    if isinstance(part, str) or not part.parts or column + len(whole) + after <= WIDTH:
        return whole
    deeper = indent + 4
    inner = "".join(f"{' ' * deeper}{lay(p, deeper, deeper, 1)},\n" for p in part.parts)
    return f"{part.head}\n{inner}{' ' * indent}{part.tail}"


def assigned(name: str, part: Part) -> str:
    """Return an assignment at module level."""
    return f"{name} = {lay(part, len(name) + 3)}"


def indented(text: str, by: int = 4) -> str:
    """Indent all lines that are not empty."""
    return textwrap.indent(text, " " * by)


def quoted(text: str) -> str:
    """Return a string literal; ``text`` must contain neither quotes nor control characters."""
    return f'"{text}"'


def signature(name: str, params: Sequence[str], result: str, indent: int, body: bool, *, awaited: bool = False) -> str:
    """Return the first lines of a function; without a ``body`` it ends with ``...``."""
    end = "" if body else " ..."
    start = "async def" if awaited else "def"
    line = f"{start} {name}({', '.join(params)}) -> {result}:{end}"
    if indent + len(line) <= WIDTH or not params:
        return line
    inner = "".join(f"    {p},\n" for p in params)
    return f"{start} {name}(\n{inner}) -> {result}:{end}"


def union(name: str, members: Sequence[str]) -> str:
    """Return a type alias for a union."""
    line = " | ".join(members)
    if len(name) + 14 + len(line) <= WIDTH or len(members) == 1:
        return f"{name}: TypeAlias = {line}"
    if 4 + len(line) <= WIDTH:
        return f"{name}: TypeAlias = (\n    {line}\n)"
    return f"{name}: TypeAlias = (\n    " + "\n    | ".join(members) + "\n)"


def docstring(text: str, indent: int) -> str:
    """Return a docstring for a block at column ``indent``."""
    lines = _lines(text, WIDTH - indent)
    escaped = [line.replace("\\", "\\\\").replace('"""', '\\"\\"\\"') for line in lines]
    if escaped[0].startswith('"'):
        escaped[0] = f" {escaped[0]}"
    if len(escaped) == 1 and not escaped[0].endswith('"') and len(escaped[0]) + 6 + indent <= WIDTH:
        return f'"""{escaped[0]}"""'
    return "\n".join(['"""' + escaped[0], *escaped[1:], '"""'])


def _lines(text: str, width: int) -> list[str]:
    """Wrap lines that are too long; keep all other line breaks."""
    kept = "".join(c if c.isprintable() or c == "\n" else " " for c in text.expandtabs(4))
    first, _, rest = kept.strip().partition("\n")
    lines = []
    for n, line in enumerate([first, *textwrap.dedent(rest).split("\n")] if rest else [first]):
        lines += _wrapped(line.rstrip(), width - 8 if n == 0 else width - 4)
    return lines


def _wrapped(line: str, width: int) -> list[str]:
    if _columns(line) + line.count("\\") + 3 * line.count('"""') <= width:
        return [line]
    narrow = width // 2 if _columns(line) > len(line) or "\\" in line or '"""' in line else width
    margin = " " * min(len(line) - len(line.lstrip()), 40)
    deeper = margin + ("  " if line.lstrip()[:2] in ("- ", "* ") else "")
    return textwrap.wrap(
        line.strip(),
        narrow,
        initial_indent=margin,
        subsequent_indent=deeper,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that orders names as ruff does, with numbers by value."""
    return tuple(_natural(name))


def _natural(name: str) -> Iterable[tuple[int, int, str]]:
    digits = ""
    for char in name + "\0":
        if char.isdigit():
            digits += char
            continue
        if digits:
            yield (ord("0"), int(digits), digits)
        digits = ""
        if char != "\0":
            yield (ord(char), 0, "")
