"""Converts WIT values to plain data and back, by type: one pair of closures for each type, created once.

Packing accepts the same values as lowering in process does (:mod:`aegis.component.conversion.lower`), so that a value
has the same meaning with and without isolation. It checks only the class of a primitive; unpacking checks its range.
Unpacking trusts nothing: a value that does not have its type exactly is a protocol violation.

Both charge the memory of the Python value (:mod:`aegis.wit.sizes`) to ``value_bytes`` before creating it: the sender,
so that it sends nothing that the receiver could not hold; the receiver, because a compromised worker may not count.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from aegis.component.conversion.coerce import ConversionError, as_list, as_tuple
from aegis.component.conversion.scalars import exact, octets, single
from aegis.isolation.protocol.budgets import is_single as is_single
from aegis.isolation.protocol.budgets import message_budget as message_budget
from aegis.isolation.protocol.channel import ProtocolError
from aegis.support.lean import Any, Protocol
from aegis.support.pieces import is_unicode
from aegis.wit.naming import snake
from aegis.wit.python_types import nullable
from aegis.wit.sizes import ERR_BYTES, OK_BYTES, SOME_BYTES, case_bytes, element_bytes, fixed_bytes, text_bytes
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
    Resource,
    Result,
    Stream,
    Tuple,
    Variant,
    WitType,
)
from aegis.wit.values import Err, Ok, Some

__all__ = [
    "MAX_TAKEN_ELEMENTS", "WORKER_NUMBERS", "Signature", "ValueBudget", "WireHandles", "elements_packer",
    "elements_unpacker", "is_single", "message_budget", "packer", "unpacker",
]  # fmt: skip

Convert = Callable[[Any], Any]
MAX_TAKEN_ELEMENTS = 1 << 16
"""Elements of a stream in one message."""
WORKER_NUMBERS = 1 << 52
"""The first number of resources of host functions in the worker; the parent counts its own objects from 1."""
_SINGLE = Struct("<f")
_TEXTS = frozenset({str})
_COUNTED = frozenset({int, bool})
_CLASSES: dict[str, type] = {"bool": bool, "f32": float, "f64": float, "char": str, "string": str}
"""The Python class of each primitive that is not an integer."""
_BITS = {f"{sign}{bits}": bits for sign in "su" for bits in (8, 16, 32, 64)}


class WireHandles(Protocol):
    """The handle table of one side of the channel: numbers for handles and resources."""

    def number(self, value: Any, resource: Resource, *, own: bool) -> int:
        """Return the number of a handle, or of the host object of a resource."""
        ...

    def find(self, number: int, resource: Resource, *, own: bool) -> Any:
        """Return the handle or object with this number; raise :class:`ProtocolError` if there is none."""
        ...

    def end_number(self, value: Any, of: Stream | Future) -> int:
        """Return the number of the readable end of a stream or future."""
        ...

    def find_end(self, number: int, of: Stream | Future) -> Any:
        """Return what stands for the readable end with this number; raise :class:`ProtocolError` if it is taken."""
        ...


class ValueBudget(Protocol):
    """Counts the bytes of a value; implemented by a sandbox's door."""

    value_left: int
    value_limit: int

    def hold(self, count: int) -> None:
        """Charge bytes before they are allocated; raise ``QuotaExceeded`` if the value exceeds ``value_bytes``."""
        ...


class Signature:
    """Converters for one function: for all its parameters together, and for its result.

    A ``result`` is encoded as ``[0, ok payload]`` or ``[1, error payload]``. For ``budget``, all parameters together
    are one value, and the result is another.
    """

    __slots__ = ("function", "pack", "pack_result", "unpack", "unpack_result")

    def __init__(self, function: Function, handles: WireHandles, budget: ValueBudget) -> None:
        self.function = function
        types = [of for _, of in function.params]
        packs = [packer(of, handles, budget) for of in types]
        unpacks = [unpacker(of, handles, budget) for of in types]
        of = function.result
        self.pack: Callable[[Any], list[Any]] = _one_value(
            budget, lambda values: [p(value) for p, value in zip(packs, values, strict=True)]
        )
        self.unpack: Callable[[Any], list[Any]] = _one_value(
            budget, lambda values: [u(v) for u, v in zip(unpacks, _items(values, len(unpacks)), strict=True)]
        )
        self.pack_result = _pack_none if of is None else _one_value(budget, packer(of, handles, budget))
        self.unpack_result = _no_value if of is None else _one_value(budget, unpacker(of, handles, budget))


