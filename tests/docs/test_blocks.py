"""Every code block of the README and of docs/ holds: each is run, parsed or compared as a reader would use it.

| tag | |
|---|---|
| `python` | the blocks of one page are one program, in their order |
| `sh`, `console` | are run in a folder like the checkout; `console` is compared with its output, `…` for anything |
| `toml` | is read as a policy |
| `wat` | is loaded |
| `yaml` | is a job of a CI server; its commands must have only options that exist |
| `wit` | stands, in its order, in a file of `guests/` |
| `text` | shows a form, and is not run |

Words after a tag: ``file=NAME`` makes the block the content of that file for the page's commands; ``setup`` has an
``sh`` block run before the page's Python; ``no-run`` leaves a block out, and needs an entry in ``NOT_RUN``.
``scripts/test`` itself, ``scripts/docs``, cloning and installing are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import aegis
from tests import markdown
from tests.cli.command import aegis as command
from tests.markdown import Block

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
KNOWN = {"python", "sh", "console", "toml", "wat", "wit", "text", "yaml", "{eval-rst}", "{toctree}"}
NOT_RUN: dict[str, str] = {}
"""Pages with a block that no test can run, and the reason."""


def read(path: Path) -> list[Block]:
    """Return the blocks of a page."""
    return markdown.blocks(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))


BLOCKS = {str(path.relative_to(ROOT)): read(path) for path in PAGES}
ALL = [block for found in BLOCKS.values() for block in found]


def tagged(*tags: str) -> list[Block]:
    """Return the blocks of these tags that are run, except those that are the contents of files."""
    return [b for b in ALL if b.tag in tags and "no-run" not in b.words and b.file is None]


def once(*tags: str) -> list[Block]:
    """Return the blocks of these tags; of equal blocks on pages without files, only the first."""
    found: dict[object, Block] = {}
    for block in tagged(*tags):
        alone = not any(other.file for other in BLOCKS[block.page])
        found.setdefault((block.tag, block.text) if alone else block.place, block)
    return list(found.values())


def place(block: Block) -> str:
    return block.place


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A writable directory that looks like the checkout."""
    yield from markdown.workspace(ROOT, tmp_path)


def test_the_readme_opens_with_its_two_commands() -> None:
    commands = "".join(b.text for b in BLOCKS["README.md"] if b.tag in ("sh", "console"))
    assert "scripts/aegis run" in commands
    assert "scripts/test" in commands


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert [b.place for b in ALL if b.tag not in KNOWN] == []
    assert [b.place for b in ALL if "no-run" in b.words and b.page not in NOT_RUN] == []


def test_a_file_of_a_page_is_used_on_it() -> None:
    for page, found in BLOCKS.items():
        texts = [b.text for b in found]
        for block in found:
            if block.file is not None:
                assert not (ROOT / Path(block.file).parts[0]).exists(), f"{block.place}: the checkout has that file"
                name = Path(block.file).name
                assert any(name in text or Path(name).stem in text for text in texts if text != block.text), (
                    f"{page}: no block uses {block.file}"
                )


@pytest.mark.parametrize("block", once("sh"), ids=place)
def test_shell_blocks_succeed(block: Block, folder: Path) -> None:
    markdown.write_files(BLOCKS[block.page], folder)
    markdown.run_shell(block, folder)


@pytest.mark.usual("README*", "docs/[!g]*", "docs/guides/[!ft]*", every=3)  # campaigns and tests take longest
@pytest.mark.parametrize("block", once("console"), ids=place)
def test_console_blocks_print_what_they_show(block: Block, folder: Path) -> None:
    markdown.write_files(BLOCKS[block.page], folder)
    markdown.run_console(block, folder)


@pytest.mark.parametrize("page", sorted({b.page for b in tagged("python")}))
def test_the_python_blocks_of_a_page_are_a_program_that_runs(page: str, folder: Path) -> None:
    markdown.write_files(BLOCKS[page], folder)
    for block in tagged("sh"):
        if block.page == page and "setup" in block.words:
            markdown.run_shell(block, folder)
    markdown.run_python([b for b in tagged("python") if b.page == page], folder)


@pytest.mark.parametrize("block", [b for b in ALL if b.tag == "toml"], ids=place)
def test_toml_blocks_are_policies(block: Block, tmp_path: Path) -> None:
    for other in BLOCKS[block.page]:  # the block may include a file of the page
        if other.file is not None and other.tag == "toml":
            (tmp_path / other.file).write_text(other.text, encoding="utf-8")
    (tmp_path / "aegis.toml").write_text(block.text, encoding="utf-8")
    aegis.load_policy(tmp_path / "aegis.toml")


@pytest.mark.parametrize("block", [b for b in ALL if b.tag == "yaml"], ids=place)
def test_commands_of_yaml_blocks_have_options_that_exist(block: Block) -> None:
    lines = block.text.replace("\\\n", " ").splitlines()
    commands = [line.split() for line in lines if re.match(r"\s*(- run: )?aegis ", line)]
    assert commands
    for words in commands:
        name = words[words.index("aegis") + 1]
        known = re.findall(r"--[a-z-]+", command(name, "--help").out)
        assert {word for word in words if word.startswith("--")} <= set(known)


@pytest.mark.parametrize("block", [b for b in ALL if b.tag == "wat"], ids=place)
def test_wat_blocks_are_admitted(block: Block) -> None:
    with aegis.Aegis(cache=False) as runtime:
        assert runtime.load_wat(block.text).kind in ("module", "component")


@pytest.mark.parametrize("block", [b for b in ALL if b.tag == "wit" and b.file is None], ids=place)
def test_wit_blocks_are_those_of_a_guest(block: Block) -> None:
    def plain(text: str) -> str:
        return "".join(re.sub(r"//.*", "", text).replace(",}", "}").split()).replace(",}", "}")

    sources = [plain(path.read_text(encoding="utf-8")) for path in (ROOT / "guests").glob("*/*.wit")]
    assert any(plain(block.text) in source for source in sources), f"{block.place}: no .wit file of guests/ holds it"
