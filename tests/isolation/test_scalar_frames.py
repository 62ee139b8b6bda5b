"""Calls by fixed frames: each value, and each ending, is the same as by a general message and in process.

The first call of an export uses a general message; later ones use fixed frames.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import struct
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis import (
    AegisError,
    Cancelled,
    CollectingSubscriber,
    DeadlineExceeded,
    GuestTrap,
    OutOfFuel,
    Sandbox,
    SandboxStateError,
    WorkerCrashed,
)  # fmt: skip
from aegis.engine.threads.guest_thread import run_on_guest_thread
from aegis.isolation.parent.calls import ComponentCalls, CoreCalls
from aegis.isolation.protocol.scalar_frames import ScalarFrames, are_scalars
from aegis.wit.python_types import with_python_types
from aegis.wit.types import PRIMITIVES, Enum, List, Option, Tuple
from tests.echo import flat
from tests.isolation.isolated import PLACES, isolated, only_where_there_are_workers, runtime

pytestmark = only_where_there_are_workers


# -- values: three ways, one meaning -----------------------------------------------------------------------


def _double(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


FLOATS: list[Any] = [
    0.0, -0.0, 1.5, -1.5, 0.1, 1e-45, 5e-324, 3.4028234663852886e38, 3.4028235677973366e38, -3.5e38, 1e300,
    1.7976931348623157e308, math.inf, -math.inf, math.nan, -math.nan, _double(0x7FF0_0000_0000_0001),
    _double(0xFFF8_0000_1234_5678), _double(0x7FF8_0000_2000_0000), 2**53, 2**53 + 1, 10**400,
]  # fmt: skip
INTEGERS: list[Any] = [0, 1, -1, *(sign * (1 << bits) + n for sign in (1, -1) for bits in (7, 8, 15, 16, 31, 32, 63, 64)
                                   for n in (-1, 0, 1))]  # fmt: skip
MISFITS: list[Any] = [True, False, None, "", "a", "é", "\0", "\ud7ff", "\ud800", "\udfff", "\ue000", "\U0010ffff", "ab",
                      b"a", 0.5, 1.0, [], (1,), {}, object, 1j]  # fmt: skip
VALUES = [*FLOATS, *INTEGERS, *MISFITS]


class Index:
    """An object that is an integer only by its ``__index__`` method."""

    def __index__(self) -> int:
        return 7


class Text(str):
    """A string of a derived class."""

    __slots__ = ()


class Number(int):
    """An integer of a derived class."""


ODD: list[Any] = [Index(), Text("a"), Text("red"), Number(5), "red", "green", "case-299", "no-case"]
CORE = ("i32", "i64", "f32", "f64")
ENUMS = [
    Enum("colour", ("red", "green")), Enum("one", ("red",)),
    Enum("many", tuple(f"case-{n}" for n in range(256))), Enum("more", tuple(f"case-{n}" for n in range(300))),
]  # fmt: skip
MODULE = f"""(module
  {" ".join(f'(func (export "{t}") (param {t}) (result {t}) local.get 0)' for t in CORE)}
  (func (export "swap") (param i32 f32 i64 f64) (result f64 i64 f32 i32)
    local.get 3 local.get 2 local.get 1 local.get 0)
  (func (export "take") (param f64))
  (func (export "give") (result i64) i64.const -5)
  (func (export "none")))"""


def _component(types: list[Any]) -> str:
    """Return a component with a function ``f<n>`` for each type, which returns its argument."""
    core, lifts = [], []
    for n, of in enumerate(types):
        (kind,) = flat(of)
        core.append(f'(func (export "f{n}") (param {kind}) (result {kind}) local.get 0)')
        name = of
        if isinstance(of, Enum):
            name = f"$e{n}"
            lifts.append(f"(type $t{n} (enum {' '.join(map(repr, of.cases))}))".replace("'", '"'))
            lifts.append(f'(export $e{n} "{of.name}" (type $t{n}))')
        lifts.append(f'(func (export "f{n}") (param "x" {name}) (result {name}) (canon lift (core func $i "f{n}")))')
    return f"(component (core module $m {' '.join(core)}) (core instance $i (instantiate $m)) {' '.join(lifts)})"


SCALARS = [*(of for of in PRIMITIVES if of != "string"), *ENUMS]


def end(box: Sandbox, name: str, *values: Any) -> tuple[Any, ...]:
    """Return how a call ended, in a form that compares bit by bit."""
    try:
        value = box.call(name, *values)
    except AegisError as error:
        return type(error).__name__, str(error).partition(" at 0x")[0]
    finally:
        if box.state == "poisoned":
            box.reset()
    return "returned", *map(exact, value if isinstance(value, tuple) else (value,))


def exact(value: Any) -> Any:
    """Return a float's bits; for an enum case its name, because each backend has its own classes."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    return value if isinstance(value, (int, str)) else getattr(value, "value", value)


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the exports that are called by general messages from now on."""
    seen: list[str] = []

    for calls in (CoreCalls, ComponentCalls):
        before = calls.call

        def call(self: Any, values: Any, before: Any = before) -> Any:
            seen.append(self.name)
            return before(self, values)

        monkeypatch.setattr(calls, "call", call)
    return seen


@contextmanager
def both(text: str, **policy: Any) -> Iterator[list[Sandbox]]:
    with ExitStack() as stack:
        yield [stack.enter_context(r.sandbox(r.load_wat(text))) for r in (runtime(p, **policy) for p in PLACES)]


def test_each_value_of_a_core_type_means_the_same_in_process_and_by_both_kinds_of_frames(general: list[str]) -> None:
    with both(MODULE) as (here, there):
        for name in CORE:
            there.call(name, 1)
            general.clear()
            ends = [end(there, name, value) for value in (*VALUES, *ODD)]
            assert 10 < len(general) < len(ends) - 10, "some of them go by fixed frames, and some do not fit"
            assert ends == [end(here, name, value) for value in (*VALUES, *ODD)]
            way = there._run.store._calls(name)  # type: ignore[union-attr]
            for value, fixed in zip(VALUES, ends, strict=False):
                if fixed[0] == "returned":
                    assert exact(way.call((value,))) == fixed[1]  # type: ignore[attr-defined]


def test_rows_of_core_values_keep_their_order_and_their_number(general: list[str]) -> None:
    with both(MODULE) as (here, there):
        for _ in range(3):
            for name, values in (
                ("swap", (-(2**31), 0.1, 2**63 - 1, -0.0)), ("take", (math.nan,)), ("give", ()), ("none", ()),
                ("swap", (1, 2.0, 3)), ("swap", ()), ("none", (1,)), ("take", ()),
            ):  # fmt: skip
                assert end(there, name, *values) == end(here, name, *values)
        assert there.call("none") is None
        assert there.call("take", 0.5) is None
        assert there.call("swap", 1, 2.0, 3, 4.0) == (4.0, 3, 2.0, 1)
        assert 4 <= len(general) < 20


def test_each_value_of_a_scalar_wit_type_means_the_same_in_process_and_by_fixed_frames(general: list[str]) -> None:
    good: dict[Any, Any] = {"bool": True, "char": "x", "f32": 0.5, "f64": 0.5}
    with both(_component(SCALARS)) as (here, there):
        for n, of in enumerate(SCALARS):
            name = f"f{n}"
            there.call(name, of.cases[0] if isinstance(of, Enum) else good.get(of, 1))
            general.clear()
            tried = [*VALUES, *ODD]
            assert [end(there, name, v) for v in tried] == [end(here, name, v) for v in tried]
            assert isinstance(of, Enum) or len(general) < len(tried), "some of them go by fixed frames"
            if isinstance(of, Enum):
                members = [there.call(name, case) for case in of.cases]
                general.clear()
                assert [there.call(name, member) for member in members] == members
                assert not general


def test_functions_with_anything_but_scalars_are_not_called_by_fixed_frames(general: list[str]) -> None:
    assert are_scalars(["i32"] * 32, [])
    assert not are_scalars(["i32"] * 33, [])
    for of in ("string", "v128", "funcref", List("u8"), Option("u8"), Tuple(("u8",))):
        assert not are_scalars([of], [])
        assert not are_scalars([], [of])
    many = " ".join(["i32"] * 33)
    with both(f'(module (func (export "many") (param {many}) (result i32) local.get 32))') as (_, there):
        assert [there.call("many", *range(33)) for _ in range(3)] == [32] * 3
        assert len(general) == 3


TYPES = st.lists(
    st.sampled_from([*CORE, *SCALARS]).map(lambda of: of if isinstance(of, str) else with_python_types(of)), max_size=8
)
WIDTHS = {"i32": (-(1 << 31), 1 << 31), "i64": (-(1 << 63), 1 << 63)}


def value_of(of: Any) -> st.SearchStrategy[Any]:
    if isinstance(of, Enum):
        assert of.python is not None
        return st.sampled_from(list(of.python))
    if of in ("f32", "f64"):
        return st.floats(width=32 if of == "f32" else 64, allow_nan=False)
    if of == "char":
        return st.characters(exclude_categories=["Cs"])
    if of == "bool":
        return st.booleans()
    bits = int(of[1:])
    low, above = (0, 1 << bits) if of[0] == "u" else (-(1 << (bits - 1)), 1 << (bits - 1))
    return st.integers(low, above - 1)


@settings(deadline=None)
@given(st.data(), TYPES)
def test_a_row_of_scalars_is_the_same_after_it_crossed_either_way(data: Any, types: list[Any]) -> None:
    """A row lowered by one side is lifted by the other to the same row of the same classes."""
    row = [data.draw(value_of(of)) for of in types]
    frames = ScalarFrames(types, types)
    assert tuple(map(type, row)) == frames.kinds
    lowered = row if frames.lower_params is None else frames.lower_params(row)
    *_, there = (frames.call.unpack(frames.call.pack(frames.call_head, 1, 2, *lowered))[3:],)
    assert list(there if frames.lift_params is None else frames.lift_params(there)) == row
    lowered = row if frames.lower_results is None else frames.lower_results(row)
    answer = frames.answer.pack(frames.answer_head, 1, *range(5), 0.5, *range(4), *lowered)
    back = frames.answer_with_account.unpack(answer)[3:]
    assert list(back if frames.lift_results is None else frames.lift_results(back)) == row


# -- ends -------------------------------------------------------------------------------------------------

ENDS = """(module
  (memory (export "memory") 1 4)
  (func (export "spin") (param $n i64) (result i64) (local $i i64)
    (block $out (loop $again
      (br_if $out (i64.eq (local.get $i) (local.get $n)))
      (local.set $i (i64.add (local.get $i) (i64.const 1)))
      (br $again)))
    (local.get $i))
  (func (export "trap") (param i32) (result i32)
    (if (local.get 0) (then unreachable)) (local.get 0))
  (func (export "grow") (result i32) (memory.grow (i32.const 1))))"""
FOREVER = (1 << 63) - 1


def second(box: Sandbox, general: list[str]) -> None:
    """Make the first calls, so that later ones use fixed frames."""
    for name, values in (("spin", (0,)), ("trap", (0,))):
        box.call(name, *values)
    general.clear()


def test_a_call_that_takes_longer_than_a_look_returns_its_value(general: list[str]) -> None:
    with both(ENDS) as (_, box):
        second(box, general)
        assert box.call("spin", 300_000_000) == 300_000_000
        assert not general


@pytest.mark.parametrize("policy", [{}, {"fuel": None, "host_calls": None}, {"fuel": 1 << 60}])
def test_a_late_call_ends_at_its_deadline(general: list[str], policy: Any) -> None:
    aegis = isolated(timeout="300ms", **policy)
    with aegis.sandbox(aegis.load_wat(ENDS)) as box:
        second(box, general)
        with pytest.raises(DeadlineExceeded):
            box.call("spin", FOREVER)
        assert not general
        assert box.state == "poisoned"
        with pytest.raises(SandboxStateError):
            box.call("trap", 0)
        box.reset()
        assert box.call("spin", 5) == 5


def test_a_call_is_cancelled_from_another_thread(general: list[str]) -> None:
    aegis = isolated(timeout="1m")
    with aegis.sandbox(aegis.load_wat(ENDS)) as box:
        second(box, general)

        def cancel() -> None:
            while box.state == "ready":
                box.cancel()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        with pytest.raises(Cancelled):
            box.call("spin", FOREVER)
        canceller.join(20)
        assert not general


def test_a_signal_handler_that_raises_ends_the_call() -> None:
    """A call of a guest without host functions waits on the main thread, where Ctrl-C arrives."""
    aegis = isolated(timeout="1m")
    with aegis.sandbox(aegis.load_wat(ENDS)) as box:
        box.call("spin", 0)
        before = signal.signal(signal.SIGALRM, _interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                box.call("spin", FOREVER)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert box.state == "poisoned"
        box.reset()
        assert box.call("spin", 3) == 3


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_trap_poisons_and_a_worker_that_dies_is_replaced(general: list[str]) -> None:
    with both(ENDS) as (here, there):
        for box in (here, there):
            second(box, general)
            with pytest.raises(GuestTrap, match="unreachable"):
                box.call("trap", 1)
            assert box.state == "poisoned"
            box.reset()
        second(there, general)
        os.kill(there._run.store.worker.pid, signal.SIGKILL)  # type: ignore[union-attr]
        with pytest.raises(WorkerCrashed):
            there.call("trap", 0)
        assert there.call("spin", 4) == 4


def test_the_second_call_uses_and_reports_as_much_as_the_first(general: list[str]) -> None:
    with both(ENDS, fuel=10_000) as boxes:
        used = []
        for box in boxes:
            second(box, general)
            found = []
            for name, values in (("spin", (100,)), ("spin", (200,)), ("grow", ()), ("grow", ()), ("grow", ())):
                usage = box.run(name, *values).usage
                found.append((usage.fuel, usage.peak_memory, usage.host_calls, usage.bytes_in, usage.bytes_out))
            with pytest.raises(OutOfFuel):
                box.call("spin", 1_000_000)
            used.append(found)
        assert used[0] == used[1]
        assert used[0][0][0] != used[0][1][0]
        assert used[0][-1][1] == 4 << 16


def test_calls_leave_nothing_that_keeps_a_dropped_sandbox_alive() -> None:
    """Oracle: the references to the store of a sandbox without any call."""
    aegis = isolated()
    module = aegis.load_wat(ENDS)
    found = []
    for calls in (0, 1, 3):
        gc.collect()
        gc.disable()
        try:
            box = aegis.sandbox(module)
            for n in range(calls):
                box.call("spin", n)
            store = weakref.ref(box._run.store)  # type: ignore[type-var]
            del box
            found.append([] if store() is None else sorted(type(one).__name__ for one in gc.get_referrers(store())))
        finally:
            gc.enable()
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("place", PLACES)
def test_an_observed_sandbox_reports_the_same_for_each_call(place: str) -> None:
    seen = CollectingSubscriber()
    aegis = runtime(place, fuel=1000)
    with aegis.sandbox(aegis.load_wat(CALLS), imports={"env": {"f": lambda n: n}}, subscribers=[seen]) as box:
        told = []
        for _ in range(3):
            for name in ("plain", "go"):
                before = len(seen.events)
                assert box.call(name, 7) == 7
                told.append([type(e).__name__ for e in seen.events[before:] if type(e).__name__ != "MemoryGrew"])
    calls = ["ExecutionStarted", "FuelConsumed", "ExecutionCompleted"]
    assert told == [calls, [calls[0], "HostFunctionCalled", *calls[1:]]] * 3


# -- host functions ---------------------------------------------------------------------------------------

CALLS = """(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\06\\00\\00\\00")
  (data (i32.const 16) "guest\\0a")
  (func (export "plain") (param i32) (result i32) local.get 0)
  (func (export "say") (param i32) (result i32)
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) local.get 0)
  (func (export "go") (param i32) (result i32) (call $f (local.get 0))))"""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("on_main", [True, False])
def test_a_host_function_calls_back_by_the_names_that_were_called_before(place: str, on_main: bool) -> None:
    threads: list[int] = []

    def f(n: int) -> int:
        threads.append(threading.get_ident())
        return 100 if n <= 0 else int(box.call("go", n - 1)) + int(box.call("plain", n))

    def calls() -> list[int]:
        return [box.call("plain", 1), box.call("go", 0), box.call("go", 3), box.call("plain", 2), box.call("go", 2)]

    aegis = runtime(place, host_calls=100)
    with aegis.sandbox(aegis.load_wat(CALLS), imports={"env": {"f": f}}) as box:
        wanted = [1, 100, 106, 2, 103]
        if on_main:
            assert calls() == wanted
            assert threading.get_ident() not in threads, "host functions run where a signal's handler does not"
        else:
            job = run_on_guest_thread(calls)
            assert job.wait(20)
            assert job.outcome() == wanted
            assert set(threads) == {job.thread}
            assert calls() == wanted
            assert threading.get_ident() not in threads
        assert box.usage.host_calls == len(threads)


def test_output_during_a_call_is_there_when_it_returns() -> None:
    aegis = isolated()
    with aegis.sandbox(aegis.load_wat(CALLS), imports={"env": {"f": lambda n: n}}, stdio=_captured()) as box:
        for n in range(1, 5):
            assert box.call("say", n) == n
            assert box.call("plain", n) == n
            assert box.stdout == b"guest\n" * n
            assert box.usage.stdout == 6 * n


def _captured() -> Any:
    from aegis import StdioCapability

    return StdioCapability(stdout="capture")


def test_a_recycled_worker_keeps_no_number_of_the_sandbox_before() -> None:
    aegis = isolated(isolation={"recycle": 100, "workers": 0})
    module = aegis.load_wat(MODULE)
    for names in (("i32", "i64"), ("i64", "i32"), ("f64", "i32")):
        with aegis.sandbox(module) as box:
            for n in range(3):
                assert [box.call(name, n) for name in names] == [n, n]
