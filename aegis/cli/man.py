"""The command ``aegis man``."""

from __future__ import annotations

import click

from aegis import __version__
from aegis.cli.click_options import FileCommand
from aegis.cli.help_pages import man_page
from aegis.cli.output import Output

__all__ = ["command"]


@click.command(cls=FileCommand)
@click.pass_obj
def command(output: Output) -> None:
    """Write the man page aegis(1) to standard output."""
    from aegis.cli.commands import group

    text = man_page(group, __version__)
    output.result({"page": "aegis.1", "text": text}, text.rstrip("\n"))
