"""The command ``aegis completion``."""

from __future__ import annotations

import click

from aegis.cli.click_options import FileCommand
from aegis.cli.help_pages import SHELLS, completion_script
from aegis.cli.output import Output

__all__ = ["command"]


@click.command(cls=FileCommand)
@click.argument("shell", type=click.Choice(SHELLS), metavar="|".join(SHELLS))
@click.pass_obj
def command(output: Output, /, shell: str) -> None:
    """Write the completion script of a shell to standard output."""
    from aegis.cli.commands import group

    text = completion_script(group, shell)
    output.result({"shell": shell, "script": text}, text.rstrip("\n"))
