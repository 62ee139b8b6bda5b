"""click's commands and options, made from the table of :mod:`aegis.cli.options`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aegis.cli import options as table
from aegis.cli.words import Option, Sort, read_line

if TYPE_CHECKING:
    from aegis.cli.render import Face

__all__ = ["FileCommand", "RunCommand", "described", "limit_options", "policy_options", "with_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Implied(click.Option):
    """An option whose value follows ``=`` or is left out; then it is ``implied``."""

    def __init__(self, *names: Any, described: Option, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.described = described


def made(option: Option, **settings: Any) -> click.Option:
    """Return an option of the table as click has it."""
    if option.choices:
        settings["type"] = click.Choice(option.choices)
    settings |= {"help": option.help, "metavar": option.metavar, "default": option.default}
    if option.sort == Sort.IMPLIED:
        return Implied([*option.names], described=option, **settings)
    if option.sort in (Sort.FLAG, Sort.COUNT):
        del settings["default"]
    kinds = {Sort.FLAG: "is_flag", Sort.COUNT: "count", Sort.EACH: "multiple"}
    if option.sort in kinds:
        settings[kinds[option.sort]] = True
    return click.Option([*option.names], **settings)


def described(params: Iterable[click.Parameter]) -> list[Option]:
    """Return the options among click's parameters as the table has them."""
    return [_described(param) for param in params if isinstance(param, click.Option)]


def _described(option: click.Option) -> Option:
    if isinstance(option, Implied):
        return option.described
    sort = Sort.COUNT if option.count else Sort.FLAG if option.is_flag else Sort.VALUE
    return Option((*option.opts, option.name or ""), sort=sort)


def with_options(options: Iterable[Option]) -> Callable[[_Command], _Command]:
    """Return what adds options to the function of a command, in their order."""

    def add(command: _Command) -> _Command:
        params = command.__dict__.setdefault("__click_params__", [])
        params += reversed([made(option) for option in options])  # click turns them around
        return command

    return add


def limit_options(command: _Command, **defaults: str) -> _Command:
    """Add an option for each limit; ``defaults`` are those that differ for this command."""
    return with_options(table.limits(**defaults))(command)


def policy_options(command: _Command) -> _Command:
    """Add an option for each grant."""
    return with_options(table.GRANTS)(command)


def _tell(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Keep the value of a shared option, which stands after the command's name."""
    face: Face = context.obj
    if value:
        setattr(face, option.name or "", value)


class FileCommand(click.Command):
    """A command that takes files: its options may come before and after them."""

    guest = False

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(*args, **settings)
        taken = {name for param in self.params for name in param.opts}
        shared = table.shared(short="-f" not in taken)
        self.params += [made(option, expose_value=False, callback=_tell) for option in shared]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        line = read_line(args, described(self.get_params(ctx)), guest=self.guest)
        if line.form and ctx.obj is not None:
            ctx.obj.form = line.form
        asked = {"-h", "--help"} & set(line.options)
        if line.fault and not asked:
            raise click.UsageError(line.fault, ctx)
        return super().parse_args(ctx, [*line.options, "--", *line.words])


class RunCommand(FileCommand):
    """The command whose words after the file are the guest's."""

    guest = True
