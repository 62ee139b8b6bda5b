"""Every fact (F1, F2 …) and decision (D1, D2 …) cited by a comment is a heading of docs/internals/."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INTERNALS = ROOT / "docs" / "internals"
SOURCES = [
    *(path for folder in ("aegis", "tests", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))),
    *(path for path in sorted((ROOT / "scripts").iterdir()) if path.is_file() and not path.suffix),
]
_CITED = re.compile(r"(?<![\w\\%.-])([FD]\d{1,2})(?: to ([FD]\d{1,2}))?(?!\w|\(|\.\d)")
_TYPES = {"F32", "F64"}  # WebAssembly's number types, by the names of their classes


def headings() -> set[str]:
    """Return the numbers at the start of headings in docs/internals/."""
    found: set[str] = set()
    for path in INTERNALS.rglob("*.md"):
        found |= set(re.findall(r"^#{2,4} ([FD]\d+)\b", path.read_text(encoding="utf-8"), re.MULTILINE))
    return found


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the comments and strings of a source, with their lines: code itself cites nothing."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py" and not text.startswith("#!/usr/bin/env python"):
        for number, line in enumerate(text.splitlines(), 1):
            if line.lstrip().startswith("#"):
                yield number, line
        return
    if not _CITED.search(text) and "test_f" not in text:
        return  # tokenizing it would find none either
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        docstring = token.type == tokenize.STRING and token.string.lstrip("rbRBfF").startswith('"""')
        if token.type == tokenize.COMMENT or docstring:
            yield token.start[0], token.string
        elif token.type == tokenize.NAME and (found := re.match(r"test_f(\d+)_", token.string)):
            yield token.start[0], f"F{found[1]}"


def cited(text: str) -> Iterator[str]:
    """Yield the numbers that a text cites; of a range both ends and all between."""
    text = re.sub(r"# noqa:.*|``[^`]*``", "", text)
    for first, last in _CITED.findall(text):
        numbers = range(int(first[1:]), int((last or first)[1:]) + 1)
        yield from (f"{first[0]}{number}" for number in numbers)


@pytest.mark.parametrize("folder", ["aegis", "tests", "scripts"])
def test_cited_numbers_are_headings(folder: str) -> None:
    known = headings()
    here = ROOT / folder
    lost = [
        f"{path.relative_to(ROOT)}:{line}: {number}"
        for path in SOURCES
        if path.is_relative_to(here)
        for line, text in prose(path)
        for number in cited(text)
        if number not in known and number not in _TYPES
    ]
    assert lost == []


def test_numbers_are_used_once() -> None:
    found: list[str] = []
    for path in INTERNALS.rglob("*.md"):
        found += re.findall(r"^#{2,4} ([FD]\d+)\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("# above it the engine aborts (F29)", ["F29"]),
        ("# F8 to F10: lost", ["F8", "F9", "F10"]),
        ("(F30, F45).", ["F30", "F45"]),
        ("(design, D8)", ["D8"]),
        ('"""F17: the epoch stops a guest."""', ["F17"]),
        ("# noqa: F401 - kept", []),
        ("0xF0 or \\xF0 or %F7 or cls.F0", []),
    ],
)
def test_citations_are_found(text: str, numbers: list[str]) -> None:
    assert list(cited(text)) == numbers
