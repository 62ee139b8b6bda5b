"""Check memories and tables against their limits, and derive the engine's cap for each from the limit for all (F28)."""

from __future__ import annotations

from collections.abc import Sequence

from aegis.errors import AegisError, MemoryExceeded
from aegis.limits import Limits, exceeded
from aegis.wasm.binary import PAGE, MemoryType, TableType

__all__ = ["capped_exactly", "engine_caps", "table_cap_at_rest"]

_MAX_PAGES = 65536
_MAX_TABLE_ELEMENTS = (1 << 32) - 1


def engine_caps(
    what: str,
    memories: Sequence[MemoryType],
    tables: Sequence[TableType],
    limits: Limits,
    *,
    counted: bool = False,
    starts: bool = True,
) -> tuple[int | None, int | None]:
    """Return the engine's caps per memory (bytes) and per table (elements); ``None`` is no cap.

    The engine limits each memory and each table separately (F28). If only one can grow, its cap is the limit minus the
    others, which is exact; if that cap would reject one of the others, :func:`table_cap_at_rest` applies. If several
    can grow, each gets the largest cap with which the total cannot exceed the limit; one of them then cannot use all of
    the rest. Memories that are ``counted`` (:mod:`aegis.engine.store.memory_accounting`) need no cap. ``starts`` is
    true if guest code runs before all tables exist.

    Raise :class:`~aegis.errors.MemoryExceeded` if the artifact does not fit its limits.
    """
    _check_counts(what, len(memories), len(tables), limits)
    memory = table = None
    if limits.memory is not None:
        share = (
            0 if counted and _initial(memories) <= limits.memory else _share(limits.memory // PAGE, _spans(memories))
        )
        if share is None:
            raise _memory_too_large(what, memories, limits.memory)
        memory = None if counted else max(share * PAGE, 1)
    if limits.table_elements is not None:
        table = _share(limits.table_elements, _elements(tables))
        if table is None and not starts and table_cap_at_rest(tables, limits) is not None:
            table = max(t.minimum for t in tables)
        if table is None:
            raise _tables_too_large(what, tables, limits.table_elements)
    return memory, table


def table_cap_at_rest(tables: Sequence[TableType], limits: Limits) -> int | None:
    """Return the cap of the only table that can grow if another table is larger than that cap, else ``None``.

    The engine applies one cap to all tables, and would reject the larger table when it creates it. So the store gets
    this cap after its tables are created, which is early enough if no guest code has run until then.
    """
    total, spans = limits.table_elements, _elements(tables)
    growing = [initial for initial, most in spans if most > initial]
    fixed = [initial for initial, most in spans if most == initial]
    if total is None or len(growing) != 1 or sum(fixed) + growing[0] > total or _share(total, spans) is not None:
        return None
    return total - sum(fixed)


def _elements(tables: Sequence[TableType]) -> list[tuple[int, int]]:
    return [(t.minimum, _MAX_TABLE_ELEMENTS if t.maximum is None else t.maximum) for t in tables]


def capped_exactly(memories: Sequence[MemoryType], limits: Limits) -> bool:
    """Return whether a cap per memory can enforce the limit on all memories exactly."""
    if limits.memory is None:
        return True
    total = limits.memory // PAGE
    spans = _spans(memories)
    if sum(most for _, most in spans) <= total or _initial(memories) > limits.memory:
        return True  # their maximums fit the limit, or their minimums exceed it and none is created
    growing = [initial for initial, most in spans if most > initial]
    fixed = [initial for initial, most in spans if most == initial]
    return not growing or (len(growing) == 1 and total - sum(fixed) >= max(fixed, default=0))


def _spans(memories: Sequence[MemoryType]) -> list[tuple[int, int]]:
    return [(m.minimum, _MAX_PAGES if m.maximum is None else m.maximum) for m in memories]


def _initial(memories: Sequence[MemoryType]) -> int:
    return sum(m.minimum for m in memories) * PAGE


def _check_counts(what: str, memories: int, tables: int, limits: Limits) -> None:
    for limit, used in (("memories", memories), ("tables", tables)):
        allowed = getattr(limits, limit)
        if allowed is not None and used > allowed:
            message = exceeded(limit, used, allowed, unit=f"{limit} of the {what}")
            raise MemoryExceeded(message, limit=limit, phase="initial", used=used, allowed=allowed)


def _share(total: int, sizes: list[tuple[int, int]]) -> int | None:
    """Return the largest cap with which ``sizes``, pairs of (initial, maximum), cannot exceed ``total``."""
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
    used = _initial(memories)
    if used > allowed:
        text = exceeded("memory", used, allowed, unit=f"bytes of initial memory of the {what}")
    else:
        unit = f"bytes; the {len(memories)} memories of the {what} could grow beyond the limit together"
        text = exceeded("memory", used, allowed, unit=unit, remedy=", or declare maximums")
    return MemoryExceeded(text, limit="memory", phase="initial", used=used, allowed=allowed)


def _tables_too_large(what: str, tables: Sequence[TableType], allowed: int) -> AegisError:
    used = sum(t.minimum for t in tables)
    if used > allowed:
        text = exceeded("table_elements", used, allowed, unit=f"initial elements of the {what}")
    else:
        unit = f"elements; the {len(tables)} tables of the {what} could grow beyond the limit together"
        text = exceeded("table_elements", used, allowed, unit=unit, remedy=", or declare maximums")
    return MemoryExceeded(text, limit="table_elements", phase="initial", used=used, allowed=allowed)
