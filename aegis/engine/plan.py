"""What creating a store of one module under given limits needs, worked out once.

A sandbox is made in microseconds, so whatever depends only on the module, the engine and the limits is
kept here as ready arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from aegis.engine.abi import scalar_types
from aegis.engine.artifact import Module
from aegis.engine.binary import PAGE, MemoryType, TableType
from aegis.engine.caller import Entry
from aegis.engine.code import Artifact, NativeCode
from aegis.engine.config import EngineConfig
from aegis.engine.native import number, pointer
from aegis.engine.ticker import TICK, ticker
from aegis.errors import AegisError, CallError, ExportNotFound, MemoryExceeded
from aegis.limits import Limits, format_bytes
from aegis.names import near, printable
from aegis.values import FuncType

__all__ = ["BasePlan", "Plan", "callable_export", "check_fit", "plan_for"]

_UNLIMITED = 1 << 62
_FOREVER_TICKS = 1 << 40
_MOST_PAGES = 65536
_MOST_ELEMENTS = (1 << 32) - 1


class BasePlan:
    """Ready arguments for stores of an artifact on engines of ``config`` under ``limits``.

    ``memories`` and ``tables`` are those that one instance has. Raise
    :class:`~aegis.errors.MemoryExceeded` (phase ``initial``) when they cannot fit.
    """

    __slots__ = (
        "bounded", "code", "code_pointer", "config", "engine", "engine_pointer", "entries", "fuel", "limiter", "limits",
        "memory_cap", "table_cap", "ticks", "ticks_number",
    )  # fmt: skip

    def __init__(
        self, artifact: Artifact, config: EngineConfig, limits: Limits,
        memories: Sequence[MemoryType], tables: Sequence[TableType],
    ) -> None:  # fmt: skip
        self.config, self.limits = config, limits
        self.memory_cap, self.table_cap = check_fit(artifact.kind, memories, tables, limits)
        self.code: NativeCode = artifact.code(config)  # compiled code outlives every store that runs it
        self.code_pointer = pointer(self.code.pointer or 0)
        self.engine = self.code.engine
        ticker.attend(self.engine)
        self.engine_pointer = pointer(self.engine)
        self.ticks = _FOREVER_TICKS if limits.timeout is None else math.ceil(limits.timeout / TICK) + 1
        self.ticks_number = number(self.ticks)
        self.fuel = number(limits.fuel or _UNLIMITED)
        caps = (self.memory_cap, self.table_cap, limits.instances, limits.tables, limits.memories)
        self.limiter: tuple[Any, ...] = tuple(number(-1 if cap is None else cap) for cap in caps)
        self.entries: dict[str, Any] = {}
        self.bounded = limits.fuel is not None and limits.timeout is not None


class Plan(BasePlan):
    """What stores of one module need."""

    __slots__ = ("artifact",)

    def __init__(self, module: Module, config: EngineConfig, limits: Limits) -> None:
        super().__init__(module, config, limits, module.info.memories, module.info.tables)
        self.artifact = module

    def entry(self, name: str) -> Entry:
        """Return what calling the export ``name`` needs; raise ``CallError`` when it cannot be called."""
        made: Entry | None = self.entries.get(name)
        if made is None:
            made = self.entries[name] = Entry(name, callable_export(self.artifact, name))
        return made


def callable_export(module: Module, name: str) -> FuncType:
    """Return the type of an exported function; raise ``CallError`` when it cannot be called."""
    export = module.export(name) if isinstance(name, str) else None
    if export is None or not isinstance(export.type, FuncType):
        known = [e.name for e in module.exports if e.kind == "func"]
        alike = near(name, known) if isinstance(name, str) else []
        hint = f"; did you mean {' or '.join(map(printable, alike))}?" if alike else _listed(known)
        raise ExportNotFound(
            f"the module exports no function {printable(str(name))!r}{hint}", name=str(name), near=alike
        )
    odd = next((t for t in (*export.type.params, *export.type.results) if t not in scalar_types), None)
    if odd is not None:
        raise CallError(
            f"{printable(name)}{export.type} has a {odd}, which Python cannot pass; i32, i64, f32 and f64 it can"
        )
    return export.type


def _listed(names: list[str]) -> str:
    if not names:
        return "; it exports no functions"
    shown = ", ".join(printable(n, 60) for n in names[:8])
    return f"; it exports {shown}{' and more' if len(names) > 8 else ''}"


def plan_for(module: Module, config: EngineConfig, limits: Limits) -> Plan:
    """Return the plan, the {what}'s latest one if it is of the same limits and engine."""
    plan: Plan | None = module.plan
    if plan is not None and plan.limits is limits and plan.config is config:
        return plan
    module.plan = made = Plan(module, config, limits)
    return made


