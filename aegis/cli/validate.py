"""The command ``aegis validate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aegis.cli.click_options import FileCommand, limit_options, with_options
from aegis.cli.input_files import read_artifact
from aegis.cli.options import ENABLE, TRAP_MISSING, policy_limits
from aegis.cli.output import Output
from aegis.engine.compile.config import EngineConfig
from aegis.engine.store.memory_accounting import available
from aegis.errors import AegisError, MissingImport
from aegis.limits import Limits, format_bytes
from aegis.sandbox.artifacts import validate_artifact
from aegis.sandbox.link_component import unprovided_by_host
from aegis.sandbox.link_module import unprovided
from aegis.sandbox.missing_imports import missing_lead, missing_text
from aegis.support.proposals import checked_proposals
from aegis.text import count, printable
from aegis.wasm.binary import ModuleInfo
from aegis.wasm.caps import engine_caps

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component

__all__ = ["command"]


@click.command(cls=FileCommand, reads_policy=True)
@click.option("--strict", is_flag=True, help="Also reject missing imports, and memories and tables above the limits.")
@with_options([ENABLE, TRAP_MISSING])
@limit_options
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
@click.pass_obj
def command(
    output: Output, /, modules: tuple[str, ...], strict: bool, enable: tuple[str, ...], trap_missing: bool,
    **options: Any,
) -> int:  # fmt: skip
    """Check each MODULE without compiling or running it. The exit code is the highest of all.

    With --trap-missing, --strict allows the missing imports that aegis run --trap-missing allows.
    """
    limits = policy_limits(output.config, options, modules)
    config = EngineConfig.from_limits(limits, proposals=checked_proposals(enable))
    results = [_check(path, limits, config, strict=strict, trap_missing=trap_missing) for path in modules]
    code = max((result["exit_code"] for result in results), default=0)
    output.result({"modules": results}, "\n".join(r["text"] for r in results if not r["error"]), code)
    if not output.json:
        for result in results:
            if result["error"]:
                output.complain(result["error"]["message"])
    return int(code)


def _check(path: str, limits: Limits, config: EngineConfig, *, strict: bool, trap_missing: bool) -> dict[str, Any]:
    name = printable(path)
    try:
        data = read_artifact(path, limits)
        info = validate_artifact(data, limits, config, name)
        missing = unprovided(info.imports) if isinstance(info, ModuleInfo) else unprovided_by_host(info)
        if strict:
            _refuse(name, info, _refused(info) if trap_missing else missing, limits)
    except AegisError as error:
        fault = {"kind": error.kind, "blame": error.blame, "message": str(error)}
        return {"module": path, "valid": False, "exit_code": error.exit_code, "error": fault, "text": ""}
    text = f"{name}: valid, {format_bytes(len(data))}, {_what(info)}"
    if missing:
        text += f"; {missing_lead(missing)}"
    return {"module": path, "valid": True, "exit_code": 0, "error": None, "text": text}


def _what(info: ModuleInfo | Component) -> str:
    if isinstance(info, ModuleInfo):
        return count(info.functions, "function")
    inner = info.structure
    parts = [count(len(inner.modules), "module")] + ([count(inner.components, "component")] if inner.components else [])
    return f"a component of {' and '.join(parts)}"


def _refused(info: ModuleInfo | Component) -> list[MissingImport]:
    """Return the imports that nothing provides and that cannot trap either; a component has none."""
    return unprovided(info.imports, trap_missing=True) if isinstance(info, ModuleInfo) else []


def _refuse(name: str, info: ModuleInfo | Component, missing: list[MissingImport], limits: Limits) -> None:
    from aegis.errors import LinkError

    if missing:
        raise LinkError(f"{name}: {missing_text(missing)}", missing=missing)
    if isinstance(info, ModuleInfo):
        engine_caps("module", info.memories, info.tables, limits, counted=available(), starts=info.has_start)
    else:
        structure, most = info.structure, 1 << 16
        starts = info.starts()
        engine_caps(
            "component", structure.memories(most), structure.tables(most), limits, counted=available(), starts=starts
        )
