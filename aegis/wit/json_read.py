"""Parse JSON to component values, by WIT type; :mod:`aegis.wit.json_write` writes it.

========================  ===============================================================================
WIT                       JSON
========================  ===============================================================================
``bool``                  ``true``, ``false``
integers                  a number without fraction and exponent; beyond ±(2^53 - 1), a string of the digits
``f32``, ``f64``          a number; ``"nan"``, ``"inf"``, ``"-inf"``
``char``, ``string``      a string; one Unicode scalar value for ``char``
``list<u8>``              a string in base64 (RFC 4648, section 4), or an array of numbers
``list<T>``, ``tuple``    an array
record                    an object with the names of WIT; a missing ``option`` is ``null``
``option<T>``             ``null`` or the value; ``{"some": …}`` if ``T`` is an option itself
``result<T, E>``          ``{"ok": …}`` or ``{"err": …}``; ``null`` for a missing payload
variant                   ``{"case": payload}``, or ``"case"`` for a case without a payload
enum, flags               the name; an array of names
handles                   an error
========================  ===============================================================================

The text may be hostile: its size and depth are bounded, a key may occur once, and each error names the path of the
part.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from typing import Any, NoReturn

from aegis.errors import CallError
from aegis.text import printable, similar_names
from aegis.wit.json_write import INTEGER_BITS, key_path
from aegis.wit.naming import constant
from aegis.wit.python_types import nullable, with_python_types
from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
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
from aegis.wit.wave_write import single

__all__ = ["MAX_JSON_BYTES", "from_json"]

MAX_JSON_BYTES = 16 << 20
"""Default bound on the text in bytes. Parsed, a byte of JSON takes up to 30 bytes of memory."""
_MAX_DEPTH = 300
"""Levels of arrays and objects; a type has at most 100 levels, and each takes at most two in JSON."""
_MAX_DIGITS = 25  # more than those of any integer type; longer ones are never converted
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{\]}]', re.DOTALL)
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)\Z")


def from_json(text: str | bytes, of: WitType, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Return the value that JSON ``text`` has as a value of type ``of``; bytes are UTF-8.

    The value has the Python classes of the type, or of new classes for a type without any.

    Raise :class:`~aegis.errors.CallError` with the path of the part, such as ``$.orders[3].id``, for a part that does
    not have its type; with line and column for text that is not JSON; and for text of more than ``max_bytes`` bytes.
    """
    return _Reader().value(with_python_types(of), _parse(text, max_bytes), "$")


# -- text --------------------------------------------------------------------------------------------


class _LongInteger(str):
    """The digits of an integer that is too long to convert, or ``-0``, which an ``int`` cannot represent."""

    __slots__ = ()


class _NotJson(str):
    """A constant that Python's parser accepts and JSON does not have: ``NaN``, ``Infinity``, ``-Infinity``."""

    __slots__ = ()


class _Object(dict[str, Any]):
    """A JSON object, with the first key that occurs twice."""

    __slots__ = ("repeated",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: str | None = None
        if len(self) != len(pairs):
            seen: set[str] = set()
            self.repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]


def _parse(text: str | bytes, max_bytes: int) -> Any:
    if len(text) > max_bytes:
        raise CallError(f"JSON too large ({len(text)}/{max_bytes} bytes): raise it with max_bytes")
    try:
        data = text if isinstance(text, str) else bytes(text).decode()
        size = len(data.encode())
    except UnicodeError:
        raise CallError("the JSON text is not valid UTF-8") from None
    if size > max_bytes:
        raise CallError(f"JSON too large ({size}/{max_bytes} bytes): raise it with max_bytes")
    _check_depth(data)
    try:
        return json.loads(
            data, object_pairs_hook=_Object, parse_constant=_NotJson,
            parse_int=_integer,
        )  # fmt: skip
    except json.JSONDecodeError as error:
        raise CallError(f"line {error.lineno}, column {error.colno}: invalid JSON: {error.msg}") from None


def _integer(digits: str) -> int | _LongInteger:
    return _LongInteger(digits) if len(digits) > _MAX_DIGITS or digits == "-0" else int(digits)


