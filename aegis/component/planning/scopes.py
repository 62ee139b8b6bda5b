"""Types during planning: a graph whose nodes share their parts and know their size as a tree.

A hundred bytes can define a type whose size doubles at each level. A node therefore refers to its parts and counts
them; a :mod:`aegis.wit.types` value is built only when a function needs the type and its size is within the limits.

A :class:`TypeScope` resolves the type indices of one component instance, or of one instance type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from aegis.errors import ArtifactError
from aegis.text import printable
from aegis.wasm.definitions import (
    Alias,
    AnyType,
    CompoundType,
    FunctionType,
    HandleType,
    LabelledType,
    ResourceRep,
    ScopeType,
    ValueType,
)
from aegis.wit.types import (
    MAX_TYPE_DEPTH,
    MAX_TYPE_PARTS,
    PRIMITIVES,
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

__all__ = [
    "FunctionNode",
    "Item",
    "OpenType",
    "ResourceNode",
    "TypeNode",
    "TypeScope",
    "invalid",
    "name_type",
    "not_run",
]

_T = TypeVar("_T")


def invalid(reason: str) -> ArtifactError:
    """Return the error for a component whose definitions are inconsistent."""
    return ArtifactError(f"not a valid WebAssembly component: {reason}")


class ResourceNode:
    """A resource type of one component instance, or of the host."""

    __slots__ = ("key", "name")

    def __init__(self, key: int, name: str) -> None:
        self.key, self.name = key, name

    def wit(self) -> Resource:
        """Return the corresponding :mod:`aegis.wit.types` value."""
        return Resource(self.name, self.key)


class TypeNode:
    """A value type: its constructor, its labels if any, and its parts.

    ``count`` is the number of nodes when expanded to a tree, including this one; it saturates at the limit plus one.
    """

    __slots__ = ("count", "depth", "kind", "labels", "made", "name", "parts", "resource")

    def __init__(
        self,
        kind: str,
        parts: tuple[TypeNode | None, ...] = (),
        *,
        labels: tuple[str, ...] = (),
        resource: ResourceNode | None = None,
    ) -> None:
        self.kind, self.parts, self.labels, self.resource = kind, parts, labels, resource
        self.name = ""
        self.made: WitType | None = None
        self.count: int
        self.depth: int
        own = [part for part in parts if part is not None]
        self.count = min(1 + sum([part.count for part in own]), MAX_TYPE_PARTS + 1)
        self.depth = 1 + max([part.depth for part in own], default=0)

    def wit(self) -> WitType:
        """Return the :mod:`aegis.wit.types` value; a shared node yields one shared object."""
        if self.made is None:
            self.made = _MAKERS[self.kind](self)
        return self.made


def _all(node: TypeNode) -> tuple[WitType, ...]:
    return tuple([part.wit() for part in node.parts if part is not None])


def _each(node: TypeNode) -> tuple[WitType | None, ...]:
    return tuple([None if part is None else part.wit() for part in node.parts])


def _resource(node: TypeNode) -> Resource:
    assert node.resource is not None
    return node.resource.wit()


_MAKERS: dict[str, Callable[[TypeNode], WitType]] = {
    "list": lambda node: List(_all(node)[0]),
    "option": lambda node: Option(_all(node)[0]),
    "result": lambda node: Result(*_each(node)),
    "tuple": lambda node: Tuple(_all(node)),
    "record": lambda node: Record(node.name, tuple(zip(node.labels, _all(node), strict=True))),
    "variant": lambda node: Variant(node.name, tuple(zip(node.labels, _each(node), strict=True))),
    "enum": lambda node: Enum(node.name, node.labels),
    "flags": lambda node: Flags(node.name, node.labels),
    "stream": lambda node: Stream(_each(node)[0]),
    "future": lambda node: Future(_each(node)[0]),
    "own": lambda node: Own(_resource(node)),
    "borrow": lambda node: Borrow(_resource(node)),
}


def _primitive(name: str) -> TypeNode:
    node = TypeNode(name)
    node.depth, node.made = 0, name
    return node


_PRIMITIVES = {name: _primitive(name) for name in PRIMITIVES}
_NAMED = ("record", "variant", "enum", "flags")
_NOT_RUN = {"map": "maps"}


def not_run(feature: str) -> ArtifactError:
    """Return the error for a component that uses ``feature``, a plural noun."""
    return ArtifactError(f"the component uses {feature}, which Aegis does not support: build it without them")


def _primitive_node(name: str) -> TypeNode:
    if name == "error-context":
        raise not_run("error contexts")
    return _PRIMITIVES[name]


class FunctionNode:
    """The type of a component function."""

    __slots__ = ("is_async", "made", "params", "result")

    def __init__(self, params: tuple[tuple[str, TypeNode], ...], result: TypeNode | None, is_async: bool) -> None:
        self.params, self.result, self.is_async = params, result, is_async
        self.made: Function | None = None

    def count(self) -> int:
        """Return the number of parts of all its types; each type's count saturates at the limit plus one."""
        return sum([node.count for node in self.nodes()])

    def nodes(self) -> list[TypeNode]:
        """Return the types of the parameters and the result."""
        return [node for _, node in self.params] + ([] if self.result is None else [self.result])

    def wit(self, where: str) -> Function:
        """Return the :mod:`aegis.wit.types` value; raise ``ArtifactError``, naming ``where``, if it is too large."""
        if self.made is None:
            self._check(where)
            params = tuple([(name, node.wit()) for name, node in self.params])
            self.made = Function(params, None if self.result is None else self.result.wit(), self.is_async)
        return self.made

    def _check(self, where: str) -> None:
        if self.count() > MAX_TYPE_PARTS:
            raise ArtifactError(
                f"{where} has types of too many parts (more than {MAX_TYPE_PARTS}): use smaller or fewer types"
            )
        for node in self.nodes():
            if node.depth > MAX_TYPE_DEPTH + 1:
                raise ArtifactError(
                    f"{where} has types nested too deep ({node.depth - 1}/{MAX_TYPE_DEPTH} levels): nest them less"
                )


