"""The output of ``aegis inspect`` for a component."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aegis.limits import format_bytes
from aegis.policy.capabilities import CAPABILITIES, declaration
from aegis.sandbox.link_component import served, unprovided_by_host
from aegis.sandbox.missing_imports import missing_needs
from aegis.text import count, printable
from aegis.wit.types import Function, Interface, Resource, show

if TYPE_CHECKING:
    from aegis.cli.output import Output
    from aegis.component.planning.artifact import Component

__all__ = ["describe_component", "show_component"]


def show_component(output: Output, path: str, component: Component, chosen: Mapping[str, bool]) -> None:
    """Print a component: the chosen parts, or without a choice the default ones."""
    if chosen["wit"]:
        from aegis.wit.wit_write import world_text

        text = world_text(component.imports, component.exports)
        output.result({"module": path, "kind": "component", "wit": text}, text.rstrip())
        return
    picture = describe_component(path, component)
    some = any(chosen[part] for part in ("imports", "exports", "memory"))
    parts = [part for part in ("imports", "exports", "memory") if chosen["all"] or chosen[part] or not some]
    if chosen["all"] or not some:
        parts = ["head", *parts, "modules", "needs"]
    if chosen["all"]:
        parts.append("sections")
    output.result(picture, "\n".join(line for part in parts for line in _text(part, picture)))


def describe_component(path: str, component: Component) -> dict[str, Any]:
    """Return all information about a component as JSON types."""
    structure = component.structure
    most = 1 << 16
    return {
        "module": path,
        "kind": "component",
        "size": component.size,
        "digest": component.digest,
        "instances": structure.totals.instances,
        "components": structure.components,
        "modules": [
            {"size": size, "functions": m.functions, "instances": structure.totals.modules.get(n, 0)}
            for n, (m, size) in enumerate(zip(structure.modules, structure.module_sizes, strict=True))
        ],
        "imports": [_item(name, item) for name, item in component.imports.items()],
        "exports": [_item(name, item) for name, item in component.exports.items()],
        "memories": [str(m) for m in structure.memories(most)],
        "tables": [str(t) for t in structure.tables(most)],
        "sections": [{"name": name, "size": size} for name, size in structure.sections],
        "needs": needs(component),
    }


def _item(name: str, item: Interface | Function) -> dict[str, Any]:
    if isinstance(item, Function):
        return {"name": name, "kind": "func", "type": show(item)}
    functions = [{"name": n, "type": show(f)} for n, f in item.functions.items()]
    resources = [n for n, t in item.types.items() if isinstance(t, Resource)]
    return {"name": name, "kind": "interface", "functions": functions, "resources": resources}


def needs(component: Component) -> list[dict[str, str]]:
    """Return the grants that the component's imports need, and their defaults."""
    found = []
    rows = [row for row in map(served, component.imports) if row is not None]
    wanted = {row.capability for row in rows}
    for row in CAPABILITIES:
        if row.name in wanted:
            declared = declaration(row.name)
            found.append({"what": declared.title, "grant": declared.needs})
    return found + missing_needs(unprovided_by_host(component))


def _text(part: str, picture: dict[str, Any]) -> Iterator[str]:
    match part:
        case "head":
            inner = f", {count(picture['components'], 'nested component')}" if picture["components"] else ""
            parts = f"{count(len(picture['modules']), 'module')}{inner}, {count(picture['instances'], 'core instance')}"
            yield f"component {printable(picture['module'])}"
            yield f"size      {format_bytes(picture['size'])}, {parts}"
            yield f"digest    {picture['digest']}"
        case "imports" | "exports":
            yield f"{part}:"
            for item in picture[part]:
                yield from _shown(item)
            if not picture[part]:
                yield "  none"
        case "memory":
            yield from _block("memories", picture["memories"])
            yield from _block("tables", picture["tables"])
        case "modules":
            yield from _block("modules", [_module(m) for m in picture["modules"]])
        case "needs":
            lines = [f"{n['what']}: {n['grant']}" for n in picture["needs"]]
            yield from _block("needs", lines or ["no grants"])
        case _:
            lines = [f"{printable(s['name'])} {s['size']} bytes" for s in picture["sections"]]
            yield from _block("sections", lines)


def _module(module: dict[str, int]) -> str:
    times = "" if module["instances"] == 1 else f", instantiated {module['instances']} times"
    return f"{format_bytes(module['size'])}, {count(module['functions'], 'function')}{times}"


def _shown(item: dict[str, Any]) -> Iterator[str]:
    if item["kind"] == "func":
        yield f"  {printable(item['name'])}: {printable(item['type'], 400)}"
        return
    yield f"  {printable(item['name'])}"
    for function in item["functions"]:
        yield f"    {printable(function['name'])}: {printable(function['type'], 400)}"


def _block(title: str, lines: list[str]) -> Iterator[str]:
    yield f"{title}:"
    yield from (f"  {line}" for line in lines or ["none"])
