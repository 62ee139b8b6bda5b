"""Guests that break the rules of asynchronous components, or wait for ever, end with a trap that names the rule.

Oracle: CanonicalABI.md, cited by the name of the built-in in each row. Each guest is exact: it breaks one rule. Where
the rule has a permitted neighbour, that guest runs too and returns 7.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aegis import Aegis, Cancelled, DeadlineExceeded, GuestTrap, OutOfFuel, QuotaExceeded, Sandbox
from tests.component.aegis_side import RUNTIME
from tests.component.tasks.async_guests import script
from tests.component.tasks.copying import leftovers

RUN = {"run": "(result u32)"}
_DONE = "(call $return (i32.const 7)) (i32.const 0)"


def guest(core: str, signatures: dict[str, str] = RUN, runtime: Aegis = RUNTIME, **imports: Any) -> Sandbox:
    """Return a sandbox of :func:`script`; an import is a tuple of its types, its options and its function."""
    types = {name: given[:3] for name, given in imports.items()}
    component = runtime.load_wat(script(core, signatures, imports=types))
    return runtime.sandbox(component, imports={name: given[3] for name, given in imports.items()})


def run(body: str, before: str = "") -> str:
    """Return the core function ``run`` with two locals for handles and one for a pair of ends."""
    return f"""{before}
    (func (export "run") (result i32) (local $a i32) (local $b i32) (local $pair i64)
      {body})"""


_STREAM = """(local.set $pair (call $s-new))
  (local.set $a (call $read-end (local.get $pair))) (local.set $b (call $write-end (local.get $pair)))"""
_FUTURE = _STREAM.replace("s-new", "f-new")
_READ = "(drop (call $s-read (local.get $a) (i32.const 64) (i32.const 8)))"
_WRITE = "(drop (call $s-write (local.get $b) (i32.const 64) (i32.const 8)))"
_F_READ = "(drop (call $f-read (local.get $a) (i32.const 64)))"
_F_WRITE = "(drop (call $f-write (local.get $b) (i32.const 64)))"
_SET = "(global.set $set (call $set-new))"

BROKEN: dict[str, tuple[str, str]] = {
    "a callback code above 2": ("(i32.const 3)", "unknown code 3"),
    "the greatest callback code": ("(i32.const 15)", "unknown code 15"),
    "a wait for no handle": ("(i32.const 0x12)", "unknown handle index 1"),
    "a wait for a stream": (
        _STREAM + "(i32.or (i32.const 2) (i32.shl (local.get $a) (i32.const 4)))", "not a waitable",
    ),
    "no task.return": ("(i32.const 0)", "without task.return"),
    "two returns": ("(call $return (i32.const 7)) (call $return (i32.const 7)) (i32.const 0)", "returned twice"),
    "a return of another type": ("(call $return-u8 (i32.const 7)) (i32.const 0)", "another type"),
    "a return without a value": ("(call $return-none) (i32.const 0)", "another type"),
    "a return of a stream": (_STREAM + "(call $return-stream (local.get $a)) (i32.const 0)", "another type"),
    "a return with another encoding": ("(call $return-utf16 (i32.const 7)) (i32.const 0)", "other canonical options"),
    "task.cancel without a request": ("(call $task-cancel) (i32.const 0)", "not requested"),
    "task.cancel after task.return": (
        "(call $return (i32.const 7)) (call $task-cancel) (i32.const 0)", "not requested",
    ),
    "a set dropped with members": (
        _SET + _STREAM + _READ + "(call $join (local.get $a) (global.get $set)) (call $set-drop (global.get $set))"
        + _DONE, "while waitables are in it",
    ),
    "a join of a set": (_SET + "(call $join (global.get $set) (global.get $set))" + _DONE, "handle index 1 is not"),
    "a join to a stream": (_STREAM + "(call $join (local.get $a) (local.get $b))" + _DONE, "not a waitable set"),
    "a join of no handle": (_SET + "(call $join (i32.const 77) (global.get $set))" + _DONE, "unknown handle index 77"),
    "a join in a synchronous wait": (
        _STREAM + "(drop (call $s-read-sync (local.get $a) (i32.const 64) (i32.const 8)))" + _DONE, "deadlock",
    ),
    "an unaligned event": (
        _SET + "(drop (call $set-poll (global.get $set) (i32.const 66)))" + _DONE, "not aligned",
    ),
    "an event outside memory": (
        _SET + "(drop (call $set-poll (global.get $set) (i32.const 0xFFFFFFFC)))" + _DONE, "out-of-bounds",
    ),
    "a read from the writable end": (
        _STREAM + "(drop (call $s-read (local.get $b) (i32.const 64) (i32.const 8)))" + _DONE, "another type",
    ),
    "a write to the readable end": (
        _STREAM + "(drop (call $s-write (local.get $a) (i32.const 64) (i32.const 8)))" + _DONE, "another type",
    ),
    "a stream read as a future": (
        _STREAM + "(drop (call $f-read (local.get $a) (i32.const 64)))" + _DONE, "another type",
    ),
    "two reads at once": (_STREAM + _READ + _READ + _DONE, "busy or done"),
    "two writes at once": (_STREAM + _WRITE + _WRITE + _DONE, "busy or done"),
    "a readable end dropped in a read": (
        _STREAM + _READ + "(call $s-drop-read (local.get $a))" + _DONE, "during a copy",
    ),
    "a writable end dropped in a write": (
        _STREAM + _WRITE + "(call $s-drop-write (local.get $b))" + _DONE, "during a copy",
    ),
    "a readable end dropped as a writable one": (
        _STREAM + "(call $s-drop-write (local.get $a))" + _DONE, "another type",
    ),
    "a cancel of no read": (_STREAM + "(drop (call $s-cancel-read (local.get $a)))" + _DONE, "no copy"),
    "a cancel of no write": (_STREAM + "(drop (call $s-cancel-write (local.get $b)))" + _DONE, "no copy"),
    "a synchronous cancel in a set": (
        _SET + _STREAM + _READ + "(call $join (local.get $a) (global.get $set))"
        "(drop (call $s-cancel-read (local.get $a)))" + _DONE, "in a waitable set",
    ),
    "a synchronous read in a set": (
        _SET + _STREAM + "(call $join (local.get $a) (global.get $set))"
        "(drop (call $s-read-sync (local.get $a) (i32.const 64) (i32.const 8)))" + _DONE, "in a waitable set",
    ),
    "a read after the end": (
        _STREAM + "(call $s-drop-write (local.get $b))" + _READ + _READ + _DONE, "busy or done",
    ),
    "a buffer outside memory": (
        _STREAM + "(drop (call $s-read (local.get $a) (i32.const 0x40000) (i32.const 1)))" + _DONE, "out-of-bounds",
    ),
    "a buffer that wraps": (
        _STREAM + "(drop (call $s-read (local.get $a) (i32.const -4) (i32.const 8)))" + _DONE, "out-of-bounds",
    ),
    "a buffer that is too long": (
        _STREAM + "(drop (call $s-read (local.get $a) (i32.const 0) (i32.const 0x10000000)))" + _DONE, "too long",
    ),
    "a future dropped without a value": (
        _FUTURE + "(call $f-drop-write (local.get $b))" + _DONE, "before a value was written",
    ),
    "a future read twice": (_FUTURE + _F_WRITE + _F_READ + _F_READ + _DONE, "busy or done"),
    "a future written twice": (_FUTURE + _F_READ + _F_WRITE + _F_WRITE + _DONE, "busy or done"),
    "backpressure below zero": ("(call $dec)" + _DONE, "beyond its range"),
    "backpressure without bound": ("(loop $l (call $inc) (br $l)) unreachable", "beyond its range"),
    "a subtask that is a stream": (_STREAM + "(call $subtask-drop (local.get $a))" + _DONE, "not a subtask"),
    "a cancel of no subtask": ("(drop (call $subtask-cancel (i32.const 5)))" + _DONE, "unknown handle index 5"),
    "a wait for an empty set": (_SET + "(drop (call $set-wait (global.get $set) (i32.const 64)))" + _DONE, "deadlock"),
    "a wait for a stream that nothing writes": (_STREAM + _READ + "(call $wait (local.get $a))", "deadlock"),
    "a wait for a stream that nothing reads": (_STREAM + _WRITE + "(call $wait (local.get $b))", "deadlock"),
    "a wait for a future that nothing writes": (_FUTURE + _F_READ + "(call $wait (local.get $a))", "deadlock"),
}  # fmt: skip


@pytest.mark.parametrize("rule", BROKEN)
def test_a_guest_that_breaks_a_rule_traps(rule: str) -> None:
    body, message = BROKEN[rule]
    with guest(run(body)) as sandbox:
        with pytest.raises(GuestTrap, match=message):
            sandbox.call("run")
        assert sandbox.state == "poisoned"
        sandbox.reset()
        with pytest.raises(GuestTrap, match=message):
            sandbox.call("run")


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("rule", BROKEN)
def test_a_guest_that_breaks_a_rule_in_a_call_of_a_loop_traps(rule: str) -> None:
    body, message = BROKEN[rule]

    async def main(sandbox: Sandbox) -> None:
        with pytest.raises(GuestTrap, match=message):
            await sandbox.acall("run")

    with guest(run(body)) as sandbox:
        asyncio.run(main(sandbox))
        assert sandbox.state == "poisoned"


PERMITTED: dict[str, str] = {
    "a return": _DONE,
    "a return with a stream left": _STREAM + _READ + _DONE,
    "a set dropped when it is empty": _SET + _STREAM + _READ + "(call $join (local.get $a) (global.get $set))"
    "(call $join (local.get $a) (i32.const 0)) (call $set-drop (global.get $set))" + _DONE,
    "a poll of an empty set": _SET
    + "(if (call $set-poll (global.get $set) (i32.const 64)) (then unreachable))" + _DONE,
    "a read of what the same instance wrote": _STREAM + "(i32.store8 (i32.const 100) (i32.const 7))"
    "(drop (call $s-write (local.get $b) (i32.const 100) (i32.const 1)))" + _READ
    + "(call $return (i32.load8_u (i32.const 64))) (i32.const 0)",
    "a cancelled read": _STREAM + _READ
    + "(if (i32.ne (call $s-cancel-read (local.get $a)) (i32.const 2)) (then unreachable))"
    "(call $s-drop-read (local.get $a)) (call $s-drop-write (local.get $b))" + _DONE,
    "a cancelled write": _STREAM + _WRITE
    + "(if (i32.ne (call $s-cancel-write (local.get $b)) (i32.const 2)) (then unreachable))" + _DONE,
    "a cancelled future": _FUTURE + _F_READ
    + "(if (i32.ne (call $f-cancel-read (local.get $a)) (i32.const 2)) (then unreachable))"
    "(call $f-drop-read (local.get $a))" + _DONE,
    "a read after the other end was dropped": _STREAM + "(call $s-drop-write (local.get $b))"
    "(if (i32.ne (call $s-read (local.get $a) (i32.const 64) (i32.const 8)) (i32.const 1)) (then unreachable))" + _DONE,
    "a write after the other end was dropped": _STREAM + "(call $s-drop-read (local.get $a))"
    "(if (i32.ne (call $s-write (local.get $b) (i32.const 64) (i32.const 8)) (i32.const 1)) (then unreachable))"
    + _DONE,
    "a future dropped after its reader": _FUTURE + "(call $f-drop-read (local.get $a))" + _F_WRITE
    + "(call $f-drop-write (local.get $b))" + _DONE,
    "copies of no elements": _STREAM + "(drop (call $s-read (local.get $a) (i32.const 0xFFFFFFFF) (i32.const 0)))"
    "(if (call $s-write (local.get $b) (i32.const 0xFFFFFFFF) (i32.const 0)) (then unreachable))" + _DONE,
    "a write that is longer than the read": _STREAM + _READ
    + "(if (i32.ne (call $s-write (local.get $b) (i32.const 64) (i32.const 20)) (i32.const 0x80)) (then unreachable))"
    + _DONE,
    "the longest buffer of no elements beyond memory": _STREAM
    + "(drop (call $s-read (local.get $a) (i32.const 0x3FFFF) (i32.const 1)))" + _DONE,
    "backpressure that is taken back": "(call $inc) (call $inc) (call $dec) (call $dec)" + _DONE,
    "yields in the middle": "(drop (call $yield)) (drop (call $yield))" + _DONE,
}  # fmt: skip


@pytest.mark.parametrize("rule", PERMITTED)
def test_the_permitted_neighbour_of_a_rule_returns(rule: str) -> None:
    with guest(run(PERMITTED[rule])) as sandbox:
        assert sandbox.call("run") == 7
        assert asyncio.run(sandbox.acall("run")) == 7
        assert leftovers(sandbox)["tasks"] == 0


# -- subtasks -------------------------------------------------------------------------------------

_CALLED = ("async (result u32)", "(param i32) (result i32)", "async (memory $mem)")


async def _never() -> int:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


_SUBTASK = "(local.set $a (i32.shr_u (call $never (i32.const 64)) (i32.const 4)))"
SUBTASKS: dict[str, tuple[str, str]] = {
    "dropped before its end": (
        _SUBTASK + "(call $subtask-drop (local.get $a))" + _DONE, "before its end was delivered",
    ),
    "cancelled after its end": (
        _SUBTASK + "(drop (call $subtask-cancel (local.get $a))) (drop (call $subtask-cancel (local.get $a)))" + _DONE,
        "after its end was delivered",
    ),
    "cancelled in a set": (
        _SUBTASK + "(drop (call $wait (local.get $a))) (drop (call $subtask-cancel (local.get $a)))" + _DONE,
        "in a waitable set",
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", SUBTASKS)
def test_a_subtask_that_is_misused_traps(rule: str) -> None:
    body, message = SUBTASKS[rule]

    async def main() -> None:
        with (
            guest(run(body), never=(*_CALLED, _never)) as sandbox,
            pytest.raises(GuestTrap, match=message),
        ):
            await sandbox.acall("run")

    asyncio.run(main())


def test_a_subtask_that_is_cancelled_ends_the_host_function() -> None:
    ended: list[str] = []

    async def waits() -> int:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("cancelled")
        raise AssertionError

    cancelled = """(if (i32.ne (call $subtask-cancel (local.get $a)) (i32.const 4)) (then unreachable))
      (call $subtask-drop (local.get $a))"""

    async def main() -> None:
        with guest(run(_SUBTASK + cancelled + _DONE), never=(*_CALLED, waits)) as sandbox:
            assert await sandbox.acall("run") == 7
            for _ in range(10):
                await asyncio.sleep(0)
            assert not any(leftovers(sandbox).values())

    asyncio.run(main())
    assert set(ended) <= {"cancelled"}


_MANY = """(func (export "run") (result i32) (loop $l (drop (call $never (i32.const 64))) (br $l)) unreachable)"""


def test_subtasks_without_end_meet_the_limit_of_handles() -> None:
    runtime = Aegis(cache=False, pooled=False, timeout="60s", handles=100)

    async def main() -> None:
        with guest(_MANY, RUN, runtime, never=(*_CALLED, _never)) as sandbox:
            with pytest.raises(QuotaExceeded) as error:
                await sandbox.acall("run")
            assert error.value.limit == "handles"
            assert leftovers(sandbox)["handles"] == 100

    asyncio.run(main())


# -- loops without end ----------------------------------------------------------------------------

_YIELDING = """(func (export "run") (result i32) (i32.const 1))
    (func (export "run-cb") (param i32 i32 i32) (result i32)
      (if (i32.eq (local.get 0) (i32.const 6)) (then (call $task-cancel) (return (i32.const 0))))
      (i32.const 1))"""
_SPINNING = """(func (export "run") (result i32) (loop $l (br $l)) unreachable)"""
_THREAD_YIELDS = """(func (export "run") (result i32) (loop $l (drop (call $yield)) (br $l)) unreachable)"""
LOOPS = {"callbacks that yield": _YIELDING, "a loop": _SPINNING, "a loop that yields": _THREAD_YIELDS}


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", ["call", "acall"])
def test_a_loop_without_end_meets_the_deadline(loop: str, how: str) -> None:
    runtime = Aegis(cache=False, pooled=False, timeout="0.2s")
    with guest(LOOPS[loop], RUN, runtime) as sandbox:
        with pytest.raises(DeadlineExceeded):
            sandbox.call("run") if how == "call" else asyncio.run(sandbox.acall("run"))
        assert sandbox.state == "poisoned"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_without_end_meets_the_limit_of_fuel(loop: str) -> None:
    runtime = Aegis(cache=False, pooled=False, timeout="60s", fuel=20_000)
    with guest(LOOPS[loop], RUN, runtime) as sandbox, pytest.raises(OutOfFuel):
        sandbox.call("run")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_without_end_is_cancelled(loop: str) -> None:
    async def main(sandbox: Sandbox) -> None:
        call = asyncio.create_task(sandbox.acall("run"))
        while not sandbox._run.store.in_call():  # type: ignore[union-attr]
            await asyncio.sleep(0)
        sandbox.cancel()
        with pytest.raises(Cancelled):
            await call

    with guest(LOOPS[loop]) as sandbox:
        asyncio.run(main(sandbox))
        assert sandbox.state == "poisoned"


def test_calls_that_wait_meet_the_limit_of_tasks_which_harms_no_other_call() -> None:
    runtime = Aegis(cache=False, pooled=False, timeout="60s", tasks=50)
    core = run(_STREAM + _READ + "(call $wait (local.get $a))") + _CONFIRMS

    async def main(sandbox: Sandbox) -> None:
        calls = [asyncio.create_task(sandbox.acall("run")) for _ in range(50)]
        while leftovers(sandbox)["tasks"] < 50:
            await asyncio.sleep(0)
        with pytest.raises(QuotaExceeded) as error:
            await sandbox.acall("run")
        assert error.value.limit == "tasks"
        for call in calls:
            call.cancel()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)

    with guest(core, RUN, runtime) as sandbox:
        asyncio.run(main(sandbox))
        assert sandbox.state == "ready"
        assert leftovers(sandbox)["tasks"] == 0


_CONFIRMS = """
    (func (export "run-cb") (param i32 i32 i32) (result i32)
      (if (i32.ne (local.get 0) (i32.const 6)) (then unreachable))
      (call $task-cancel) (i32.const 0))"""


# -- waits in the middle of a call ----------------------------------------------------------------

_WAITS_WITHIN = """(component
  (type $F (future u8))
  (component $A
    (type $F (future u8))
    (core module $Memory (memory (export "mem") 1))
    (core instance $memory (instantiate $Memory))
    (core func $read (canon future.read $F (memory (core memory $memory "mem"))))
    (core module $M
      (import "" "read" (func $read (param i32 i32) (result i32)))
      (import "" "mem" (memory 1))
      (func (export "get") (param i32) (result i32)
        (drop (call $read (local.get 0) (i32.const 8))) (i32.load8_u (i32.const 8))))
    (core instance $m (instantiate $M (with "" (instance
      (export "read" (func $read)) (export "mem" (memory $memory "mem"))))))
    (func (export "get") async (param "f" $F) (result u32) (canon lift (core func $m "get"))))
  (component $B
    (type $F (future u8))
    (import "get" (func $get async (param "f" $F) (result u32)))
    (core module $Memory (memory (export "mem") 1) (data (i32.const 16) "\\07"))
    (core instance $memory (instantiate $Memory))
    (core func $new (canon future.new $F))
    (core func $write (canon future.write $F async (memory (core memory $memory "mem"))))
    (core func $get' (canon lower (func $get) async (memory (core memory $memory "mem"))))
    (core func $return (canon task.return (result u32)))
    (core module $M
      (import "" "new" (func $new (result i64)))
      (import "" "write" (func $write (param i32 i32) (result i32)))
      (import "" "get" (func $get (param i32 i32) (result i32)))
      (import "" "return" (func $return (param i32)))
      (import "" "mem" (memory 1))
      (func (export "run") (result i32) (local $pair i64)
        (local.set $pair (call $new))
        {}
        (call $return (i32.load (i32.const 64)))
        (i32.const 0))
      (func (export "cb") (param i32 i32 i32) (result i32) unreachable))
    (core instance $m (instantiate $M (with "" (instance
      (export "new" (func $new)) (export "write" (func $write)) (export "get" (func $get'))
      (export "return" (func $return)) (export "mem" (memory $memory "mem"))))))
    (func (export "run") async (result u32)
      (canon lift (core func $m "run") async (callback (core func $m "cb")))))
  (instance $a (instantiate $A))
  (instance $b (instantiate $B (with "get" (func $a "get"))))
  (export "run" (func $b "run")))"""
_CALLS = "(drop (call $get (i32.wrap_i64 (local.get $pair)) (i32.const 64)))"
_WRITES = "(drop (call $write (i32.wrap_i64 (i64.shr_u (local.get $pair) (i64.const 32))) (i32.const 16)))"


def test_a_callee_that_waits_for_its_caller_in_the_middle_of_its_code_is_a_deadlock_that_says_so() -> None:
    """Nothing can suspend the callee, whose caller would write next; the guest returns if it wrote before."""
    with RUNTIME.sandbox(RUNTIME.load_wat(_WAITS_WITHIN.format(_CALLS + _WRITES))) as sandbox:
        with pytest.raises(GuestTrap, match=r"deadlock: a function waits in the middle .* lift it with a callback"):
            sandbox.call("run")
        assert sandbox.state == "poisoned"
    with RUNTIME.sandbox(RUNTIME.load_wat(_WAITS_WITHIN.format(_WRITES + _CALLS))) as sandbox:
        assert sandbox.call("run") == 7
