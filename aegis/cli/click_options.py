"""Build click's commands and options from the table in :mod:`aegis.cli.options`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aegis.cli import options as table
from aegis.cli.command_line import FORMATS, CommandOption, OptionKind, read_line
from aegis.limits import default_of

if TYPE_CHECKING:
    from aegis.cli.output import Output

__all__ = [
    "FileCommand",
    "HelpOption",
    "Implied",
    "RunCommand",
    "described",
    "limit_options",
    "policy_options",
    "with_options",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Implied(click.Option):
    """A click option with an optional value after ``=``; without it the value is ``described.implied``."""

    def __init__(self, *names: Any, described: CommandOption, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.described = described


def made(option: CommandOption, **settings: Any) -> click.Option:
    """Return the click option for an option of the table."""
    if option.choices:
        settings["type"] = click.Choice(option.choices)
    settings |= {"help": _help(option), "metavar": option.metavar, "default": option.default}
    if option.sort == OptionKind.IMPLIED:
        return Implied([*option.names], described=option, **settings)
    if option.sort in (OptionKind.FLAG, OptionKind.COUNT):
        del settings["default"]
    kinds = {OptionKind.FLAG: "is_flag", OptionKind.COUNT: "count", OptionKind.EACH: "multiple"}
    if option.sort in kinds:
        settings[kinds[option.sort]] = True
    return click.Option([*option.names], **settings)


def _help(option: CommandOption) -> str:
    """Return the help of an option; that of a limit ends with its default."""
    kind, _, name = option.dest.partition("_")
    return f"{option.help} [{option.usual or default_of(name)}]" if kind == "limit" else option.help


def described(params: Iterable[click.Parameter]) -> list[CommandOption]:
    """Return the table's options for the options among click's parameters."""
    return [_described(param) for param in params if isinstance(param, click.Option)]


def _described(option: click.Option) -> CommandOption:
    if isinstance(option, Implied):
        return option.described
    sort = OptionKind.COUNT if option.count else OptionKind.FLAG if option.is_flag else OptionKind.VALUE
    choices = tuple(option.type.choices) if isinstance(option.type, click.Choice) else ()
    return CommandOption((*option.opts, option.name or ""), sort=sort, choices=choices)


def with_options(options: Iterable[CommandOption]) -> Callable[[_Command], _Command]:
    """Return a decorator that adds options to a command's function, in order."""

    def add(command: _Command) -> _Command:
        params = command.__dict__.setdefault("__click_params__", [])
        params += reversed([made(option) for option in options])  # click reverses this list
        return command

    return add


def limit_options(command: _Command, **defaults: str) -> _Command:
    """Add an option for each limit; ``defaults`` replaces defaults for this command."""
    return with_options(table.limits(**defaults))(command)


def policy_options(command: _Command) -> _Command:
    """Add an option for each grant."""
    return with_options(table.grants())(command)


def _store(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Store the value of a shared option that follows the command's name."""
    output: Output = context.obj
    if option.name == "config":
        output.config += value
    elif value:
        setattr(output, option.name or "", value)


class HelpOption(click.Command):
    """A command whose option for help is ``-h`` and ``--help`` in any context; click keeps that of the first."""

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        return ["-h", "--help"]


class FileCommand(HelpOption):
    """A command that takes files; its options may precede and follow them.

    The policy files of ``-c`` are read and must be valid. ``reads_policy`` says that the command itself reads them.
    """

    guest = False
    forms: tuple[str, ...] = FORMATS

    def __init__(self, *args: Any, reads_policy: bool = False, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.reads_policy = reads_policy
        taken = {name for param in self.params for name in param.opts}
        shared = (*(() if "-c" in taken else (table.CONFIG,)), *table.shared(short="-f" not in taken, forms=self.forms))
        self.params += [made(option, expose_value=False, callback=_store) for option in shared]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, with those of limits in a section of their own at the end."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Limits (none lifts one)": []}
        titles = list(sections)
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and record[1]:
                sections[titles[(param.name or "").startswith("limit_")]].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        if not self.reads_policy and ctx.obj is not None:
            table.policy_files(ctx.obj.config).policy()
        return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        line = read_line(args, described(self.get_params(ctx)), guest=self.guest)
        if line.form and ctx.obj is not None:
            ctx.obj.form = line.form
        asked = {"-h", "--help"} & set(line.options)
        if line.fault and not asked:
            raise click.UsageError(line.fault, ctx)
        return super().parse_args(ctx, [*line.options, "--", *line.words])


class RunCommand(FileCommand):
    """The command ``run``: words after the file are arguments of the guest."""

    guest = True
