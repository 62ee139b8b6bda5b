"""A component's world as plain data and back: who runs it in a worker never looks into it himself.

Types are lists that begin with a letter; equal types of one world are told once and then by number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from aegis.engine.compile.reflect import World
from aegis.wit.types import (
    MAX_TYPE_DEPTH,
    MAX_TYPE_PARTS,
    MAX_TYPE_PARTS_IN_ALL,
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

__all__ = ["BadWorld", "world_from_plain", "world_to_plain"]

_WORD = "[A-Za-z][0-9A-Za-z]*(?:-[0-9A-Za-z]+)*"
_LABEL = re.compile(_WORD)
_MEMBER = re.compile(rf"{_WORD}|\[constructor\]{_WORD}|\[(?:method|static)\]{_WORD}\.{_WORD}")
_MOST_FLAGS = 32
_MOST_NAMES = 1 << 19
"""More than fit into the bytes of names that a component may have."""


class BadWorld(Exception):
    """The data is not a world that reflection could have found."""


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
    """Return the world that ``data`` says; raise :class:`BadWorld` for one that reflection would not have found."""
    try:
        types, resources, imports, exports, imported = data
        return _Hearer(types, resources, imports, exports).world(imported)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        raise BadWorld("a world that cannot be read") from None


class _Size(NamedTuple):
    """What a type costs who walks through it, and whether it lends what a result cannot."""

    depth: int
    parts: int
    lends: bool


_LEAF = _Size(0, 1, False)


class _Hearer:
    """Makes types of what was told; each may refer to those before it.

    They are held to the bounds of reflection, so that nothing which goes through types goes on for ever.
    """

    def __init__(self, types: list[Any], resources: list[Any], imports: Any, exports: Any) -> None:
        if len(types) > MAX_TYPE_PARTS_IN_ALL or type(imports) is not dict or type(exports) is not dict:
            raise BadWorld("a world that cannot be read")
        self.imports, self.exports = imports, exports
        self.names_left, self.parts_left = _MOST_NAMES, MAX_TYPE_PARTS_IN_ALL
        self.resources = [self.told_resource(n, *told) for n, told in enumerate(resources)]
        self.types: list[WitType] = []
        self.sizes: list[_Size] = []
        self.inside: list[_Size] = []
        """The sizes of what the type at hand is made of."""
        for told in types:
            made = self.made(told)
            self.sizes.append(self.weighed(isinstance(made, Borrow)))
            self.types.append(made)

    def world(self, imported: Any) -> World:
        if type(imported) is not int or not 0 <= imported <= len(self.resources):
            raise BadWorld("a world without its number of imported resources")
        return World(self.items(self.imports), self.items(self.exports), self.resources, imported)

    # -- items ---------------------------------------------------------------------------------

    def items(self, told: dict[str, Any]) -> dict[str, Interface | Function]:
        return {name: self.item(name, item) for name, item in told.items()}

    def item(self, name: str, told: Any) -> Interface | Function:
        match told:
            case ["f", *function]:
                return self.function(function)
            case ["i", str(same), dict(functions), dict(types)] if same == name:
                return Interface(
                    name,
                    {self.named(member, _MEMBER): self.function(f) for member, f in functions.items()},
                    {self.named(member): self.type_item(t) for member, t in types.items()},
                )
        raise BadWorld("neither a function nor an interface")

    def type_item(self, told: Any) -> WitType | Resource:
        match told:
            case ["r", key]:
                return self.resource(key)
        found = self.type(told)
        self.charge()
        return found

    def function(self, told: Any) -> Function:
        params, result = told
        given = tuple((self.named(name), self.type(t)) for name, t in params)
        _distinct([name for name, _ in given])
        if result is None:
            self.charge()
            return Function(given)
        of = self.type(result)
        if self.inside[-1].lends:
            raise BadWorld("a function that returns what was lent to it")
        self.charge()
        return Function(given, of)

    def charge(self) -> None:
        """Count the types that a function or a name stands for."""
        self.parts_left -= sum(size.parts for size in self.inside)
        self.weighed()
        if self.parts_left < 0:
            raise BadWorld("a world of too many types")

    def weighed(self, lends: bool = False) -> _Size:
        """Return the size of the type at hand, and begin another."""
        inside, self.inside = self.inside, []
        size = _Size(
            1 + max((s.depth for s in inside), default=0), 1 + sum(s.parts for s in inside),
            lends or any(s.lends for s in inside),
        )  # fmt: skip
        if size.depth > MAX_TYPE_DEPTH + 2 or size.parts > MAX_TYPE_PARTS + 1:
            raise BadWorld("types that are nested too deep, or of too many parts")
        return size

    # -- types ---------------------------------------------------------------------------------

    def maybe(self, told: Any) -> WitType | None:
        return None if told is None else self.type(told)

    def type(self, told: Any) -> WitType:
        if isinstance(told, str):
            if told not in PRIMITIVES:
                raise BadWorld("a type of unknown name")
            self.inside.append(_LEAF)
            return told
        if type(told) is not int or told < 0:
            raise BadWorld("a type without number")
        self.inside.append(self.sizes[told])
        return self.types[told]

    def resource(self, key: Any) -> Resource:
        if type(key) is not int or key < 0:
            raise BadWorld("a resource without number")
        return self.resources[key]

    def made(self, told: Any) -> WitType:
        match told:
            case ["l", element]:
                return List(self.type(element))
            case ["o", element]:
                return Option(self.type(element))
            case ["t", [_, *_] as elements]:
                return Tuple(tuple(map(self.type, elements)))
            case ["e", ok, err]:
                return Result(self.maybe(ok), self.maybe(err))
            case ["O", key]:
                return Own(self.resource(key))
            case ["B", key]:
                return Borrow(self.resource(key))
            case [str(kind), name, owner, [_, *_] as parts]:
                return self.made_named(kind, self.named(name), self.owner(owner), parts)
        raise BadWorld("a type of unknown kind")

    def made_named(self, kind: str, name: str, owner: str | None, parts: list[Any]) -> WitType:
        if kind == "R":
            fields = tuple((self.named(n), self.type(t)) for n, t in parts)
            _distinct([n for n, _ in fields])
            return Record(name, fields, owner=owner)
        if kind == "V":
            cases = tuple((self.named(n), self.maybe(t)) for n, t in parts)
            _distinct([n for n, _ in cases])
            return Variant(name, cases, owner=owner)
        labels = tuple(map(self.named, parts))
        _distinct(labels)
        if kind == "E":
            return Enum(name, labels, owner=owner)
        if kind != "F" or len(labels) > _MOST_FLAGS:
            raise BadWorld("a type of unknown kind")
        return Flags(name, labels, owner=owner)

    # -- names ---------------------------------------------------------------------------------

    def told_resource(self, number: int, name: Any, key: Any, owner: Any) -> Resource:
        if type(key) is not int or key != number:
            raise BadWorld("a resource of another number")
        top = owner == "" and (name in self.imports or name in self.exports)
        return Resource(name if top else self.named(name), number, owner=self.owner(owner))

    def named(self, name: Any, form: re.Pattern[str] = _LABEL) -> str:
        """Return a name that the component model allows (Explainer.md, "Import and Export Definitions")."""
        self.names_left -= 1
        if type(name) is not str or self.names_left < 0 or form.fullmatch(name) is None:
            raise BadWorld("something other than a name")
        return name

    def owner(self, value: Any) -> str | None:
        if value is None or (type(value) is str and (not value or value in self.imports or value in self.exports)):
            return value
        raise BadWorld("an owner that there is not")


def _distinct(names: Sequence[str]) -> None:
    """Raise :class:`BadWorld` for names that the component model, and Python, take for one."""
    if len(set(map(str.lower, names))) != len(names):
        raise BadWorld("one name twice")
