"""Coerces a value to its WIT type, or raises a ``CallError`` that says which part is wrong.

The generated converters accept only exact types and raise :class:`ConversionError` otherwise; Aegis then calls this
module, so speed does not matter here. Coercion accepts a mapping for a record (a missing ``option`` is ``None``), names
for an enum or flags, ``(case, payload)`` or a case's name for a variant, any sequence for a list, and the classes of
generated bindings. A ``bool`` is not an integer, except in a list of integers.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn

from aegis.component.conversion.scalars import NO_LISTS, exact, octets, single
from aegis.errors import CallError
from aegis.support.pieces import is_unicode
from aegis.text import shown, similar_names
from aegis.wit.flags import BitFlags
from aegis.wit.naming import constant, pascal, snake
from aegis.wit.python_types import nullable
from aegis.wit.streams import check_future, check_stream
from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
    Function,
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

__all__ = ["ConversionError", "as_list", "as_tuple", "fit", "fit_arguments"]

_RANGES = {f"{sign}{bits}": bits for sign in "su" for bits in (8, 16, 32, 64)}


class ConversionError(Exception):
    """The value does not have the exact type that a generated converter accepts."""


def as_list(values: Any) -> Sequence[Any]:
    """Return ``values`` as a sequence; raise ``ConversionError`` for text, bytes, mappings, sets and iterators.

    Iterators are rejected because coercion reads the value a second time, when an iterator would be exhausted.
    """
    if values.__class__ is list or values.__class__ is tuple:
        return values
    if isinstance(values, Iterator):
        raise ConversionError
    return _gathered(values)


def _gathered(values: Any) -> Sequence[Any]:
    """Return the items of an iterable as a list; unlike :func:`as_list`, consume iterators too."""
    if isinstance(values, (*NO_LISTS, bytes, bytearray)) or not isinstance(values, Iterable):
        raise ConversionError
    return list(values)


def as_tuple(values: Any) -> tuple[Any, ...]:
    """Return a tuple for a WIT tuple."""
    return tuple(as_list(values))


def fit_arguments(function: Function, values: Sequence[Any]) -> list[Any]:
    """Coerce all arguments of a call; raise ``CallError`` naming the first wrong argument and the expected type."""
    return [
        fit(of, value, f"argument {n}, {name}")
        for n, ((name, of), value) in enumerate(zip(function.params, values, strict=True), 1)
    ]


def fit(of: WitType, value: Any, where: str) -> Any:
    """Return ``value`` coerced to the Python type of ``of``.

    Raise :class:`~aegis.errors.CallError`; ``where`` names the value in its message (``argument 1, name.field``).
    """
    match of:
        case str():
            return _primitive(of, value, where)
        case List("u8"):
            return _octets(of, value, where)
        case List(element):
            items = _sequence(of, value, where)
            if element in _RANGES:  # as packing in bulk does, see blocks.numbers
                items = [int(item) if isinstance(item, bool) else item for item in items]
            return [fit(element, item, f"{where}[{n}]") for n, item in enumerate(items)]
        case Tuple(elements):
            items = _sequence(of, value, where)
            if len(items) != len(elements):
                _wrong(where, of, f"{len(elements)} values", value)
            return tuple(fit(t, item, f"{where}.{n}") for n, (t, item) in enumerate(zip(elements, items, strict=True)))
        case Option(element):
            return _option(element, value, where)
        case Result():
            return _result(of, value, where)
        case Record():
            return _record(of, value, where)
        case Variant():
            return _variant(of, value, where)
        case Enum():
            return _enum(of, value, where)
        case Flags():
            return _flags(of, value, where)
        case Stream(element):
            check_stream(value, element == "u8", where)
            return value
        case Future():
            check_future(value, where)
            return value
        case Own() | Borrow():
            return value


def _wrong(where: str, of: WitType, expected: str, value: object) -> NoReturn:
    text = "" if isinstance(value, (dict, list, tuple, bytes)) else f" {shown(value, 60)}"
    raise CallError(f"{where}: expected {expected} for {show(of)}, not {type(value).__name__}{text}")


def _primitive(of: str, value: Any, where: str) -> Any:
    if of == "bool":
        if not isinstance(value, bool):
            _wrong(where, of, "True or False", value)
        return value
    if of in _RANGES:
        return _integer(of, value, where)
    if of in ("f32", "f64"):
        try:
            return (single if of == "f32" else exact)(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise CallError(f"{where}: {error if not isinstance(value, str) else 'text is not a number'}") from None
    if not isinstance(value, str):
        _wrong(where, of, "text" if of == "string" else "one character", value)
    if of == "char" and (len(value) != 1 or 0xD800 <= ord(value) <= 0xDFFF):
        _wrong(where, of, "one character that is not a surrogate", value)
    if not is_unicode(value):
        raise CallError(f"{where}: the text contains a lone surrogate, which a component string cannot")
    return str(value)


def _integer(of: str, value: Any, where: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        _wrong(where, of, "an integer", value)
    number: int = value.__index__()
    bits = _RANGES[of]
    low, high = (0, (1 << bits) - 1) if of[0] == "u" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if not low <= number <= high:
        raise CallError(f"{where}: {shown(number, 40)} is out of range for {of}: {low} to {high}")
    return number


def _octets(of: WitType, value: Any, where: str) -> bytes:
    try:
        if not isinstance(value, Iterator):
            return bytes(value) if hasattr(type(value), "__bytes__") else octets(value)
        return bytes(list(value))
    except (TypeError, ValueError):
        _wrong(where, of, "bytes", value)


def _sequence(of: WitType, value: Any, where: str) -> Sequence[Any]:
    try:
        return _gathered(value)
    except ConversionError:
        _wrong(where, of, "a list" if isinstance(of, List) else "a tuple", value)


def _option(element: WitType, value: Any, where: str) -> Any:
    if value is None:
        return None
    if not nullable(element):
        return fit(element, value, where)
    if not isinstance(value, Some):
        raise CallError(f"{where}: expected None or Some(…) for option<{show(element)}>, because None is ambiguous")
    return Some(fit(element, value.value, where))


def _result(of: Result, value: Any, where: str) -> Any:
    if not isinstance(value, (Ok, Err)):
        _wrong(where, of, "Ok(…) or Err(…)", value)
    good = isinstance(value, Ok)
    payload = of.ok if good else of.err
    if payload is not None:
        inner = fit(payload, value.value, f"{where}.{'ok' if good else 'err'}")
    elif value.value is not None:
        raise CallError(f"{where}: this case of {show(of)} has no payload: pass None")
    else:
        inner = None
    return Ok(inner) if good else Err(inner)


def _record(of: Record, value: Any, where: str) -> Any:
    names = {snake(name): name for name, _ in of.fields}
    if isinstance(value, Mapping):
        given = {names.get(key, key) if isinstance(key, str) else key: item for key, item in value.items()}
        odd = [key for key in given if key not in names.values()]
        missing = [name for name, t in of.fields if name not in given and not isinstance(t, Option)]
        if odd or missing:
            _fields(of, where, odd, missing)
        given = {name: given.get(name) for name in names.values()}
    else:
        missing = [name for python, name in names.items() if not hasattr(value, python)]
        if missing or not names:
            _fields(of, where, [], missing)
        given = {name: getattr(value, python) for python, name in names.items()}
    assert of.python is not None
    return of.python(*(fit(t, given[name], f"{where}.{name}") for name, t in of.fields))


def _fields(of: Record, where: str, odd: list[Any], missing: list[str]) -> NoReturn:
    parts = []
    if missing:
        parts.append(f"lacks {', '.join(missing)}")
    for key in odd[:5]:
        alike = similar_names(str(key), [name for name, _ in of.fields], 1)
        parts.append(f"has no field {shown(key, 40, str)!r}{f': did you mean {alike[0]}?' if alike else ''}")
    raise CallError(f"{where}: the record {of.name} {' and '.join(parts)}")


def _variant(of: Variant, value: Any, where: str) -> Any:
    assert of.python is not None
    for cls, (name, payload) in zip(of.python, of.cases, strict=True):
        if isinstance(value, cls):
            return cls(fit(payload, value.value, f"{where}.{name}")) if payload is not None else cls()
    name, payloads = (value, ()) if isinstance(value, str) else _bound_case(of, value) or _pair(value)
    for cls, (case, payload) in zip(of.python, of.cases, strict=True):
        if case == name and len(payloads) == (payload is not None):
            return cls(*(fit(payload, p, f"{where}.{case}") for p in payloads)) if payload is not None else cls()
    _wrong(where, of, f"a case ({_listed([case for case, _ in of.cases])})", value)


def _bound_case(of: Variant, value: Any) -> tuple[str, tuple[Any, ...]] | None:
    """Return the case and payload of an instance of a class that bindings generated for ``of``, otherwise ``None``."""
    if not is_dataclass(value):
        return None
    prefix, called = pascal(of.name).rstrip("_"), type(value).__name__.rstrip("_")
    names = tuple(field.name for field in fields(value))
    stated = getattr(type(value), "case", None)  # bindings of earlier releases do not have it
    for name, payload in of.cases:
        named = stated == name if isinstance(stated, str) else called == prefix + pascal(name).rstrip("_")
        if named and names == (() if payload is None else ("value",)):
            return name, (() if payload is None else (value.value,))  # type: ignore[union-attr]
    return None


def _pair(value: Any) -> tuple[Any, tuple[Any, ...]]:
    return (value[0], (value[1],)) if isinstance(value, tuple) and len(value) == 2 else (None, ())


def _enum(of: Enum, value: Any, where: str) -> Any:
    assert of.python is not None
    if isinstance(value, of.python):
        return value
    if isinstance(value, enum.Enum) and tuple(case.value for case in type(value)) == of.cases:
        return of.python(value.value)  # a class that bindings generated for the same enum
    if isinstance(value, str) and value in of.cases:
        return of.python(value)
    _wrong(where, of, _listed(of.cases), value)


def _flags(of: Flags, value: Any, where: str) -> Any:
    assert of.python is not None
    if isinstance(value, BitFlags) and not isinstance(value, of.python) and _same_flags(of, type(value)):
        value = of.python(value.value)
    if isinstance(value, of.python):
        if not 0 <= value.value < 1 << len(of.names):
            raise CallError(
                f"{where}: the value {value.value:#x} has bits beyond the {len(of.names)} flags of {of.name}"
            )
        return value
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        made = of.python(0)
        for name in value:
            if name not in of.names:
                _wrong(where, of, _listed(of.names), name)
            made |= of.python[constant(name)]
        return made
    _wrong(where, of, f"a {of.python.__name__} or a collection of flag names", value)


def _same_flags(of: Flags, cls: type[BitFlags]) -> bool:
    """Return whether bindings generated ``cls`` for the same flags."""
    return [(flag.name, flag.value) for flag in cls] == [(constant(name), 1 << n) for n, name in enumerate(of.names)]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