def _check_depth(text: str) -> None:
    """Reject text that is nested too deeply, before the parser, which is recursive, reads it."""
    if text.count("[") + text.count("{") <= _MAX_DEPTH:
        return
    depth = 0
    for token in _TOKENS.finditer(text):
        first = text[token.start()]
        if first in "[{":
            depth += 1
            if depth > _MAX_DEPTH:
                raise CallError(f"JSON nested too deeply (limit {_MAX_DEPTH} levels): no WIT type needs more")
        elif first in "]}":
            depth -= 1


# -- values ------------------------------------------------------------------------------------------


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case _NotJson():
            return f"{value!s}, which is not JSON"
        case _LongInteger():
            return "a number"
        case str():
            return f"the string {printable(value, 40)!r}"
        case int() | float():
            return f"the number {value!r}"
        case list():
            return "an array"
    return "an object"


def _wrong(where: str, expected: str, of: WitType, value: object) -> NoReturn:
    raise CallError(f"{where}: expected {expected} for {show(of)}, found {_kind(value)}")


class _Reader:
    """Convert parsed JSON by type, with one method for each kind of type."""

    def value(self, of: WitType, value: Any, where: str) -> Any:
        match of:
            case str():
                return self.primitive(of, value, where)
            case List("u8"):
                return self.bytes(of, value, where)
            case List(element):
                return [self.value(element, item, f"{where}[{n}]") for n, item in enumerate(_array(of, value, where))]
            case Tuple(elements):
                items = _array(of, value, where)
                if len(items) != len(elements):
                    raise CallError(f"{where}: expected {len(elements)} values for {show(of)}, found {len(items)}")
                pairs = enumerate(zip(elements, items, strict=True))
                return tuple(self.value(t, item, f"{where}[{n}]") for n, (t, item) in pairs)
            case Option(element):
                return self.option(of, element, value, where)
            case Result():
                return self.result(of, value, where)
            case Record():
                return self.record(of, value, where)
            case Variant():
                return self.variant(of, value, where)
            case Enum():
                assert of.python is not None
                return of.python(_name(of, of.cases, value, where))
            case Flags():
                return self.flags(of, value, where)
            case Own(resource) | Borrow(resource):
                raise CallError(f"{where}: a handle of {resource.name} has no JSON form: pass the handle from Python")

    def primitive(self, of: str, value: Any, where: str) -> Any:
        if of == "bool":
            return value if isinstance(value, bool) else _wrong(where, "true or false", of, value)
        if of in INTEGER_BITS:
            return self.integer(of, value, where)
        if of in ("f32", "f64"):
            return self.float(of, value, where)
        return self.text(of, value, where)

    def text(self, of: str, value: Any, where: str) -> str:
        if not isinstance(value, str) or isinstance(value, (_LongInteger, _NotJson)):
            _wrong(where, "a string", of, value)
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise CallError(f"{where}: the text contains a lone surrogate, which a component string cannot")
        if of == "char" and len(value) != 1:
            _wrong(where, "one character", of, value)
        return value

    def integer(self, of: str, value: Any, where: str) -> int:
        bits = INTEGER_BITS[of]
        low, high = (0, (1 << bits) - 1) if of[0] == "u" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        quoted = bits == 64 and isinstance(value, str) and not isinstance(value, _NotJson) and _INTEGER.match(value)
        if quoted or isinstance(value, _LongInteger):
            number = int(value) if len(value) <= _MAX_DIGITS else high + 1
        elif isinstance(value, int) and not isinstance(value, bool):
            number = value
        else:
            _wrong(where, "an integer", of, value)
        if not low <= number <= high:
            raise CallError(f"{where}: {printable(str(value), 40)} is out of range for {of}: {low} to {high}")
        return number

    def float(self, of: str, value: Any, where: str) -> float:
        if isinstance(value, str) and value in _SPECIAL and not isinstance(value, _NotJson):
            return _SPECIAL[value]
        if isinstance(value, bool) or not isinstance(value, (int, float, _LongInteger)):
            _wrong(where, 'a number, "nan", "inf" or "-inf"', of, value)
        number = float(value)
        number = single(number) if of == "f32" else number
        if math.isinf(number):
            raise CallError(f"{where}: the number is out of range for {of}")
        return number

    def bytes(self, of: WitType, value: Any, where: str) -> bytes:
        if isinstance(value, list):
            return bytes([self.integer("u8", item, f"{where}[{n}]") for n, item in enumerate(value)])
        if not isinstance(value, str) or isinstance(value, (_LongInteger, _NotJson)):
            _wrong(where, "a string in base64", of, value)
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            _wrong(where, "a string in base64", of, value)

    def option(self, of: WitType, element: WitType, value: Any, where: str) -> Any:
        if value is None:
            return None
        if not nullable(element):
            return self.value(element, value, where)
        if not isinstance(value, _Object) or list(value) != ["some"]:
            _wrong(where, 'null or {"some": …}', of, value)
        return Some(self.value(element, _checked(value, where)["some"], f"{where}.some"))

    def result(self, of: Result, value: Any, where: str) -> Ok[Any] | Err[Any]:
        if not isinstance(value, _Object) or list(value) not in (["ok"], ["err"]):
            _wrong(where, '{"ok": …} or {"err": …}', of, value)
        ((case, inner),) = _checked(value, where).items()
        payload = of.ok if case == "ok" else of.err
        made = self.payload(of, payload, inner, f"{where}.{case}")
        return Ok(made) if case == "ok" else Err(made)

    def payload(self, of: WitType, payload: WitType | None, value: Any, where: str) -> Any:
        if payload is not None:
            return self.value(payload, value, where)
        return None if value is None else _wrong(where, "null, as this case has no payload,", of, value)

    def record(self, of: Record, value: Any, where: str) -> Any:
        assert of.python is not None
        if not isinstance(value, _Object):
            _wrong(where, "an object", of, value)
        _checked(value, where)
        names = [name for name, _ in of.fields]
        for key in value:
            if key not in names:
                raise CallError(f"{where}: the record {of.name} has no field {printable(key, 40)!r}{_hint(key, names)}")
        missing = [name for name, t in of.fields if name not in value and not isinstance(t, Option)]
        if missing:
            raise CallError(f"{where}: the record {of.name} lacks {', '.join(missing)}")
        return of.python(*(self.value(t, value.get(name), key_path(where, name)) for name, t in of.fields))

    def variant(self, of: Variant, value: Any, where: str) -> Any:
        assert of.python is not None
        names = [name for name, _ in of.cases]
        if isinstance(value, _Object) and len(value) == 1:
            ((case, inner),) = _checked(value, where).items()
            at = names.index(_name(of, names, case, where))
        else:
            case, inner, at = value, None, names.index(_name(of, names, value, where))
            if of.cases[at][1] is not None:
                raise CallError(f'{where}: the case {case} of {of.name} has a payload: write {{"{case}": …}}')
        payload = of.cases[at][1]
        made = self.payload(of, payload, inner, key_path(where, case))
        return of.python[at]() if payload is None else of.python[at](made)

    def flags(self, of: Flags, value: Any, where: str) -> Any:
        assert of.python is not None
        made = of.python(0)
        for n, name in enumerate(_array(of, value, where)):
            made |= of.python[constant(_name(of, of.names, name, f"{where}[{n}]"))]
        return made


_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def _array(of: WitType, value: Any, where: str) -> list[Any]:
    return value if isinstance(value, list) else _wrong(where, "an array", of, value)


def _checked(value: _Object, where: str) -> _Object:
    if value.repeated is not None:
        raise CallError(f"{where}: the key {printable(value.repeated, 40)!r} occurs twice: keep one")
    return value


def _name(of: WitType, names: Any, value: Any, where: str) -> str:
    if not isinstance(value, str) or isinstance(value, (_LongInteger, _NotJson)):
        _wrong(where, "the name of a case" if not isinstance(of, Flags) else "the name of a flag", of, value)
    if value not in names:
        listed = ", ".join(list(names)[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise CallError(
            f"{where}: {printable(value, 40)!r} is not one of {show(of)}{_hint(value, names) or f': {listed}'}"
        )
    return value


def _hint(name: str, known: Any) -> str:
    alike = similar_names(name, known, 1)
    return f": did you mean {alike[0]}?" if alike else ""
