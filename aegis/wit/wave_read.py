"""Parse WAVE, the text format of component values; :mod:`aegis.wit.wave_write` writes it.

The grammar is that of the ``wasm-wave`` project: ``true``, ``-7``, ``1.5``, ``nan``, ``'é'``, ``"text"``, ``[1, 2]``,
``(1, "a")``, ``{field: 1}``, ``case(payload)``, ``{flag, flag}``, ``some(x)``, ``none``, ``ok(x)``, ``err(x)``. The
payload alone is accepted for ``some`` or ``ok`` of it, unless it is itself an option or result. A label that equals a
keyword is written with ``%``. The expected type directs the parser.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from aegis.errors import CallError
from aegis.text import count, printable
from aegis.wit.naming import constant
from aegis.wit.python_types import nullable
from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
    Function,
    List,
    Option,
    Own,
    Record,
    Result,
    Tuple,
    Variant,
    WitType,
    show,
)
from aegis.wit.values import Err, Ok, Some
from aegis.wit.wave_write import format_value, single

__all__ = ["Call", "format_value", "parse_arguments", "parse_call", "parse_value"]

_MAX_VALUE_DEPTH = 100  # the same as for types; each level takes up to four frames of Python's stack
_SPACE = re.compile(r"(?:[ \t\n\r]+|//[^\n]*)*")
_LABEL = re.compile(r"%?[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_CALL = re.compile(r"\s*([^\s(]+)\s*\((.*)\)\s*\Z", re.DOTALL)
_TEXT = re.compile(r'(?:[^"\\\n\ud800-\udfff]+|\\(?:[tnr\'"\\]|u\{[0-9A-Fa-f]{1,6}\}))+')
_ESCAPE = re.compile(r"\\(?:u\{([0-9A-Fa-f]+)\}|(.))")
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "'": "'", '"': '"', "\\": "\\"}
_UNICODE = re.compile(r"u\{([0-9A-Fa-f]{1,6})\}")
_RANGES = {f"{sign}{bits}": bits for sign in "su" for bits in (8, 16, 32, 64)}


class Call(NamedTuple):
    """A call in WAVE: the name of the function, and the text of the arguments.

    Spaces stand for the text before the arguments, so that columns in errors are those of the whole call.
    """

    target: str
    arguments: str


def parse_call(text: str) -> Call:
    """Split ``acme:kv/store@1.2.0#get("key")`` into the name and the arguments; raise ``CallError`` for other text."""
    found = _CALL.match(text)
    if found is None:
        raise CallError(f'{printable(text, 80)!r} is not a call: write it like name(1, "x")')
    return Call(found[1], " " * found.start(2) + found[2])


def parse_arguments(text: str, function: Function) -> list[Any]:
    """Parse the arguments of ``function``; trailing options may be omitted. Raise ``CallError`` for invalid text."""
    reader = _WaveReader(text)
    values: list[Any] = []
    types = [of for _, of in function.params]
    while not reader.at_end():
        if len(values) == len(types):
            reader.wrong(f"no more than {count(len(types), 'argument')}")
        values.append(reader.value(types[len(values)], 0))
        if not reader.eat(","):
            break
    reader.finish()
    while len(values) < len(types) and isinstance(types[len(values)], Option):
        values.append(None)
    if len(values) != len(types):
        shown = show(function).removeprefix("async ").removeprefix("func")
        raise CallError(f"the function takes {count(len(types), 'argument')} {shown}, not {len(values)}")
    return values


def parse_value(text: str, of: WitType) -> Any:
    """Parse one value of type ``of``; raise ``CallError`` for invalid text. Named types must have Python classes."""
    reader = _WaveReader(text)
    value = reader.value(of, 0)
    reader.finish()
    return value


def _unescaped(escape: re.Match[str]) -> str:
    """Return the character of an escape; raise ``ValueError`` if there is none."""
    if escape[1] is None:
        return _ESCAPES[escape[2]]
    number = int(escape[1], 16)
    if 0xD800 <= number <= 0xDFFF:
        raise ValueError
    return chr(number)


