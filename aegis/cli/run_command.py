"""``aegis run`` as a command of click, for help and for lines with a mistake."""

from __future__ import annotations

from typing import Any

import click

from aegis.cli.clicks import RunCommand, with_options
from aegis.cli.options import RUN
from aegis.cli.render import Face
from aegis.cli.run import run

__all__ = ["command"]


@click.command("run", cls=RunCommand)
@with_options(RUN)
@click.argument("module")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def command(face: Face, /, module: str, args: tuple[str, ...], **options: Any) -> int:
    """Run MODULE, a .wasm or .wat file or - for standard input, with ARGS.

    Options may come before and after MODULE. Words without a dash and negative numbers after MODULE are the
    guest's, and everything after -- is.

    Nothing is granted but what the options say. The exit code is the guest's own, or 124 at the
    deadline, 126 refused, 130 interrupted, 134 trapped, 137 out of memory, 152 out of fuel, 153 over
    another quota.
    """
    return run(face, module, args, options)
