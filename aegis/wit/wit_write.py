"""Write the world of a component as WIT text, for people and for wasm-tools.

A binary contains the structure of types, but not the interface that defined them first: a record that one interface
takes from another is written in both. Resources have an identity, so they are written with ``use``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from aegis.text import printable
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
    show,
)

__all__ = ["interface_text", "world_text"]

_KEYWORDS = frozenset(
    {"as", "async", "bool", "borrow", "char", "constructor", "enum", "error-context", "export", "f32", "f64", "flags"}
    | {"from", "func", "future", "import", "include", "interface", "list", "map", "option", "own", "package", "record"}
    | {"resource", "result", "s16", "s32", "s64", "s8", "static", "stream", "string", "tuple", "type", "u16", "u32"}
    | {"u64", "u8", "use", "variant", "with", "world"}
)
_WORD = r"[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*"
_PLAIN = re.compile(_WORD)
_FULL = re.compile(rf"(?P<package>{_WORD}(?::{_WORD})+)/(?P<name>{_WORD})(?P<version>@[0-9A-Za-z.+-]+)?")


def world_text(
    imports: Mapping[str, Interface | Function],
    exports: Mapping[str, Interface | Function],
    *,
    types: Mapping[str, WitType | Resource] | None = None,
    package: str = "root:component",
    world: str = "root",
) -> str:
    """Return a world with all its interfaces as one WIT document.

    ``types`` are the types of the world itself, if known. An item whose name is not valid in WIT becomes a comment. An
    interface that is both imported and exported is written once.
    """
    free = {n: f for items in (imports, exports) for n, f in items.items() if isinstance(f, Function)}
    scope = _InterfaceWriter(Interface("", free, types or {}), dict(_offered(imports)))
    lines = scope.uses() + scope.types() + scope.resources()
    for word, items in (("import", imports), ("export", exports)):
        lines += [line for name, item in items.items() for line in _item(word, name, item, scope)]
    named = _packages([i for items in (imports, exports) for i in items.items() if isinstance(i[1], Interface)])
    blocks = [f"package {package};", _block(f"world {_id(world)}", lines)]
    for owner, interfaces in named.items():
        inside = [line for name, found in interfaces.items() for line in interface_text(found, name).splitlines()]
        blocks.append(_block(f"package {owner}", inside))
    return "\n\n".join(blocks) + "\n"


def interface_text(of: Interface, name: str = "") -> str:
    """Return one interface as WIT text; ``name`` defaults to the last part of its full name."""
    found = _FULL.fullmatch(of.name)
    own = name or (found["name"] if found else of.name)
    return _block(f"interface {_id(own)}", _InterfaceWriter(of).lines())


def _packages(items: list[tuple[str, Interface | Function]]) -> dict[str, dict[str, Interface]]:
    """Group interfaces by package; merge the two sides of one that is imported and exported, as each may lack items."""
    found: dict[str, dict[str, Interface]] = {}
    for name, item in items:
        match = _FULL.fullmatch(name)
        if match is not None and isinstance(item, Interface):
            package = found.setdefault(match["package"] + (match["version"] or ""), {})
            known = package.get(match["name"], Interface(name))
            both = (known, item)
            functions = {n: f for side in both for n, f in side.functions.items()}
            types = {n: t for side in both for n, t in side.types.items()}
            package[match["name"]] = Interface(name, functions, types)
    return found


def _offered(imports: Mapping[str, Interface | Function]) -> Iterator[tuple[WitType, tuple[str, str]]]:
    """Yield the structures that imported interfaces have names for, each with the interface and the name."""
    for name, item in imports.items():
        if isinstance(item, Interface) and _FULL.fullmatch(name):
            for own, found in item.types.items():
                if isinstance(found, (Record, Variant, Enum, Flags)):
                    yield _part(found), (name, own)


def _item(word: str, name: str, item: Interface | Function, scope: _InterfaceWriter) -> list[str]:
    if isinstance(item, Function):
        if name.startswith("["):
            return []
        return [f"{word} {_id(name)}: {scope.function(item)};"] if _PLAIN.fullmatch(name) else _odd(word, name)
    if _FULL.fullmatch(name):
        return [f"{word} {name};"]
    if _PLAIN.fullmatch(name):
        return [
            *_block(f"{word} {_id(name)}: interface", _InterfaceWriter(replace(item, name=name)).lines()).splitlines()
        ]
    return _odd(word, name)


def _odd(word: str, name: str) -> list[str]:
    return [f"// {word} {printable(name)}"]


def _id(name: str) -> str:
    return f"%{name}" if name in _KEYWORDS else name


def _block(head: str, lines: list[str]) -> str:
    return "\n".join([f"{head} {{", *(f"  {line}" if line else "" for line in lines), "}"])


@dataclass(slots=True)
class _InterfaceWriter:
    """Writes one interface: assigns a name to each type that needs one, then writes the items."""

    of: Interface
    offered: Mapping[WitType, tuple[str, str]] = field(default_factory=dict)
    """Interface and name of types in other interfaces, by structure."""
    names: dict[WitType | Resource, str] = field(default_factory=dict)
    shapes: dict[WitType | Resource, str] = field(default_factory=dict)
    spare: dict[str, WitType | Resource] = field(default_factory=dict)
    used: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Types of other interfaces that are imported with ``use``, besides resources."""

    def __post_init__(self) -> None:
        for name, found in self.of.types.items():
            if isinstance(found, (Record, Variant, Enum, Flags, Resource)):
                self.names.setdefault(found, name)
                self.shapes.setdefault(_shape(found), name)
        for function in self.of.functions.values():
            for used in [*(t for _, t in function.params), function.result]:
                self.assign_names(used)
        for found in self.of.types.values():
            if not isinstance(found, Resource):
                for child in children(found):
                    self.assign_names(child)

    def assign_names(self, of: WitType | None) -> None:
        """Assign names to the parts of a type, and to the type itself if it needs one."""
        match of:
            case None | str():
                return
            case Own(handled) | Borrow(handled):
                self.name(handled, handled.name)
            case _:
                for child in children(of):
                    self.assign_names(child)
                if isinstance(of, (Record, Variant, Enum, Flags)):
                    self.name(of, of.name)

    def name(self, of: WitType | Resource, wanted: str) -> None:
        """Assign a name to a type that has none in this interface."""
        if of in self.names:
            return
        shape = _shape(of)
        if shape in self.shapes:
            self.names[of] = self.shapes[shape]
            return
        there = self.offered.get(shape) if not isinstance(shape, Resource) else None
        self.names[of] = self.shapes[shape] = made = self.free(there[1] if there else wanted)
        if there:
            self.used[made] = there
        else:
            self.spare[made] = of

    def free(self, wanted: str) -> str:
        """Return ``wanted``, with a number if the name is taken in this interface."""
        taken = {*self.of.types, *self.spare, *self.used, *(n for n in self.of.functions if not n.startswith("["))}
        made, n = wanted, 2
        while made in taken:
            made, n = f"{wanted}{n}", n + 1
        return made

    def lines(self) -> list[str]:
        """Return the items of the interface."""
        free = [f"{_id(n)}: {self.function(f)};" for n, f in self.of.functions.items() if not n.startswith("[")]
        parts = [self.uses(), self.types(), self.resources(), free]
        return [line for n, part in enumerate(p for p in parts if p) for line in ([""] if n else []) + part]

    def uses(self) -> list[str]:
        """Return a ``use`` line for each type that another interface defines."""
        found = [(name, r) for name, r in self.all() if isinstance(r, Resource) and self.foreign(r)]
        lines = [f"use {self.path(r.owner or '')}.{{{_renamed(r.name, name)}}};" for name, r in found]
        return lines + [f"use {self.path(owner)}.{{{_renamed(there, n)}}};" for n, (owner, there) in self.used.items()]

    def path(self, owner: str) -> str:
        """Return the name of another interface: the short name if it is in the same package."""
        here, there = _FULL.fullmatch(self.of.name), _FULL.fullmatch(owner)
        if here and there and (here["package"], here["version"]) == (there["package"], there["version"]):
            return _id(there["name"])
        return owner

    def all(self) -> Iterator[tuple[str, WitType | Resource]]:
        """Yield name and type of all types of the interface."""
        yield from self.of.types.items()
        yield from self.spare.items()

    def foreign(self, of: Resource) -> bool:
        """Return whether another interface defines the resource."""
        return bool(of.owner) and of.owner != self.of.name and _FULL.fullmatch(of.owner or "") is not None

    def types(self) -> list[str]:
        """Return the definitions of all types, and for resources only those of aliases."""
        lines: list[str] = []
        for name, found in self.all():
            if isinstance(found, Resource):
                if not self.foreign(found) and self.names[found] != name:
                    lines.append(f"type {_id(name)} = {_id(self.names[found])};")
            else:
                lines += self.definition(name, found)
        return lines

    def definition(self, name: str, of: WitType) -> list[str]:
        """Return the definition of a type."""
        match of:
            case Record():
                members = [f"{_id(n)}: {self.spelled(t)}," for n, t in of.fields]
            case Variant():
                members = [f"{_id(n)}{'' if t is None else f'({self.spelled(t)})'}," for n, t in of.cases]
            case Enum(_, names) | Flags(_, names):
                members = [f"{_id(n)}," for n in names]
            case _:
                return [f"type {_id(name)} = {self.spelled(of)};"]
        if self.names.get(of, name) != name:
            return [f"type {_id(name)} = {_id(self.names[of])};"]
        return _block(f"{type(of).__name__.lower()} {_id(name)}", members).splitlines()

    def resources(self) -> list[str]:
        """Return the resources that the interface defines, with their functions."""
        own = [n for n, r in self.all() if isinstance(r, Resource) and not self.foreign(r) and self.names[r] == n]
        implied = (n.partition("]")[2].partition(".")[0] for n in self.of.functions if n.startswith("["))
        lines: list[str] = []
        for name in dict.fromkeys([*own, *implied]):
            members = [self.member(n, f) for n, f in self.of.functions.items() if _belongs(n, name)]
            lines += _block(f"resource {_id(name)}", members).splitlines() if members else [f"resource {_id(name)};"]
        return lines

    def member(self, name: str, of: Function) -> str:
        """Return a function of a resource."""
        kind, _, rest = name.partition("]")
        own = rest.partition(".")[2]
        if kind == "[constructor":
            plain = isinstance(of.result, Own)
            text = self.function(replace(of, result=None) if plain else of).partition("func")[2]
            return f"constructor{text};"
        if kind == "[static":
            return f"{_id(own)}: static {self.function(of)};"
        return f"{_id(own)}: {self.function(replace(of, params=of.params[1:]))};"

    def function(self, of: Function) -> str:
        """Return a function type."""
        listed = ", ".join(f"{_id(name)}: {self.spelled(t)}" for name, t in of.params)
        word = "async func" if of.is_async else "func"
        return f"{word}({listed})" + ("" if of.result is None else f" -> {self.spelled(of.result)}")

    def spelled(self, of: WitType | None) -> str:
        """Return a type as WIT text for its use."""
        match of:
            case List(element):
                return f"list<{self.spelled(element)}>"
            case Option(element):
                return f"option<{self.spelled(element)}>"
            case Tuple(elements):
                return f"tuple<{', '.join(map(self.spelled, elements))}>"
            case Result(ok, None):
                return "result" if ok is None else f"result<{self.spelled(ok)}>"
            case Result(ok, err):
                return f"result<{self.spelled(ok)}, {self.spelled(err)}>"
            case Own(resource):
                return _id(self.names[resource])
            case Borrow(resource):
                return f"borrow<{_id(self.names[resource])}>"
            case Stream(element) | Future(element):
                kind = "stream" if isinstance(of, Stream) else "future"
                return kind if element is None else f"{kind}<{self.spelled(element)}>"
            case Record() | Variant() | Enum() | Flags():
                return _id(self.names[of])
        return show(of)


def _shape(of: WitType | Resource) -> WitType | Resource:
    """Return a type without names: the engine reports some types by their structure alone."""
    match of:
        case List(element):
            return List(_part(element))
        case Option(element):
            return Option(_part(element))
        case Stream(element) | Future(element):
            return type(of)(_maybe(element))
        case Tuple(elements):
            return Tuple(tuple(map(_part, elements)))
        case Result(ok, err):
            return Result(_maybe(ok), _maybe(err))
        case Record():
            return Record("", tuple((n, _part(t)) for n, t in of.fields))
        case Variant():
            return Variant("", tuple((n, _maybe(t)) for n, t in of.cases))
        case Enum() | Flags():
            return replace(of, name="")
    return of


def _part(of: WitType) -> WitType:
    made = _shape(of)
    assert not isinstance(made, Resource)
    return made


def _maybe(of: WitType | None) -> WitType | None:
    return None if of is None else _part(of)


def _renamed(there: str, here: str) -> str:
    return _id(there) if here == there else f"{_id(there)} as {_id(here)}"


def _belongs(function: str, resource: str) -> bool:
    _, mark, rest = function.partition("]")
    return bool(mark) and rest.partition(".")[0] == resource
