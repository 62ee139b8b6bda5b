"""What bindings cannot be made of, said before anything is made: which item needs it, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator

from aegis.errors import ArtifactError
from aegis.text import printable
from aegis.wit.model import Document, FunctionDef, InterfaceDef, Item, TypeDef, Unsupported, WorldDef
from aegis.wit.types import Resource, WitType, children

__all__ = ["NotRun", "check_interface", "check_world", "chosen"]

_NONE = "there is no world in it; bindings are made for a world, so write one that imports and exports what you need"
_INSTEAD = {
    "error-context": "write a variant or a string",
    "future": "write a resource with a subscribe function that returns wasi:io/poll's pollable",
    "list": "write list<…> without a length, or a tuple",
    "map": "write list<tuple<…>>",
    "stream": "write list<u8>, or wasi:io/streams's input-stream",
}


class NotRun(ArtifactError):
    """WIT that is valid and that Aegis does not run: ``item`` of the interface or world ``owner`` needs it."""

    kind = ArtifactError.kind

    def __init__(self, message: str, *, owner: str, item: str) -> None:
        self.owner, self.item = owner, item
        super().__init__(message)


def chosen(document: Document, name: str | None) -> WorldDef:
    """Return the world called ``name`` (or by its full name), the only one if there is no name.

    Raise :class:`~aegis.errors.ArtifactError` with the worlds that there are.
    """
    own = [w for w in document.worlds if w.package == document.main] or list(document.worlds)
    if name is None:
        if len(own) != 1:
            raise ArtifactError(f"there are several worlds, choose one with --world: {_names(own)}" if own else _NONE)
        return own[0]
    full = [w for w in document.worlds if name in (w.full, w.full.partition("@")[0])]
    found = full or [w for w in own if w.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ArtifactError(f"there are several worlds {name}, choose one with --world: {_names(found)}")
    raise ArtifactError(f"there is no world {printable(name)}; the worlds are: {_names(own)}" if own else _NONE)


def _names(worlds: list[WorldDef]) -> str:
    plain = [w.name for w in worlds]
    return ", ".join(sorted(w.name if plain.count(w.name) == 1 else w.full for w in worlds))


def check_world(world: WorldDef) -> None:
    """Raise :class:`NotRun` for the first thing in a world that Aegis does not run."""
    for items in (world.imports, world.exports):
        for item in items.values():
            _check(item, world.full)


def check_interface(of: InterfaceDef) -> None:
    """Raise :class:`NotRun` for the first thing in an interface that Aegis does not run."""
    for definition in of.types:
        _check(definition, of.name)
    for function in of.functions:
        _check(function, of.name)


def _check(item: Item, where: str) -> None:
    if isinstance(item, InterfaceDef):
        if item.labels:
            text = f"gives {item.labels} a name of its own, which Aegis does not run; leave the label {item.name} away"
            raise NotRun(f"{where} {text}", owner=where, item=item.name)
        check_interface(item)
    elif isinstance(item, TypeDef):
        _refuse(where, f"type {item.name}", item.name, [item.body])
    else:
        _function(item, where)


def _function(of: FunctionDef, where: str) -> None:
    label = f"function {of.name}"
    if of.asynchronous:
        text = f"is async, and Aegis runs synchronous functions only; {_instead(where, 'write it without async')}"
        raise NotRun(f"{where}: {label} {text}", owner=where, item=of.name)
    results = [] if of.type.result is None else [of.type.result]
    _refuse(where, label, of.name, [*(t for _, t in of.type.params), *results])


def _refuse(where: str, label: str, item: str, types: list[WitType | Resource]) -> None:
    for found in (u for t in types if not isinstance(t, Resource) for u in _unsupported(t)):
        instead = _instead(where, _INSTEAD.get(found.partition("<")[0], "write it without"))
        text = f"{where}: {label} needs {found}, which Aegis does not run; {instead}"
        raise NotRun(text, owner=where, item=item)


def _instead(where: str, remedy: str) -> str:
    """Nobody rewrites WASI: there is an earlier one to take."""
    return "take WASI 0.2" if where.startswith("wasi:") and "@0.3" in where else remedy


def _unsupported(of: WitType) -> Iterator[Unsupported]:
    if isinstance(of, Unsupported):
        yield of
        return
    for child in children(of):
        yield from _unsupported(child)
