"""The Markdown reader finds, runs and compares blocks as ``tests/markdown.py`` documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import markdown
from tests.markdown import Block

SAMPLE = """\
# Title

```sh
echo one
scripts/test
```

````text
```sh
false
```
````

```console no-run
$ false
```
"""


def test_blocks_are_told_apart() -> None:
    assert [(b.tag, b.words, b.line) for b in markdown.blocks(SAMPLE)] == [
        ("sh", (), 4),
        ("text", (), 9),
        ("console", ("no-run",), 15),
    ]
    with pytest.raises(ValueError, match="line 1: the block is not closed"):
        markdown.blocks("```sh\nfalse")


def test_a_shell_block_stops_at_its_first_failure(tmp_path: Path) -> None:
    markdown.run_shell(Block(tag="sh", words=(), text="echo fine\nscripts/test\n", line=1), tmp_path)
    with pytest.raises(AssertionError, match="exit code 1"):
        markdown.run_shell(Block(tag="sh", words=(), text="false\ntrue\n", line=1), tmp_path)


def test_a_console_block_is_compared_with_what_it_shows(tmp_path: Path) -> None:
    text = "$ echo one; echo two >&2\none\ntwo\n$ echo at 12:30 sharp; exit 7\nat … sharp\n$ echo $?\n7\n"
    text += "$ true \\\n    x\n"
    markdown.run_console(Block(tag="console", words=(), text=text, line=1), tmp_path)
    with pytest.raises(AssertionError, match=r"expected:\s+two"):
        markdown.run_console(Block(tag="console", words=(), text="$ echo one\ntwo\n", line=1), tmp_path)
    with pytest.raises(ValueError, match="begins with"):
        markdown.steps("echo one\n")


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        ("a…c", "abbb\nc", True),
        ("…", "", True),
        ("a.c", "abc", False),
        ("a\n…\nz", "a\nb\nz\n", True),
        ("a", "a  \n\n", True),
        ("a", "a\nb", False),
    ],
)
def test_an_ellipsis_stands_for_anything(expected: str, actual: str, same: bool) -> None:
    assert markdown.matches(expected, actual) is same


def test_python_blocks_are_one_program(tmp_path: Path) -> None:
    first = Block(tag="python", words=(), text="x = 1\n", line=1)
    markdown.run_python([first, Block(tag="python", words=(), text="assert x == 1\n", line=2)], tmp_path)
    with pytest.raises(AssertionError, match="AssertionError"):
        markdown.run_python([first, Block(tag="python", words=(), text="assert x == 2\n", line=2)], tmp_path)


def test_a_block_may_be_a_file_of_its_page(tmp_path: Path) -> None:
    found = markdown.blocks("```python file=made/a.py\nx = 1\n```\n```sh\ntrue\n```\n", "page.md")
    assert [(b.file, b.place) for b in found] == [("made/a.py", "page.md:2"), (None, "page.md:5")]
    outside = tmp_path / "outside"
    outside.write_text("kept")
    (tmp_path / "work" / "made").mkdir(parents=True)
    (tmp_path / "work" / "made" / "a.py").symlink_to(outside)
    markdown.write_files(found, tmp_path / "work")
    assert (tmp_path / "work" / "made" / "a.py").read_text() == "x = 1\n"
    assert outside.read_text() == "kept"
