"""State machines read streams in pieces, close them early and pass them on, and minimise a bug to a Python script."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from aegis import Aegis, GuestTrap
from aegis.testing.machines import state_machine
from tests.component.tasks.async_guests import copier, script
from tests.fuzz.test_machines import SETTINGS, _calls, _failure, _script

RUNTIME = Aegis(cache=False, timeout="3s")
# Writes four bytes at a time without end. A stream of which some were read traps if its reader is closed.
_COUNTS = """
    (func $gone (param $end i32) (result i32)
      (if (i32.load8_u (i32.add (i32.const 256) (local.get $end))) (then unreachable))
      (call $s-drop-write (local.get $end))
      (i32.const 0))
    (func $write (param $end i32) (result i32) (local $r i32)
      (loop $more
        (local.set $r (call $s-write (local.get $end) (i32.const 64) (i32.const 4)))
        (if (i32.eq (local.get $r) (i32.const -1)) (then (return (call $wait (local.get $end)))))
        (br_if $more (i32.eqz (i32.and (local.get $r) (i32.const 15)))))
      (call $gone (local.get $end)))
    (func (export "count") (result i32) (local $pair i64)
      (local.set $pair (call $s-new))
      (call $return-stream (call $read-end (local.get $pair)))
      (call $write (call $write-end (local.get $pair))))
    (func (export "count-cb") (param i32 i32 i32) (result i32)
      (call $join (local.get 1) (i32.const 0))
      (if (i32.shr_u (local.get 2) (i32.const 4)) (then
        (i32.store8 (i32.add (i32.const 256) (local.get 1)) (i32.const 1))))
      (if (i32.and (local.get 2) (i32.const 15)) (then (return (call $gone (local.get 1)))))
      (call $write (local.get 1)))"""


@pytest.mark.long
def test_a_stream_that_is_closed_after_a_read_is_found_and_minimised() -> None:
    """Oracle: the script is the shortest way to the trap, and ends with it when it is executed."""
    machine = state_machine(RUNTIME, RUNTIME.load_wat(script(_COUNTS, {"count": "(result $S)"})))
    failure = _failure(machine, max_examples=60)
    calls = _calls(failure)
    assert calls[0] == "stream_1 = api['count']()"
    assert any(line.startswith("stream_1.read(") for line in calls)
    assert "stream_1.close()" in calls
    assert len(calls) == 4  # the guest learns of it when it runs next
    names: dict[str, Any] = {"runtime": RUNTIME, "component": machine.world.component}
    with pytest.raises(GuestTrap, match="unreachable"):
        exec(_script(failure), names)
    names["sandbox"].close()


@pytest.mark.parametrize("of", ["u8", pytest.param("string", marks=pytest.mark.long)])
def test_a_correct_guest_is_driven_through_all_steps(of: Any) -> None:
    """Oracle: a guest that copies streams passes, and its streams are read, closed, and passed back to it."""
    seen: set[str] = set()
    pace = {f"{name}.room": st.integers(1, 5) for name in ("collect", "feed", "relay")}
    pace["collect.most"] = st.integers(0, 5)
    component = RUNTIME.load_wat(copier(of, imports=False))

    class Copies(state_machine(RUNTIME, component, overrides=pace, budget=32)):  # type: ignore[misc]
        def judge(self, function: str, arguments: Any, outcome: Any) -> None:
            seen.add(function.partition(" ")[0])
            seen.update(type(argument).__name__ for argument in arguments)
            super().judge(function, arguments, outcome)

    run_state_machine_as_test(Copies, settings=settings(SETTINGS, max_examples=10))
    assert {"collect", "relay", "read", "close", "promise", "keep"} <= seen
    assert of == "string" or {"ByteStreamReader", "FutureReader"} <= seen
