"""WIT packages as written: worlds, interfaces, types and functions, with their documentation and feature gates.

Types are the nodes of :mod:`aegis.wit.types`, plus :class:`Ref`, a reference to a named type. So aliases are preserved;
:meth:`Document.resolve` replaces them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from aegis.wit.types import (
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
    children,
)

__all__ = [
    "Document", "FunctionDef", "InterfaceDef", "Item", "Notes", "Ref", "TypeDef", "UnsupportedType", "WorldDef",
    "mentioned", "versioned",
]  # fmt: skip


class Ref(str):
    """A reference to a named type; ``key`` identifies its definition."""

    __slots__ = ("key",)
    key: int

    def __new__(cls, name: str, key: int) -> Ref:
        made = super().__new__(cls, name)
        made.key = key
        return made


class UnsupportedType(str):
    """A type that Aegis does not run, as WIT text, such as ``stream<u8>``."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """The documentation of an item and its gates ``@since``, ``@unstable`` and ``@deprecated``."""

    docs: str = ""
    since: str | None = None
    feature: str | None = None
    deprecated: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeDef:
    """A named type. ``members`` maps fields, cases or flags to their notes, if they have any."""

    key: int
    name: str
    owner: str
    body: WitType | Resource
    notes: Notes = field(default_factory=Notes)
    members: Mapping[str, Notes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionDef:
    """A function, named as in a binary; ``resource`` is the key of the resource type that it belongs to."""

    name: str
    type: Function
    kind: str = "free"
    resource: int | None = None
    asynchronous: bool = False
    notes: Notes = field(default_factory=Notes)

    @property
    def short(self) -> str:
        """The name without its resource: ``get`` for ``[method]bucket.get``; empty for a constructor."""
        return "" if self.kind == "constructor" else self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceDef:
    """An interface. ``name`` is its full name, or the name that the world gives it inline or as label."""

    key: int
    name: str
    package: str
    types: tuple[TypeDef, ...] = ()
    functions: tuple[FunctionDef, ...] = ()
    notes: Notes = field(default_factory=Notes)


Item: TypeAlias = "InterfaceDef | FunctionDef | TypeDef"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldDef:
    """A world: its imports and exports, by their names in a binary."""

    name: str
    package: str
    imports: Mapping[str, Item] = field(default_factory=dict)
    exports: Mapping[str, Item] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)

    @property
    def full(self) -> str:
        """The name with package and version: ``acme:kv/plugin@1.2.0``."""
        return versioned(self.package, self.name)

    def interfaces(self) -> Iterator[InterfaceDef]:
        """Yield the imported interfaces, then the exported ones."""
        for items in (self.imports, self.exports):
            yield from (item for item in items.values() if isinstance(item, InterfaceDef))


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The packages from one input; ``main`` is the package of the input itself, the others are its dependencies."""

    packages: tuple[str, ...]
    interfaces: tuple[InterfaceDef, ...]
    worlds: tuple[WorldDef, ...]
    types: Mapping[int, TypeDef]
    main: str = ""

    def definition(self, of: Ref | Resource) -> TypeDef:
        """Return the definition of a reference, which may be an alias."""
        return self.types[of.key]

    def unaliased(self, of: WitType) -> WitType | Resource:
        """Return ``of`` with outer aliases replaced."""
        while isinstance(of, Ref):
            body = self.types[of.key].body
            if isinstance(body, Resource):
                return body
            of = body
        return of

    def origin(self, key: int) -> TypeDef:
        """Return the definition at the end of a chain of aliases; an alias of an unnamed type is its own origin."""
        found = self.types[key]
        while isinstance(found.body, Ref):
            found = self.types[found.body.key]
        return found

    def resolve(self, of: WitType) -> WitType:
        """Return ``of`` with all aliases replaced, as reflection returns it."""
        node = self.unaliased(of)
        match node:
            case List(element):
                return List(self.resolve(element))
            case Option(element):
                return Option(self.resolve(element))
            case Tuple(elements):
                return Tuple(tuple(map(self.resolve, elements)))
            case Result(ok, err):
                return Result(self._maybe(ok), self._maybe(err))
            case Own(resource):
                return Own(self._resource(resource))
            case Borrow(resource):
                return Borrow(self._resource(resource))
            case Record():
                return replace(node, fields=tuple((n, self.resolve(t)) for n, t in node.fields))
            case Variant():
                return replace(node, cases=tuple((n, self._maybe(t)) for n, t in node.cases))
            case Stream(element) | Future(element):
                return type(node)(self._maybe(element))
            case str() | Enum() | Flags():
                return node
        raise TypeError(f"{node.name} is a resource and not a value type")

    def interface(self, of: InterfaceDef) -> Interface:
        """Return an interface as reflection returns it."""
        types = {t.name: self._defined(t) for t in of.types}
        return Interface(of.name, {f.name: self.function(f.type) for f in of.functions}, types)

    def function(self, of: Function) -> Function:
        """Return a function type without aliases."""
        params = tuple((name, self.resolve(t)) for name, t in of.params)
        return Function(params, self._maybe(of.result), of.is_async)

    def _maybe(self, of: WitType | None) -> WitType | None:
        return None if of is None else self.resolve(of)

    def _resource(self, of: Resource) -> Resource:
        found = self.origin(of.key)
        assert isinstance(found.body, Resource)
        return found.body

    def _defined(self, of: TypeDef) -> WitType | Resource:
        body = self.origin(of.key).body
        return body if isinstance(body, Resource) else self.resolve(body)


def versioned(package: str, name: str) -> str:
    """Return the full name of an item in a package: ``wasi:io/poll@0.2.12`` for ``wasi:io@0.2.12`` and ``poll``."""
    base, at, version = package.partition("@")
    return f"{base}/{name}{at}{version}"


def mentioned(of: WitType | Resource) -> Iterator[int]:
    """Yield the keys of the named types that ``of`` refers to directly."""
    match of:
        case Ref():
            yield of.key
        case Own(resource) | Borrow(resource):
            yield resource.key
        case Resource():
            return
        case _:
            for child in children(of):
                yield from mentioned(child)
