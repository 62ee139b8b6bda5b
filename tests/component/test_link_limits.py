"""Limits hold in calls between components, with the same errors as in other calls.

Oracle: the same component with its calls routed through the host.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import Any

import pytest

from aegis import (
    Aegis,
    AegisError,
    Cancelled,
    DeadlineExceeded,
    GuestTrap,
    MemoryExceeded,
    QuotaExceeded,
    StackExhausted,
)
from tests.component.composed import chain_component
from tests.component.hot import is_linked, unlinked
from tests.component.linked import GO, GROWING, INNER, NARROW, OUTER, PLAIN, RUNTIME, both, two
from tests.component.oracle import Returned
from tests.echo import Manner


def test_a_realloc_may_grow_its_memory_as_far_as_the_limit_and_an_adapter_sees_it() -> None:
    with both(GROWING, GO) as check:
        assert check(("go", 65536), ("go", 1)) == [Returned(42), Returned(43)]
    for pages, end in ((5, nullcontext()), (4, pytest.raises(MemoryExceeded))):
        tight = Aegis(cache=False, pooled=False, memory=65536 * pages)
        for way in (nullcontext, unlinked):
            with way(), tight.sandbox(tight.load_wat(GROWING)) as sandbox:
                assert [sandbox.call("go", 65536) for _ in range(2)] == [42, 43]
                with end:
                    assert sandbox.call("go", 65536) == 44


def test_modules_of_adapters_count_towards_no_limit() -> None:
    """Oracle: the component has four core instances and two memories of a page each."""
    text = GROWING.replace("(drop (memory.grow (i32.const 1)))", "").replace("i32.const 65536))\n", "i32.const 256))\n")
    for instances, memories, memory in ((4, 2, 2 << 16), (64, 10, 64 << 20)):
        for pooled in (False, True):
            runtime = Aegis(cache=False, pooled=pooled, instances=instances, memories=memories, memory=memory)
            with runtime.sandbox(runtime.load_wat(text), measured=True) as sandbox:
                assert is_linked(sandbox)
                assert sandbox._run.store.memory_size() == 2 << 16  # type: ignore[union-attr]
                sandbox.reset()
                assert is_linked(sandbox)


@pytest.mark.parametrize("limit", ["host_bytes", "value_bytes"])
def test_values_passing_through_a_link_use_no_host_quota(limit: str) -> None:
    runtime = Aegis(cache=False, pooled=False, **{limit: 10_000})
    with runtime.sandbox(runtime.load_wat(GROWING)) as sandbox:
        assert sandbox.call("go", 65536) == 42
    with unlinked(), runtime.sandbox(runtime.load_wat(GROWING)) as sandbox:
        with pytest.raises(QuotaExceeded) as caught:
            sandbox.call("go", 65536)
        assert caught.value.limit == limit


def forever(call: str) -> str:
    return f"(loop $more (drop {call}) (br $more)) (i32.const 0)"


LOOPS = {
    "a number": PLAIN.replace("(call $f (local.get 0))", forever("(call $f (local.get 0))")),
    "bytes": GROWING.replace("(drop (memory.grow (i32.const 1)))", "(global.set $at (i32.const 0))").replace(
        "(call $f (i32.const 0) (local.get 0))", forever("(call $f (i32.const 0) (i32.const 60000))")
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_the_deadline_and_a_cancellation_end_calls_between_components(name: str) -> None:
    runtime = Aegis(cache=False, pooled=False, timeout=0.5)
    with runtime.sandbox(runtime.load_wat(LOOPS[name])) as sandbox:
        assert is_linked(sandbox)
        with pytest.raises(DeadlineExceeded):
            sandbox.call("go", 1)
    with RUNTIME.sandbox(RUNTIME.load_wat(LOOPS[name])) as sandbox:
        ended = threading.Event()

        def stop() -> None:
            while not ended.wait(0.01):  # a cancellation before the call has no effect
                sandbox.cancel()

        thread = threading.Thread(target=stop)
        thread.start()
        with pytest.raises(Cancelled):
            sandbox.call("go", 1)
        ended.set()
        thread.join()
        assert sandbox.state == "poisoned"


def test_one_list_is_copied_under_the_deadline() -> None:
    """The elements are checked one by one, so the copy is a single long loop that exceeds the deadline."""
    of = "(list (tuple bool bool))"
    text = two(
        f'(param "x" {of}) (result u32)',
        """(memory (export "m") 128)
           (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
           (func (export "f") (param i32 i32) (result i32) (local.get 1))""",
        """(import "" "f" (func $f (param i32 i32) (result i32)))
           (func (export "go") (param i32) (result i32)
             (loop $more (drop (call $f (i32.const 0) (i32.const 4000000))) (br $more)) (i32.const 0))""",
        options=INNER, lowering=OUTER,
    ).replace('(core module $s (memory (export "m") 1)', '(core module $s (memory (export "m") 128)')  # fmt: skip
    runtime = Aegis(cache=False, pooled=False, timeout=0.3)
    with runtime.sandbox(runtime.load_wat(text)) as sandbox:
        assert is_linked(sandbox)
        with pytest.raises(DeadlineExceeded):
            sandbox.call("go", 1)


def both_errors(text: str, *arguments: Any, runtime: Aegis = RUNTIME) -> list[AegisError]:
    """Call ``go`` in both ways; return the exceptions."""
    found = []
    for way in (nullcontext, unlinked):
        with way(), runtime.sandbox(runtime.load_wat(text)) as sandbox:
            assert is_linked(sandbox) == (way is nullcontext)
            with pytest.raises(AegisError) as caught:
                sandbox.call("go", *arguments)
            assert sandbox.state == "poisoned"
            found.append(caught.value)
    return found


def test_recursion_behind_a_link_ends_as_through_the_host() -> None:
    text = PLAIN.replace(
        '(func (export "f") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))',
        '(func $f (export "f") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))',
    )
    linked, other = both_errors(text, 1)
    assert isinstance(linked, StackExhausted)
    assert str(linked) == str(other)


def test_a_trap_behind_a_link_has_the_frames_of_guests_alone() -> None:
    """Oracle: through the host each component has its own stack; in both ways the innermost frame is the one that
    trapped.
    """
    text = NARROW.replace("(i32.add (local.get 0) (local.get 1))", "unreachable")
    linked, other = both_errors(text, 1)
    assert isinstance(linked, GuestTrap)
    assert isinstance(other, GuestTrap)
    assert (str(linked), linked.code, linked.frames[0]) == (str(other), "unreachable", other.frames[0])
    assert len(linked.frames) == 2  # the callee and the caller, without the adapter between them
    bad = NARROW.replace("(call $f (local.get 0) (i32.const 0))", "(call $f (local.get 0) (i32.const -1))")
    linked, other = both_errors(bad, 1)
    assert isinstance(linked, GuestTrap)
    assert isinstance(other, GuestTrap)
    assert (linked.frames, linked.code, str(linked)) == (other.frames, other.code, str(other)) == (
        (), "abi", "the guest trapped: a char is not a Unicode scalar value",
    )  # fmt: skip


def test_a_host_function_behind_a_link_is_the_cause() -> None:
    text = chain_component(["u32"], [Manner(through=True), Manner(through=True)])
    for way in (nullcontext, unlinked):
        with way(), RUNTIME.sandbox(RUNTIME.load_wat(text), imports={"echo": lambda x: 1 // 0}) as sandbox:
            with pytest.raises(AegisError, match="host function echo raised ZeroDivisionError"):
                sandbox.call("echo-back", 1)
            sandbox.reset()


def test_a_breach_in_a_start_function_ends_the_instantiation_with_the_same_words() -> None:
    start = "(start $s) (func $s (drop (call $f (i32.const 1) (i32.const 0xd800))))"
    text = NARROW.replace('(func (export "go")', f'{start} (func (export "go")', 1)
    found = []
    for way in (nullcontext, unlinked):
        with way(), pytest.raises(GuestTrap) as caught:
            RUNTIME.sandbox(RUNTIME.load_wat(text))
        found.append(str(caught.value))
    assert found == ["the guest trapped: a char is not a Unicode scalar value"] * 2
