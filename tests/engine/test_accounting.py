"""The memory limit counts initial and grown memory of all memories together, to the byte.

The oracle: for any sequence of requests, the granted sum never exceeds the limit, a request is refused only if it would
exceed it, and the usage that the host reports is the sum that the guest sees.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis import Aegis, MemoryExceeded, Sandbox
from aegis.engine.store import memory_accounting

PAGE = 65536
pytestmark = pytest.mark.skipif(
    not memory_accounting.available(), reason="memories are counted on 64-bit Linux and macOS"
)


def module(memories: list[str], *, start: str = "", exported: bool = False, data: str = "") -> str:
    """Return a module that grows and measures each of its memories, and one that traps if a growth is refused."""
    made = "".join(
        f"(memory {label.format(n) if exported else ''} {m})"
        for label in ['(export "m{}")']
        for n, m in enumerate(memories)
    )
    functions = "".join(
        f"""(func (export "grow{n}") (param i32) (result i32) (memory.grow {n} (local.get 0)))
        (func (export "size{n}") (result i32) (memory.size {n}))
        (func (export "need{n}") (param i32)
          (if (i32.eq (memory.grow {n} (local.get 0)) (i32.const -1)) (then unreachable)))"""
        for n in range(len(memories))
    )
    return f'(module {made} {data} {functions} (func (export "trap") unreachable) {start})'


@pytest.fixture
def sandboxes() -> Iterator[Callable[..., Sandbox]]:
    open_now: list[Sandbox] = []

    def make(text: str, pages: int | None = 100, **options: Any) -> Sandbox:
        runtime = Aegis(cache=False, memory=None if pages is None else pages * PAGE)
        sandbox = runtime.sandbox(runtime.load_wat(text), **options)
        open_now.append(sandbox)
        return sandbox

    yield make
    for sandbox in open_now:
        sandbox.close()


def test_several_memories_share_the_remainder(sandboxes: Callable[..., Sandbox]) -> None:
    sandbox = sandboxes(module(["1", "2"]))
    assert sandbox.call("grow0", 90) == 1
    assert sandbox.call("grow1", 8) == -1
    assert sandbox.call("grow1", 7) == 2
    assert sandbox.call("grow0", 1) == -1
    assert sandbox.call("grow0", 0) == 91
    assert sandbox.usage.peak_memory == 100 * PAGE


def test_a_limit_between_two_pages_admits_the_lower(sandboxes: Callable[..., Sandbox]) -> None:
    runtime = Aegis(cache=False, memory=3 * PAGE + 10)
    with runtime.sandbox(runtime.load_wat(module(["1", "1"]))) as sandbox:
        assert [sandbox.call("grow0", 1), sandbox.call("grow0", 1)] == [1, -1]


@pytest.mark.parametrize(
    ("memories", "counted"),
    [
        (["1"], False),
        (["1", "10 10"], False),  # the fixed memory leaves the remainder as the cap of the other one
        (["10 20", "10 30"], False),  # their maxima together are within the limit
        (["1", "60 60"], True),  # a shared cap would be too low for the second memory
        (["1", "1"], True),
        (["1 99", "1 99"], True),
    ],
)
def test_an_engine_that_counts_is_used_where_caps_are_not_exact(
    sandboxes: Callable[..., Sandbox], memories: list[str], counted: bool
) -> None:
    sandbox = sandboxes(module(memories))
    assert sandbox._run.store is not None
    assert sandbox._run.store.plan.counted is counted
    given_pages = 0
    for n in range(len(memories)):
        while sandbox.call(f"grow{n}", 1) != -1:
            pass
        given_pages += sandbox.call(f"size{n}")
    largest = sum(int(m.split()[1]) if " " in m else 1000 for m in memories)
    assert given_pages == min(largest, 100)


@pytest.mark.parametrize("exported", [True, False])
@pytest.mark.parametrize("observed", ["subscriber", "measured"])
def test_observers_see_memories_that_are_not_exported(
    sandboxes: Callable[..., Sandbox], exported: bool, observed: str
) -> None:
    events: list[Any] = []
    how: dict[str, Any] = {"subscribers": [events.append]} if observed == "subscriber" else {"measured": True}
    sandbox = sandboxes(module(["2"], exported=exported), **how)
    assert sandbox._run.store is not None
    assert sandbox._run.store.plan.counted is not exported
    sandbox.call("grow0", 5)
    sandbox.call("grow0", 3)
    assert sandbox.usage.peak_memory == 10 * PAGE
    if events:
        grown = [(e.before // PAGE, e.after // PAGE) for e in events if e.kind == "memory_grew"]
        assert grown == [(0, 7), (7, 10)]


def test_a_trap_after_a_refusal_is_the_limits(sandboxes: Callable[..., Sandbox]) -> None:
    sandbox = sandboxes(module(["1", "1"]))
    with pytest.raises(MemoryExceeded, match=r"\(131,072/6,553,600 bytes, 6,553,600 more were refused\)") as caught:
        sandbox.call("need0", 100)
    error = caught.value
    assert (error.limit, error.phase, error.used, error.allowed) == ("memory", "grown", 2 * PAGE, 100 * PAGE)
    sandbox.reset()
    assert sandbox.usage.peak_memory == 2 * PAGE
    assert sandbox.run("trap").status == "trap", "a new store was refused nothing"


def test_a_hook_that_is_not_set_is_called_for_lack_of_memory(sandboxes: Callable[..., Sandbox]) -> None:
    """Programs that abort before their start-up is complete call a null entry of their table."""
    sandbox = sandboxes("""(module (memory 1) (memory 1) (table 1 funcref)
      (func (export "need") (param i32)
        (if (i32.eq (memory.grow (local.get 0)) (i32.const -1)) (then (call_indirect (i32.const 0)))))
      (func (export "null") (call_indirect (i32.const 0))))""")
    assert sandbox.run("need", 100).status == "memory-exceeded"
    sandbox.reset()
    assert sandbox.run("null").status == "trap"


def test_a_trap_in_a_later_call_is_not_the_limits(sandboxes: Callable[..., Sandbox]) -> None:
    """Oracle: the trap of the same call in a sandbox where no growth was refused."""
    sandbox = sandboxes(module(["1", "2"]))
    assert sandbox.call("grow0", 100) == -1
    assert sandbox.run("trap").status == "trap"


def test_a_refusal_that_the_guest_got_over_is_no_reason(sandboxes: Callable[..., Sandbox]) -> None:
    sandbox = sandboxes(module(["1", "1"]))
    assert [sandbox.call("grow0", 100), sandbox.call("grow0", 10)] == [-1, 1]
    assert sandbox.run("trap").status == "trap"


def test_without_a_limit_memory_is_still_seen(sandboxes: Callable[..., Sandbox]) -> None:
    sandbox = sandboxes(module(["1"]), None, measured=True)
    assert sandbox.call("grow0", 2000) == 1
    assert sandbox.usage.peak_memory == 2001 * PAGE
    assert sandbox.run("trap").status == "trap"


def test_a_start_function_counts_and_its_end_is_reported(sandboxes: Callable[..., Sandbox]) -> None:
    grows = "(func $s (drop (memory.grow 0 (i32.const 50)))) (start $s)"
    sandbox = sandboxes(module(["1", "1"], start=grows))
    assert [sandbox.call("grow1", 49), sandbox.call("grow1", 48)] == [-1, 1]
    with pytest.raises(MemoryExceeded) as caught:
        sandboxes(module(["1", "1"], start=f"(func $s {NEED} unreachable) (start $s)"))
    assert caught.value.phase == "grown"


NEED = "(drop (memory.grow 1 (i32.const 99)))"


def test_data_segments_are_present_and_new_memory_is_zero_after_another_guest(
    sandboxes: Callable[..., Sandbox],
) -> None:
    data = '(data (i32.const 7) "seven") (data (memory 1) (i32.const 65530) "tail")'
    size = "(i32.mul (memory.size 0) (i32.const 65536))"
    fill = f'(func (export "fill") (memory.fill 0 (i32.const 0) (i32.const 255) {size}))'
    look = """(func (export "sum") (result i64) (local $i i32) (local $x i64)
      (loop $again
        (local.set $x (i64.add (local.get $x) (i64.load 0 (local.get $i))))
        (local.set $i (i32.add (local.get $i) (i32.const 8)))
        (br_if $again (i32.lt_u (local.get $i) (i32.mul (memory.size 0) (i32.const 65536)))))
      local.get $x)"""
    text = module(["1", "1"], data=data, start=fill + look)
    before = sum(int.from_bytes((b"\0" * 7 + b"seven" + b"\0" * 4)[n : n + 8], "little") for n in (0, 8))
    for _ in range(3):
        sandbox = sandboxes(text)
        assert sandbox.call("grow0", 40) == 1
        assert sandbox.call("sum") == before
        sandbox.call("fill")
        sandbox.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(5, 40))), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), max_size=25),
    st.integers(20, 80),
    st.booleans(),
)
def test_the_sum_never_exceeds_the_limit_and_equals_the_guests_view(
    memories: list[tuple[int, int | None]], requests: list[tuple[int, int]], pages: int, measured: bool
) -> None:
    texts = [f"{first} {'' if most is None else most}" for first, most in memories]
    runtime = Aegis(cache=False, memory=pages * PAGE, fuel=None)
    with runtime.sandbox(runtime.load_wat(module(texts)), measured=measured) as sandbox:
        sizes = [first for first, _ in memories]
        for which, more in requests:
            n = which % len(memories)
            most = memories[n][1]
            fits = sum(sizes) + more <= pages and (most is None or sizes[n] + more <= most)
            assert sandbox.call(f"grow{n}", more) == (sizes[n] if fits else -1)
            sizes[n] += more if fits else 0
        assert [sandbox.call(f"size{n}") for n in range(len(sizes))] == sizes
        assert sandbox._run.store is not None
        if sandbox._run.store.plan.counted:
            assert sandbox.usage.peak_memory == sum(sizes) * PAGE


def test_threads_do_not_share_a_budget() -> None:
    runtime = Aegis(cache=False, memory=100 * PAGE)
    artifact = runtime.load_wat(module(["1", "1"]))
    wrong: list[Any] = []

    def work() -> None:
        for n in range(30):
            with runtime.sandbox(artifact) as sandbox:
                seen = [sandbox.call("grow0", 98 - n), sandbox.call("grow1", n + 1), sandbox.call("grow1", n)]
                if seen != [1, -1, 1] or sandbox.usage.peak_memory != 100 * PAGE:
                    wrong.append(seen)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_guest_inside_a_guest_has_its_own_budget() -> None:
    runtime = Aegis(cache=False, memory=100 * PAGE)
    inner = runtime.load_wat(module(["1", "1"]))
    outer = runtime.load_wat(
        '(module (import "h" "f" (func $f)) (memory 1) (memory 1) (func $s (call $f)) (start $s) '
        '(func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))'
    )
    seen: list[int] = []

    def nested() -> None:
        with runtime.sandbox(inner) as sandbox:
            seen.extend([sandbox.call("grow0", 98), sandbox.call("grow0", 1)])

    with runtime.sandbox(outer, imports={"h": {"f": nested}}) as sandbox:
        assert seen == [1, -1]
        assert [sandbox.call("grow", 99), sandbox.call("grow", 98)] == [-1, 1]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")
def test_a_thousand_sandboxes_leave_nothing() -> None:
    runtime = Aegis(cache=False, memory=100 * PAGE)
    artifact = runtime.load_wat(module(["1", "1"]))

    def life() -> None:
        with runtime.sandbox(artifact) as sandbox:
            sandbox.call("grow0", 3)

    def maps() -> int:
        return Path("/proc/self/maps").read_text().count("\n")

    together = [runtime.sandbox(artifact) for _ in range(40)]
    assert len({region.base for s in together for region in s._run.store.memory_budget._regions}) == 80  # type: ignore[union-attr]
    for sandbox in together:
        sandbox.close()
    before, known = maps(), len(memory_accounting._regions)
    for _ in range(1000):
        life()
    assert len(memory_accounting._regions) == known
    assert len(memory_accounting._spare) <= memory_accounting._SPARE_KEPT
    assert maps() <= before + 8


def test_a_store_without_a_budget_gets_no_memory() -> None:
    assert memory_accounting._new(0, 0, PAGE, PAGE, 1 << 32, 1 << 25, 0) is not None


def test_a_lack_of_address_space_is_distinguished_from_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Aegis(cache=False)
    artifact = runtime.load_wat(module(["1", "1"]))
    monkeypatch.setattr(memory_accounting, "_take", lambda capacity, guard: None)
    with pytest.raises(MemoryExceeded, match="the system has no address space left") as caught:
        runtime.sandbox(artifact)
    assert caught.value.phase == "initial"


def test_where_memories_cannot_be_counted_equal_caps_hold_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aegis.engine.compile.code.available", lambda: False)
    runtime = Aegis(cache=False, memory=100 * PAGE)
    with runtime.sandbox(runtime.load_wat(module(["1", "1"]))) as sandbox:
        assert [sandbox.call("grow0", 50), sandbox.call("grow0", 49), sandbox.call("grow1", 49)] == [-1, 1, 1]


def test_one_table_may_grow_to_the_remainder_and_two_share_it_equally() -> None:
    text = """(module {tables}
      (func (export "grow0") (param i32) (result i32) (table.grow 0 (ref.null func) (local.get 0)))
      (func (export "grow1") (param i32) (result i32) (table.grow 1 (ref.null func) (local.get 0))))"""
    runtime = Aegis(cache=False, table_elements=100)
    one = text.format(tables="(table 1 funcref) (table 40 40 funcref)")
    with runtime.sandbox(runtime.load_wat(one)) as sandbox:
        assert [sandbox.call("grow0", 60), sandbox.call("grow0", 59)] == [-1, 1]
    two = text.format(tables="(table 1 funcref) (table 10 funcref)")
    with runtime.sandbox(runtime.load_wat(two)) as sandbox:
        assert [sandbox.call("grow0", 50), sandbox.call("grow0", 49), sandbox.call("grow1", 40)] == [-1, 1, 10]


def test_a_large_table_that_cannot_grow_leaves_the_rest_to_the_one_that_can() -> None:
    text = """(module (table 1 funcref) (table 80 80 funcref) {start}
      (func (export "grow") (param i32) (result i32) (table.grow 0 (ref.null func) (local.get 0))))"""
    runtime = Aegis(cache=False, table_elements=100)
    for how in ({}, {"measured": True}):
        with runtime.sandbox(runtime.load_wat(text.format(start="")), **how) as sandbox:
            assert [sandbox.call("grow", 20), sandbox.call("grow", 19), sandbox.call("grow", 1)] == [-1, 1, -1]
    with pytest.raises(MemoryExceeded, match="could grow beyond the limit"):
        runtime.sandbox(runtime.load_wat(text.format(start="(func $s) (start $s)")))
    with pytest.raises(MemoryExceeded, match=r"\(101/100 initial elements of the module\)"):
        runtime.sandbox(runtime.load_wat(text.format(start="").replace("80 80", "100 100")))


def test_a_guest_that_never_stops_asking_is_stopped() -> None:
    text = module(["1", "1"], start='(func (export "ask") (loop $l (drop (memory.grow 0 (i32.const 999))) (br $l)))')
    runtime = Aegis(cache=False, memory=100 * PAGE, fuel=None, host_calls=1000)
    with runtime.sandbox(runtime.load_wat(text)) as sandbox:
        with pytest.raises(MemoryExceeded, match="1,000 times, the limit of host calls") as caught:
            sandbox.call("ask")
        assert caught.value.phase == "grown"


def test_memory_counted_for_observation_stays_off_the_main_thread_too() -> None:
    runtime = Aegis(cache=False, memory=100 * PAGE, exact_memory=True)
    with runtime.sandbox(runtime.load_wat(module(["1"]))) as sandbox:
        store = sandbox._run.store
        assert store is not None
        assert store.plan.counted
        assert not store.calls_no_python
        assert store.closure_here("grow0") is None
    with runtime.sandbox(runtime.load_wat(module(["1"], exported=True))) as sandbox:
        assert sandbox._run.store is not None
        assert not sandbox._run.store.plan.counted, "what everybody can see needs no count"
