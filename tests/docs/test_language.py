"""The prose of the documentation names its actors: it contains none of the words that leave them out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
VAGUE = re.compile(r"\b(?:told|whoever|nobody|somebody|someone|anybody|ours|we)\b", re.IGNORECASE)
_CODE = re.compile(r"^(`{3,}).*?^\1`*\s*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_GENERATED = re.compile(r"<!-- table: .*?<!-- end -->", re.DOTALL)  # docstrings have their own tests
ACCOUNT = "as nobody user+net allowed", "setresuid nobody"


def prose(text: str) -> str:
    """Return the prose of a page, without code, generated tables and the account name ``nobody``."""
    text = _GENERATED.sub("", _CODE.sub("", text))
    for name in ACCOUNT:
        text = text.replace(name, "")
    return text


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_prose_names_its_actors(path: Path) -> None:
    assert VAGUE.findall(prose(path.read_text(encoding="utf-8"))) == []


def test_vague_words_are_found() -> None:
    text = (
        "The guest is told.\n\n```text\nnobody\n```\n\n`ours` is code.\n<!-- table: x -->\n| whoever |\n<!-- end -->\n"
    )
    assert VAGUE.findall(prose(text)) == ["told"]