class _WaveReader:
    """A cursor over WAVE text, with one method for each kind of type."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.skip()

    # -- text ----------------------------------------------------------------------------------

    def skip(self) -> None:
        found = _SPACE.match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def at_end(self) -> bool:
        return self.at >= len(self.text)

    def peek(self, token: str) -> bool:
        return self.text.startswith(token, self.at)

    def eat(self, token: str) -> bool:
        if not self.peek(token):
            return False
        self.at += len(token)
        self.skip()
        return True

    def need(self, token: str) -> None:
        if not self.eat(token):
            self.wrong(f"'{token}'")

    def finish(self) -> None:
        if not self.at_end():
            self.wrong("the end")

    def wrong(self, expected: str) -> NoReturn:
        rest = self.text[self.at : self.at + 20]
        found = repr(printable(rest)) if rest else "the end of the text"
        raise CallError(f"column {self.at + 1}: expected {expected}, found {found}")

    def label(self, expected: str) -> str:
        found = _LABEL.match(self.text, self.at)
        if found is None:
            self.wrong(expected)
        self.at = found.end()
        self.skip()
        return found[0]

    def keyword(self, word: str) -> bool:
        """Consume the next label if it is ``word``."""
        found = _LABEL.match(self.text, self.at)
        if found is None or found[0] != word:
            return False
        self.at = found.end()
        self.skip()
        return True

    def many(self, close: str, read: Callable[[], None]) -> None:
        """Read comma-separated items up to ``close``; a trailing comma is allowed."""
        while not self.eat(close):
            read()
            if not self.eat(","):
                self.need(close)
                return

    # -- values --------------------------------------------------------------------------------

    def value(self, of: WitType, depth: int) -> Any:
        if depth > _MAX_VALUE_DEPTH:
            raise CallError(f"column {self.at + 1}: values are nested deeper than {_MAX_VALUE_DEPTH}")
        match of:
            case str():
                return self.primitive(of)
            case List(element):
                items = self.items("[", "]", element, depth)
                return bytes(items) if element == "u8" else items
            case Tuple(elements):
                return self.tuple(of, elements, depth)
            case Record():
                return self.record(of, depth)
            case Variant():
                return self.variant(of, depth)
            case Enum():
                return self.enum(of)
            case Flags():
                return self.flags(of)
            case Option(element):
                return self.option(element, depth)
            case Result():
                return self.result(of, depth)
            case Own(resource) | Borrow(resource):
                raise CallError(
                    f"column {self.at + 1}: a handle of {resource.name} has no text form: call the function from Python"
                )

    def primitive(self, of: str) -> Any:
        if of == "bool":
            for word, value in (("true", True), ("false", False)):
                if self.keyword(word):
                    return value
            self.wrong("true or false")
        if of == "char":
            return self.char()
        if of == "string":
            return self.string()
        return self.float(of) if of in ("f32", "f64") else self.integer(of)

    def integer(self, of: str) -> int:
        start, found = self.at, _NUMBER.match(self.text, self.at)
        if found is None or not found[0].removeprefix("-").isdigit():
            self.wrong(f"an integer for {of}")
        self.at = found.end()
        self.skip()
        digits = found[0]
        bits = _RANGES[of]
        low, high = (0, (1 << bits) - 1) if of[0] == "u" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        if len(digits) > 21 or not low <= int(digits) <= high:
            raise CallError(f"column {start + 1}: {printable(digits, 40)} is out of range for {of}: {low} to {high}")
        return int(digits)

    def float(self, of: str) -> float:
        for word, value in (("nan", math.nan), ("inf", math.inf), ("-inf", -math.inf)):
            if self.eat(word):
                return value
        start, found = self.at, _NUMBER.match(self.text, self.at)
        if found is None:
            self.wrong(f"a number for {of}")
        self.at = found.end()
        self.skip()
        number = single(float(found[0])) if of == "f32" else float(found[0])
        if math.isinf(number):
            raise CallError(f"column {start + 1}: {printable(found[0], 40)} is out of range for {of}")
        return number

    def char(self) -> str:
        if not self.peek("'"):
            self.wrong("a character in single quotes")
        self.at += 1
        value = self.quoted("'")
        if not self.eat("'"):
            self.wrong("the closing '")
        return value

    def string(self) -> str:
        if self.peek('"""'):
            return self.lines()
        if not self.peek('"'):
            self.wrong("text in double quotes")
        self.at += 1
        parts = []
        if found := _TEXT.match(self.text, self.at):
            with suppress(ValueError):  # for a character that does not exist, which quoted() finds
                parts.append(_ESCAPE.sub(_unescaped, found[0]))
                self.at = found.end()
        while not self.peek('"'):
            parts.append(self.quoted('"'))
        self.eat('"')
        return "".join(parts)

    def lines(self) -> str:
        """Read text between triple quotes: whole lines, without the indentation of the closing quotes."""
        end = self.text.find('"""', self.at + 3)
        first, *lines = self.text[self.at + 3 : max(end, 0)].split("\n")
        if end < 0 or first.strip("\r") or not lines:
            self.wrong('a line break after """, and a closing """')
        if indent := lines.pop().strip(" \t"):
            self.at = end - len(indent)
            self.wrong('the closing """ on a line of its own')
        indent = self.text[self.text.rindex("\n", 0, end) + 1 : end]
        self.at += 4 + len(first)
        read = [self.line(line, indent) for line in lines]
        self.at = end + 3
        self.skip()
        return "\n".join(read)

    def line(self, line: str, indent: str) -> str:
        """Read one line between triple quotes, and its end."""
        end = self.at + len(line)
        if line.strip("\r") and not line.startswith(indent):
            self.wrong('a line with the indentation of the closing """')
        self.at = min(self.at + len(indent), end)
        parts = []
        while self.at < end - line.endswith("\r"):
            parts.append(self.quoted(""))
        self.at = end + 1
        return "".join(parts)

    def quoted(self, quote: str) -> str:
        """Read one character of a literal, which may be an escape."""
        if self.at_end():
            self.wrong("the closing quote")
        char = self.text[self.at]
        if char in (quote, "\n"):
            self.wrong("a character" if quote == "'" else "the closing quote")
        if 0xD800 <= ord(char) <= 0xDFFF:
            self.wrong("a character that is not a surrogate")
        self.at += 1
        if char != "\\":
            return char
        escape = self.text[self.at : self.at + 1]
        if escape in _ESCAPES and escape:
            self.at += 1
            return _ESCAPES[escape]
        found = _UNICODE.match(self.text, self.at)
        number = int(found[1], 16) if found else 0xD800
        if found is None or number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            self.wrong(r"an escape: \t, \n, \r, \', \", \\ or \u{…}")
        self.at = found.end()
        return chr(number)

    def items(self, opening: str, closing: str, of: WitType, depth: int) -> list[Any]:
        if not self.peek(opening):
            self.wrong(f"'{opening}' for a list")
        self.eat(opening)
        found: list[Any] = []
        self.many(closing, lambda: found.append(self.value(of, depth + 1)))
        return found

    def tuple(self, of: Tuple, elements: tuple[WitType, ...], depth: int) -> tuple[Any, ...]:
        if not self.eat("("):
            self.wrong(f"'(' for {show(of)}")
        found: list[Any] = []

        def one() -> None:
            if len(found) == len(elements):
                self.wrong(f"')' after {count(len(elements), 'value')}")
            found.append(self.value(elements[len(found)], depth + 1))

        self.many(")", one)
        if len(found) != len(elements):
            self.wrong(f"{count(len(elements), 'value')} for {show(of)}")
        return tuple(found)

    def record(self, of: Record, depth: int) -> Any:
        if not self.eat("{"):
            self.wrong(f"'{{' for the record {of.name}")
        types = dict(of.fields)
        found: dict[str, Any] = {}

        def one() -> None:
            start = self.at
            name = self.label("a field's name").removeprefix("%")
            if name not in types or name in found:
                self.at = start
                self.wrong(f"a field of {of.name}: {', '.join(n for n in types if n not in found)}")
            self.need(":")
            found[name] = self.value(types[name], depth + 1)

        if self.eat(":"):
            self.need("}")
        else:
            self.many("}", one)
        missing = [n for n, t in of.fields if n not in found and not isinstance(t, Option)]
        if missing:
            raise CallError(f"column {self.at + 1}: the record {of.name} lacks {', '.join(missing)}")
        assert of.python is not None
        return of.python(*(found.get(name) for name, _ in of.fields))

    def variant(self, of: Variant, depth: int) -> Any:
        start = self.at
        name = self.case(of.name, [case for case, _ in of.cases])
        for cls, (case, payload) in zip(of.python or (), of.cases, strict=True):
            if case == name:
                return cls() if payload is None else cls(self.payload(payload, depth))
        self.at = start
        self.wrong(f"a case of {of.name}: {_listed([case for case, _ in of.cases])}")

    def case(self, of: str, cases: Sequence[str]) -> str:
        """Read a label where a case of the type ``of`` is expected."""
        unquoted = ", without quotes" if self.peek('"') or self.peek("'") else ""
        return self.label(f"a case of {of}{unquoted}: {_listed(cases)}").removeprefix("%")

    def payload(self, of: WitType, depth: int) -> Any:
        self.need("(")
        value = self.value(of, depth + 1)
        self.need(")")
        return value

    def enum(self, of: Enum) -> Any:
        start = self.at
        name = self.case(of.name, of.cases)
        if name not in of.cases:
            self.at = start
            self.wrong(f"a case of {of.name}: {_listed(of.cases)}")
        assert of.python is not None
        return of.python(name)

    def flags(self, of: Flags) -> Any:
        if not self.eat("{"):
            self.wrong(f"'{{' for the flags {of.name}")
        found: list[str] = []

        def one() -> None:
            start = self.at
            name = self.label(f"a flag of {of.name}").removeprefix("%")
            if name not in of.names or name in found:
                self.at = start
                self.wrong(f"a flag of {of.name}: {_listed([n for n in of.names if n not in found])}")
            found.append(name)

        self.many("}", one)
        assert of.python is not None
        value = of.python(0)
        for name in found:
            value |= of.python[constant(name)]
        return value

    def option(self, element: WitType, depth: int) -> Any:
        if self.keyword("none"):
            return None
        if self.keyword("some"):
            value = self.payload(element, depth)
        elif isinstance(element, (Option, Result)):
            self.wrong("some(…) or none")
        else:
            value = self.value(element, depth + 1)
        return Some(value) if nullable(element) else value

    def result(self, of: Result, depth: int) -> Any:
        for word, wrapper, inner in (("ok", Ok, of.ok), ("err", Err, of.err)):
            if self.keyword(word):
                return wrapper(None if inner is None else self.payload(inner, depth))
        if of.ok is None or isinstance(of.ok, (Option, Result)):
            self.wrong("ok or err")
        return Ok(self.value(of.ok, depth + 1))


def _listed(names: Any) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
