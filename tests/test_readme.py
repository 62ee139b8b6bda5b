"""The README tells the truth: its shell, console and Python blocks are run as a reader would run them.

A block tagged ``sh``, ``console`` or ``python`` is run; a second word ``no-run`` after the tag leaves it out.
``scripts/test`` itself, cloning and installing are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import readme
from tests.readme import Block

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCKS = readme.blocks(README.read_text(encoding="utf-8")) if README.exists() else []


def tagged(*tags: str) -> list[Block]:
    """Return the blocks of these tags that are meant to be run."""
    return [b for b in BLOCKS if b.tag in tags and "no-run" not in b.words]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that looks like the checkout, and may be written to."""
    yield from readme.workspace(ROOT, tmp_path)


def test_the_readme_opens_with_its_two_commands() -> None:
    commands = "".join(b.text for b in BLOCKS if b.tag in ("sh", "console"))
    assert "scripts/aegis run" in commands
    assert "scripts/test" in commands


@pytest.mark.parametrize("block", tagged("sh"), ids=lambda b: f"line-{b.line}")
def test_shell_blocks_succeed(block: Block, folder: Path) -> None:
    readme.run_shell(block, folder)


@pytest.mark.parametrize("block", tagged("console"), ids=lambda b: f"line-{b.line}")
def test_console_blocks_print_their_expected_output(block: Block, folder: Path) -> None:
    readme.run_console(block, folder)


def test_python_blocks_run(folder: Path) -> None:
    for block in tagged("sh"):
        if "setup" in block.words:
            readme.run_shell(block, folder)
    readme.run_python(tagged("python"), folder)


# --- the reader itself ---------------------------------------------------------------------------

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


def test_blocks_are_distinguished() -> None:
    assert [(b.tag, b.words, b.line) for b in readme.blocks(SAMPLE)] == [
        ("sh", (), 4),
        ("text", (), 9),
        ("console", ("no-run",), 15),
    ]
    with pytest.raises(ValueError, match="line 1: the block is not closed"):
        readme.blocks("```sh\nfalse")


def test_a_shell_block_stops_at_its_first_failure(tmp_path: Path) -> None:
    readme.run_shell(Block(tag="sh", words=(), text="echo fine\nscripts/test\n", line=1), tmp_path)
    with pytest.raises(AssertionError, match="exit code 1"):
        readme.run_shell(Block(tag="sh", words=(), text="false\ntrue\n", line=1), tmp_path)


def test_a_console_block_is_compared_with_its_expected_output(tmp_path: Path) -> None:
    text = "$ echo one; echo two >&2\none\ntwo\n$ echo at 12:30 sharp; exit 7\nat … sharp\n$ echo $?\n7\n"
    text += "$ true \\\n    x\n"
    readme.run_console(Block(tag="console", words=(), text=text, line=1), tmp_path)
    with pytest.raises(AssertionError, match=r"expected:\s+two"):
        readme.run_console(Block(tag="console", words=(), text="$ echo one\ntwo\n", line=1), tmp_path)
    with pytest.raises(ValueError, match="begins with"):
        readme.steps("echo one\n")


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
    assert readme.matches(expected, actual) is same


def test_python_blocks_are_one_program(tmp_path: Path) -> None:
    first = Block(tag="python", words=(), text="x = 1\n", line=1)
    readme.run_python([first, Block(tag="python", words=(), text="assert x == 1\n", line=2)], tmp_path)
    with pytest.raises(AssertionError, match="AssertionError"):
        readme.run_python([first, Block(tag="python", words=(), text="assert x == 2\n", line=2)], tmp_path)
