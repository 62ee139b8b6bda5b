"""Reject WIT with features that Aegis does not run; each error names the item and an alternative."""

from __future__ import annotations

from collections.abc import Iterator

from aegis.errors import ArtifactError
from aegis.text import printable
from aegis.wit.model import Document, FunctionDef, InterfaceDef, Item, TypeDef, UnsupportedType, WorldDef
from aegis.wit.types import Resource, WitType, children

__all__ = ["UnsupportedItem", "check_interface", "check_world", "chosen"]

_NONE = "no world found: write a world with the imports and exports that you need"
_INSTEAD = {
    "error-context": "write a variant or a string",
    "list": "write list<…> without a length, or a tuple",
    "map": "write list<tuple<…>>",
}


class UnsupportedItem(ArtifactError):
    """An ``item`` of the interface or world ``owner`` needs a feature that Aegis does not run."""

    kind = ArtifactError.kind

    def __init__(self, message: str, *, owner: str, item: str) -> None:
        self.owner, self.item = owner, item
        super().__init__(message)


def chosen(document: Document, name: str | None) -> WorldDef:
    """Return the world with this name or full name; without a name, the only world.

    Raise :class:`~aegis.errors.ArtifactError`, with the existing worlds, if there is no such world or several.
    """
    own = [w for w in document.worlds if w.package == document.main] or list(document.worlds)
    if name is None:
        if len(own) != 1:
            raise ArtifactError(f"several worlds found: choose one with --world: {_names(own)}" if own else _NONE)
        return own[0]
    exact = [w for w in document.worlds if w.full == name]
    unversioned = [w for w in document.worlds if w.full.partition("@")[0] == name]
    found = exact or unversioned or [w for w in own if w.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ArtifactError(f"several worlds {name} found: choose one with --world: {_names(found)}")
    raise ArtifactError(f"no world {printable(name)} found: use one of: {_names(own)}" if own else _NONE)


def _names(worlds: list[WorldDef]) -> str:
    plain = [w.name for w in worlds]
    return ", ".join(sorted(w.name if plain.count(w.name) == 1 else w.full for w in worlds))


def check_world(world: WorldDef) -> None:
    """Raise :class:`UnsupportedItem` for the first item of a world that Aegis does not run."""
    for items in (world.imports, world.exports):
        for item in items.values():
            _check(item, world.full)


def check_interface(of: InterfaceDef) -> None:
    """Raise :class:`UnsupportedItem` for the first item of an interface that Aegis does not run."""
    for definition in of.types:
        _check(definition, of.name)
    for function in of.functions:
        _check(function, of.name)


def _check(item: Item, where: str) -> None:
    if isinstance(item, InterfaceDef):
        check_interface(item)
    elif isinstance(item, TypeDef):
        _refuse(where, f"type {item.name}", item.name, [item.body])
    else:
        _function(item, where)


def _function(of: FunctionDef, where: str) -> None:
    label = f"function {of.name}"
    results = [] if of.type.result is None else [of.type.result]
    _refuse(where, label, of.name, [*(t for _, t in of.type.params), *results])


def _refuse(where: str, label: str, item: str, types: list[WitType | Resource]) -> None:
    for found in (u for t in types if not isinstance(t, Resource) for u in _unsupported(t)):
        instead = _INSTEAD.get(found.partition("<")[0], "write it without")
        text = f"{where}: {label} needs {found}, which Aegis does not run: {instead}"
        raise UnsupportedItem(text, owner=where, item=item)


def _unsupported(of: WitType) -> Iterator[UnsupportedType]:
    if isinstance(of, UnsupportedType):
        yield of
        return
    for child in children(of):
        yield from _unsupported(child)
