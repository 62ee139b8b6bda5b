"""Classification of failed calls: the only code that reads trap codes and engine messages (F11, F40).

The reason is taken from the first of these that has one: the exception kept in the door, the door's stop reason, the
trap code. The text of an engine message never decides; it is only shown, truncated and escaped.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_uint8, c_void_p

from aegis.engine.call.door import Door
from aegis.engine.native.library import ByteVec, lib, take_bytes, take_error
from aegis.engine.store.memory_accounting import MemoryBudget
from aegis.engine.threads.guest_thread import thread_state
from aegis.errors import (
    AegisError,
    AegisInternalError,
    DeadlineExceeded,
    Frame,
    GuestTrap,
    HostError,
    MemoryExceeded,
    OutOfFuel,
    StackExhausted,
)
from aegis.limits import Limits, exceeded
from aegis.support.lean import Any
from aegis.text import printable, shown
from aegis.values import MemoryFault

__all__ = ["OWN_MODULE", "Evidence", "classify", "host_failure", "own_failure", "refused_growth", "trap_of"]

TRAP_CODES = (
    "stack-overflow", "memory-out-of-bounds", "heap-misaligned", "table-out-of-bounds", "indirect-call-to-null",
    "bad-signature", "integer-overflow", "integer-division-by-zero", "bad-conversion-to-integer", "unreachable",
    "interrupt", "out-of-fuel", "atomic-wait-non-shared-memory", "null-reference", "array-out-of-bounds",
    "allocation-too-large", "cast-failure",
)  # fmt: skip
_TEXTS = {
    "memory-out-of-bounds": "out-of-bounds memory access",
    "invalid-utf-8": "a string that is not UTF-8",
    "table-out-of-bounds": "out-of-bounds table access",
    "indirect-call-to-null": "an indirect call to a null table entry",
    "bad-signature": "an indirect call with the wrong signature",
    "integer-overflow": "an integer overflow",
    "integer-division-by-zero": "an integer division by zero",
    "bad-conversion-to-integer": "an invalid conversion of a float to an integer",
    "unreachable": "an unreachable instruction was executed",
    "cannot-enter-instance": "it was entered again during a call, or after a trap",
    "cannot-leave-instance": "it called out during realloc or post-return, which the component model forbids",
}
_UNCAUGHT = "uncaught-exception"
_FRAMES_KEPT = 32
"""Frames of a trap's backtrace that an exception holds, innermost first."""
OWN_MODULE = "aegis:between"
"""The name of Aegis's own modules, which run between host and guest: backtraces of the guest omit their frames."""


class Evidence:
    """State of a store from which :func:`classify` derives the reason of a failure; callables run only if needed.

    ``thrown`` is the name of the tag of an exception that no handler caught, ``""`` if it is unknown; ``heap``: the
    store may have a heap of exceptions.
    """

    def __init__(
        self,
        door: Door,
        limits: Limits,
        memory_budget: MemoryBudget | None,
        memory_full: Callable[[], int | None],
        table_full: Callable[[], int | None],
        thrown: str | None = None,
        *,
        heap: bool = False,
    ) -> None:
        self.door = door
        self.limits = limits
        self.memory_budget = memory_budget
        self.memory_full = memory_full
        self.table_full = table_full
        self.thrown = thrown
        self.heap = heap


def classify(error: int | None, trap: int | None, evidence: Evidence) -> BaseException:
    """Return the exception for a call that ended with an engine ``error`` or ``trap``; free both.

    It is an :class:`~aegis.errors.AegisError`, or a ``KeyboardInterrupt`` or ``SystemExit`` that a host function
    raised. If an event loop awaits the call, these two become a :class:`~aegis.errors.HostError` as well.
    """
    code, message, frames = _take_trap(trap) if trap else (None, "", ())
    if error:
        frames = _frames_of(lib.wasmtime_error_wasm_trace, error) if evidence.thrown is not None else frames
        message = take_error(error)
    if code is None and evidence.thrown is not None:
        code = _UNCAUGHT
    failure = own_failure(evidence.door)
    if failure is not None:
        return failure
    return _from_code(code, message, frames, evidence)


def own_failure(door: Door) -> BaseException | None:
    """Take the exception that a host function raised, or return the stop reason; ``None`` if there is neither."""
    failure, door.failure = door.failure, None
    serving, door.serving = door.serving, None
    if failure is None:
        return door.stop
    if failure is door.stop and isinstance(failure, DeadlineExceeded) and serving:
        door.serving = serving  # the host function that was waiting: its name is known only now
        failure, door.serving = door.timeout(), None
    return host_failure(failure, serving)


def host_failure(failure: BaseException, serving: object) -> BaseException:
    """Return the exception of a call for one that the host function ``serving`` raised."""
    # KeyboardInterrupt or SystemExit would end an event loop that awaits the call, so wrap it there. On a thread
    # without a loop, it passes to the caller unchanged.
    if isinstance(failure, MemoryFault):
        return trap_of(failure, serving)
    if isinstance(failure, AegisError) or not (isinstance(failure, Exception) or thread_state.loop is not None):
        return failure
    wrapped = HostError(f"host function {serving or '?'} raised {type(failure).__name__}: {shown(failure, 200, str)}")
    wrapped.__cause__ = failure
    return wrapped


def trap_of(fault: MemoryFault, serving: object) -> GuestTrap:
    """Return the trap for bad data that the guest gave to the host function ``serving``."""
    text = _TEXTS.get(fault.code, fault.code.replace("-", " "))
    detail = shown(fault, 200, str)
    trapped = GuestTrap(f"the guest trapped: {text} in the host call {serving or '?'}: {detail}", code=fault.code)
    trapped.__cause__ = fault
    return trapped


