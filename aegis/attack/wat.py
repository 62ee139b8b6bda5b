"""WIT types as component text, and their flattening by the canonical ABI.

Source: the component model's Explainer.md, "Type Definitions", and CanonicalABI.md, "Flattening".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module

from aegis.bindings.index import INDEX
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

__all__ = ["TypeDefinitions", "core_signature", "flat", "needed", "wasi"]

_CORE = {"s64": "i64", "u64": "i64", "f32": "f32", "f64": "f64"}
_MAX_FLAT_PARAMS, _MAX_FLAT_RESULTS = 16, 1


def wasi(name: str) -> Interface:
    """Return a host interface by its name with the version, such as ``wasi:io/poll@0.2.12``."""
    row = INDEX.find(name)
    assert row is not None, name
    found: Interface = import_module(row.bindings).INTERFACE
    return found


def needed(names: Iterable[str]) -> list[Interface]:
    """Return the named WASI interfaces and, transitively, those whose resources they use, in dependency order."""
    found: dict[str, Interface] = {}

    def add(name: str) -> None:
        interface = wasi(name)
        if interface.name in found:
            return
        for owner in _owners(interface):
            if owner != interface.name:
                add(owner)
        found[interface.name] = interface

    for name in names:
        add(name)
    return list(found.values())


def _owners(interface: Interface) -> list[str]:
    """Return the names of the interfaces that own the resources which an interface uses."""
    found: dict[str, None] = {}

    def look(of: WitType | Resource | None) -> None:
        if isinstance(of, Resource):
            found[of.owner or interface.name] = None
        elif isinstance(of, (Own, Borrow)):
            look(of.resource)
        elif of is not None:
            for inner in children(of):
                look(inner)

    for item in interface.types.values():
        look(item)
    for function in interface.functions.values():
        for of in (*(of for _, of in function.params), function.result):
            look(of)
    return list(found)


def flat(of: WitType) -> list[str]:
    """Return the core types of a flattened value."""
    match of:
        case "string" | List():
            return ["i32", "i32"]
        case str():
            return [_CORE.get(of, "i32")]
        case Record() | Tuple():
            return [core for inner in children(of) for core in flat(inner)]
        case Option(element):
            return ["i32", *flat(element)]
        case Result(ok, err):
            return ["i32", *_joined([ok, err])]
        case Variant(cases=cases):
            return ["i32", *_joined([payload for _, payload in cases])]
        case Flags(names=names):
            return ["i32"] * -(-len(names) // 32)
    return ["i32"]


def _joined(cases: Iterable[WitType | None]) -> list[str]:
    joined: list[str] = []
    for case in cases:
        for place, core in enumerate([] if case is None else flat(case)):
            if place == len(joined):
                joined.append(core)
            elif joined[place] != core:
                joined[place] = "i32" if {joined[place], core} == {"i32", "f32"} else "i64"
    return joined


def core_signature(function: Function, *, lowered: bool) -> tuple[list[str], list[str]]:
    """Return the core parameters and results of a function: of an export, or ``lowered``, of an import."""
    params = [core for _, of in function.params for core in flat(of)]
    results = [] if function.result is None else flat(function.result)
    if len(params) > _MAX_FLAT_PARAMS:
        params = ["i32"]
    if len(results) > _MAX_FLAT_RESULTS:
        results, params = ([], [*params, "i32"]) if lowered else (["i32"], params)
    return params, results


class TypeDefinitions:
    """Builds type definitions, one per line: in a component or, with ``outer``, in the type of an imported instance."""

    def __init__(self, mark: str, outer: Mapping[tuple[str, str], str] | None = None) -> None:
        self.lines: list[str] = []
        self._mark, self._outer = mark, outer
        self._made: dict[WitType, str] = {}
        self._resources: dict[tuple[str, str], str] = {}

    def of(self, of: WitType) -> str:
        """Return a reference to a type, and define the type if necessary."""
        if isinstance(of, str):
            return of
        if of not in self._made:
            self._made[of] = self._define(of)
        return self._made[of]

    def function(self, function: Function) -> str:
        """Return the parameters and the result of a function, after the keyword of an asynchronous one."""
        params = "".join(f' (param "{name}" {self.of(of)})' for name, of in function.params)
        return (
            (" async" if function.is_async else "")
            + params
            + ("" if function.result is None else f" (result {self.of(function.result)})")
        )

    def give(self, resource: Resource, reference: str) -> None:
        """Set the reference to a resource that is defined elsewhere."""
        self._resources[resource.owner or "", resource.name] = reference

    def _resource(self, resource: Resource) -> str:
        key = resource.owner or "", resource.name
        if key not in self._resources:
            made = self._next("r")
            if self._outer is not None and key in self._outer:
                self.lines.append(f"(alias outer 1 {self._outer[key]} (type {made}))")
            else:
                self.lines.append(f'(export "{resource.name}" (type {made} (sub resource)))')
            self._resources[key] = made
        return self._resources[key]

    def declare(self, resource: Resource) -> None:
        """Define a resource, even if no type refers to it."""
        self._resource(resource)

    def _next(self, kind: str) -> str:
        return f"${self._mark}{kind}{len(self.lines)}"

    def _add(self, text: str) -> str:
        made = self._next("t")
        self.lines.append(f"(type {made} {text})")
        return made

    def _named(self, text: str) -> str:
        """Define a type and export it under a name, as records, variants, enums and flags require in function types."""
        made = self._add(text)
        name = self._next("n")
        shown = f"(type {name} (eq {made}))" if self._outer is not None else f"{name}"
        word = f'"n{len(self.lines)}"'
        self.lines.append(
            f"(export {word} {shown})" if self._outer is not None else f"(export {shown} {word} (type {made}))"
        )
        return name

    def _define(self, of: WitType) -> str:
        match of:
            case List(element):
                return self._add(f"(list {self.of(element)})")
            case Option(element):
                return self._add(f"(option {self.of(element)})")
            case Tuple(elements):
                return self._add(f"(tuple {' '.join(map(self.of, elements))})")
            case Result(ok, err):
                good = "" if ok is None else f" {self.of(ok)}"
                return self._add(f"(result{good}{'' if err is None else f' (error {self.of(err)})'})")
            case Record(fields=fields):
                return self._named(f"(record {' '.join(self._field(n, t) for n, t in fields)})")
            case Variant(cases=cases):
                return self._named(f"(variant {' '.join(self._case(n, t) for n, t in cases)})")
            case Enum(cases=names):
                return self._named(f"(enum {' '.join(map(_quoted, names))})")
            case Flags(names=names):
                return self._named(f"(flags {' '.join(map(_quoted, names))})")
            case Own(resource):
                return self._add(f"(own {self._resource(resource)})")
            case Borrow(resource):
                return self._add(f"(borrow {self._resource(resource)})")
            case Stream(element) | Future(element):
                kind = "stream" if isinstance(of, Stream) else "future"
                return self._add(f"({kind}{'' if element is None else f' {self.of(element)}'})")
        raise ValueError(f"{of} is not a type that can be defined")

    def _field(self, name: str, of: WitType) -> str:
        return f'(field "{name}" {self.of(of)})'

    def _case(self, name: str, of: WitType | None) -> str:
        return f'(case "{name}"{"" if of is None else f" {self.of(of)}"})'


def _quoted(name: str) -> str:
    return f'"{name}"'
