"""Plans: the data for creating stores of one module under given limits, computed once.

Creating a sandbox takes microseconds. Everything that depends only on the module, the engine and the limits is
therefore kept here as ctypes arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from ctypes import c_char_p

from aegis.engine.call.caller import ExportEntry, Style
from aegis.engine.call.core_values import scalar_types
from aegis.engine.compile.artifact import Module
from aegis.engine.compile.code import Artifact, NativeCode
from aegis.engine.compile.config import EngineConfig
from aegis.engine.native.library import number, pointer
from aegis.engine.store.imports import Imports
from aegis.engine.threads.ticker import TICK, ticker
from aegis.errors import AegisInternalError, CallError, ExportNotFound
from aegis.limits import Limits
from aegis.support.lean import Any
from aegis.text import printable, similar_names
from aegis.values import FuncType, Rows
from aegis.wasm.binary import MemoryType, TableType
from aegis.wasm.caps import engine_caps, table_cap_at_rest

__all__ = ["BasePlan", "ModulePlan", "callable_export", "plan_for"]

_FOREVER_TICKS = 1 << 40


class BasePlan:
    """Engine arguments for stores of an artifact on engines of ``config`` under ``limits``.

    ``memories`` and ``tables`` are those of one instance. Raise :class:`~aegis.errors.MemoryExceeded` (phase
    ``initial``) if their initial sizes exceed the limits.
    """

    __slots__ = (
        "bounded", "calls_python", "code", "code_pointer", "config", "counted", "engine", "engine_pointer",
        "entries", "fuel", "limiter", "limiter_at_rest", "limits", "mapped", "memory_cap", "metered", "starts",
        "table_cap", "ticks", "ticks_number",
    )  # fmt: skip

    def __init__(
        self, artifact: Artifact, config: EngineConfig, limits: Limits,
        memories: Sequence[MemoryType], tables: Sequence[TableType],
    ) -> None:  # fmt: skip
        if config.fuel != (limits.fuel is not None):
            raise AegisInternalError("the engine configuration and the limits disagree about counting fuel")
        self.config, self.limits = config, limits
        self.starts = artifact.starts()
        """Whether instantiation runs code of the guest."""
        self.counted = config.counted
        self.memory_cap, self.table_cap = engine_caps(
            artifact.kind, memories, tables, limits, counted=self.counted, starts=artifact.starts()
        )
        self.code: NativeCode = artifact.code(config)  # keeps the compiled code alive while stores use it
        self.code_pointer = pointer(self.code.pointer or 0)
        self.engine = self.code.engine
        if config.epochs:
            ticker.attend(self.engine)
        self.engine_pointer = pointer(self.engine)
        self.ticks = _FOREVER_TICKS if limits.timeout is None else math.ceil(limits.timeout / TICK) + 1
        self.ticks_number = number(self.ticks)
        self.fuel = None if limits.fuel is None else number(limits.fuel)
        """The fuel of one call; ``None`` without a limit, when the engine rejects setting fuel."""
        self.metered = 0 if limits.fuel is None else Style.METERED
        self.limiter = self._limiter()
        self.limiter_at_rest: tuple[Any, ...] | None = None
        rest = table_cap_at_rest(tables, limits)
        if rest is not None:
            self.table_cap = rest
            self.limiter_at_rest = self._limiter()
        self.entries: dict[str, Any] = {}
        self.bounded = limits.timeout is not None and config.epochs and not self.counted
        """Whether the engine's epoch deadline alone can stop the guest: it has a timeout and never calls Python."""
        self.calls_python = self.counted
        """Whether calls run Python code even if the guest has no host functions."""
        self.mapped = False
        """Whether the engine has created the files of the initial memories, which it does for the first instance of the
        code. Memories that Aegis accounts for are mapped for each store instead."""

    own_instances = 0
    """Instances of Aegis's own modules that a store may create in addition to the guest's."""

    def _limiter(self) -> tuple[Any, ...]:
        limits = self.limits
        instances = None if limits.instances is None else limits.instances + self.own_instances
        caps = (self.memory_cap, self.table_cap, instances, limits.tables, limits.memories)
        return tuple(number(-1 if cap is None else cap) for cap in caps)


class ModulePlan(BasePlan):
    """The plan for stores of one core module."""

    __slots__ = ("_imports", "artifact", "memory_name")

    def __init__(self, module: Module, config: EngineConfig, limits: Limits) -> None:
        super().__init__(module, config, limits, module.info.memories, module.info.tables)
        self.artifact = module
        raw = (module.memory_name or "").encode()
        self.memory_name = c_char_p.from_param(raw), number(len(raw))
        """The name of the memory that host functions access, and the length of the name, as ctypes arguments."""
        self._imports: dict[bool, Imports] = {}

    def imports(self, *, observed: bool) -> Imports:
        """Return the native imports of the module, for stores whose host calls are ``observed`` or not."""
        made = self._imports.get(observed)
        if made is None:
            made = self._imports[observed] = Imports(self.artifact.info, observed=observed)
        return made

    def entry(self, name: Any) -> ExportEntry:
        """Return the entry of the exported function ``name``; raise ``CallError`` if it cannot be called."""
        made: ExportEntry | None = self.entries.get(name)
        if made is None:
            if isinstance(name, Rows):
                from aegis.engine.call.columns import ColumnEntry  # few sandboxes make such calls

                made = ColumnEntry(name, callable_export(self.artifact, name.function), self.config)
            else:
                made = ExportEntry(name, callable_export(self.artifact, name))
            self.entries[name] = made
        return made


def callable_export(module: Module, name: str) -> FuncType:
    """Return the type of an exported function.

    Raise :class:`~aegis.errors.ExportNotFound` if there is none, and ``CallError`` if Python cannot pass its types.
    """
    export = module.export(name) if isinstance(name, str) else None
    if export is None or not isinstance(export.type, FuncType):
        known = [e.name for e in module.exports if e.kind == "func"]
        alike = similar_names(name, known) if isinstance(name, str) else []
        hint = f": did you mean {' or '.join(map(printable, alike))}?" if alike else _listed(known)
        raise ExportNotFound(
            f"the module exports no function {printable(str(name))!r}{hint}", name=str(name), near=alike
        )
    odd = next((t for t in (*export.type.params, *export.type.results) if t not in scalar_types), None)
    if odd is not None:
        raise CallError(
            f"{printable(name)}{export.type} has a {odd}, which Python cannot pass; it can pass i32, i64, f32 and f64"
        )
    return export.type


def _listed(names: list[str]) -> str:
    if not names:
        return "; it exports no functions"
    shown = ", ".join(printable(n, 60) for n in names[:8])
    return f"; it exports {shown}{' and more' if len(names) > 8 else ''}"


def plan_for(module: Module, config: EngineConfig, limits: Limits) -> ModulePlan:
    """Return a plan of a module, reusing one of its last two if the limits and the configuration are the same.

    Two are kept because sandboxes that exceed the engine's pool alternate between the pooled and the unpooled engine.
    """
    latest: ModulePlan | None = module.plan
    if latest is not None and latest.limits is limits and latest.config is config:
        return latest
    before: ModulePlan | None = module.plan_before
    if before is None or before.limits is not limits or before.config is not config:
        before = ModulePlan(module, config, limits)
    module.plan, module.plan_before = before, latest
    return before
