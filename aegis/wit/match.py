"""Names with versions, and whether two interfaces speak of the same types."""

from __future__ import annotations

from dataclasses import replace

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

__all__ = ["Mismatch", "merged", "track", "unversioned"]


class Mismatch(Exception):
    """What a component says of a function's type is not what the bindings say."""


def unversioned(name: str) -> str:
    """Return an interface's name without its version."""
    return name.partition("@")[0]


def track(name: str) -> str:
    """Return an interface's name with what of its version must agree: the major, below 1.0 the minor.

    Within one track a later version has all that an earlier one has (semver, as the component model uses it);
    a pre-release agrees with itself alone.
    """
    base, mark, version = name.partition("@")
    if not mark or "-" in version:
        return name
    parts = version.partition("+")[0].split(".")
    kept = parts[:1] if parts[0] != "0" else parts[:2] if parts[1:2] != ["0"] else parts
    return f"{base}@{'.'.join(kept)}"


def merged(found: Function, stated: Function) -> Function:
    """Return the type that a component has, with the classes that bindings have for it.

    Raise :class:`Mismatch` when they are not of one shape.
    """
    if len(found.params) != len(stated.params):
        raise Mismatch(f"it takes {len(found.params)} parameters, the bindings {len(stated.params)}")
    params = tuple((name, _merge(t, s)) for (name, t), (_, s) in zip(found.params, stated.params, strict=True))
    return Function(params, _maybe(found.result, stated.result))


def _maybe(found: WitType | None, stated: WitType | None) -> WitType | None:
    if found is None or stated is None:
        if found is not stated:
            raise _odd(found, stated)
        return None
    return _merge(found, stated)


def _odd(found: WitType | None, stated: WitType | None) -> Mismatch:
    return Mismatch(f"it has {show(found)} where the bindings have {show(stated)}")


def _merge(found: WitType, stated: WitType) -> WitType:
    if type(found) is not type(stated) or (isinstance(found, str) and found != stated):
        raise _odd(found, stated)
    match found, stated:
        case (List(a), List(b)):
            return List(_merge(a, b))
        case (Option(a), Option(b)):
            return Option(_merge(a, b))
        case (Tuple(a), Tuple(b)) if len(a) == len(b):
            return Tuple(tuple(_merge(x, y) for x, y in zip(a, b, strict=True)))
        case (Result(), Result()):
            return Result(_maybe(found.ok, stated.ok), _maybe(found.err, stated.err))
        case (Own() | Borrow(), _):
            return found
        case (Record(), Record()) if [n for n, _ in found.fields] == [n for n, _ in stated.fields]:
            fields = ((n, _merge(t, s)) for (n, t), (_, s) in zip(found.fields, stated.fields, strict=True))
            return replace(found, name=stated.name, fields=tuple(fields), python=stated.python)
        case (Variant(), Variant()):
            return _variant(found, stated)
        case (Enum(), Enum()) if set(found.cases) <= set(stated.cases):
            return replace(found, name=stated.name, python=stated.python)
        case (Flags(), Flags()) if found.names == stated.names[: len(found.names)]:
            return replace(found, name=stated.name, python=stated.python)
        case (str(), str()):
            return found
    raise _odd(found, stated)


def _variant(found: Variant, stated: Variant) -> Variant:
    """An earlier version may have fewer cases; each that it has must be of the same payload."""
    known = {name: (t, cls) for (name, t), cls in zip(stated.cases, stated.python or (), strict=True)}
    if any(name not in known for name, _ in found.cases):
        raise _odd(found, stated)
    cases = tuple((name, _maybe(t, known[name][0])) for name, t in found.cases)
    return replace(found, name=stated.name, cases=cases, python=tuple(known[name][1] for name, _ in found.cases))