def _one_value(budget: ValueBudget, convert: Convert) -> Convert:
    """Return ``convert`` with the full budget of one value."""

    def whole(value: Any) -> Any:
        budget.value_left = budget.value_limit
        return convert(value)

    return whole


def _pack_none(value: Any) -> None:
    if value is not None:
        raise ConversionError


def _no_value(value: Any) -> None:
    if value is not None:
        raise ProtocolError("unexpected value for a missing payload or result")


# -- packing ----------------------------------------------------------------------------------------


def packer(of: WitType, handles: WireHandles, budget: ValueBudget) -> Convert:
    """Return the function that converts a value to plain data.

    It raises ``ConversionError``, or ``TypeError``, ``ValueError`` and the like, for a value of the wrong type. The
    enclosing value charges the bytes that all values of a type have in common.
    """
    match of:
        case "string":
            return _pack_text(budget)
        case str():
            return _pack_primitive(of)
        case List("u8"):
            return _pack_bytes(budget)
        case List(element):
            return _pack_list(element, packer(element, handles, budget), budget)
        case Tuple(elements):
            parts = [packer(e, handles, budget) for e in elements]
            return lambda values: [p(v) for p, v in zip(parts, as_tuple(values), strict=True)]
        case Option(element):
            return _pack_option(element, packer(element, handles, budget), budget)
        case Result():
            return _pack_result(of, handles, budget)
        case Record():
            fields = [(snake(name), packer(t, handles, budget)) for name, t in of.fields]
            return lambda value: [p(getattr(value, name)) for name, p in fields]
        case Variant():
            return _pack_variant(of, handles, budget)
        case Enum():
            return _pack_enum(of)
        case Flags():
            return _pack_flags(of)
        case Own(resource):
            return lambda value: handles.number(value, resource, own=True)
        case Borrow(resource):
            return lambda value: handles.number(value, resource, own=False)
        case Stream() | Future():
            return lambda value: handles.end_number(value, of)


def elements_packer(element: WitType | None, handles: WireHandles, budget: ValueBudget) -> Convert:
    """Return the function that converts elements of a stream; those without a value become their number."""
    if element is None:
        return len
    return _one_value(budget, packer(List(element), handles, budget))


def _pack_primitive(of: str) -> Convert:
    if of == "f32":
        return single
    kind = _CLASSES.get(of, int)

    def pack(value: Any) -> Any:
        if value.__class__ is kind:
            return value
        if of != "f64":
            raise ConversionError
        return exact(value)

    return pack


def _pack_text(budget: ValueBudget) -> Convert:
    def pack(value: Any) -> str:
        if value.__class__ is not str:
            raise ConversionError
        budget.hold(len(value) if value.isascii() else text_bytes((value,)))
        return value

    return pack


def _pack_list(of: WitType, each: Convert, budget: ValueBudget) -> Convert:
    """Return the function that packs a list; if all items are primitives of the right class, the list is unchanged."""
    size = element_bytes(of)
    kinds = {_CLASSES.get(of, int)} if isinstance(of, str) and of != "f32" else set()
    whole = of in _BITS

    def pack(values: Any) -> Any:
        items = as_list(values)
        budget.hold(len(items) * size)
        if not kinds.issuperset(map(type, items)):
            if whole and _COUNTED.issuperset(map(type, items)):
                return list(map(int, items))  # a bool in a list of integers, see blocks.numbers
            return [each(item) for item in items]
        if of == "string":
            budget.hold(text_bytes(items))
        return items

    return pack


def _pack_bytes(budget: ValueBudget) -> Convert:
    def pack(value: Any) -> Any:
        if not _is_flat(value):
            if hasattr(value, "__len__"):
                budget.hold(len(value))
            return octets(value)
        budget.hold(len(value))
        return value

    return pack


def _is_flat(value: Any) -> bool:
    if value.__class__ is memoryview:
        return value.format == "B" and value.ndim == 1 and bool(value.contiguous)
    return value.__class__ is bytes or value.__class__ is bytearray


def _pack_enum(of: Enum) -> Convert:
    assert of.python is not None
    numbers = {of.python(case): n for n, case in enumerate(of.cases)}
    return lambda value: numbers[value]


