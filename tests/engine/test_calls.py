"""Values cross the boundary unchanged in both directions, for every signature."""

from __future__ import annotations

import math
import struct
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis import Aegis
from aegis.engine.call.core_values import coerce
from aegis.errors import CallError, GuestTrap, HostError
from aegis.values import ImportName

TYPES = ("i32", "i64", "f32", "f64")
VALUES: dict[str, Any] = {
    "i32": st.integers(-(1 << 31), (1 << 31) - 1),
    "i64": st.integers(-(1 << 63), (1 << 63) - 1),
    "f32": st.floats(width=32),
    "f64": st.floats(),
}
RUNTIME = Aegis(cache=False)


def echoing(params: tuple[str, ...]) -> str:
    """A module that passes its arguments to the host and returns the host's results."""
    types = " ".join(params)
    shape = f"(param {types}) (result {types})" if params else ""
    gets = " ".join(f"(local.get {n})" for n in range(len(params)))
    return f"""(module (import "env" "f" (func $f {shape}))
      (func (export "through") {shape} (call $f {gets}))
      (func (export "back") {shape} {gets}))"""


SANDBOXES: dict[tuple[tuple[str, ...], bool], Any] = {}


def sandbox(params: tuple[str, ...], *, observed: bool) -> Any:
    """Return a sandbox whose host function returns its arguments."""
    key = (params, observed)
    if key not in SANDBOXES:

        def f(*args: Any) -> Any:
            assert len(args) == len(params)
            return None if not args else args[0] if len(args) == 1 else args

        module = RUNTIME.load_wat(echoing(params))
        SANDBOXES[key] = RUNTIME.sandbox(module, imports={"env": {"f": f}}, measured=observed)
    return SANDBOXES[key]


def same(left: Any, right: Any) -> bool:
    """Return whether two numbers have the same bits, with all NaNs being equal."""
    if isinstance(left, float) and math.isnan(left):
        return math.isnan(right)
    return bool(left == right) and struct.pack("<d", float(left)) == struct.pack("<d", float(right))


@pytest.mark.parametrize("observed", [False, True])
@given(data=st.data())
@settings(max_examples=120, deadline=None, derandomize=True)
def test_arguments_and_results_are_unchanged(observed: bool, data: st.DataObject) -> None:
    params = tuple(data.draw(st.lists(st.sampled_from(TYPES), max_size=3)))
    values = tuple(data.draw(VALUES[t]) for t in params)
    subject = sandbox(params, observed=observed)
    for name in ("through", "back"):
        result = subject.call(name, *values)
        results = () if not params else (result,) if len(params) == 1 else result
        assert len(results) == len(values)
        assert all(map(same, results, values))


def test_every_signature_of_up_to_two() -> None:
    for count in range(3):
        for params in product(TYPES, repeat=count):
            values = tuple(range(1, count + 1))
            result = sandbox(params, observed=False).call("through", *values)
            assert result == (None if not values else values[0] if count == 1 else values)


@given(
    value=st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans(), st.binary()),
    kind=st.sampled_from(TYPES),
)
@settings(derandomize=True)
def test_a_value_is_taken_whole_or_refused(value: Any, kind: str) -> None:
    """Oracle: a coerced number equals the given one, modulo an integer's sign and an f32's rounding; nothing is
    truncated.
    """
    try:
        taken = coerce(kind, value, "it")
    except CallError:
        return
    if kind.startswith("i"):
        assert (taken - value) % (1 << int(kind[1:])) == 0
        assert -(1 << (int(kind[1:]) - 1)) <= taken < 1 << (int(kind[1:]) - 1)
        assert abs(taken - value) in (0, 1 << int(kind[1:]))
    else:
        assert isinstance(taken, float)
        nearest = struct.unpack("<f", struct.pack("<f", float(value)))[0] if kind == "f32" else float(value)
        assert math.isnan(taken) or taken == nearest


