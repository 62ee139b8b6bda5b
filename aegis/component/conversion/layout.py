"""Sizes, alignments and flattened core types of WIT types (CanonicalABI.md).

Sizes and offsets are in bytes of linear memory.

The memoised functions pass a dictionary of the parts' results, keyed by identity, down their recursion: a lookup by
equality would hash every part of every part again, quadratic in the depth of the type.
"""

from __future__ import annotations

from aegis.component.planning.type_keys import parts_of
from aegis.support.bounded_cache import memoised
from aegis.values import FuncType
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
    Variant,
    WitType,
    children,
)

__all__ = [
    "FORMATS", "MAX_FLAT_ASYNC_PARAMS", "MAX_FLAT_PARAMS", "MAX_FLAT_RESULTS", "Layout", "align_up", "case_types",
    "core_type", "discriminant_size", "flat", "has_handles", "has_pointers", "layout", "parts", "payload_offset",
]  # fmt: skip

MAX_FLAT_PARAMS = 16
MAX_FLAT_RESULTS = 1
MAX_FLAT_ASYNC_PARAMS = 4
FORMATS = {
    "bool": "B", "s8": "b", "u8": "B", "s16": "h", "u16": "H", "s32": "i", "u32": "I", "s64": "q", "u64": "Q",
    "f32": "f", "f64": "d", "char": "I",
}  # fmt: skip
"""The :mod:`struct` format of each primitive in linear memory."""
_SIZES = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8, "d": 8}
_CORE = {"s64": "i64", "u64": "i64", "f32": "f32", "f64": "f64"}
_PARTS_KEPT = 4096
"""Total weight (:func:`~aegis.component.planning.type_keys.parts_of`) of the types whose layouts the process caches."""


class Layout:
    """Size and alignment of a type in linear memory, in bytes."""

    __slots__ = ("align", "size")

    def __init__(self, size: int, align: int) -> None:
        self.size, self.align = size, align


def align_up(offset: int, align: int) -> int:
    """Round ``offset`` up to a multiple of ``align``."""
    return -(-offset // align) * align


def discriminant_size(cases: int) -> int:
    """Return the size in bytes of a discriminant for ``cases`` cases ("Alignment", ``discriminant_type``)."""
    return 1 if cases <= 1 << 8 else 2 if cases <= 1 << 16 else 4


def case_types(of: WitType) -> tuple[WitType | None, ...] | None:
    """Return the payload types of a variant, option or result, in the order of their cases; ``None`` for others."""
    match of:
        case Option(element):
            return (None, element)
        case Result(ok, err):
            return (ok, err)
        case Variant():
            return tuple(t for _, t in of.cases)
    return None


def parts(of: WitType) -> tuple[WitType, ...]:
    """Return the types of a record's fields or a tuple's elements."""
    return tuple(t for _, t in of.fields) if isinstance(of, Record) else of.elements  # type: ignore[union-attr]


@memoised(_PARTS_KEPT, parts_of)
def layout(of: WitType) -> Layout:
    """Return the size and alignment of a type ("Alignment", "Element Size")."""
    return _layout(of, {})


def _layout(of: WitType, known: dict[int, Layout]) -> Layout:
    found = known.get(id(of))
    if found is None:
        found = known[id(of)] = _new_layout(of, known)
    return found


def _new_layout(of: WitType, known: dict[int, Layout]) -> Layout:
    match of:
        case "string" | List():
            return Layout(8, 4)
        case str():
            size = _SIZES[FORMATS[of]]
            return Layout(size, size)
        case Own() | Borrow() | Stream() | Future():
            return Layout(4, 4)
        case Enum():
            size = discriminant_size(len(of.cases))
            return Layout(size, size)
        case Flags():
            count = len(of.names)
            size = 1 if count <= 8 else 2 if count <= 16 else 4
            return Layout(size, size)
    cases = case_types(of)
    if cases is not None:
        payloads = [_layout(t, known) for t in cases if t is not None]
        discriminant = discriminant_size(len(cases))
        offset = align_up(discriminant, max([1, *(p.align for p in payloads)]))
        align = max([discriminant, *(p.align for p in payloads)])
        return Layout(align_up(offset + max([0, *(p.size for p in payloads)]), align), align)
    at, align = 0, 1
    for part in parts(of):
        inner = _layout(part, known)
        at, align = align_up(at, inner.align) + inner.size, max(align, inner.align)
    return Layout(align_up(at, align), align)


def payload_offset(of: WitType) -> int:
    """Return the offset of the payload of a variant, option or result."""
    cases = case_types(of) or ()
    align = max([1, *(layout(t).align for t in cases if t is not None)])
    return align_up(discriminant_size(len(cases)), align)


@memoised(_PARTS_KEPT, parts_of)
def flat(of: WitType) -> tuple[str, ...]:
    """Return the core types that a value flattens to ("Flattening")."""
    return _flat(of, {})


def _flat(of: WitType, known: dict[int, tuple[str, ...]]) -> tuple[str, ...]:
    found = known.get(id(of))
    if found is None:
        found = known[id(of)] = _new_flat(of, known)
    return found


def _new_flat(of: WitType, known: dict[int, tuple[str, ...]]) -> tuple[str, ...]:
    match of:
        case "string" | List():
            return ("i32", "i32")
        case str():
            return (_CORE.get(of, "i32"),)
        case Own() | Borrow() | Enum() | Flags() | Stream() | Future():
            return ("i32",)
    cases = case_types(of)
    if cases is None:
        return tuple(core for part in parts(of) for core in _flat(part, known))
    joined: list[str] = []
    for case in cases:
        for n, core in enumerate(() if case is None else _flat(case, known)):
            if n == len(joined):
                joined.append(core)
            elif joined[n] != core:  # ``join``: the smallest core type that can carry the bits of both
                joined[n] = "i32" if {joined[n], core} == {"i32", "f32"} else "i64"
    return ("i32", *joined)


def core_type(of: Function, *, lowered: bool, is_async: bool = False, callback: bool = False) -> FuncType:
    """Return the core signature of a function under ``canon lower`` or ``canon lift`` (``flatten_functype``).

    ``is_async`` and ``callback`` are whether the canonical options ``async`` and ``callback`` are given.
    """
    params = tuple(core for _, t in of.params for core in flat(t))
    results = () if of.result is None else flat(of.result)
    if is_async and lowered:
        params = ("i32",) if len(params) > MAX_FLAT_ASYNC_PARAMS else params
        return FuncType(params if of.result is None else (*params, "i32"), ("i32",))
    if is_async:
        return FuncType(("i32",) if len(params) > MAX_FLAT_PARAMS else params, ("i32",) if callback else ())
    if len(params) > MAX_FLAT_PARAMS:
        params = ("i32",)
    if len(results) > MAX_FLAT_RESULTS:
        params, results = ((*params, "i32"), ()) if lowered else (params, ("i32",))
    return FuncType(params, results)


def has_pointers(of: WitType) -> bool:
    """Return whether values of the type contain pointers, that is, strings or lists."""
    if isinstance(of, (Stream, Future)):
        return False
    return of == "string" or isinstance(of, List) or any(map(has_pointers, children(of)))


def has_ends(of: WitType) -> bool:
    """Return whether values of the type can contain ends of streams and futures."""
    return isinstance(of, (Stream, Future)) or any(map(has_ends, children(of)))


def has_handles(of: WitType) -> bool:
    """Return whether values of the type can contain handles, to resources or to ends of streams and futures."""
    return isinstance(of, (Own, Borrow, Stream, Future)) or any(map(has_handles, children(of)))
