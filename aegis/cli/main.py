"""The group of commands, and the one place where an exception becomes a line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from aegis.cli.render import Face
from aegis.cli.words import FORMATS, read_line
from aegis.errors import AegisError, Cancelled
from aegis.lean import Any

__all__ = ["main"]

_COMMANDS = {
    "run": "Run a module, with nothing granted but what you say.",
    "fuzz": "Look for what a guest does wrong, with all kinds of calls.",
    "validate": "Check that modules are valid and admitted.",
    "inspect": "Show what a module imports, exports and would need.",
    "bindgen": "Write typed Python for a WIT world.",
    "doctor": "Check that this system can run guests safely.",
}


class _HungUp(Exception):
    """Nothing reads the output any more."""


@contextmanager
def _own_broken_pipes() -> Iterator[None]:
    """Let a broken pipe leave as an exception of Aegis: click would end the process with 1."""
    try:
        yield
    except BrokenPipeError:
        raise _HungUp from None


class Commands(click.Group):
    """Commands by name, each imported when it is asked for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        line = read_line(args, self.get_params(ctx), leading=True)
        face: Face = ctx.obj
        face.form = line.form or face.form
        if line.fault:
            raise click.UsageError(line.fault, ctx)
        return super().parse_args(ctx, [*line.options, "--", *line.words] if args else args)

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        with _own_broken_pipes():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        with _own_broken_pipes():
            return super().invoke(ctx)

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        from importlib import import_module

        command: click.Command = import_module(f"aegis.cli.{name}").command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-c", "--config", type=click.Path(), metavar="FILE", help="Read the policy from FILE (aegis.toml).")
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="human",
    help="How results are shown.",
)
@click.option("-v", "--verbose", count=True, help="Say more; twice, show a defect's traceback.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but results and errors.")
@click.version_option(package_name="aegis-wasm", prog_name="aegis", message="%(prog)s %(version)s")
@click.pass_context
def group(context: click.Context, config: str | None, form: str, verbose: int, quiet: bool) -> None:
    """Run untrusted WebAssembly: nothing granted by default, every limit on, every host call mediated."""
    face: Face = context.obj
    face.form, face.verbose, face.quiet, face.config = form, verbose, quiet, config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. No exception leaves, and no traceback is shown unasked."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    face = Face()
    try:
        result = group.main(words, prog_name="aegis", standalone_mode=False, obj=face)
        code = result if isinstance(result, int) else 0
        face.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = 2
    except click.ClickException as error:
        code = face.usage_error(error)
    except AegisError as error:
        code = face.failure(error)
    except (KeyboardInterrupt, click.Abort):
        code = face.failure(Cancelled("interrupted"))
    except (BrokenPipeError, _HungUp):
        code = _hang_up()
    except OSError as error:
        code = face.system_error(error)
    except Exception as error:
        code = face.defect(error)
    return code


def _hang_up() -> int:
    """Nobody reads any more: end as a program does that SIGPIPE ends, and write nothing at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 141
