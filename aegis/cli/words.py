"""The words of a command line: which are options, and which are the file and the guest's arguments.

One rule serves every command. Options are recognised anywhere before ``--``. A word that is no option is the file,
or, after the file, an argument. What follows ``--`` is never an option. click alone would read ``--isolate x.wasm`` as
an option with its value, ``-2`` as an option, and ``-e -- 2`` as a function called ``--``.

Nothing here needs click: ``aegis run`` reads its line with this alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from aegis.support.lean import Any, NamedTuple, dataclass, field
from aegis.text import near, printable

__all__ = ["FORMATS", "Line", "Misuse", "Option", "Sort", "read_line"]

FORMATS = ("human", "json", "json-compact")


class Misuse(Exception):
    """The command line means nothing, which only its values tell."""


class Sort:
    """The sorts of options, by what is said with them."""

    FLAG = "flag"
    """Nothing."""
    COUNT = "count"
    """Nothing, and how often."""
    VALUE = "value"
    """A value, that of the last time."""
    EACH = "each"
    """A value each time."""
    IMPLIED = "implied"
    """A value after ``=``, or none; then it is ``implied``."""


class Option(NamedTuple):
    """One option of a command: what it is called, what is said with it, and its line in the help."""

    names: tuple[str, ...]
    """As it is written, and last, without dashes, the name of its value if that is another."""
    help: str = ""
    sort: str = Sort.VALUE
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    """The values that there are, where not any text is one."""
    default: str | None = None
    implied: str = ""
    known: tuple[str, ...] = ()
    """Values of an option with an implied one, to tell them from the name of a file."""

    @property
    def dest(self) -> str:
        """The name of its value."""
        last = self.names[-1]
        return last if not last.startswith("-") else last.lstrip("-").replace("-", "_")

    @property
    def bare(self) -> bool:
        """Whether nothing is said with it."""
        return self.sort in (Sort.FLAG, Sort.COUNT)


@dataclass(slots=True, kw_only=True)
class Line:
    """A command line, sorted: options as click takes them, then everything else."""

    options: list[str] = field(default_factory=list)
    given: list[tuple[Option, str]] = field(default_factory=list)
    """The same options, each with its value."""
    words: list[str] = field(default_factory=list)
    guest: bool = False
    """Whether words after the first are a guest's."""
    fault: str = ""
    """The first thing that is wrong with it."""
    form: str = ""
    """The value of ``--format``, known even when something else is wrong."""

    def wrong(self, fault: str) -> None:
        self.fault = self.fault or fault

    def add(self, option: Option, value: str, *words: str) -> None:
        self.given.append((option, value))
        self.options += words

    def values(self, options: Iterable[Option]) -> dict[str, Any] | None:
        """Return the value of each of ``options`` as click does, ``None`` where one is not among its choices."""
        found: dict[str, Any] = {option.dest: _UNSAID.get(option.sort, option.default) for option in options}
        for option, value in self.given:
            if option.choices and value not in option.choices:
                return None
            if option.sort == Sort.FLAG:
                found[option.dest] = True
            elif option.sort == Sort.COUNT:
                found[option.dest] += 1
            elif option.sort == Sort.EACH:
                found[option.dest] += (value,)
            else:
                found[option.dest] = value
        return found


_UNSAID: dict[str, Any] = {Sort.FLAG: False, Sort.COUNT: 0, Sort.EACH: ()}


def read_line(words: Sequence[str], known: Iterable[Option], *, guest: bool = False, leading: bool = False) -> Line:
    """Sort ``words`` by the options that are known.

    With ``guest`` the words after the first are a guest's, negative numbers included. With ``leading`` options end at
    the first word.
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


def _cluster(line: Line, options: Mapping[str, Option], word: str, rest: list[str]) -> None:
    """Read short options written together: flags, the last of which may be an option with its value."""
    for at in range(1, len(word)):
        option = options.get(f"-{word[at]}")
        if option is None or not option.bare:
            value = word[at + 1 :]
            name = f"-{word[at]}" if option is not None else word if at == 1 else f"-{word[at:]}"
            _take(line, options, name, value or None, rest)
            return
        line.add(option, "", f"-{word[at]}")


def _take(line: Line, options: Mapping[str, Option], name: str, value: str | None, rest: list[str]) -> None:
    """Add one option, with its value from the same word or from the next."""
    option = options.get(name)
    if option is None:
        line.wrong(_unknown(name, options, line))
        return
    if option.sort == Sort.IMPLIED:
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
    if option.dest == "form" and value in FORMATS:
        line.form = value
    line.add(option, value, *([f"{name}={value}"] if name.startswith("--") else [name, value]))


def _look_ahead(line: Line, option: Option, name: str, rest: Sequence[str]) -> None:
    """Refuse ``--isolate strict x.wasm``, where the value would be taken for the file."""
    if not line.words and rest and rest[0] in option.known and not os.path.exists(rest[0]):
        line.wrong(f"there is no file {rest[0]!r}; the value of {name} follows an equals sign: {name}={rest[0]}")


def _unknown(name: str, options: Mapping[str, Option], line: Line) -> str:
    longer = [option for option in options if option.startswith(name)] if len(name) > 3 else []
    alike = (longer if len(longer) == 1 else near(name[:80], options, 1)) if name.startswith("--") else []
    hint = f"; did you mean {alike[0]}?" if alike else ""
    kind = "options of the guest" if line.guest else "names that begin with -"
    place = f"; put {kind} after --" if line.words else ""
    return f"no such option: {printable(name, 80)}{hint}{place}"


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
