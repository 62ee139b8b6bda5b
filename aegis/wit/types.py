"""The types of WIT as plain values, used by reflection, bindings and value converters.

A primitive is its WIT name as a string (:data:`PRIMITIVES`). Named types (record, variant, enum, flags, resource) may
have ``python``, their Python class or classes. Equality ignores ``python`` and ``owner``: two types are equal if the
component model considers them structurally equal. Source: the component model's WIT.md and Explainer.md, "Type
Definitions".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = [
    "MAX_TYPE_DEPTH", "MAX_TYPE_PARTS", "MAX_TYPE_PARTS_IN_ALL", "PRIMITIVES", "Borrow", "Enum", "Flags", "Function",
    "Future", "Interface", "List", "Option", "Own", "Record", "Resource", "Result", "Stream", "Tuple", "Variant",
    "WitType", "children", "has_ends", "show",
]  # fmt: skip


def __dir__() -> list[str]:
    return sorted(__all__)


PRIMITIVES = ("bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string")
"""The names of the primitive types."""
MAX_TYPE_DEPTH = 100
MAX_TYPE_PARTS, MAX_TYPE_PARTS_IN_ALL = 10_000, 200_000
"""Bounds on the parts of the types of one function or named type, and of a component. Each part costs host memory, and
a hundred bytes can encode a type that doubles at every level."""


@dataclass(frozen=True, slots=True)
class List:
    """``list<element>``; in Python a ``list``, or ``bytes`` for ``list<u8>``."""

    element: WitType


@dataclass(frozen=True, slots=True)
class Tuple:
    """``tuple<…>``; in Python a ``tuple``."""

    elements: tuple[WitType, ...]


@dataclass(frozen=True, slots=True)
class Option:
    """``option<element>``; in Python ``None`` or the element's value, wrapped in ``Some`` if that could be ``None``."""

    element: WitType


@dataclass(frozen=True, slots=True)
class Result:
    """``result<ok, err>``; ``None`` is an omitted type."""

    ok: WitType | None = None
    err: WitType | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A record: pairs of a field name in kebab-case and its type. ``python`` is a dataclass."""

    name: str
    fields: tuple[tuple[str, WitType], ...]
    python: type[Any] | None = field(default=None, compare=False, repr=False)
    owner: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant: pairs of a case name and its payload type. ``python`` holds one dataclass per case, in order."""

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
    """Flags. ``python`` is a :class:`~aegis.wit.flags.BitFlags` whose members are the bits 1, 2, 4, … in order."""

    name: str
    names: tuple[str, ...]
    python: type[Any] | None = field(default=None, compare=False, repr=False)
    owner: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource type. ``python`` is its protocol in generated bindings, for documentation only.

    ``key`` distinguishes resources of the same name; reflection numbers them.
    """

    name: str
    key: int = 0
    python: type[Any] | None = field(default=None, compare=False, repr=False)
    owner: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Own:
    """``own<resource>``: a handle that owns the resource."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class Borrow:
    """``borrow<resource>``: a handle that is valid during one call."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class Stream:
    """``stream<element>``: the readable end of a stream. ``None`` is an omitted type: elements without a value."""

    element: WitType | None = None


@dataclass(frozen=True, slots=True)
class Future:
    """``future<element>``: the readable end of a future. ``None`` is an omitted type: a future without a value."""

    element: WitType | None = None


WitType: TypeAlias = (
    "str | List | Tuple | Option | Result | Record | Variant | Enum | Flags | Own | Borrow | Stream | Future"
)


@dataclass(frozen=True, slots=True)
class Function:
    """A function type: pairs of a parameter name in kebab-case and its type, and the result type.

    ``is_async``: the function may block its caller (``async func``).
    """

    params: tuple[tuple[str, WitType], ...] = ()
    result: WitType | None = None
    is_async: bool = False


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
    """Yield the direct parts of ``of``."""
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
        case Stream(element) | Future(element) if element is not None:
            yield element


def has_ends(of: WitType) -> bool:
    """Return whether values of the type contain ends of streams or futures."""
    return isinstance(of, (Stream, Future)) or any(map(has_ends, children(of)))


def show(of: WitType | Function | None) -> str:
    """Return a type as WIT text, named types by their name."""
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
        case Stream(element) | Future(element):
            kind = "stream" if isinstance(of, Stream) else "future"
            return kind if element is None else f"{kind}<{show(element)}>"
        case Function(params, result, is_async):
            listed = ", ".join(f"{name}: {show(t)}" for name, t in params)
            return f"{'async ' if is_async else ''}func({listed})" + (
                f" -> {show(result)}" if result is not None else ""
            )
    return of.name