def _from_code(code: str | None, message: str, frames: tuple[Frame, ...], evidence: Evidence) -> AegisError:
    limits = evidence.limits
    match code:
        case "out-of-fuel":
            fuel = limits.fuel or 0
            return OutOfFuel(exceeded("fuel", fuel, fuel), limit="fuel", used=fuel, allowed=fuel)
        case "interrupt":
            return evidence.door.timeout()
        case "stack-overflow":
            allowed = limits.stack
            message = exceeded("stack", allowed, allowed, after=" by recursion")
            return StackExhausted(message, limit="stack", used=allowed, allowed=allowed)
        case "uncaught-exception":
            tag = f" with the tag {printable(evidence.thrown, 80)!r}" if evidence.thrown else ""
            text = f"the guest trapped: an exception{tag} that no handler caught{_where(frames)}"
            return GuestTrap(text, code=code, frames=frames)
        case None:
            return _refused_heap(evidence) or AegisInternalError(f"the engine failed: {printable(message, 400)}")
    return refused_growth(code, evidence) or GuestTrap(
        f"the guest trapped: {_TEXTS.get(code, code.replace('-', ' '))}{_where(frames)}", code=code, frames=frames
    )


def _refused_heap(evidence: Evidence) -> AegisError | None:
    """Return the error for a failure without a trap code after a refused growth: of the heap that holds exceptions."""
    limits, budget = evidence.limits, evidence.memory_budget
    if not evidence.heap or budget is None or limits.memory is None or not budget.refused_now:
        return None
    unit = f"bytes with the heap of exceptions, {budget.refused_now:,} more were refused"
    return _trapped("memory", budget.used, limits.memory, unit)


def refused_growth(code: str, evidence: Evidence) -> AegisError | None:
    """Return the error for a trap that a refused growth caused; ``None`` if the call had no growth refused.

    The engine reports a refused growth only to the guest (F28). So a trap of a guest whose memory or table has no room
    for another page or element is attributed to that limit. Programs that abort before their start-up is complete also
    call a hook that is not set yet; that counts where the refusal is known, not where a full memory suggests it.
    """
    limits, memory_budget = evidence.limits, evidence.memory_budget
    hook = code == "indirect-call-to-null" and memory_budget is not None and memory_budget.refused_now
    if not hook and code not in ("unreachable", "memory-out-of-bounds", "table-out-of-bounds"):
        return None
    if memory_budget is not None:
        if limits.memory is not None and memory_budget.refused_now:
            unit = f"bytes, {memory_budget.refused_now:,} more were refused"
            return _trapped("memory", memory_budget.used, limits.memory, unit)
    elif limits.memory is not None and (used := evidence.memory_full()) is not None:
        return _trapped("memory", used, limits.memory, "bytes, no room for another page")
    if limits.table_elements is not None and (used := evidence.table_full()) is not None:
        return _trapped("table_elements", used, limits.table_elements, "elements, no room for another one")
    return None


def _trapped(limit: str, used: int, allowed: int, unit: str) -> MemoryExceeded:
    message = exceeded(limit, used, allowed, unit=unit, after=" and the guest trapped")
    return MemoryExceeded(message, limit=limit, phase="grown", used=used, allowed=allowed)


def _where(frames: tuple[Frame, ...]) -> str:
    if not frames:
        return ""
    top = frames[0]
    return f" in {top.name}" if top.name else f" in function {top.function_index}"


def _take_trap(trap: int) -> tuple[str | None, str, tuple[Frame, ...]]:
    try:
        number = c_uint8()
        known = lib.wasmtime_trap_code(trap, ctypes.byref(number))
        vector = ByteVec()
        lib.wasm_trap_message(trap, ctypes.byref(vector))
        message = take_bytes(vector).decode("utf-8", "replace")
        code = None
        if known:
            code = TRAP_CODES[number.value] if number.value < len(TRAP_CODES) else f"trap-{number.value}"
        return code, message, _frames(trap)
    finally:
        lib.wasm_trap_delete(trap)


def _frames(trap: int) -> tuple[Frame, ...]:
    return _frames_of(lib.wasm_trap_trace, trap)


def _frames_of(trace: Callable[[int, Any], None], failure: int) -> tuple[Frame, ...]:
    vector = ByteVec()
    trace(failure, ctypes.byref(vector))
    try:
        pointers = (c_void_p * min(vector.size, _FRAMES_KEPT)).from_address(vector.data) if vector.size else ()
        return tuple(_frame(pointer) for pointer in pointers if not _is_own(pointer))
    finally:
        lib.wasm_frame_vec_delete(ctypes.byref(vector))


def _is_own(pointer: int) -> bool:
    name = lib.wasmtime_frame_module_name(pointer)
    if not name:
        return False
    raw = ByteVec.from_address(name)
    return raw.size == len(OWN_MODULE) and bool(ctypes.string_at(raw.data, raw.size) == OWN_MODULE.encode())


def _frame(pointer: int) -> Frame:
    index: int = lib.wasm_frame_func_index(pointer)
    offset: int = lib.wasm_frame_module_offset(pointer)
    name = lib.wasmtime_frame_func_name(pointer)
    text = None
    if name:
        raw = ByteVec.from_address(name)
        text = printable(ctypes.string_at(raw.data, min(raw.size, 1024)), 80) if raw.size else None
    return Frame(index, text, offset)
