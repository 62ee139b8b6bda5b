"""Write component values as WAVE, so that :mod:`aegis.wit.wave_read` parses them to equal values."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from aegis.errors import CallError
from aegis.text import is_visible
from aegis.wit.naming import snake
from aegis.wit.python_types import nullable
from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
    Future,
    List,
    Option,
    Own,
    Record,
    Result,
    Stream,
    Tuple,
    Variant,
    WitType,
    show,
)
from aegis.wit.values import Err, Ok, Some

__all__ = ["fewest_digits", "format_value", "single"]

_KEYWORDS = frozenset({"true", "false", "inf", "nan", "some", "none", "ok", "err"})
_MIN_PERIODIC_CHARACTERS = 1024
"""Length from which a text may repeat its beginning again and again, as those that are generated do."""
_FEW_ESCAPED = 32
"""Different characters to escape up to which replacing one after the other takes less time than a translation."""
_UNESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"}


def single(number: float) -> float:
    """Return the f32 nearest to ``number``; infinity if it is out of range."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError:
        return math.copysign(math.inf, number)


def format_value(value: Any, of: WitType) -> str:
    """Return ``value``, the Python form of a value of type ``of``, as WAVE.

    Raise :class:`~aegis.errors.CallError` if a variant has no case for it.
    """
    match of:
        case str():
            return _primitive(value, of)
        case List(element):
            return f"[{', '.join(_items(value, element))}]"
        case Tuple(elements):
            return f"({', '.join(format_value(v, t) for v, t in zip(value, elements, strict=True))})"
        case Record():
            fields = (f"{_label(n)}: {format_value(getattr(value, snake(n)), t)}" for n, t in of.fields)
            return f"{{{', '.join(fields)}}}"
        case Variant():
            return _variant(value, of)
        case Enum():
            return _label(value.value)
        case Flags():
            return f"{{{', '.join(_label(n) for i, n in enumerate(of.names) if value.value >> i & 1)}}}"
        case Option(element):
            inner = value.value if isinstance(value, Some) and nullable(element) else value
            return "none" if value is None else f"some({format_value(inner, element)})"
        case Result():
            word, payload = ("ok", of.ok) if isinstance(value, Ok) else ("err", of.err)
            return word if payload is None else f"{word}({format_value(value.value, payload)})"
        case Own(resource) | Borrow(resource):
            return f"<{resource.name}>"
        case Stream() | Future():
            return f"<{show(of)}>"


_INTEGERS = frozenset(f"{sign}{bits}" for sign in "us" for bits in (8, 16, 32, 64))
_REPEATED_ITEMS = 256
"""Length from which a list may repeat its items: each distinct object is then formatted once."""


def _items(value: Sequence[Any], element: WitType) -> Iterable[str]:
    if isinstance(element, str) and element in _INTEGERS:
        return map(str, value)
    if len(value) < _REPEATED_ITEMS:
        return [format_value(item, element) for item in value]
    made = {id(item): item for item in value}
    texts = {number: format_value(item, element) for number, item in made.items()}
    return [texts[id(item)] for item in value]


def _primitive(value: Any, of: str) -> str:
    if of == "bool":
        return "true" if value else "false"
    if of == "char":
        return f"'{_escaped(value, chr(39))}'"
    if of == "string":
        return f'"{_escaped(value, chr(34))}"'
    if of not in ("f32", "f64"):
        return str(value)
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return repr(fewest_digits(value) if of == "f32" else float(value)).removesuffix(".0")


def fewest_digits(value: float) -> float:
    """Return the number with the fewest digits whose nearest f32 is ``value``: 0.1, not 0.10000000149011612."""
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        if single(short) == value:
            return short
    return float(value)


def _escaped(text: str, quote: str) -> str:
    if len(text) >= _MIN_PERIODIC_CHARACTERS:
        period = text.find(text[:64], 1)
        if 0 < period <= len(text) // 2 and text.startswith(text[:-period], period):
            whole = len(text) // period
            return _escaped(text[:period], quote) * whole + _escaped(text[whole * period :], quote)
    plain = text.isprintable() and (text.isascii() or all(map(is_visible, set(text))))
    if plain and quote not in text and "\\" not in text:
        return text
    made: dict[str, int | str | None] = {}
    for char in set(text):
        if char in _UNESCAPES:
            made[char] = _UNESCAPES[char]
        elif char == quote:
            made[char] = f"\\{quote}"
        elif not is_visible(char):
            made[char] = f"\\u{{{ord(char):x}}}"
    if len(made) > _FEW_ESCAPED:
        return text.translate(str.maketrans(made))
    if "\\" in made:  # first, because the other escapes contain it
        text = text.replace("\\", "\\\\")
    for char, escape in made.items():
        if char != "\\":
            text = text.replace(char, str(escape))
    return text


def _label(name: str) -> str:
    return f"%{name}" if name in _KEYWORDS else name


def _variant(value: Any, of: Variant) -> str:
    for cls, (case, payload) in zip(of.python or (), of.cases, strict=bool(of.python)):
        if type(value) is cls:
            return _label(case) if payload is None else f"{_label(case)}({format_value(value.value, payload)})"
    name = getattr(value, "case", None)  # of an equal type's classes, such as those of bindings
    for case, payload in of.cases if not isinstance(value, (Ok, Err, Some)) else ():
        inner = getattr(value, "value", None)
        if case == name and (inner is None if payload is None else inner is not None or isinstance(payload, Option)):
            return _label(case) if payload is None else f"{_label(case)}({format_value(inner, payload)})"
    raise CallError(f"{type(value).__name__} is not a case of {of.name}")
