"""Interfaces that a world imports or exports under a label, as interfaces of their own.

``import primary: store`` gives the world an instance with its own resources, independent of ``import store`` and of
every other label (component model, binary format, ``implements``). So each label gets a copy of the interface, as if it
had been written inline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["separate_labelled"]


def separate_labelled(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the JSON of ``wasm-tools component wit`` with a nameless copy of the interface for each label."""
    if not any(next(_labelled(world, data), None) for world in data["worlds"]):
        return data
    copied: dict[str, Any] = {**data, "interfaces": [*data["interfaces"]], "types": [*data["types"]]}
    copied["worlds"] = [_world(world, copied) for world in data["worlds"]]
    return copied


def _labelled(world: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield side, label and number of each interface with a name that a world gives a label."""
    for side in ("imports", "exports"):
        for label, item in world[side].items():
            number = item["interface"]["id"] if "interface" in item else None
            if number is not None and label != f"interface-{number}" and data["interfaces"][number]["name"]:
                yield side, label, number


def _world(world: Mapping[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    made = {**world, "imports": {**world["imports"]}, "exports": {**world["exports"]}}
    for side, label, number in _labelled(world, data):
        item = made[side][label]
        made[side][label] = {**item, "interface": {**item["interface"], "id": _copy(number, data)}}
    return made


def _copy(number: int, data: dict[str, Any]) -> int:
    """Append a nameless copy of an interface and of all types that depend on its own; return its number."""
    interface, types = data["interfaces"][number], data["types"]
    made = len(data["interfaces"])
    moved: dict[int, int] = {}
    # Each type comes after its parts, so one pass finds every unnamed type that contains a type of the interface.
    for key in range(len(types)):
        found = types[key]
        own = found["owner"] == {"interface": number}
        inside = found["name"] is None and any(part in moved for part in _used(found["kind"]))
        if own or inside:
            moved[key] = len(types)
            owner = {"interface": made} if own else found["owner"]
            types.append({**found, "owner": owner, "kind": _mapped(found["kind"], moved.get)})
    functions = {name: _mapped_function(f, moved.get) for name, f in interface["functions"].items()}
    names = {name: moved[key] for name, key in interface["types"].items()}
    data["interfaces"].append({**interface, "name": None, "types": names, "functions": functions})
    return made


def _mapped_function(function: Mapping[str, Any], moved: Callable[[int, int], int]) -> dict[str, Any]:
    parts = {part: _mapped(function[part], moved) for part in ("kind", "params", "result") if part in function}
    return {**function, **parts}


def _mapped(kind: Any, moved: Callable[[int, int], int]) -> Any:
    """Return the JSON of a type with the numbers of types replaced.

    All its integers are types, except the length of a list of fixed length, which Aegis rejects anyway.
    """
    if isinstance(kind, dict):
        return {tag: part if tag == "docs" else _mapped(part, moved) for tag, part in kind.items()}
    if isinstance(kind, list):
        return [_mapped(part, moved) for part in kind]
    return moved(kind, kind) if type(kind) is int else kind


def _used(kind: Any) -> Iterator[int]:
    """Yield the numbers of the types that the JSON of a type mentions."""
    parts = kind.values() if isinstance(kind, dict) else kind if isinstance(kind, list) else ()
    for part in parts:
        if type(part) is int:
            yield part
        else:
            yield from _used(part)
