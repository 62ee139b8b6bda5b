"""Every relative link of the documentation leads to a file that exists, and every anchor to a heading of it.

The generator checks links too; this test needs no generator. External links are not followed.
"""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "tests" / "README.md",
    *sorted((ROOT / ".github").glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_LINK = re.compile(r"(?<!!)\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^(`{3,}).*?^\1`*\s*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_PUNCTUATION = re.compile(r"[^\w\- ]")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(text: str) -> str:
    """Return Markdown without its code, which may contain text that looks like a link."""
    return _CODE.sub("", text)


@cache
def anchors(path: Path) -> set[str]:
    """Return the anchors that repository hosts and the generator give to the headings of a page."""
    found: set[str] = set()
    text = re.sub(r"^(`{3,}).*?^\1`*\s*$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = _PUNCTUATION.sub("", plain.strip().lower()).replace(" ", "-")
        again = 1
        unique = slug
        while unique in found:
            unique, again = f"{slug}-{again}", again + 1
        found.add(unique)
    return found


def broken(path: Path) -> list[str]:
    """Return the broken links of a page."""
    found = []
    for link in _LINK.findall(prose(path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = path.parent / target if target else path
        if not file.exists() or (anchor and (file.suffix != ".md" or anchor not in anchors(file.resolve()))):
            found.append(link)
    return found


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    assert broken(path) == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached = {ROOT / "README.md"}
    waiting = list(reached)
    while waiting:
        page = waiting.pop()
        for link in _LINK.findall(prose(page.read_text(encoding="utf-8"))):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.is_file() and target not in reached:
                reached.add(target)
                waiting.append(target)
    # The first page of the built documentation, and its path for SECURITY.md.
    apart = {ROOT / "docs" / "index.md", ROOT / "docs" / "security.md"}
    assert [name(page) for page in sorted((ROOT / "docs").rglob("*.md")) if page not in reached | apart] == []


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^[a-z][a-z0-9/-]+$", index, re.MULTILINE))
    docs = ROOT / "docs"
    assert listed == {str(p.relative_to(docs).with_suffix("")) for p in docs.rglob("*.md")} - {"index"}


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b` c: d\n\n## Twice\n\n## Twice\n\n[good](page.md#a-b-c-d) [again](#twice-1) [web](https://example.com)\n"
        "[no file](other.md) [no anchor](page.md#other) [`code`](#twice-2)\n\n```text\n[code](nowhere.md)\n```\n"
    )
    assert broken(page) == ["other.md", "page.md#other", "#twice-2"]


def test_the_documentation_names_no_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "docs", "README.md"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    pages = [ROOT / path for path in listed] or [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    odd = re.compile(r"/(?:work|opt|root)/|\bissue \d|\b(?:prototype|session|reviewer)\b", re.IGNORECASE)
    for path in pages:
        if path.is_file():
            found = odd.findall(prose(path.read_text(encoding="utf-8")))
            assert not found, f"{name(path)}: {found}"
