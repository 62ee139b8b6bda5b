"""The command ``aegis inspect``."""

from __future__ import annotations

from typing import Any

import click

from aegis.cli.click_options import FileCommand, with_options
from aegis.cli.input_files import read_artifact
from aegis.cli.options import ENABLE, policy_limits
from aegis.cli.output import Output
from aegis.cli.progress import working
from aegis.engine.compile.config import EngineConfig
from aegis.errors import ArtifactError
from aegis.limits import format_bytes
from aegis.policy.capabilities import declaration
from aegis.sandbox.artifacts import validate_artifact
from aegis.sandbox.link_module import unprovided
from aegis.sandbox.missing_imports import missing_needs
from aegis.support.proposals import checked_proposals
from aegis.text import count, printable
from aegis.wasm.binary import ModuleInfo
from aegis.wasm.digest import sha256_hex

__all__ = ["command"]

_NEEDS = {
    "filesystem": ("path_", "fd_prestat", "fd_readdir"), "environment": ("environ_",),
    "clock": ("clock_", "poll_oneoff"), "random": ("random_get",), "stdio": ("fd_read", "fd_pread"),
}  # fmt: skip
"""The first letters of the functions of preview 1 that need each capability."""
_NO_SOCKETS = "not available to core modules; every call returns an error"


@click.command(cls=FileCommand, reads_policy=True)
@click.option("--exports", is_flag=True, help="Show the exports.")
@click.option("--imports", is_flag=True, help="Show the imports.")
@click.option("--memory", is_flag=True, help="Show the memories and tables.")
@click.option("--wit", is_flag=True, help="Show the world of a component as WIT.")
@click.option("-a", "--all", "everything", is_flag=True, help="Show everything, including sections.")
@with_options([ENABLE])
@click.argument("module")
@click.pass_obj
def command(
    output: Output, /, module: str, exports: bool, imports: bool, memory: bool, wit: bool, everything: bool,
    enable: tuple[str, ...],
) -> int:  # fmt: skip
    """Show the imports and exports of MODULE with their types, and the grants that it needs."""
    limits = policy_limits(output.config, {}, [module])
    config = EngineConfig.from_limits(limits, proposals=checked_proposals(enable))
    data = read_artifact(module, limits)
    with working(output, "examining", module):
        info = validate_artifact(data, limits, config, printable(module))
    if not isinstance(info, ModuleInfo):
        from aegis.cli.inspect_component import show_component

        chosen = {"imports": imports, "exports": exports, "memory": memory, "wit": wit, "all": everything}
        show_component(output, module, info, chosen)
        return 0
    if wit:
        raise ArtifactError(f"{printable(module)} is a core module, which has no WIT: remove --wit")
    picture = describe(module, data, info)
    some = exports or imports or memory
    parts = {
        "head": everything or not some,
        "imports": everything or imports or not some,
        "exports": everything or exports or not some,
        "memory": everything or memory or not some,
        "needs": everything or not some,
        "sections": everything,
    }
    output.result(picture, "\n".join(line for part, on in parts.items() if on for line in _text(part, picture)))
    return 0


def describe(path: str, data: bytes, info: ModuleInfo) -> dict[str, Any]:
    """Return all information about a module as JSON types."""
    return {
        "module": path,
        "kind": "module",
        "size": len(data),
        "digest": sha256_hex(data),
        "functions": info.functions,
        "start": info.has_start,
        "imports": [_item(i, module=i.module) for i in info.imports],
        "exports": [_item(e) for e in info.exports],
        "memories": [str(m) for m in info.memories],
        "tables": [str(t) for t in info.tables],
        "globals": len(info.globals),
        "sections": [{"name": name, "size": size} for name, size in info.sections],
        "needs": needs(info),
    }


def _item(item: Any, **more: str) -> dict[str, str]:
    return {**more, "name": item.name, "kind": item.kind, "type": str(item.type)}


def needs(info: ModuleInfo) -> list[dict[str, str]]:
    """Return the grants that the module's imports need, and their defaults."""
    wasi = [i.name for i in info.imports if i.module == "wasi_snapshot_preview1"]
    found = [_need(name) for name, starts in _NEEDS.items() if any(w.startswith(starts) for w in wasi)]
    if any(name.startswith("sock_") for name in wasi):
        found.append({"what": "sockets", "grant": _NO_SOCKETS})
    if any(i.module == "aegis" for i in info.imports):
        found.append(_need("logging"))
    return found + missing_needs(unprovided(info.imports))


def _need(capability: str) -> dict[str, str]:
    declared = declaration(capability)
    return {"what": declared.title, "grant": declared.needs}


def _text(part: str, picture: dict[str, Any]) -> list[str]:
    if part == "head":
        counts = f"{count(picture['functions'], 'function')}, {count(picture['globals'], 'global')}"
        start = ", runs code when instantiated" if picture["start"] else ""
        return [
            f"module    {printable(picture['module'])}",
            f"size      {format_bytes(picture['size'])}, {counts}{start}",
            f"digest    {picture['digest']}",
        ]
    if part == "imports":
        return _block(
            "imports", [f"{printable(i['module'])}.{printable(i['name'])} {_typed(i)}" for i in picture["imports"]]
        )
    if part == "exports":
        return _block("exports", [f"{printable(e['name'])} {_typed(e)}" for e in picture["exports"]])
    if part == "memory":
        return _block("memories", picture["memories"]) + _block("tables", picture["tables"])
    if part == "needs":
        return _block("needs", [f"{n['what']}: {n['grant']}" for n in picture["needs"]] or ["no grants"])
    return _block("sections", [f"{printable(s['name'])} {s['size']} bytes" for s in picture["sections"]])


def _typed(item: dict[str, str]) -> str:
    return item["type"] if item["kind"] != "func" else f"func {item['type']}"


def _block(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:", *(f"  {line}" for line in lines or ["none"])]