def check_fit(
    what: str, memories: Sequence[MemoryType], tables: Sequence[TableType], limits: Limits
) -> tuple[int | None, int | None]:
    """Return the engine's caps per memory (bytes) and per table (elements), if the artifact fits its limits.

    The engine limits each memory alone (F28). With one memory that is the total. With several, each
    gets the largest cap under which all together cannot exceed the limit, whatever they grow to.
    """
    _check_counts(what, len(memories), len(tables), limits)
    memory = table = None
    if limits.memory is not None:
        pages = [(m.minimum, _MOST_PAGES if m.maximum is None else m.maximum) for m in memories]
        share = _share(limits.memory // PAGE, pages)
        if share is None:
            raise _memory_too_large(what, memories, limits.memory)
        memory = max(share * PAGE, 1)
    if limits.table_elements is not None:
        sizes = [(t.minimum, _MOST_ELEMENTS if t.maximum is None else t.maximum) for t in tables]
        table = _share(limits.table_elements, sizes)
        if table is None:
            raise _tables_too_large(what, tables, limits.table_elements)
    return memory, table


def _check_counts(what: str, memories: int, tables: int, limits: Limits) -> None:
    for limit, used in (("memories", memories), ("tables", tables)):
        allowed = getattr(limits, limit)
        if allowed is not None and used > allowed:
            raise MemoryExceeded(
                f"the {what} has {used:,} {limit}, and the limit is {allowed:,}",
                limit=limit,
                phase="initial",
                used=used,
                allowed=allowed,
            )


def _share(total: int, sizes: list[tuple[int, int]]) -> int | None:
    """Return the largest cap with which ``sizes``, (initial, maximum) each, stay within ``total``."""
    if len(sizes) <= 1:
        return total if not sizes or sizes[0][0] <= total else None
    low, high = max(initial for initial, _ in sizes), total
    if _reach(low, sizes) > total:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        if _reach(middle, sizes) <= total:
            low = middle
        else:
            high = middle - 1
    return low


def _reach(cap: int, sizes: list[tuple[int, int]]) -> int:
    return sum(max(initial, min(cap, most)) for initial, most in sizes)


def _memory_too_large(what: str, memories: Sequence[MemoryType], allowed: int) -> AegisError:
    used = sum(m.minimum for m in memories) * PAGE
    if used > allowed:
        text = f"the {what}'s initial memory of {format_bytes(used)} exceeds the limit of {format_bytes(allowed)}"
    else:
        text = (
            f"the {what}'s {len(memories)} memories could grow beyond the limit of {format_bytes(allowed)} together; "
        )
        text += "declare maximums, or raise --memory-limit"
    return MemoryExceeded(text, limit="memory", phase="initial", used=used, allowed=allowed)


def _tables_too_large(what: str, tables: Sequence[TableType], allowed: int) -> AegisError:
    used = sum(t.minimum for t in tables)
    if used > allowed:
        text = f"the {what}'s initial tables of {used:,} elements exceed the limit of {allowed:,}"
    else:
        text = f"the {what}'s {len(tables)} tables could grow beyond the limit of {allowed:,} elements together; "
        text += "declare maximums, or raise --table-elements"
    return MemoryExceeded(text, limit="table_elements", phase="initial", used=used, allowed=allowed)
