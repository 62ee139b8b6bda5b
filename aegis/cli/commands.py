"""The click group of all commands. It handles every command line except a valid ``aegis run``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from aegis.cli.click_options import HelpOption, described, with_options
from aegis.cli.command_line import read_line
from aegis.cli.options import GROUP
from aegis.cli.output import Output

__all__ = ["OutputClosed", "group", "run_command"]

_COMMANDS = {
    "run": "Run a module or component with explicit grants only.",
    "serve": "Answer HTTP requests with a component.",
    "fuzz": "Search for faults in a guest with generated calls.",
    "validate": "Check that modules are valid and within the limits.",
    "inspect": "Show the imports, exports and required grants of a module.",
    "bindgen": "Write typed Python for a WIT world.",
    "wit": "Write the WIT of the interfaces that Aegis provides.",
    "cache": "Show or empty the cache of compiled code.",
    "policy": "Show or check policy files.",
    "doctor": "Check that this system supports running guests safely.",
    "completion": "Write the completion script of a shell.",
    "man": "Write the man page.",
}


_MODULES = {"run": "aegis.cli.run_command"}
"""Modules of commands whose name differs from the command's."""


class OutputClosed(Exception):
    """The reader of the output has closed the pipe."""


@contextmanager
def _broken_pipe_as_output_closed() -> Iterator[None]:
    """Replace ``BrokenPipeError``, for which click would end the process with exit code 1."""
    try:
        yield
    except BrokenPipeError:
        raise OutputClosed from None


class Commands(HelpOption, click.Group):
    """The commands by name; the module of each is imported when the command is used."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        line = read_line(args, described(self.get_params(ctx)), leading=True)
        output: Output = ctx.obj
        output.form = line.form or output.form
        if line.fault:
            raise click.UsageError(line.fault, ctx)
        return super().parse_args(ctx, [*line.options, "--", *line.words] if args else args)

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        with _broken_pipe_as_output_closed():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        with _broken_pipe_as_output_closed():
            return super().invoke(ctx)

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        if context.obj is not None:
            context.obj.command = name
        from importlib import import_module

        command: click.Command = import_module(_MODULES.get(name, f"aegis.cli.{name}")).command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=Commands)
@with_options(GROUP)
@click.version_option(package_name="aegis-wasm", prog_name="aegis", message="%(prog)s %(version)s")
@click.pass_context
def group(context: click.Context, config: tuple[str, ...], form: str, verbose: int, quiet: bool) -> None:
    """Run untrusted WebAssembly with nothing granted by default, every limit on and every host call mediated."""
    output: Output = context.obj
    output.form, output.verbose, output.quiet, output.config = form, verbose, quiet, config


def run_command(words: Sequence[str], output: Output) -> int:
    """Run the command line ``words`` and return its exit code."""
    try:
        result = group.main(list(words), prog_name="aegis", standalone_mode=False, obj=output)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        message = error.format_message().replace("\n\t", " ")  # click lists the choices of an argument on lines
        return output.usage_error(message, error.exit_code, context and context.command_path)
    except click.Abort:
        raise KeyboardInterrupt from None
    output.flush()
    return result if isinstance(result, int) else 0
