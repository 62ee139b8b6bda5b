"""Encodes a component's world as plain data and decodes it, for the channel between parent and worker.

For an isolated sandbox, a compile worker validates the component and reports its world. A hostile component may have
taken that worker over, so the parent checks the reported world as strictly as if the guest had written it.

A type is a list that begins with a letter for its kind. Each distinct type is encoded once; later uses are its number.
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
    Future,
    Interface,
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

__all__ = ["BadWorld", "world_from_plain", "world_to_plain"]

_WORD = "[A-Za-z][0-9A-Za-z]*(?:-[0-9A-Za-z]+)*"
_LABEL = re.compile(_WORD)
_MEMBER = re.compile(rf"{_WORD}|\[constructor\]{_WORD}|\[(?:method|static)\]{_WORD}\.{_WORD}")
_MAX_FLAGS = 32
_MAX_NAMES = 1 << 19
"""More than a component can hold, whose names are bounded in bytes."""


class BadWorld(Exception):
    """The data is not a world that reflecting a valid component could produce."""


def world_to_plain(world: World) -> list[Any]:
    """Encode ``world``: types, resources, imports, exports, and the number of imported resources."""
    encoder = _WorldEncoder()
    imports = {name: encoder.item(item) for name, item in world.imports.items()}
    exports = {name: encoder.item(item) for name, item in world.exports.items()}
    resources = [[r.name, r.key, r.owner] for r in world.resources]
    return [encoder.types, resources, imports, exports, world.imported]


class _WorldEncoder:
    """Encodes each distinct type once. Equality of types ignores the owner, so the key includes it."""

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
        made = [[[name, self.type(t)] for name, t in function.params], self.maybe(function.result)]
        return [*made, True] if function.is_async else made

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
            case Stream(element):
                return ["s", self.maybe(element)]
            case Future(element):
                return ["u", self.maybe(element)]
        raise TypeError(f"{of} is no compound type")


def world_from_plain(data: Any) -> World:
    """Decode a world; raise :class:`BadWorld` for data that reflecting a valid component could not produce."""
    try:
        types, resources, imports, exports, imported = data
        return _WorldDecoder(types, resources, imports, exports).world(imported)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        raise BadWorld("malformed world") from None


class _Size(NamedTuple):
    """The size of a type as a tree. ``lends``: it contains a ``borrow``, which no result may."""

    depth: int
    parts: int
    lends: bool


_LEAF = _Size(0, 1, False)


class _WorldDecoder:
    """Decodes types in order; each may refer only to those before it, so there are no cycles.

    The bounds are those of :mod:`aegis.engine.compile.reflect`. They bound every later walk over a type, too: types
    share their parts, so a few hundred bytes can encode a type that has 2**50 parts as a tree.
    """

    def __init__(self, types: list[Any], resources: list[Any], imports: Any, exports: Any) -> None:
        if len(types) > MAX_TYPE_PARTS_IN_ALL or type(imports) is not dict or type(exports) is not dict:
            raise BadWorld("malformed world")
        self.imports, self.exports = imports, exports
        self.names_left, self.parts_left = _MAX_NAMES, MAX_TYPE_PARTS_IN_ALL
        self.resources = [self.resource_type(n, *encoded) for n, encoded in enumerate(resources)]
        self.types: list[WitType] = []
        self.sizes: list[_Size] = []
        self.inside: list[_Size] = []
        """Sizes of the parts of the type that is being decoded."""
        for encoded in types:
            made = self.made(encoded)
            self.sizes.append(self.weighed(isinstance(made, Borrow)))
            self.types.append(made)

    def world(self, imported: Any) -> World:
        if type(imported) is not int or not 0 <= imported <= len(self.resources):
            raise BadWorld("invalid number of imported resources")
        return World(self.items(self.imports), self.items(self.exports), self.resources, imported)

    # -- items ---------------------------------------------------------------------------------

    def items(self, encoded: dict[str, Any]) -> dict[str, Interface | Function]:
        return {name: self.item(name, item) for name, item in encoded.items()}

    def item(self, name: str, encoded: Any) -> Interface | Function:
        match encoded:
            case ["f", *function]:
                return self.function(function)
            case ["i", str(same), dict(functions), dict(types)] if same == name:
                return Interface(
                    name,
                    {self.named(member, _MEMBER): self.function(f) for member, f in functions.items()},
                    {self.named(member): self.type_item(t) for member, t in types.items()},
                )
        raise BadWorld("an item is neither a function nor an interface")

    def type_item(self, encoded: Any) -> WitType | Resource:
        match encoded:
            case ["r", key]:
                return self.resource(key)
        found = self.type(encoded)
        self.charge()
        return found

    def function(self, encoded: Any) -> Function:
        params, result, *rest = encoded
        if len(rest) > 1 or (rest and rest[0] is not True):
            raise BadWorld("malformed function type")
        is_async = bool(rest)
        given = tuple((self.named(name), self.type(t)) for name, t in params)
        _distinct([name for name, _ in given])
        if result is None:
            self.charge()
            return Function(given, None, is_async)
        of = self.type(result)
        if self.inside[-1].lends:
            raise BadWorld("a function returns a borrowed handle")
        self.charge()
        return Function(given, of, is_async)

    def charge(self) -> None:
        """Count the parts of the types that a function or a named type refers to."""
        self.parts_left -= sum(size.parts for size in self.inside)
        self.weighed()
        if self.parts_left < 0:
            raise BadWorld(f"types have too many parts in total (more than {MAX_TYPE_PARTS_IN_ALL})")

    def weighed(self, lends: bool = False) -> _Size:
        """Return the size of the type that was just decoded, and reset for the next one."""
        inside, self.inside = self.inside, []
        size = _Size(
            1 + max((s.depth for s in inside), default=0), 1 + sum(s.parts for s in inside),
            lends or any(s.lends for s in inside),
        )  # fmt: skip
        if size.depth > MAX_TYPE_DEPTH + 2 or size.parts > MAX_TYPE_PARTS + 1:
            raise BadWorld(f"a type exceeds {MAX_TYPE_DEPTH} levels or {MAX_TYPE_PARTS} parts")
        return size

    # -- types ---------------------------------------------------------------------------------

    def maybe(self, encoded: Any) -> WitType | None:
        return None if encoded is None else self.type(encoded)

    def type(self, encoded: Any) -> WitType:
        if isinstance(encoded, str):
            if encoded not in PRIMITIVES:
                raise BadWorld("unknown primitive type")
            self.inside.append(_LEAF)
            return encoded
        if type(encoded) is not int or encoded < 0:
            raise BadWorld("invalid type number")
        self.inside.append(self.sizes[encoded])
        return self.types[encoded]

    def resource(self, key: Any) -> Resource:
        if type(key) is not int or key < 0:
            raise BadWorld("invalid resource number")
        return self.resources[key]

    def made(self, encoded: Any) -> WitType:
        match encoded:
            case ["l", element]:
                return List(self.type(element))
            case ["o", element]:
                return Option(self.type(element))
            case ["t", [_, *_] as elements]:
                return Tuple(tuple(map(self.type, elements)))
            case ["e", ok, err]:
                return Result(self.maybe(ok), self.maybe(err))
            case ["s", element]:
                return Stream(self.lent_nothing(element))
            case ["u", element]:
                return Future(self.lent_nothing(element))
            case ["O", key]:
                return Own(self.resource(key))
            case ["B", key]:
                return Borrow(self.resource(key))
            case [str(kind), name, owner, [_, *_] as parts]:
                return self.made_named(kind, self.named(name), self.owner(owner), parts)
        raise BadWorld("unknown kind of type")

    def lent_nothing(self, encoded: Any) -> WitType | None:
        """Return the type of the elements of a stream or future, which may not contain borrowed handles."""
        of = self.maybe(encoded)
        if any(size.lends for size in self.inside):
            raise BadWorld("a stream or future has borrowed handles")
        return of

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
        if kind != "F" or len(labels) > _MAX_FLAGS:
            raise BadWorld("unknown kind of type")
        return Flags(name, labels, owner=owner)

    # -- names ---------------------------------------------------------------------------------

    def resource_type(self, number: int, name: Any, key: Any, owner: Any) -> Resource:
        if type(key) is not int or key != number:
            raise BadWorld("a resource type out of order")
        top = owner == "" and (name in self.imports or name in self.exports)
        return Resource(name if top else self.named(name), number, owner=self.owner(owner))

    def named(self, name: Any, form: re.Pattern[str] = _LABEL) -> str:
        """Check that ``name`` is one the component model allows (Explainer.md, "Import and Export Definitions")."""
        self.names_left -= 1
        if type(name) is not str or self.names_left < 0 or form.fullmatch(name) is None:
            raise BadWorld("invalid name")
        return name

    def owner(self, value: Any) -> str | None:
        if value is None or (type(value) is str and (not value or value in self.imports or value in self.exports)):
            return value
        raise BadWorld("unknown owner of a type")


def _distinct(names: Sequence[str]) -> None:
    """Raise :class:`BadWorld` unless the names differ in more than case, as the component model requires."""
    if len(set(map(str.lower, names))) != len(names):
        raise BadWorld("duplicate name")
