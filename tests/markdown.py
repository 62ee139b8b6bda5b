"""Read the fenced blocks of a Markdown file, and run the commands and programs in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Block",
    "Step",
    "blocks",
    "matches",
    "run_console",
    "run_python",
    "run_shell",
    "steps",
    "workspace",
    "write_files",
]

_FENCE = re.compile(r"^(?P<indent> {0,3})(?P<ticks>`{3,})[ \t]*(?P<info>[^`\n]*)$")
SECONDS = 300
# These would run the tests that run them, or reinstall the environment.
_NEVER = re.compile(
    r"^\s*(\./)?(scripts/(test|docs|guests|bench|fuzz)|\.ci/run|git clone|cd|pip install|python3? -m pip install)\b"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: its tag (``sh``), the words after it (``no-run``), its text, its first line, its page."""

    tag: str
    words: tuple[str, ...]
    text: str
    line: int
    page: str = "README.md"

    @property
    def file(self) -> str | None:
        """The name of the file whose contents the block is, from its word ``file=NAME``."""
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)

    @property
    def place(self) -> str:
        """The page and the line, for messages."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command of a console block with its expected output, in which ``…`` stands for any text."""

    command: str
    expected: str


def blocks(text: str, page: str = "README.md") -> list[Block]:
    """Return the fenced blocks of ``text`` in order."""
    found: list[Block] = []
    opened: tuple[str, str, list[str], int] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened = (fence["ticks"], fence["info"].strip(), [], number + 1)
        elif fence and len(fence["ticks"]) >= len(opened[0]) and not fence["info"].strip():
            tag, *words = opened[1].split() or [""]
            content = "".join(f"{x}\n" for x in opened[2])
            found.append(Block(tag=tag, words=tuple(words), text=content, line=opened[3], page=page))
            opened = None
        else:
            opened[2].append(line)
    if opened is not None:
        raise ValueError(f"line {opened[3] - 1}: the block is not closed")
    return found


def steps(text: str) -> list[Step]:
    """Return the steps of a console block; a line that ends in a backslash continues a command."""
    found: list[tuple[list[str], list[str]]] = []
    for line in text.splitlines():
        if found and not found[-1][1] and found[-1][0][-1].endswith("\\"):
            found[-1][0].append(line.removeprefix("> "))
        elif line.startswith("$ "):
            found.append(([line[2:]], []))
        elif found:
            found[-1][1].append(line)
        else:
            raise ValueError(f"a console block begins with `$ command`, not {line!r}")
    return [Step(command="\n".join(command), expected="\n".join(output)) for command, output in found]


def matches(expected: str, actual: str) -> bool:
    """Return whether ``actual`` equals ``expected``, in which ``…`` stands for any text, lines included."""
    pattern = ".*?".join(re.escape(part) for part in expected.rstrip().split("…"))
    return (
        re.fullmatch(pattern, "\n".join(line.rstrip() for line in actual.rstrip().splitlines()), re.DOTALL) is not None
    )


_PROGRESS = re.compile(r"^[0-9.]+ s: [0-9,]+ cases? \([0-9,]+ a second\), .*\n", re.MULTILINE)
"""Progress of a campaign, on stderr: such a line appears only if the campaign takes more than some seconds."""


def _runs(command: str) -> bool:
    return not _NEVER.match(command)


def write_files(found: list[Block], folder: Path) -> None:
    """Write each block with a word ``file=NAME`` to that file below ``folder``."""
    for block in found:
        if block.file is not None:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # it may be a link into the checkout
            path.write_text(block.text, encoding="utf-8")


def run_shell(block: Block, folder: Path) -> None:
    """Run an ``sh`` block as one script that stops at the first failure."""
    script = "".join(line if _runs(line) else ":\n" for line in block.text.splitlines(keepends=True))
    done = _run(["sh", "-eu", "-c", script], folder)
    assert done.returncode == 0, f"{block.place}: exit code {done.returncode}\n{done.stdout}"


def run_console(block: Block, folder: Path) -> None:
    """Run each command of a ``console`` block; ``$?`` is the exit code of the previous one."""
    code = 0
    for step in steps(block.text):
        if not _runs(step.command):
            continue
        done = _run(["sh", "-c", f"(exit {code})\n{step.command}"], folder)
        code = done.returncode
        assert matches(step.expected, _PROGRESS.sub("", done.stdout)), (
            f"{block.place}: $ {step.command}\nexpected:\n{step.expected}\n\nactual:\n{done.stdout}"
        )


def run_python(found: list[Block], folder: Path) -> None:
    """Run ``python`` blocks as one program, in order; each must work without the later ones."""
    program = "".join(f"#line {b.line}\n{b.text}\n" for b in found)
    done = _run([sys.executable, "-c", program], folder)
    page = found[0].page if found else "no page"
    assert done.returncode == 0, f"{page}: its Python blocks fail:\n{done.stdout}"


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AEGIS_", "COVERAGE_", "PYTEST_"))}
    # A reader has `aegis`, `pytest` and `python` of the environment that the package is installed in.
    env["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), env.get("PATH", os.defpath)))
    return subprocess.run(
        command,
        cwd=folder,
        # Where CI is set, hypothesis lets its checks pass that depend on the machine's load.
        env={**env, "LC_ALL": "C.UTF-8", "NO_COLOR": "1", "PYTHONUTF8": "1", "CI": "true"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=SECONDS,
        check=False,
    )


def workspace(root: Path, folder: Path) -> Iterator[Path]:
    """Fill ``folder`` with links to what is in ``root``, so that new files do not land in the checkout."""
    own = {".git", ".venv.lock", ".pytest_cache", ".hypothesis"}  # what a program there would write to
    for entry in root.iterdir():
        if entry.name not in own:
            (folder / entry.name).symlink_to(entry)
    yield folder
