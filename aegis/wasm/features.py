"""Find the features that a component needs and Aegis does not run, such as streams and asynchronous functions.

Types are followed only as far as their features require. Source: the component model's Binary.md, "Type Definitions".
"""

from __future__ import annotations

from typing import NamedTuple

from aegis.text import printable
from aegis.wasm.definitions import (
    Alias,
    AnyType,
    Builtin,
    ComponentDefinition,
    CompoundType,
    ExportDefinition,
    Extern,
    FunctionType,
    ImportDefinition,
    LabelledType,
    ScopeType,
    TypeDefinition,
    ValueType,
)

__all__ = ["UnsupportedFeatures", "unsupported_features"]

_NOTHING: frozenset[str] = frozenset()
_FEATURES = {"map": frozenset({"maps"}), "error-context": frozenset({"error contexts"})}
_UNSUPPORTED_FAMILIES = ("thread", "error-context")
_UNSUPPORTED_BUILTINS = ("stream.forward", "future.forward")


def _is_unsupported(name: str) -> bool:
    family = name.partition(".")[0]
    return name in _UNSUPPORTED_BUILTINS or (family in _UNSUPPORTED_FAMILIES and name != "thread.yield")


class UnsupportedFeatures(NamedTuple):
    """The unsupported features of a component.

    ``missing`` pairs each import and export that needs some with their names. ``features`` lists the features of all
    definitions, even if no import or export needs them.
    """

    missing: list[tuple[str, str]]
    features: list[str]


def unsupported_features(root: ComponentDefinition) -> UnsupportedFeatures:
    """Return the unsupported features of a component."""
    reader = _ComponentFeatures(None, [])
    reader.read(root)
    return UnsupportedFeatures(reader.missing, sorted(reader.types.features))


class _TypeSpace:
    """The type index space of one scope; each type is represented by the set of its unsupported features."""

    def __init__(self, outer: _TypeSpace | None = None) -> None:
        self.outers: tuple[_TypeSpace, ...] = (self, *(outer.outers if outer else ()))
        self.needs: list[frozenset[str]] = []
        self.features: set[str] = set() if outer is None else outer.features
        """The features of all definitions of the artifact."""

    def of(self, index: int) -> frozenset[str]:
        return self.needs[index] if index < len(self.needs) else _NOTHING

    def add(self, of: AnyType) -> frozenset[str]:
        """Add a type definition; return its features."""
        needs = self.definition(of)
        self.needs.append(needs)
        self.features |= needs
        return needs

    def alias(self, definition: Alias) -> None:
        """Add an alias of a type in another scope."""
        if definition.sort != "type":
            return
        if definition.target != "outer":
            self.needs.append(_NOTHING)
            return
        reached = self.outers[definition.levels] if definition.levels < len(self.outers) else None
        self.needs.append(reached.of(definition.item) if reached else _NOTHING)

    def value(self, of: ValueType | None) -> frozenset[str]:
        if isinstance(of, int):
            return self.of(of)
        return _FEATURES.get(of, _NOTHING) if of else _NOTHING

    def definition(self, of: AnyType) -> frozenset[str]:
        match of:
            case LabelledType(_, members):
                return _NOTHING.union(*[self.value(part) for _, part in members])
            case CompoundType(kind, parts, length):
                return self.compound(kind, _NOTHING.union(*[self.value(part) for part in parts]), length)
            case FunctionType(params, result, _):
                return _NOTHING.union(self.value(result), *[self.value(part) for _, part in params])
            case ScopeType():
                return self.scope(of)
        return _NOTHING

    def compound(self, kind: str, needs: frozenset[str], length: int | None) -> frozenset[str]:
        if kind != "list":
            return needs | _FEATURES.get(kind, _NOTHING)
        return needs if length is None else needs | {"lists of fixed length"}

    def scope(self, of: ScopeType) -> frozenset[str]:
        """Return the features of a component or instance type, whose declarations have a scope of their own."""
        inner = _TypeSpace(self)
        needs = _NOTHING
        for declaration in of.declarations:
            match declaration:
                case TypeDefinition(definition):
                    needs |= inner.add(definition)
                case Alias():
                    inner.alias(declaration)
                case ImportDefinition(_, extern) | ExportDefinition(_, _, _, Extern() as extern):
                    needs |= inner.described(extern)
        return needs

    def described(self, extern: Extern) -> frozenset[str]:
        """Add the type that an import or export declares, if any; return the features of its description."""
        needs = self.value(extern.type)
        if extern.sort == "type":
            self.needs.append(needs)
        return needs


class _ComponentFeatures:
    """The pass over the definitions of one component."""

    def __init__(self, outer: _TypeSpace | None, missing: list[tuple[str, str]]) -> None:
        self.types = _TypeSpace(outer)
        self.root = outer is None
        self.missing = missing

    def read(self, component: ComponentDefinition) -> None:
        types = self.types
        for definition in component.definitions:
            match definition:
                case Alias():
                    types.alias(definition)
                case TypeDefinition(of):
                    types.add(of)
                case Builtin(name) if _is_unsupported(name):
                    types.features.add(f"built-ins such as {name}")
                case ImportDefinition(name, extern):
                    self.imported(name, extern)
                case ExportDefinition(name, sort, index, extern):
                    self.exported(name, sort, index, extern)
                case ComponentDefinition():
                    _ComponentFeatures(types, self.missing).read(definition)

    def imported(self, name: str, extern: Extern) -> None:
        needs = self.types.value(extern.type)
        if extern.sort == "type":
            self.types.needs.append(needs)
        self.record(f"the import {printable(name, 120)}", needs)

    def exported(self, name: str, sort: str, index: int | None, extern: Extern | None) -> None:
        needs = self.types.value(extern.type) if extern is not None else _NOTHING
        if sort == "type":
            self.types.needs.append(needs)
        self.record(f"the export {printable(name, 120)}", needs)

    def record(self, item: str, needs: frozenset[str]) -> None:
        if self.root and needs:
            self.missing.append((item, ", ".join(sorted(needs))))
