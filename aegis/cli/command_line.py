"""Split a command line into options, the file, and the guest's arguments.

All commands follow one rule. Options are recognised anywhere before ``--``. The first other word is the file, and the
later ones are arguments. Words after ``--`` are never options. click alone would parse ``--isolate x.wasm`` as an
option with a value, ``-2`` as an option, and ``-e -- 2`` as a function called ``--``.

This module does not import click, so ``aegis run`` can parse its command line without it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from aegis.support.lean import Any, NamedTuple, dataclass, field
from aegis.text import printable, similar_names

__all__ = ["FORMATS", "POLICY_FORMAT", "CommandOption", "Line", "OptionKind", "UsageMistake", "read_line"]

FORMATS = ("human", "json", "json-compact")
POLICY_FORMAT = "toml"
"""The format that ``policy show`` has besides: a policy file."""


class UsageMistake(Exception):
    """The values of the command line's options contradict each other."""


class OptionKind:
    """The kinds of options, by the values that they take."""

    FLAG = "flag"
    """No value; the option is true if it is given."""
    COUNT = "count"
    """No value; the option counts how often it is given."""
    VALUE = "value"
    """One value; the last one counts."""
    EACH = "each"
    """One value each time; all are collected."""
    IMPLIED = "implied"
    """An optional value after ``=``; without it, the value is ``implied``."""


class CommandOption(NamedTuple):
    """One option of a command: its names, its kind, and its help text."""

    names: tuple[str, ...]
    """The spellings; the last may be a name without dashes for the parameter."""
    help: str = ""
    sort: str = OptionKind.VALUE
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    """The allowed values; empty if any text is allowed."""
    default: str | None = None
    implied: str = ""
    known: tuple[str, ...] = ()
    """Common values of an option of kind ``IMPLIED``, to detect ``--isolate strict`` without the ``=``."""
    usual: str = ""
    """The default of a command that differs from that of the limit."""

    @property
    def dest(self) -> str:
        """The name of the parameter."""
        last = self.names[-1]
        return last if not last.startswith("-") else last.lstrip("-").replace("-", "_")

    @property
    def bare(self) -> bool:
        """Whether the option takes no value."""
        return self.sort in (OptionKind.FLAG, OptionKind.COUNT)


@dataclass(slots=True, kw_only=True)
class Line:
    """A split command line: options in the form that click parses, and all other words."""

    options: list[str] = field(default_factory=list)
    given: list[tuple[CommandOption, str]] = field(default_factory=list)
    """The same options with their values."""
    words: list[str] = field(default_factory=list)
    guest: bool = False
    """Whether words after the first are arguments of a guest."""
    fault: str = ""
    """The first mistake, or an empty text."""
    form: str = ""
    """The value of ``--format``, valid even if the line has a mistake."""

    def wrong(self, fault: str) -> None:
        self.fault = self.fault or fault

    def add(self, option: CommandOption, value: str, *words: str) -> None:
        self.given.append((option, value))
        self.options += words

    def values(self, options: Iterable[CommandOption]) -> dict[str, Any] | None:
        """Return the values of all ``options`` as click would, or ``None`` if a value is not an allowed choice."""
        found: dict[str, Any] = {option.dest: _ABSENT.get(option.sort, option.default) for option in options}
        for option, value in self.given:
            if option.choices and value not in option.choices:
                return None
            if option.sort == OptionKind.FLAG:
                found[option.dest] = True
            elif option.sort == OptionKind.COUNT:
                found[option.dest] += 1
            elif option.sort == OptionKind.EACH:
                found[option.dest] += (value,)
            else:
                found[option.dest] = value
        return found


_ABSENT: dict[str, Any] = {OptionKind.FLAG: False, OptionKind.COUNT: 0, OptionKind.EACH: ()}


def read_line(
    words: Sequence[str], known: Iterable[CommandOption], *, guest: bool = False, leading: bool = False
) -> Line:
    """Split ``words`` into options and other words.

    With ``guest``, words after the first are arguments of a guest and may be negative numbers. With ``leading``,
    options end at the first other word.
    """
    options = {name: option for option in known for name in option.names if name.startswith("-")}
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


def _cluster(line: Line, options: Mapping[str, CommandOption], word: str, rest: list[str]) -> None:
    """Read combined short options: flags, and at the end possibly an option with its value."""
    for at in range(1, len(word)):
        option = options.get(f"-{word[at]}")
        if option is None or not option.bare:
            value = word[at + 1 :]
            name = f"-{word[at]}" if option is not None else word if at == 1 else f"-{word[at:]}"
            _take(line, options, name, value or None, rest)
            return
        line.add(option, "", f"-{word[at]}")


def _take(line: Line, options: Mapping[str, CommandOption], name: str, value: str | None, rest: list[str]) -> None:
    """Add one option with its value, from the same word or the next one."""
    option = options.get(name)
    if option is None:
        line.wrong(_unknown(name, options, line))
        return
    if option.sort == OptionKind.IMPLIED:
        if value is None:
            _look_ahead(line, option, name, rest)
            value = option.implied
        line.add(option, value, f"{name}={value}")
        return
    if option.bare:
        if value is not None:
            line.wrong(f"{name} takes no value")
        line.add(option, "", name)
        return
    if value is None:
        if not rest or rest[0] == "--":
            line.wrong(f"{name} needs a value")
            return
        value = rest.pop(0)
    if option.dest == "form":
        _take_form(line, option, name, value)
    line.add(option, value, *([f"{name}={value}"] if name.startswith("--") else [name, value]))


def _take_form(line: Line, option: CommandOption, name: str, value: str) -> None:
    """Note the format of the output, which also applies to the error of a later mistake."""
    if value in option.choices:
        line.form = value
    elif value == POLICY_FORMAT:
        line.wrong(f"{value} is a format of policy show alone: write aegis policy show {name} {value}")
    elif name == "-f":
        hint = "the option of run that names a function stands after run: run -e NAME"
        line.wrong(f"-f is the format here, one of {', '.join(option.choices)}, not {printable(value, 80)}: {hint}")


def _look_ahead(line: Line, option: CommandOption, name: str, rest: Sequence[str]) -> None:
    """Reject ``--isolate strict x.wasm``, where the value would become the file or an argument of the guest."""
    if not rest or rest[0] not in option.known:
        return
    if line.words:
        remedy = f"write {name}={rest[0]}, or put an argument of the guest after --"
        line.wrong(f"{rest[0]!r} after {name} could be its value: {remedy}")
    elif not os.path.exists(rest[0]):
        line.wrong(f"no file {rest[0]!r} found; if it is the value of {name}, write {name}={rest[0]}")


def _unknown(name: str, options: Mapping[str, CommandOption], line: Line) -> str:
    longer = [option for option in options if option.startswith(name)] if len(name) > 3 else []
    alike = (longer if len(longer) == 1 else similar_names(name[:80], options, 1)) if name.startswith("--") else []
    hint = f": did you mean {alike[0]}?" if alike else ""
    kind = "options of the guest" if line.guest else "names that begin with -"
    place = f": put {kind} after --" if line.words else ""
    return f"no such option: {printable(name, 80)}{hint}{place}"


def _is_number(word: str) -> bool:
    """Return whether a word is a negative number in the notation of function arguments."""
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
