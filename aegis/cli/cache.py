"""The command ``aegis cache``: show or empty the cache of compiled code."""

from __future__ import annotations

import click

from aegis.cli.click_options import FileCommand
from aegis.cli.output import Output
from aegis.engine.compile.cache import Cache
from aegis.errors import PolicyError
from aegis.limits import format_bytes
from aegis.text import count, printable

__all__ = ["command"]

_MAX_NAMES = 5


@click.command(cls=FileCommand)
@click.argument("action", type=click.Choice(["info", "clear"]))
@click.pass_obj
def command(output: Output, /, action: str) -> int:
    """Show the cache of compiled code (info), or remove all its entries (clear).

    Files in its folder that Aegis did not make are neither counted nor removed.
    """
    return _info(output) if action == "info" else _clear(output)


def _info(output: Output) -> int:
    cache = Cache()
    reason = None
    entries = files = size = 0
    try:
        entries, files, size = cache.use()
        cache.try_out()
    except OSError as error:
        reason = cache.explained(error)
    most = "no limit" if cache.size is None else format_bytes(cache.size)
    lines = [
        f"folder   {printable(cache.folder or 'none', 400)}",
        f"state    {'works' if reason is None else f'compiled code is not stored: {printable(reason, 400)}'}",
        f"entries  {entries}",
        f"size     {format_bytes(size)} of {most}",
    ]
    output.result(
        {
            "folder": cache.folder, "usable": reason is None, "reason": reason, "entries": entries, "files": files,
            "bytes": size, "limit": cache.size,
        },
        "\n".join(lines),
    )  # fmt: skip
    return 0


def _clear(output: Output) -> int:
    cache = Cache()
    try:
        removed, other = cache.clear()
        left = cache.use()
    except OSError as error:
        raise PolicyError(f"the cache cannot be cleared: {cache.explained(error)}") from None
    if left.files:
        files = count(left.files, "file")
        raise PolicyError(
            f"the cache cannot be cleared: {files} in {cache.folder} cannot be removed: let this user write"
        )
    text = f"removed {count(removed.files, 'file')}, {format_bytes(removed.bytes)}, from {cache.folder}"
    if other:
        names = ", ".join(printable(name, 80) for name in other[:_MAX_NAMES])
        text += f"; {count(len(other), 'file')} of other origin left: {names}"
    data = {"folder": cache.folder, "removed": removed.entries, "files": removed.files, "bytes": removed.bytes}
    output.result({**data, "left": other}, text)
    return 0
