"""The command ``aegis wit``, which writes the WIT that this distribution carries."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

import click

from aegis.cli.click_options import FileCommand
from aegis.cli.output import Output
from aegis.errors import AegisInternalError, PolicyError
from aegis.text import count, printable, quoted

__all__ = ["command"]

_PACKAGE = re.compile(r"^package ([a-z0-9:-]+)@([^;\s]+);", re.MULTILINE)
_LICENCES = {
    "wasi-config": "Apache-2.0 OR MIT", "wasi-keyvalue": "Apache-2.0 OR MIT", "wasi-logging": "Apache-2.0 OR MIT",
}  # fmt: skip
"""Licences of the packages that were written for Aegis; the others have that of the WASI specification."""
_WASI_LICENCE = "W3C CLA (LICENSE.md)"
_ADAPTERS = ("command.wasm", "reactor.wasm")


class _File(NamedTuple):
    """A file to write: its path below the directory, and its content."""

    name: str
    data: bytes


@click.command(cls=FileCommand)
@click.option("--adapters", is_flag=True, help="Write the preview 1 adapters instead, for wasm-tools component new.")
@click.option("--force", is_flag=True, help="Replace files that differ.")
@click.argument("folder", metavar="[DIR]", required=False)
@click.pass_obj
def command(output: Output, /, folder: str | None, adapters: bool, force: bool) -> int:
    """Write the WIT of the interfaces that Aegis provides into DIR, for the deps/ of a package.

    Without DIR, list the packages with their versions and licences.
    """
    packages = _packages()
    if folder is None:
        _list(output, packages)
        return 0
    if not folder:
        raise PolicyError("the directory name is empty: name the directory to write, such as wit/deps")
    files = _adapter_files() if adapters else _wit_files()
    written = _write(folder, files, force=force)
    output.result(
        {"folder": folder, "files": [file.name for file in files], "written": written, "packages": packages},
        "\n".join([f"{os.path.join(printable(folder), name)}: written" for name in written])
        or f"{printable(folder)}: {count(len(files), 'file')}, up to date",
    )
    return 0


def _list(output: Output, packages: list[dict[str, str]]) -> None:
    width = max(len(f"{one['package']}@{one['version']}") for one in packages)
    lines = [f"{one['package'] + '@' + one['version']:<{width}}  {one['licence']}" for one in packages]
    output.result({"packages": packages}, "\n".join(lines))


def _packages() -> list[dict[str, str]]:
    """Return name, version and licence of each package."""
    found = []
    for file in _wit_files():
        match = _PACKAGE.search(file.data.decode("utf-8")) if file.name.endswith(".wit") else None
        if match is not None:
            licence = _LICENCES.get(os.path.dirname(file.name), _WASI_LICENCE)
            found.append({"package": match[1], "version": match[2], "licence": licence})
    return found


def _wit_files() -> list[_File]:
    base = _data("wit", os.path.join("wit", "deps"))
    names = [os.path.join(name, "package.wit") for name in sorted(os.listdir(base)) if name.startswith("wasi-")]
    return [_read(base, name) for name in ("LICENSE.md", "README.md", *names)]


def _adapter_files() -> list[_File]:
    base = _data("adapters", os.path.join("guests", "adapters"))
    return [_read(base, name) for name in (*_ADAPTERS, "README.md")]


def _read(base: str, name: str) -> _File:
    with open(os.path.join(base, name), "rb") as file:
        return _File(name, file.read())


def _data(installed: str, checkout: str) -> str:
    """Return the directory of package data: in the installed package, or in a checkout its source."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for path in (os.path.join(package, "data", installed), os.path.join(os.path.dirname(package), checkout)):
        if os.path.isdir(path):
            return path
    raise AegisInternalError(f"the package data {installed} is missing: reinstall aegis-wasm")


def _write(folder: str, files: list[_File], *, force: bool) -> list[str]:
    """Write the files that are missing or, with ``force``, differ; return their names.

    Without ``force``, a file that differs is an error, and nothing is written.
    """
    wanted = []
    try:
        for file in files:
            present = _content(os.path.join(folder, file.name))
            if present is not None and present != file.data and not force:
                raise PolicyError(
                    f"{quoted(os.path.join(folder, file.name))} has other contents: pass --force to replace it, or "
                    "name another directory"
                )
            if present != file.data:
                wanted.append(file)
        for file in wanted:
            path = os.path.join(folder, file.name)
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with open(path, "wb") as target:
                target.write(file.data)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        if isinstance(error, PolicyError):
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PolicyError(
            f"{quoted(folder)} cannot be written ({(reason or 'error').lower()}): name a directory that this user can "
            "write"
        ) from None
    return [file.name for file in wanted]


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except FileNotFoundError:
        return None
