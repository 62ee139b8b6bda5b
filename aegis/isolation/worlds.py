"""A component's world as plain data and back: who runs it in a worker never looks into it himself.

Types are lists that begin with a letter; equal types of one world are told once and then by number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aegis.engine.component.reflect import World
from aegis.isolation.wire import Broken
from aegis.wit.types import (
    PRIMITIVES,
    Borrow,
    Enum,
    Flags,
    Function,
    Interface,
    List,
    Option,
    Own,
    Record,
    Resource,
    Result,
    Tuple,
    Variant,
    WitType,
)

__all__ = ["world_from_plain", "world_to_plain"]


def world_to_plain(world: World) -> list[Any]:
    """Return ``world`` for the wire: its types, resources, imports and exports."""
    told = _Teller()
    imports = {name: told.item(item) for name, item in world.imports.items()}
    exports = {name: told.item(item) for name, item in world.exports.items()}
    resources = [[r.name, r.key, r.owner] for r in world.resources]
    return [told.types, resources, imports, exports, world.imported]


class _Teller:
    """Tells each type once; equality ignores owners, which tell whose name a type has."""

    def __init__(self) -> None:
        self.types: list[Any] = []
        self._known: dict[Any, int] = {}

    def item(self, item: Interface | Function) -> list[Any]:
        if isinstance(item, Function):
            return ["f", *self.function(item)]
        functions = {name: self.function(f) for name, f in item.functions.items()}
        types = {name: ["r", t.key] if isinstance(t, Resource) else self.type(t) for name, t in item.types.items()}
        return ["i", item.name, functions, types]

    def function(self, function: Function) -> list[Any]:
        return [[[name, self.type(t)] for name, t in function.params], self.maybe(function.result)]

    def maybe(self, of: WitType | None) -> Any:
        return None if of is None else self.type(of)

    def type(self, of: WitType) -> Any:
        if isinstance(of, str):
            return of
        key = (of, getattr(of, "owner", None))
        number = self._known.get(key)
        if number is None:
            made = self.made(of)
            number = self._known[key] = len(self.types)
            self.types.append(made)
        return number

    def made(self, of: WitType) -> list[Any]:
        match of:
            case List(element):
                return ["l", self.type(element)]
            case Option(element):
                return ["o", self.type(element)]
            case Tuple(elements):
                return ["t", [self.type(e) for e in elements]]
            case Result(ok, err):
                return ["e", self.maybe(ok), self.maybe(err)]
            case Record():
                return ["R", of.name, of.owner, [[n, self.type(t)] for n, t in of.fields]]
            case Variant():
                return ["V", of.name, of.owner, [[n, self.maybe(t)] for n, t in of.cases]]
            case Enum():
                return ["E", of.name, of.owner, list(of.cases)]
            case Flags():
                return ["F", of.name, of.owner, list(of.names)]
            case Own(resource):
                return ["O", resource.key]
            case Borrow(resource):
                return ["B", resource.key]
        raise TypeError(f"{of} is no compound type")


def world_from_plain(data: Any) -> World:
    """Return the world that ``data`` says; raise :class:`Broken` for anything else."""
    try:
        types, resources, imports, exports, imported = data
        return _Hearer(types, resources).world(imports, exports, imported)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        raise Broken("a world that cannot be read") from None


class _Hearer:
    """Makes types of what was told; each may refer to those before it."""

    def __init__(self, types: list[Any], resources: list[Any]) -> None:
        self.resources = [Resource(_text(name), n, owner=_owner(owner)) for n, (name, _, owner) in enumerate(resources)]
        self.types: list[WitType] = []
        for told in types:
            self.types.append(self.made(told[0], told[1:]))

    def world(self, imports: Mapping[str, Any], exports: Mapping[str, Any], imported: Any) -> World:
        if type(imported) is not int or not 0 <= imported <= len(self.resources):
            raise Broken("a world without its number of imported resources")
        return World(
            {name: self.item(item) for name, item in imports.items()},
            {name: self.item(item) for name, item in exports.items()},
            self.resources, imported,
        )  # fmt: skip

    def item(self, told: list[Any]) -> Interface | Function:
        if told[0] == "f":
            return self.function(told[1:])
        _, name, functions, types = told
        return Interface(
            _text(name),
            {member: self.function(f) for member, f in functions.items()},
            {
                member: self.resource(t[1]) if isinstance(t, list) and t[0] == "r" else self.type(t)
                for member, t in types.items()
            },
        )

    def function(self, told: list[Any]) -> Function:
        params, result = told
        return Function(tuple((_text(name), self.type(t)) for name, t in params), self.maybe(result))

    def maybe(self, told: Any) -> WitType | None:
        return None if told is None else self.type(told)

    def type(self, told: Any) -> WitType:
        if isinstance(told, str):
            if told not in PRIMITIVES:
                raise Broken("a type of unknown name")
            return told
        if type(told) is not int or told < 0:
            raise Broken("a type without number")
        return self.types[told]

    def resource(self, key: Any) -> Resource:
        if type(key) is not int or key < 0:
            raise Broken("a resource without number")
        return self.resources[key]

    def made(self, kind: str, rest: list[Any]) -> WitType:
        if kind in ("l", "o"):
            return (List if kind == "l" else Option)(self.type(rest[0]))
        if kind == "t":
            return Tuple(tuple(map(self.type, rest[0])))
        if kind == "e":
            return Result(self.maybe(rest[0]), self.maybe(rest[1]))
        if kind in ("O", "B"):
            return (Own if kind == "O" else Borrow)(self.resource(rest[0]))
        return self.named(kind, _text(rest[0]), _owner(rest[1]), rest[2])

    def named(self, kind: str, name: str, owner: str | None, rest: list[Any]) -> WitType:
        if kind == "R":
            return Record(name, tuple((_text(n), self.type(t)) for n, t in rest), owner=owner)
        if kind == "V":
            return Variant(name, tuple((_text(n), self.maybe(t)) for n, t in rest), owner=owner)
        if kind not in ("E", "F"):
            raise Broken("a type of unknown kind")
        return (Enum if kind == "E" else Flags)(name, tuple(map(_text, rest)), owner=owner)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Broken("something other than a name")
    return value


def _owner(value: Any) -> str | None:
    return None if value is None else _text(value)