def _pack_flags(of: Flags) -> Convert:
    kind = of.python

    def pack(value: Any) -> Any:
        if value.__class__ is not kind:
            raise ConversionError
        return value.value

    return pack


def _pack_option(of: WitType, inner: Convert, budget: ValueBudget) -> Convert:
    size, wrapped = SOME_BYTES + fixed_bytes(of), nullable(of)

    def pack(value: Any) -> Any:
        if value is None:
            return None
        if wrapped:
            if value.__class__ is not Some:
                raise ConversionError
            value = value.value
        budget.hold(size)
        return [inner(value)]

    return pack


def _pack_result(of: Result, handles: WireHandles, budget: ValueBudget) -> Convert:
    ok_bytes, err_bytes = _result_bytes(of)
    good = _pack_none if of.ok is None else packer(of.ok, handles, budget)
    bad = _pack_none if of.err is None else packer(of.err, handles, budget)

    def pack(value: Any) -> list[Any]:
        if value.__class__ is Ok:
            budget.hold(ok_bytes)
            return [0, good(value.value)]
        if isinstance(value, Err):
            budget.hold(err_bytes)
            return [1, bad(value.value)]
        raise ConversionError

    return pack


def _result_bytes(of: Result) -> tuple[int, int]:
    """Return the bytes that a Python value of the ok case and of the error case takes, without variable parts."""
    ok, err = (0 if payload is None else fixed_bytes(payload) for payload in (of.ok, of.err))
    return OK_BYTES + ok, ERR_BYTES + err


def _pack_variant(of: Variant, handles: WireHandles, budget: ValueBudget) -> Convert:
    cases = {
        cls: (n, case_bytes(payload), None if payload is None else packer(payload, handles, budget))
        for n, (cls, (_, payload)) in enumerate(zip(of.python or (), of.cases, strict=True))
    }

    def pack(value: Any) -> list[Any]:
        number, size, inner = cases[value.__class__]
        budget.hold(size)
        return [number] if inner is None else [number, inner(value.value)]

    return pack


# -- unpacking --------------------------------------------------------------------------------------


def unpacker(of: WitType, handles: WireHandles, budget: ValueBudget) -> Convert:
    """Return the function that converts plain data to a value; it raises :class:`ProtocolError` for another type."""
    match of:
        case "string":
            return _unpack_string(budget)
        case str():
            return _unpack_primitive(of)
        case List("u8"):
            return _unpack_bytes(budget)
        case List("string"):
            return _unpack_texts(budget)
        case List(element):
            return _unpack_list(element, unpacker(element, handles, budget), budget)
        case Tuple(elements):
            parts = [unpacker(e, handles, budget) for e in elements]
            return lambda data: tuple(p(item) for p, item in zip(parts, _items(data, len(parts)), strict=True))
        case Option(element):
            return _unpack_option(element, unpacker(element, handles, budget), budget)
        case Result():
            return _unpack_result(of, handles, budget)
        case Record():
            return _unpack_record(of, handles, budget)
        case Variant():
            return _unpack_variant(of, handles, budget)
        case Enum():
            return _unpack_enum(of)
        case Flags():
            most, image = 1 << len(of.names), of.python or int
            return lambda data: image(_whole(data, 0, most))
        case Own(resource):
            return lambda data: handles.find(_whole(data, 0, 1 << 53), resource, own=True)
        case Borrow(resource):
            return lambda data: handles.find(_whole(data, 0, 1 << 53), resource, own=False)
        case Stream() | Future():
            return lambda data: handles.find_end(_whole(data, 0, 1 << 53), of)


def elements_unpacker(element: WitType | None, handles: WireHandles, budget: ValueBudget) -> Convert:
    """Return the function that validates elements of a stream, at least one and no more than one message holds."""
    if element is None:
        return lambda data: [None] * _whole(data, 1, MAX_TAKEN_ELEMENTS + 1)
    unpack = _one_value(budget, unpacker(List(element), handles, budget))

    def unpacked(data: Any) -> Any:
        values = unpack(data)
        if not 0 < len(values) <= MAX_TAKEN_ELEMENTS:
            raise ProtocolError("a wrong number of elements of a stream")
        return values

    return unpacked


def _items(data: Any, count: int | None = None) -> list[Any]:
    if data.__class__ is not list or (count is not None and len(data) != count):
        raise ProtocolError("expected a list of the right length")
    return data


