"""Write component values as JSON, so that :mod:`aegis.wit.json_read` parses them to equal values."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from aegis.errors import CallError
from aegis.text import printable, shown
from aegis.wit.naming import snake
from aegis.wit.python_types import nullable
from aegis.wit.types import Borrow, Enum, Flags, List, Option, Own, Record, Result, Tuple, Variant, WitType, show
from aegis.wit.values import Err, Ok, Some
from aegis.wit.wave_write import fewest_digits, single

__all__ = ["INTEGER_BITS", "LARGEST_JSON_INTEGER", "key_path", "to_json"]

LARGEST_JSON_INTEGER = (1 << 53) - 1
"""The largest integer that every JSON parser keeps exactly (RFC 8259, section 6); a larger one is written as text."""
INTEGER_BITS = {f"{sign}{bits}": bits for sign in "su" for bits in (8, 16, 32, 64)}


def to_json(value: Any, of: WitType, *, indent: int | None = None) -> str:
    """Return ``value`` as JSON text, by its WIT type.

    ``value`` is the value that a call returned, or any form that a call accepts as an argument: a mapping for a record,
    a name for an enum, a name or a pair for a variant. The mapping is that of :func:`from_json`.

    Raise :class:`~aegis.errors.CallError`, with the path of the part, for a value that does not have the type and for
    a handle, which has no JSON form.
    """
    return json.dumps(_plain(of, value, "$"), ensure_ascii=False, allow_nan=False, indent=indent)


def key_path(where: str, name: str) -> str:
    """Return the path of a field or case."""
    return f"{where}.{printable(name, 80)}"


def _plain(of: WitType, value: Any, where: str) -> Any:
    match of:
        case str():
            return _primitive(of, value, where)
        case List("u8"):
            return _bytes(of, value, where)
        case List(element):
            return [_plain(element, item, f"{where}[{n}]") for n, item in enumerate(_items(of, value, where))]
        case Tuple(elements):
            items = _items(of, value, where)
            if len(items) != len(elements):
                _wrong(where, f"{len(elements)} values", of, value)
            return [_plain(t, item, f"{where}[{n}]") for n, (t, item) in enumerate(zip(elements, items, strict=True))]
        case Option(element):
            return _option(element, value, where)
        case Result():
            return _result(of, value, where)
        case Record():
            return _record(of, value, where)
        case Variant():
            return _variant(of, value, where)
        case Enum():
            name = getattr(value, "value", value)
            return name if isinstance(name, str) and name in of.cases else _wrong(where, "a case", of, value)
        case Flags():
            return _flags(of, value, where)
        case Own(resource) | Borrow(resource):
            raise CallError(f"{where}: a handle of {resource.name} has no JSON form: pass the handle from Python")


def _wrong(where: str, expected: str, of: WitType, value: object) -> NoReturn:
    raise CallError(f"{where}: expected {expected} for {show(of)}, not {type(value).__name__}")


def _primitive(of: str, value: Any, where: str) -> Any:
    if of == "bool":
        return value if isinstance(value, bool) else _wrong(where, "True or False", of, value)
    if of in INTEGER_BITS:
        return _integer(of, value, where)
    if of in ("f32", "f64"):
        return _number(of, value, where)
    if not isinstance(value, str) or (of == "char" and len(value) != 1):
        _wrong(where, "text" if of == "string" else "one character", of, value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise CallError(f"{where}: the text contains a lone surrogate, which a component string cannot") from None
    return str(value)


def _integer(of: str, value: Any, where: str) -> int | str:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        _wrong(where, "an integer", of, value)
    number: int = value.__index__()
    bits = INTEGER_BITS[of]
    low, high = (0, (1 << bits) - 1) if of[0] == "u" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if not low <= number <= high:
        raise CallError(f"{where}: {shown(number, 40)} is out of range for {of}: {low} to {high}")
    return number if abs(number) <= LARGEST_JSON_INTEGER else str(number)


def _number(of: str, value: Any, where: str) -> float | str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _wrong(where, "a number", of, value)
    number = float(value)
    if math.isnan(number):
        return "nan"
    if of == "f32" and math.isfinite(number) and math.isinf(single(number)):
        raise CallError(f"{where}: {number!r} is out of range for f32")
    if math.isinf(number):
        return "inf" if number > 0 else "-inf"
    return fewest_digits(single(number)) if of == "f32" else number


def _bytes(of: WitType, value: Any, where: str) -> str:
    if isinstance(value, (str, int)):
        _wrong(where, "bytes", of, value)
    try:
        return base64.b64encode(bytes(value)).decode("ascii")
    except (TypeError, ValueError):
        _wrong(where, "bytes", of, value)


def _items(of: WitType, value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes, bytearray)):
        _wrong(where, "a list" if isinstance(of, List) else "a tuple", of, value)
    return value


def _option(element: WitType, value: Any, where: str) -> Any:
    if value is None:
        return None
    if not nullable(element):
        return _plain(element, value, where)
    if not isinstance(value, Some):
        raise CallError(f"{where}: expected None or Some(…) for option<{show(element)}>, because None is ambiguous")
    return {"some": _plain(element, value.value, f"{where}.some")}


def _result(of: Result, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, (Ok, Err)):
        _wrong(where, "Ok(…) or Err(…)", of, value)
    case, payload = ("ok", of.ok) if isinstance(value, Ok) else ("err", of.err)
    if payload is None and value.value is not None:
        raise CallError(f"{where}: the case {case} of {show(of)} has no payload: pass None")
    return {case: None if payload is None else _plain(payload, value.value, f"{where}.{case}")}


def _record(of: Record, value: Any, where: str) -> dict[str, Any]:
    made = {}
    for name, field in of.fields:
        if isinstance(value, Mapping):
            found = value.get(name, value.get(snake(name), None if isinstance(field, Option) else _ABSENT))
        else:
            found = getattr(value, snake(name), _ABSENT)
        if found is _ABSENT:
            raise CallError(f"{where}: the record {of.name} lacks {name}")
        made[name] = _plain(field, found, key_path(where, name))
    if isinstance(value, Mapping):
        known = {label for name, _ in of.fields for label in (name, snake(name))}
        for key in value:
            if key not in known:
                raise CallError(f"{where}: the record {of.name} has no field {shown(key, 40, str)!r}")
    return made


_ABSENT = object()


def _variant(of: Variant, value: Any, where: str) -> Any:
    name, payloads = _case_of(of, value)
    payload = dict(of.cases).get(name, _ABSENT)
    if payload is _ABSENT or len(payloads) != (payload is not None):
        _wrong(where, "a case", of, value)
    return name if payload is None else {name: _plain(payload, payloads[0], key_path(where, name))}  # type: ignore[arg-type]


def _case_of(of: Variant, value: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the name of the case, and its payload if it has one; an empty name for a value of no case."""
    if isinstance(value, str):
        return value, ()
    if isinstance(value, tuple):
        return (value[0], (value[1],)) if len(value) == 2 and isinstance(value[0], str) else ("", ())
    for cls, (case, payload) in zip(of.python or (), of.cases, strict=bool(of.python)):
        if isinstance(value, cls):
            return case, () if payload is None else (value.value,)
    own = None if isinstance(value, (Ok, Err, Some)) else getattr(value, "case", None)  # of an equal type's classes
    if not isinstance(own, str):
        return "", ()
    inner = getattr(value, "value", None)
    return own, () if inner is None and dict(of.cases).get(own) is None else (inner,)


def _flags(of: Flags, value: Any, where: str) -> list[str]:
    bits = getattr(value, "value", None)
    if isinstance(bits, int):
        if not 0 <= bits < 1 << len(of.names):
            raise CallError(f"{where}: the value {bits:#x} has bits beyond the {len(of.names)} flags of {of.name}")
        return [name for n, name in enumerate(of.names) if bits >> n & 1]
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        _wrong(where, "a collection of flag names", of, value)
    given = list(value)
    for name in given:
        if name not in of.names:
            _wrong(where, f"names of {of.name}", of, name)
    return [name for name in of.names if name in given]
