"""Linking a component's core instances: the native memory it reserves, and the threads it needs."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from aegis import Aegis
from aegis.engine.threads import guest_thread

TWO = """(component
  (import "f" (func $f (result u32)))
  (core func $f (canon lower (func $f)))
  (core module $a (import "" "f" (func $f (result i32))) (memory (export "m") 1)
    (func (export "a") (result i32) (call $f)))
  (core module $b (import "a" "a" (func $a (result i32))) {start}
    (func (export "go") (result i32) (i32.add (call $a) (i32.const 1))))
  (core instance $a (instantiate $a (with "" (instance (export "f" (func $f))))))
  (core instance $b (instantiate $b (with "a" (instance $a))))
  (func (export "go") (result u32) (canon lift (core func $b "go"))))"""
STARTS = "(func $begin (drop (call $a))) (start $begin)"


@pytest.fixture(scope="module")
def runtime() -> Aegis:
    return Aegis(cache=False, pooled=False)


def test_live_sandboxes_share_the_space_in_which_they_were_linked(runtime: Aegis) -> None:
    """Oracle: a hundred live sandboxes of a component used one space in turn, and each calls its own instances."""
    component = runtime.load_wat(TWO.format(start=""))
    boxes = [runtime.sandbox(component, imports={"f": lambda n=n: n}) for n in range(100)]
    plan: Any = boxes[0]._run.store.plan  # type: ignore[union-attr]
    assert all(box._run.store.plan is plan and box._run.store._space is None for box in boxes)  # type: ignore[union-attr]
    assert len(plan._spaces) == 1
    assert [box.call("go") for box in boxes] == [n + 1 for n in range(100)]
    for box in boxes:
        box.close()


def test_a_start_function_that_fails_gives_the_space_back(runtime: Aegis) -> None:
    component = runtime.load_wat(TWO.format(start=STARTS))

    def fails() -> int:
        raise ValueError("not now")

    for _ in range(3):
        with pytest.raises(Exception, match="not now"):
            runtime.sandbox(component, imports={"f": fails})
    with runtime.sandbox(component, imports={"f": lambda: 4}) as sandbox:
        assert sandbox.call("go") == 5
        assert len(sandbox._run.store.plan._spaces) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(("start", "counted", "moves"), [("", False, False), (STARTS, False, True), ("", True, True)])
def test_only_instantiation_that_can_run_python_or_guest_code_uses_a_guest_thread(
    start: str, counted: bool, moves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the main thread: a start function may call the host, and counted memories call Python."""
    assert threading.current_thread() is threading.main_thread()
    runtime = Aegis(cache=False, pooled=False, exact_memory=counted)
    component = runtime.load_wat(TWO.format(start=start))
    jobs: list[object] = []
    begin = guest_thread.start

    def watched(job: Any) -> None:
        jobs.append(job)
        begin(job)

    monkeypatch.setattr(guest_thread, "start", watched)
    with runtime.sandbox(component, imports={"f": lambda: 4}) as sandbox:
        assert bool(jobs) is moves
        assert sandbox.call("go") == 5
        assert jobs