def _whole(data: Any, low: int, above: int) -> int:
    if data.__class__ is not int or not low <= data < above:
        raise ProtocolError("expected an integer in range")
    return data


def _unpack_primitive(of: str) -> Convert:
    bits = _BITS.get(of)
    if bits is not None:
        low, above = (0, 1 << bits) if of[0] == "u" else (-(1 << (bits - 1)), 1 << (bits - 1))
        return lambda data: _whole(data, low, above)
    if of == "char":
        return _unpack_char
    kind: Any = {"bool": bool}.get(of, float)

    def unpack(data: Any) -> Any:
        if type(data) is not kind or (of == "f32" and not is_single(data)):
            raise ProtocolError(f"expected a value of type {of}")
        return data

    return unpack


def _unpack_list(of: WitType, each: Convert, budget: ValueBudget) -> Convert:
    size = element_bytes(of)

    def unpack(data: Any) -> list[Any]:
        items = _items(data)
        budget.hold(len(items) * size)
        return [each(item) for item in items]

    return unpack


def _unpack_string(budget: ValueBudget) -> Convert:
    def unpack(data: Any) -> str:
        text = _unpack_text(data)
        budget.hold(len(text) if text.isascii() else text_bytes((text,)))
        return text

    return unpack


def _unpack_texts(budget: ValueBudget) -> Convert:
    size = element_bytes("string")

    def unpack(data: Any) -> list[str]:
        items = _items(data)
        budget.hold(len(items) * size)
        if not _TEXTS.issuperset(map(type, items)):
            raise ProtocolError("expected a list of strings")
        budget.hold(text_bytes(items))
        return items if all(map(str.isascii, items)) else [_unpack_text(item) for item in items]

    return unpack


def _unpack_text(data: Any) -> str:
    if type(data) is not str or not (data.isascii() or is_unicode(data)):
        raise ProtocolError("expected a string without lone surrogates")
    return data


def _unpack_char(data: Any) -> str:
    if len(_unpack_text(data)) != 1:
        raise ProtocolError("expected a single character")
    return data  # type: ignore[no-any-return]


def _unpack_bytes(budget: ValueBudget) -> Convert:
    def unpack(data: Any) -> Any:
        if data.__class__ is not bytes and data.__class__ is not memoryview:
            raise ProtocolError("expected bytes")
        budget.hold(len(data))
        return data

    return unpack


def _unpack_option(of: WitType, inner: Convert, budget: ValueBudget) -> Convert:
    size, wrapped = SOME_BYTES + fixed_bytes(of), nullable(of)

    def unpack(data: Any) -> Any:
        if data is None:
            return None
        item = _items(data, 1)[0]
        budget.hold(size)
        value = inner(item)
        return Some(value) if wrapped else value

    return unpack


def _unpack_result(of: Result, handles: WireHandles, budget: ValueBudget) -> Convert:
    ok_bytes, err_bytes = _result_bytes(of)
    good = _no_value if of.ok is None else unpacker(of.ok, handles, budget)
    bad = _no_value if of.err is None else unpacker(of.err, handles, budget)

    def unpack(data: Any) -> Any:
        which, value = _items(data, 2)
        if _whole(which, 0, 2):
            budget.hold(err_bytes)
            return Err(bad(value))
        budget.hold(ok_bytes)
        return Ok(good(value))

    return unpack


def _unpack_record(of: Record, handles: WireHandles, budget: ValueBudget) -> Convert:
    parts = [unpacker(t, handles, budget) for _, t in of.fields]
    image = of.python
    assert image is not None
    return lambda data: image(*(p(item) for p, item in zip(parts, _items(data, len(parts)), strict=True)))


def _unpack_variant(of: Variant, handles: WireHandles, budget: ValueBudget) -> Convert:
    cases = [
        (cls, case_bytes(payload), None if payload is None else unpacker(payload, handles, budget))
        for cls, (_, payload) in zip(of.python or (), of.cases, strict=True)
    ]

    def unpack(data: Any) -> Any:
        items = _items(data)
        cls, size, inner = cases[_whole(items[0] if items else None, 0, len(cases))]
        budget.hold(size)
        if inner is None:
            _items(data, 1)
            return cls()
        return cls(inner(_items(data, 2)[1]))

    return unpack


def _unpack_enum(of: Enum) -> Convert:
    assert of.python is not None
    members = [of.python(case) for case in of.cases]
    return lambda data: members[_whole(data, 0, len(members))]
