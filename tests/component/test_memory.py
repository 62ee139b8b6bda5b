"""The memory of a component: counted over all instances, peak usage observed, refused growth reported.

The oracle is that of ``tests/engine/test_accounting.py``, over several instances of several modules.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aegis
from aegis import Aegis, GuestTrap, MemoryExceeded
from aegis.engine.store import memory_accounting
from tests.cli.command import aegis as command

PAGE = 65536
pytestmark = pytest.mark.skipif(
    not memory_accounting.available(), reason="memories are counted on 64-bit Linux and macOS"
)

BODY = """(memory (export "m") {first}) {more}
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "size") (result i32) (memory.size))
    (func (export "need") (param i32)
      (if (i32.eq (memory.grow (local.get 0)) (i32.const -1)) (then unreachable)))"""
LIFTED = """(func (export "grow{n}") (param "n" s32) (result s32) (canon lift (core func $i{n} "grow")))
    (func (export "size{n}") (result s32) (canon lift (core func $i{n} "size")))
    (func (export "need{n}") (param "n" s32) (canon lift (core func $i{n} "need")))"""


def component(firsts: list[str], *, more: str = "") -> str:
    """Return a component with one instance each of modules with these initial memories."""
    modules = "".join(f"(core module $m{n} {BODY.format(first=f, more=more)})" for n, f in enumerate(firsts))
    instances = "".join(f"(core instance $i{n} (instantiate $m{n}))" for n in range(len(firsts)))
    return f"(component {modules} {instances} {''.join(LIFTED.format(n=n) for n in range(len(firsts)))})"


NESTED = f"""(component
  (component $inner
    (core module $m {BODY.format(first="2", more="")})
    (core instance $i0 (instantiate $m))
    (core instance $i1 (instantiate $m))
    {LIFTED.format(n=0)} {LIFTED.format(n=1)})
  (instance $a (instantiate $inner))
  (instance $b (instantiate $inner))
  (export "a" (instance $a)) (export "b" (instance $b)))"""


def runtime(pages: int = 100, **options: Any) -> Aegis:
    return Aegis(cache=False, memory=pages * PAGE, **options)


def test_instances_of_one_module_in_nested_components_share_the_limit() -> None:
    here = runtime()
    with here.sandbox(here.load_wat(NESTED)) as sandbox:
        assert [sandbox.call(f"{c}#grow{n}", 20) for c in "ab" for n in (0, 1)] == [2, 2, 2, 2]
        assert [sandbox.call("a#grow0", 13), sandbox.call("b#grow1", 12), sandbox.call("a#grow1", 1)] == [-1, 22, -1]
        assert sandbox.usage.peak_memory == 100 * PAGE


def test_one_memory_unobserved_stays_on_the_fast_engine_with_the_exact_cap() -> None:
    here = runtime()
    with here.sandbox(here.load_wat(component(["1", "30 30"]))) as sandbox:
        assert sandbox._run.store is not None
        assert not sandbox._run.store.plan.counted
        assert [sandbox.call("grow0", 70), sandbox.call("grow0", 69)] == [-1, 1]
        assert sandbox.usage.peak_memory >= 31 * PAGE


@pytest.mark.parametrize("how", ["measured", "sandbox", "runtime", "exact"])
def test_observers_see_peak_growth_and_refusal(how: str) -> None:
    events: list[Any] = []
    here = runtime(
        subscribers=[events.append] if how == "runtime" else (), exact_memory=how == "exact", pooled=how != "exact"
    )
    options: dict[str, Any] = {"measured": True} if how == "measured" else {}
    if how == "sandbox":
        options = {"subscribers": [events.append]}
    artifact = here.load_wat(component(["1"]))
    with here.sandbox(artifact, **options) as sandbox:
        assert sandbox.call("grow0", 9) == 1
        assert sandbox.usage.peak_memory == 10 * PAGE
        outcome = sandbox.run("need0", 91)
        assert (outcome.status, outcome.exit_code) == ("memory-exceeded", 137)
        assert outcome.usage.peak_memory == 10 * PAGE
    assert len(artifact._codes) == 2 if how in ("measured", "sandbox") else 1, "compiled for what it runs on"
    if events:
        assert [(e.before, e.after) for e in events if e.kind == "memory_grew"] == [(0, 10 * PAGE)]


def test_a_memory_that_does_not_fit_after_a_start_function_grew_another() -> None:
    start = "(func $s (drop (memory.grow (i32.const 50)))) (start $s)"
    text = component(["1", "2", "20"], more=start)
    here = runtime(150)
    with here.sandbox(here.load_wat(text)) as sandbox:
        assert [sandbox.call(f"size{n}") for n in range(3)] == [51, 52, 20]
        known = len(memory_accounting._regions)
    here = runtime(110)
    with pytest.raises(MemoryExceeded) as caught:
        here.sandbox(here.load_wat(text))
    error = caught.value
    assert (error.limit, error.phase, error.used, error.allowed) == ("memory", "initial", 123 * PAGE, 110 * PAGE)
    assert len(memory_accounting._regions) == known - 3


def test_a_start_function_that_traps_frees_its_resources() -> None:
    known = len(memory_accounting._regions)
    for need, expected in (("", GuestTrap), ("(drop (memory.grow (i32.const 200)))", MemoryExceeded)):
        here = runtime()
        with pytest.raises(expected):
            here.sandbox(here.load_wat(component(["1", "1"], more=f"(func $s {need} unreachable) (start $s)")))
    assert len(memory_accounting._regions) == known


def test_an_allocator_that_was_refused_memory_is_the_limits_end() -> None:
    text = """(component (core module $m (memory (export "m") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
          (if (result i32) (i32.eq (memory.grow (i32.const 200)) (i32.const -1))
            (then (i32.const -1)) (else (i32.const 8))))
        (func (export "f") (param i32 i32)))
      (core instance $i (instantiate $m))
      (func (export "f") (param "x" (list u8))
        (canon lift (core func $i "f") (memory (core memory $i "m")) (realloc (core func $i "realloc")))))"""
    here = runtime()
    with here.sandbox(here.load_wat(text), measured=True) as sandbox:
        assert sandbox.run("f", b"abc").status == "memory-exceeded"


def test_reset_begins_a_new_account() -> None:
    here = runtime()
    with here.sandbox(here.load_wat(component(["1", "1"]))) as sandbox:
        assert sandbox.call("grow0", 98) == 1
        sandbox.reset()
        assert [sandbox.call("grow1", 98), sandbox.call("grow0", 1)] == [1, -1]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(5, 40))), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), max_size=20),
    st.integers(20, 80),
)
def test_the_sum_never_exceeds_the_limit_and_equals_the_guests_view(
    memories: list[tuple[int, int | None]], requests: list[tuple[int, int]], pages: int
) -> None:
    here = runtime(pages, fuel=None)
    text = component([f"{first} {'' if most is None else most}" for first, most in memories])
    with here.sandbox(here.load_wat(text), measured=True) as sandbox:
        sizes = [first for first, _ in memories]
        for which, more in requests:
            n = which % len(memories)
            most = memories[n][1]
            fits = sum(sizes) + more <= pages and (most is None or sizes[n] + more <= most)
            assert sandbox.call(f"grow{n}", more) == (sizes[n] if fits else -1)
            sizes[n] += more if fits else 0
        assert [sandbox.call(f"size{n}") for n in range(len(sizes))] == sizes
        assert sandbox.usage.peak_memory == sum(sizes) * PAGE


def test_a_guest_whose_growth_calls_us_never_runs_on_the_main_thread() -> None:
    here = runtime()
    with here.sandbox(here.load_wat(component(["1", "1"]))) as sandbox:
        store = sandbox._run.store
        assert store is not None
        assert not store.calls_no_python
        assert threading.current_thread() is threading.main_thread()
        assert store.closure_here("grow0") is None


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an interval timer")
def test_an_interrupt_never_meets_a_growth() -> None:
    spin = '(func (export "spin") (loop $l (drop (memory.grow (i32.const 0))) (br $l)))'
    text = component(["1", "1"], more=spin)[:-1] + '(func (export "spin") (canon lift (core func $i0 "spin"))))'
    here = runtime(fuel=None, timeout="20s")
    artifact = here.load_wat(text)
    for _ in range(5):
        with here.sandbox(artifact) as sandbox:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            before = signal.signal(signal.SIGALRM, signal.default_int_handler)
            try:
                with pytest.raises(KeyboardInterrupt):
                    sandbox.call("spin")
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)


def test_the_command_and_the_one_liner_report_a_refused_growth(tmp_path: Path) -> None:
    path = tmp_path / "grows.wat"
    path.write_text(component(["1"]))
    done = command("run", "--no-cache", "--memory-limit", "1MiB", "--invoke", "need0(20)", path)
    assert done.code == 137
    assert "(65,536/1,048,576 bytes, 1,310,720 more were refused)" in done.err
    outcome = aegis.run(path, 20, function="need0", memory="1MiB")
    assert (outcome.status, outcome.usage.peak_memory) == ("memory-exceeded", PAGE)


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked and confined on Linux")
@pytest.mark.parametrize(("firsts", "measured"), [(["1", "1"], False), (["1"], True)])
def test_a_worker_counts_for_its_parent(firsts: list[str], measured: bool) -> None:
    here = runtime()
    with here.sandbox(here.load_wat(component(firsts)), isolate=True, measured=measured) as sandbox:
        assert [sandbox.call("grow0", 50), sandbox.call("grow0", 60)] == [1, -1]
        assert sandbox.usage.peak_memory == (50 + len(firsts)) * PAGE
        assert sandbox.run("need0", 60).status == "memory-exceeded"
