"""``aegis validate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aegis.cli.clicks import FileCommand, limit_options
from aegis.cli.render import Face
from aegis.cli.source import read_artifact
from aegis.engine.compile.config import EngineConfig
from aegis.engine.store.memory_accounting import available
from aegis.errors import AegisError, MissingImport
from aegis.limits import Limits, format_bytes
from aegis.sandbox.artifacts import validate_artifact
from aegis.sandbox.link_component import unprovided_by_host
from aegis.sandbox.link_module import unprovided
from aegis.text import count, printable
from aegis.wasm.binary import ModuleInfo
from aegis.wasm.fit import check_fit

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component

__all__ = ["command"]


@click.command(cls=FileCommand)
@click.option("--strict", is_flag=True, help="Also refuse what `aegis run` could not run: missing imports, limits.")
@limit_options
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
@click.pass_obj
def command(face: Face, /, modules: tuple[str, ...], strict: bool, **options: Any) -> int:
    """Check each MODULE without compiling or running it. The exit code is the worst one's."""
    limits = Limits().with_(**{n[6:]: None if v == "none" else v for n, v in options.items() if v is not None})
    results = [_check(path, limits, strict=strict) for path in modules]
    face.result({"modules": results}, "\n".join(r["text"] for r in results if not r["error"]))
    if not face.json:
        for result in results:
            if result["error"]:
                face.complain(result["error"]["message"])
    return max((result["exit_code"] for result in results), default=0)


def _check(path: str, limits: Limits, *, strict: bool) -> dict[str, Any]:
    name = printable(path)
    try:
        data = read_artifact(path, limits)
        info = validate_artifact(data, limits, EngineConfig.from_limits(limits), name)
        missing = unprovided(info.imports) if isinstance(info, ModuleInfo) else unprovided_by_host(info)
        if strict:
            _refuse(name, info, missing, limits)
    except AegisError as error:
        fault = {"kind": error.kind, "blame": error.blame, "message": str(error)}
        return {"module": path, "valid": False, "exit_code": error.exit_code, "error": fault, "text": ""}
    text = f"{name}: valid, {format_bytes(len(data))}, {_what(info)}"
    if missing:
        text += f"; {count(len(missing), 'import')} that only a program can provide"
    return {"module": path, "valid": True, "exit_code": 0, "error": None, "text": text}


def _what(info: ModuleInfo | Component) -> str:
    if isinstance(info, ModuleInfo):
        return count(info.functions, "function")
    inner = info.anatomy
    parts = [count(len(inner.modules), "module")] + ([count(inner.components, "component")] if inner.components else [])
    return f"a component of {' and '.join(parts)}"


def _refuse(name: str, info: ModuleInfo | Component, missing: list[MissingImport], limits: Limits) -> None:
    from aegis.errors import LinkError

    if missing:
        shown = "; ".join(f"{m.module}{f'.{m.name}' if m.name else ''}: {m.remedy}" for m in missing[:20])
        raise LinkError(f"{name}: nothing provides {count(len(missing), 'import')}: {shown}", missing=missing)
    if isinstance(info, ModuleInfo):
        check_fit("module", info.memories, info.tables, limits, counted=available(), starts=info.has_start)
    else:
        anatomy, most = info.anatomy, 1 << 16
        starts = info.starts()
        check_fit("component", anatomy.memories(most), anatomy.tables(most), limits, counted=available(), starts=starts)
