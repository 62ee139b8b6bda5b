"""``aegis bindgen``."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import click

from aegis.bindgen import MARK, generate
from aegis.bindgen.check import NotRun
from aegis.cli.clicks import FileCommand
from aegis.cli.render import Face
from aegis.errors import AegisError, ArtifactError, PolicyError
from aegis.text import count, printable, quoted
from aegis.wit.positions import locate
from aegis.wit.tools import read_wit

__all__ = ["Changes", "command", "compare", "write"]

_LARGE = 1 << 24
"""Bytes of a WIT file beyond which no place is looked for in it."""


@click.command(cls=FileCommand)
@click.option("-w", "--world", metavar="NAME", help="The world to bind; may be left out where there is but one.")
@click.option("-o", "--output", "folder", required=True, metavar="DIR", help="The package to write.")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 when DIR is not as it would be written.")
@click.option("--features", multiple=True, metavar="NAME", help="Keep @unstable items of this feature; * keeps all.")
@click.argument("wit", metavar="WIT|COMPONENT")
@click.pass_obj
def command(face: Face, /, wit: str, world: str | None, folder: str, check: bool, features: tuple[str, ...]) -> int:
    """Write typed Python for a world: what a host provides to it, and what a guest of it exports.

    WIT is a file, a folder with its deps/, or a component.
    """
    if not folder:
        raise PolicyError("--output: an empty name is no directory; name the package to write")
    document = read_wit(wit, features=features)
    try:
        sources = generate(document, world)
    except NotRun as error:
        raise _placed(wit, error) from error
    try:
        changes = compare(folder, sources)
        if not check:
            write(folder, sources, changes)
    except AegisError:
        raise
    except (OSError, ValueError) as error:  # a ValueError for a name that no path can be
        raise _unwritable(folder, error) from None
    face.result(
        {"folder": folder, "files": list(sources), "check": check, **changes._asdict()},
        "" if face.quiet and not check else _text(printable(folder), sources, changes, check),
    )
    return 1 if check and any(changes) else 0


class Changes(NamedTuple):
    """The names of files that are not there yet, that differ, and that are made no longer."""

    missing: list[str]
    different: list[str]
    stale: list[str]


def compare(folder: str, sources: Mapping[str, str]) -> Changes:
    """Tell what is to be done so that a folder holds exactly ``sources``, besides what we did not make.

    Raise :class:`~aegis.errors.ArtifactError` when a file that we did not make is in the way.
    """
    missing, different = [], []
    for name, text in sources.items():
        found = _read(os.path.join(folder, name))
        if found is None:
            missing.append(name)
        elif found and not found.startswith(MARK):
            raise ArtifactError(
                f"{printable(os.path.join(folder, name))} is not of bindgen's making; choose another DIR"
            )
        elif found != text:
            different.append(name)
    return Changes(missing, different, [name for name in _made(folder) if name not in sources])


def write(folder: str, sources: Mapping[str, str], changes: Changes) -> None:
    """Do what :func:`compare` told."""
    os.makedirs(folder, exist_ok=True)
    for name in (*changes.missing, *changes.different):
        with open(os.path.join(folder, name), "w", encoding="utf-8", newline="\n") as file:
            file.write(sources[name])
    for name in changes.stale:
        os.unlink(os.path.join(folder, name))


def _made(folder: str) -> list[str]:
    """Return the names of the files in a folder that are of our making."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    files = [n for n in names if n.endswith(".py") and os.path.isfile(os.path.join(folder, n))]
    return [n for n in files if (_read(os.path.join(folder, n)) or "").startswith(MARK)]


def _unwritable(folder: str, error: OSError | ValueError) -> PolicyError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    name = error.filename if isinstance(error, OSError) and isinstance(error.filename, str) else folder
    remedy = "name a directory that this user can write"
    return PolicyError(f"--output: {quoted(name)} cannot be written: {(reason or 'error').lower()}; {remedy}")


def _read(path: str) -> str | None:
    """Return the text of a file, ``None`` where there is none; what is no regular file is not of bindgen's making."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ArtifactError(f"{printable(path)} is not of bindgen's making; choose another DIR")
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _text(folder: str, sources: Mapping[str, str], changes: Changes, check: bool) -> str:
    if not any(changes):
        return f"{folder}: {count(len(sources), 'file')}, as they should be"
    verbs = ("would be written", "would change", "would be removed") if check else ("written", "changed", "removed")
    lines = (f"{os.path.join(folder, n)}: {verb}" for names, verb in zip(changes, verbs, strict=True) for n in names)
    return "\n".join(lines)


def _placed(wit: str, error: NotRun) -> ArtifactError:
    """Return the error with the place of its item in the text, if it came from text."""
    for path in _texts(wit):
        if os.path.isfile(path) and os.path.getsize(path) <= _LARGE:
            found = locate(_read(path) or "", error.owner, error.item)
            if found is not None:
                return ArtifactError(f"{printable(path, 400)}:{found[0]}:{found[1]}: {error}")
    return ArtifactError(f"{printable(wit, 400)}: {error}")


def _texts(wit: str) -> Iterator[str]:
    if not os.path.isdir(wit):
        if wit.endswith(".wit"):
            yield wit
        return
    for folder, folders, names in os.walk(wit):
        folders.sort()
        yield from (os.path.join(folder, name) for name in sorted(names) if name.endswith(".wit"))
