"""Compare versioned interface names, and the types of a component with those of bindings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aegis.text import printable
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

__all__ = ["Mismatch", "merged", "track", "unversioned"]


class Mismatch(Exception):
    """The type of a component's function differs from the type in the bindings."""


def unversioned(name: str) -> str:
    """Return an interface name without its version."""
    return name.partition("@")[0]


def track(name: str) -> str:
    """Return an interface name with the part of its version that must match: major, or minor below 1.0.

    Versions with the same track are compatible: a later one has all items of an earlier one (semantic versioning, as
    the component model uses it). A pre-release is compatible only with itself.
    """
    base, mark, version = name.partition("@")
    if not mark or "-" in version:
        return name
    parts = version.partition("+")[0].split(".")
    kept = parts[:1] if parts[0] != "0" else parts[:2] if parts[1:2] != ["0"] else parts
    return f"{base}@{'.'.join(kept)}"


def merged(found: Function, stated: Function) -> Function:
    """Return the type of a component's function with the Python classes of the bindings.

    Raise :class:`Mismatch` with the place of the difference if the two types have different structures.
    """
    if len(found.params) != len(stated.params):
        raise Mismatch(f"it takes {len(found.params)} parameters, but {len(stated.params)} in the bindings")
    if found.is_async is not stated.is_async:
        raise Mismatch(f"it is {'asynchronous' if found.is_async else 'synchronous'}, unlike in the bindings")
    params = tuple((name, _merge(t, s, name)) for (name, t), (_, s) in zip(found.params, stated.params, strict=True))
    return Function(params, _maybe(found.result, stated.result, "result"), found.is_async)


def _maybe(found: WitType | None, stated: WitType | None, where: str) -> WitType | None:
    if found is None or stated is None:
        if found is not stated:
            raise _odd(found, stated, where)
        return None
    return _merge(found, stated, where)


def _odd(found: WitType | None, stated: WitType | None, where: str) -> Mismatch:
    return Mismatch(f"{printable(where, 200)}: it has {show(found)}, but the bindings have {show(stated)}")


def _merge(found: WitType, stated: WitType, where: str) -> WitType:
    """Merge two types; ``where`` is their place: the parameter or ``result``, then fields, cases and elements."""
    if type(found) is not type(stated) or (isinstance(found, str) and found != stated):
        raise _odd(found, stated, where)
    match found, stated:
        case (List(a), List(b)):
            return List(_merge(a, b, f"{where}[]"))
        case (Option(a), Option(b)):
            return Option(_merge(a, b, f"{where}.some"))
        case (Tuple(a), Tuple(b)) if len(a) == len(b):
            return Tuple(tuple(_merge(x, y, f"{where}[{n}]") for n, (x, y) in enumerate(zip(a, b, strict=True))))
        case (Result(), Result()):
            return Result(_maybe(found.ok, stated.ok, f"{where}.ok"), _maybe(found.err, stated.err, f"{where}.err"))
        case (Own() | Borrow(), _):
            return found
        case (Stream(a), Stream(b)):
            return Stream(_maybe(a, b, f"{where}[]"))
        case (Future(a), Future(b)):
            return Future(_maybe(a, b, f"{where}[]"))
        case (Record(), Record()):
            return _record(found, stated, where)
        case (Variant(), Variant()):
            return _variant(found, stated, where)
        case (Enum(), Enum()) if set(found.cases) <= set(stated.cases):
            return replace(found, name=stated.name, python=stated.python)
        case (Flags(), Flags()) if found.names == stated.names[: len(found.names)]:
            return replace(found, name=stated.name, python=stated.python)
        case (str(), str()):
            return found
        case (Enum(), Enum()):
            raise _differing(found.name, "cases", found.cases, stated.cases, where)
        case (Flags(), Flags()):
            raise _differing(found.name, "flags", found.names, stated.names, where)
    raise _odd(found, stated, where)


def _differing(name: str, kind: str, found: Sequence[str], stated: Sequence[str], where: str) -> Mismatch:
    """Return the error for a type whose labels differ; the name alone would not show a difference."""
    listed = [printable(", ".join(names), 200) or "none" for names in (found, stated)]
    return Mismatch(
        f"{printable(where, 200)}: {printable(name, 80)} has the {kind} {listed[0]}, but in the bindings {listed[1]}"
    )


def _record(found: Record, stated: Record, where: str) -> Record:
    names, known = [n for n, _ in found.fields], [n for n, _ in stated.fields]
    if names != known:
        raise _differing(found.name, "fields", names, known, where)
    pairs = zip(found.fields, stated.fields, strict=True)
    fields = tuple((n, _merge(t, s, f"{where}.{n}")) for (n, t), (_, s) in pairs)
    return replace(found, name=stated.name, fields=fields, python=stated.python)


def _variant(found: Variant, stated: Variant, where: str) -> Variant:
    """Merge variants: an earlier version may have fewer cases, but each must have the same payload."""
    known = {name: (t, cls) for (name, t), cls in zip(stated.cases, stated.python or (), strict=True)}
    if any(name not in known for name, _ in found.cases):
        raise _differing(found.name, "cases", [n for n, _ in found.cases], [*known], where)
    cases = tuple((name, _maybe(t, known[name][0], f"{where}.{name}")) for name, t in found.cases)
    return replace(found, name=stated.name, cases=cases, python=tuple(known[name][1] for name, _ in found.cases))
