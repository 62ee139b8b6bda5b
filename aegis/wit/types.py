"""The types of WIT as plain values: what reflection finds, what bindings state, what converters are made of.

A primitive is its WIT name as a string (:data:`PRIMITIVES`). Named types (record, variant, enum, flags,
resource) may carry ``python``, the class or classes of their Python image; equality ignores it, as it does
``owner``, so two types are equal when the component model holds them to be the same shape.
Source: the component model's WIT.md and Explainer.md, "Type Definitions".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = [
    "MAX_TYPE_DEPTH", "MAX_TYPE_PARTS", "MAX_TYPE_PARTS_IN_ALL", "PRIMITIVES", "Borrow", "Enum", "Flags", "Function",
    "Interface", "List", "Option", "Own", "Record", "Resource", "Result", "Tuple", "Variant", "WitType", "children",
    "show",
]  # fmt: skip

PRIMITIVES = ("bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string")
"""The types that are not made of others."""
MAX_TYPE_DEPTH = 100
MAX_TYPE_PARTS, MAX_TYPE_PARTS_IN_ALL = 10_000, 200_000
"""Parts of the types of one function or named type, and of those of a component: each costs the host, and a type that
doubles with every level takes a hundred bytes to say."""


@dataclass(frozen=True, slots=True)
class List:
    """``list<element>``; ``list<u8>`` is ``bytes`` in Python."""

    element: WitType


@dataclass(frozen=True, slots=True)
class Tuple:
    """``tuple<…>``."""

    elements: tuple[WitType, ...]


@dataclass(frozen=True, slots=True)
class Option:
    """``option<element>``; ``None``, or the element's image, in ``Some`` if that could be ``None``."""

    element: WitType


@dataclass(frozen=True, slots=True)
class Result:
    """``result<ok, err>``; ``None`` stands for ``_``."""

    ok: WitType | None = None
    err: WitType | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A record: field names in kebab-case with their types. ``python`` is a dataclass."""

    name: str
    fields: tuple[tuple[str, WitType], ...]
    python: type[Any] | None = field(default=None, compare=False, repr=False)
    owner: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant: case names with their payloads. ``python`` holds one dataclass a case, in order."""

    name: str
    cases: tuple[tuple[str, WitType | None], ...]
    python: tuple[type[Any], ...] | None = field(default=None, compare=False, repr=False)
    owner: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Enum:
    """An enum. ``python`` is an ``enum.Enum`` whose values are the case names in kebab-case."""

    name: str
    cases: tuple[str, ...]
    python: type[Any] | None = field(default=None, compare=False, repr=False)
    owner: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Flags:
    """Flags. ``python`` is a :class:`~aegis.wit.flags.BitFlags` whose members have the bits 1, 2, 4, … in order."""

    name: str
    names: tuple[str, ...]
    python: type[Any] | None = field(default=None, compare=False, repr=False)
    owner: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource type. ``python`` is the class that documents it, for readers of bindings only.

    ``key`` tells resources of one name apart where identity is known (reflection numbers them).
    """

    name: str
    key: int = 0
    python: type[Any] | None = field(default=None, compare=False, repr=False)
    owner: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Own:
    """``own<resource>``: a handle that carries the resource along."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class Borrow:
    """``borrow<resource>``: a handle for the length of one call."""

    resource: Resource


WitType: TypeAlias = "str | List | Tuple | Option | Result | Record | Variant | Enum | Flags | Own | Borrow"


@dataclass(frozen=True, slots=True)
class Function:
    """A function type: parameter names in kebab-case with their types, and the result."""

    params: tuple[tuple[str, WitType], ...] = ()
    result: WitType | None = None


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface by its full name, such as ``wasi:clocks/wall-clock@0.2.12``.

    ``functions`` are keyed as in a binary: ``now``, ``[constructor]bucket``, ``[method]bucket.get``,
    ``[static]bucket.open``. ``types`` holds its named types, resources among them, by WIT name.
    """

    name: str
    functions: Mapping[str, Function] = field(default_factory=dict)
    types: Mapping[str, WitType | Resource] = field(default_factory=dict)


def children(of: WitType) -> Iterator[WitType]:
    """Yield the types that ``of`` is directly made of."""
    match of:
        case List(element) | Option(element):
            yield element
        case Tuple(elements):
            yield from elements
        case Result(ok, err):
            yield from (t for t in (ok, err) if t is not None)
        case Record():
            yield from (t for _, t in of.fields)
        case Variant():
            yield from (t for _, t in of.cases if t is not None)


def show(of: WitType | Function | None) -> str:
    """Return a type as WIT text spells it; named types by their name."""
    match of:
        case None:
            return "_"
        case str():
            return of
        case List(element):
            return f"list<{show(element)}>"
        case Option(element):
            return f"option<{show(element)}>"
        case Tuple(elements):
            return f"tuple<{', '.join(map(show, elements))}>"
        case Result(None, None):
            return "result"
        case Result(ok, None):
            return f"result<{show(ok)}>"
        case Result(ok, err):
            return f"result<{show(ok)}, {show(err)}>"
        case Own(resource):
            return resource.name
        case Borrow(resource):
            return f"borrow<{resource.name}>"
        case Function(params, result):
            listed = ", ".join(f"{name}: {show(t)}" for name, t in params)
            return f"func({listed})" + (f" -> {show(result)}" if result is not None else "")
    return of.name
