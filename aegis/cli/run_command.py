"""The click command ``aegis run``, for help and for invalid command lines."""

from __future__ import annotations

from typing import Any

import click

from aegis.cli.click_options import RunCommand, with_options
from aegis.cli.options import run_options
from aegis.cli.output import Output
from aegis.cli.run import run

__all__ = ["command"]


@click.command("run", cls=RunCommand, reads_policy=True)
@with_options(run_options())
@click.argument("module")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def command(output: Output, /, module: str, args: tuple[str, ...], **options: Any) -> int:
    """Run MODULE with ARGS. MODULE is a .wasm or .wat file, or - for standard input.

    Options may precede and follow MODULE. Arguments of the guest are the words without a dash and the negative numbers
    after MODULE, and everything after --.

    Only the options grant access. The exit code is that of the guest, or 124: deadline exceeded, 126: rejected,
    130: interrupted, 134: trapped, 137: out of memory, 152: out of fuel, 153: another limit exceeded.
    """
    return run(output, module, args, options)