TRAPS = {
    "unreachable": "(unreachable)",
    "integer-division-by-zero": "(drop (i32.div_s (i32.const 1) (i32.const 0)))",
    "integer-overflow": "(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))",
    "bad-conversion-to-integer": "(drop (i32.trunc_f32_s (f32.const nan)))",
    "memory-out-of-bounds": "(drop (i32.load (i32.const 65536)))",
    "table-out-of-bounds": "(drop (table.get (i32.const 9)))",
    "indirect-call-to-null": "(call_indirect (i32.const 0))",
    "bad-signature": "(call_indirect (param i32) (i32.const 1) (i32.const 1))",
}


@pytest.mark.parametrize("code", TRAPS)
def test_each_trap_has_its_code(code: str) -> None:
    text = f"""(module (memory 1) (table 2 funcref) (elem (i32.const 1) $f)
      (func $f) (func $bad (export "bad") {TRAPS[code]}))"""
    with RUNTIME.sandbox(RUNTIME.load_wat(text)) as subject:
        with pytest.raises(GuestTrap) as caught:
            subject.call("bad")
        assert caught.value.code == code
        assert caught.value.frames[0].name == "bad"
        assert "bad" in str(caught.value)


def test_an_observed_call_reports_a_failing_host_function() -> None:
    heard: list[Any] = []

    def f() -> None:
        raise ValueError("no")

    text = '(module (import "env" "f" (func $f)) (func (export "go") (call $f)))'
    module = RUNTIME.load_wat(text)
    subject = RUNTIME.sandbox(module, imports={"env": {"f": f}}, subscribers=[heard.append])
    with subject, pytest.raises(HostError):
        subject.call("go")
    (event,) = [e for e in heard if e.kind == "host_function_called"]
    assert (event.ok, event.error) == (False, "host-error")


def test_more_stack_depths_than_views_are_kept() -> None:
    """At each depth the callback receives another address; views of old addresses are released."""
    text = """(module (import "env" "f" (func $f (param i32) (result i32)))
      (func $down (export "down") (param i32) (result i32)
        (if (local.get 0) (then (drop (call $down (i32.sub (local.get 0) (i32.const 1))))))
        (call $f (local.get 0))))"""
    seen: list[int] = []

    def f(n: int) -> int:
        seen.append(n)
        return n

    with RUNTIME.sandbox(RUNTIME.load_wat(text), imports={"env": {"f": f}}) as subject:
        assert subject.call("down", 1500) == 1500
    assert seen == list(range(1501))


def test_a_callback_without_an_owner_is_refused() -> None:
    """For any import number from the engine, the result is a trap, and no other sandbox is charged with the error."""
    import ctypes

    from aegis.engine.call import trampoline
    from aegis.engine.native.library import lib
    from aegis.values import FuncType

    callback = trampoline.host_callback(FuncType(), observed=False)
    space = (ctypes.c_char * 64)()
    for number in (0, 7, 1 << 50):
        trap = callback(number, 0, ctypes.addressof(space), 0)
        assert trap
        lib.wasm_trap_delete(trap)
    assert (trampoline.slots[0][0].calls_left, *trampoline.slots[0][1:]) == (0, (), (), [])


def test_the_first_failure_is_the_one_that_counts() -> None:
    """A guest cannot hide a host failure behind a second one: after a trap it does not run any further."""
    from aegis.engine.call import trampoline
    from aegis.engine.call.door import Door
    from aegis.engine.native.library import lib
    from aegis.limits import Limits

    door = Door(Limits())
    names = ImportName("env", "e"), ImportName("env", "f")
    number = trampoline.take_slot((door, (print, print), names, []))
    first, second = ValueError("first"), ValueError("second")
    for error in (first, second):
        lib.wasm_trap_delete(trampoline.fail_call(number << trampoline.IMPORT_BITS | 1, error))
    trampoline.free_slot(number)
    assert door.failure is first
    assert door.serving == "env.f"
