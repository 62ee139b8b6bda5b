"""The words of a command line: which are options, and which are the file and the guest's arguments.

One rule serves every command. Options are recognised anywhere before ``--``. A word that is no option is the file,
or, after the file, an argument. What follows ``--`` is never an option. click alone would read ``--isolate x.wasm`` as
an option with its value, ``-2`` as an option, and ``-e -- 2`` as a function called ``--``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import click

from aegis.lean import TYPE_CHECKING, Any, dataclass, field
from aegis.names import near, printable

if TYPE_CHECKING:
    from aegis.cli.render import Face

__all__ = ["FORMATS", "FileCommand", "Implied", "Line", "RunCommand", "read_line", "shared_options"]

FORMATS = ("human", "json", "json-compact")


class Implied(click.Option):
    """An option whose value follows ``=`` or is left out; then it is ``implied``."""

    def __init__(self, *names: Any, implied: str, known: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.implied = implied
        self.known = tuple(known)


@dataclass(slots=True, kw_only=True)
class Line:
    """A command line, sorted: options as click takes them, then everything else."""

    options: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    guest: bool = False
    """Whether words after the first are a guest's."""
    fault: str = ""
    """The first thing that is wrong with it."""
    form: str = ""
    """The value of ``--format``, known even when something else is wrong."""

    def wrong(self, fault: str) -> None:
        self.fault = self.fault or fault


def read_line(
    words: Sequence[str], params: Iterable[click.Parameter], *, guest: bool = False, leading: bool = False
) -> Line:
    """Sort ``words`` by the options among ``params``.

    With ``guest`` the words after the first are a guest's, negative numbers included. With ``leading`` options end at
    the first word.
    """
    options = {name: param for param in params if isinstance(param, click.Option) for name in param.opts}
    line = Line(guest=guest)
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            line.words += rest
            break
        if word == "-" or not word.startswith("-") or (guest and line.words and _is_number(word)):
            line.words.append(word)
            if leading:
                line.words += rest
                break
        elif word.startswith("--"):
            name, mark, value = word.partition("=")
            _take(line, options, name, value if mark else None, rest)
        else:
            _cluster(line, options, word, rest)
    return line


def _cluster(line: Line, options: Mapping[str, click.Option], word: str, rest: list[str]) -> None:
    """Read short options written together: flags, the last of which may be an option with its value."""
    for at in range(1, len(word)):
        option = options.get(f"-{word[at]}")
        if option is None or not _is_flag(option):
            value = word[at + 1 :]
            name = f"-{word[at]}" if option is not None else word if at == 1 else f"-{word[at:]}"
            _take(line, options, name, value or None, rest)
            return
        line.options.append(f"-{word[at]}")


def _take(line: Line, options: Mapping[str, click.Option], name: str, value: str | None, rest: list[str]) -> None:
    """Add one option, with its value from the same word or from the next."""
    option = options.get(name)
    if option is None:
        line.wrong(_unknown(name, options, line))
        return
    if isinstance(option, Implied):
        if value is None:
            _look_ahead(line, option, name, rest)
        line.options.append(f"{name}={option.implied if value is None else value}")
        return
    if _is_flag(option):
        if value is not None:
            line.wrong(f"{name} takes no value")
        line.options.append(name)
        return
    if value is None:
        if not rest or rest[0] == "--":
            line.wrong(f"{name} needs a value")
            return
        value = rest.pop(0)
    if option.name == "form" and value in FORMATS:
        line.form = value
    line.options += [name, value] if not name.startswith("--") else [f"{name}={value}"]


def _look_ahead(line: Line, option: Implied, name: str, rest: Sequence[str]) -> None:
    """Refuse ``--isolate strict x.wasm``, where the value would be taken for the file."""
    if not line.words and rest and rest[0] in option.known and not os.path.exists(rest[0]):
        line.wrong(f"there is no file {rest[0]!r}; the value of {name} follows an equals sign: {name}={rest[0]}")


def _unknown(name: str, options: Mapping[str, click.Option], line: Line) -> str:
    longer = [option for option in options if option.startswith(name)] if len(name) > 3 else []
    alike = (longer if len(longer) == 1 else near(name[:80], options, 1)) if name.startswith("--") else []
    hint = f"; did you mean {alike[0]}?" if alike else ""
    kind = "options of the guest" if line.guest else "names that begin with -"
    place = f"; put {kind} after --" if line.words else ""
    return f"no such option: {printable(name, 80)}{hint}{place}"


def _is_flag(option: click.Option) -> bool:
    return bool(option.is_flag or option.count) and not isinstance(option, Implied)


def _is_number(word: str) -> bool:
    """Tell whether a word is a negative number as an argument of a function is written."""
    digits = word[1:].lstrip("+-_")
    if digits != word[1:] or not word.isascii():
        return False
    for parse in (float, lambda text: int(text, 0)):
        try:
            parse(word)
        except ValueError:
            continue
        return True
    return False


def shared_options(*, short: bool) -> list[click.Option]:
    """Return the options that every command takes after its name too; ``short``: ``-f`` is the format."""

    def told(context: click.Context, option: click.Parameter, value: Any) -> None:
        face: Face = context.obj
        if value:
            setattr(face, option.name or "", value)

    names = ["-f", "--format"] if short else ["--format"]
    return [
        click.Option(
            [*names, "form"], type=click.Choice(FORMATS), expose_value=False, callback=told,
            help="How the result is shown.",
        ),
        click.Option(
            ["-v", "--verbose"], count=True, expose_value=False, callback=told,
            help="Say more; twice, show a defect's traceback.",
        ),
        click.Option(
            ["-q", "--quiet"], is_flag=True, expose_value=False, callback=told,
            help="Say nothing but results and errors.",
        ),
    ]  # fmt: skip


class FileCommand(click.Command):
    """A command that takes files: its options may come before and after them."""

    guest = False

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(*args, **settings)
        taken = {name for param in self.params for name in param.opts}
        self.params += shared_options(short="-f" not in taken)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        line = read_line(args, self.get_params(ctx), guest=self.guest)
        if line.form and ctx.obj is not None:
            ctx.obj.form = line.form
        asked = {"-h", "--help"} & set(line.options)
        if line.fault and not asked:
            raise click.UsageError(line.fault, ctx)
        return super().parse_args(ctx, [*line.options, "--", *line.words])


class RunCommand(FileCommand):
    """The command whose words after the file are the guest's."""

    guest = True