class OpenType:
    """A component or instance type and the scope in which its outer aliases resolve."""

    __slots__ = ("scope", "type")

    def __init__(self, of: ScopeType, scope: TypeScope) -> None:
        self.type, self.scope = of, scope


Item = tuple[str, object]
"""An export of a component instance: its sort and the item."""


class TypeScope:
    """Index spaces of types and instances. ``outers`` are the enclosing scopes; ``outers[0]`` is this one."""

    __slots__ = ("instances", "outers", "types")

    def __init__(self, outer: TypeScope | None) -> None:
        self.outers: tuple[TypeScope, ...] = (self, *(outer.outers if outer is not None else ()))
        self.types: list[object] = []
        self.instances: list[object] = []

    def at(self, space: list[object], index: int, sort: str, kind: type[_T]) -> _T:
        """Return the item at ``index``; raise ``ArtifactError`` if there is none or it is not a ``kind``."""
        if index >= len(space):
            raise invalid(f"{sort} {index} does not exist")
        found = space[index]
        if not isinstance(found, kind):
            raise invalid(f"{sort} {index} has the wrong kind for its use")
        return found

    def outer(self, count: int) -> TypeScope:
        """Return the scope ``count`` levels out; raise ``ArtifactError`` if there are fewer."""
        if count >= len(self.outers):
            raise invalid(f"an outer alias goes {count} levels out, but only {len(self.outers) - 1} enclose it")
        return self.outers[count]

    def exported(self, alias: Alias) -> object:
        """Resolve an export alias; raise ``ArtifactError`` if the instance has no such export."""
        instance: dict[str, Item] = self.at(self.instances, alias.item, "instance", dict)
        sort, item = instance.get(alias.name, ("", None))
        if sort != alias.sort:
            raise invalid(f"instance {alias.item} exports no {alias.sort} {printable(alias.name, 60)!r}")
        return item

    # -- types ---------------------------------------------------------------------------------

    def value(self, of: ValueType) -> TypeNode:
        """Resolve a value type: a type index, or the name of a primitive."""
        if isinstance(of, str):
            return _primitive_node(of)
        return self.at(self.types, of, "type", TypeNode)

    def values(self, of: Iterable[ValueType | None]) -> tuple[TypeNode | None, ...]:
        """Resolve value types; ``None`` stays ``None`` (a case or result without payload)."""
        return tuple([None if part is None else self.value(part) for part in of])

    def define(self, of: AnyType) -> object:
        """Return the node that a type definition adds to the type index space.

        Resource types are generative, so the component instance creates their nodes itself.
        """
        match of:
            case LabelledType(kind, members):
                labels = tuple([label for label, _ in members])
                parts = self.values([part for _, part in members]) if kind in ("record", "variant") else ()
                return TypeNode(kind, parts, labels=labels)
            case CompoundType("primitive", (str() as name,)):
                return _primitive_node(name)
            case CompoundType(kind, _, length) if kind in _NOT_RUN or length is not None:
                raise not_run(_NOT_RUN.get(kind, "lists of fixed length"))
            case CompoundType(kind, parts_of):
                return TypeNode(kind, self.values(parts_of))
            case HandleType(kind, resource):
                return TypeNode(kind, resource=self.at(self.types, resource, "type", ResourceNode))
            case FunctionType(params, result, is_async):
                result_node = None if result is None else self.value(result)
                return FunctionNode(tuple([(name, self.value(t)) for name, t in params]), result_node, is_async)
            case ScopeType():
                return OpenType(of, self)
            case ResourceRep():
                raise invalid("a component or instance type defines a resource type")
        raise AssertionError(of)


def name_type(item: object, name: str) -> None:
    """Name a resource, record, variant, enum or flags type after its first import or export.

    Other types stay anonymous; the nodes of primitives are shared by all plans.
    """
    if (isinstance(item, ResourceNode) or (isinstance(item, TypeNode) and item.kind in _NAMED)) and not item.name:
        item.name = name
