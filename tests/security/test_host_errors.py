"""A host function may raise any error, also one of another sandbox. The call that it ends has entered its guest.

Oracle: the sandbox is poisoned, in process and in a worker, and only ``reset()`` starts a new guest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aegis import AegisError, CallError, SandboxStateError, WorkerCrashed
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

pytestmark = only_where_there_are_workers

CORE = """(module (import "h" "f" (func $f (param i32) (result i32)))
  (global (export "n") (mut i32) (i32.const 0))
  (func (export "g") (param i32) (result i32) (global.set 0 (i32.const 7)) (call $f (local.get 0)))
  (func (export "n-now") (result i32) (global.get 0)))"""
ERRORS: dict[str, Callable[[], BaseException]] = {
    "a wrong argument of another call": lambda: CallError("y"),
    "another sandbox that is busy": lambda: SandboxStateError("busy", state="busy"),
    "another sandbox whose worker died": lambda: WorkerCrashed("w", signal=9),
    "an error of Python": lambda: ValueError("x"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_an_error_of_a_host_function_poisons_its_sandbox(error: Callable[[], BaseException], place: str) -> None:
    def f(x: int) -> int:
        if x:
            return x
        raise error()

    made = runtime(place)
    with made.sandbox(made.load_wat(CORE), imports={"h": {"f": f}}) as sandbox:
        assert sandbox.call("g", 1) == 1  # in a worker, the next call crosses as a fixed frame
        with pytest.raises(AegisError) as caught:
            sandbox.call("g", 0)
        if isinstance(error(), AegisError):
            assert type(caught.value) is type(error())
            assert str(caught.value) == str(error())
        assert sandbox.state == "poisoned"
        with pytest.raises(SandboxStateError, match="poisoned"):
            sandbox.call("n-now")
        sandbox.reset()
        assert sandbox.call("n-now") == 0


@pytest.mark.parametrize("place", PLACES)
def test_a_host_function_that_closes_its_own_sandbox_poisons_it(place: str) -> None:
    made = runtime(place)
    boxes: list[Any] = []
    with made.sandbox(made.load_wat(CORE), imports={"h": {"f": lambda _: boxes[0].close()}}) as sandbox:
        boxes.append(sandbox)
        with pytest.raises(SandboxStateError, match="busy"):
            sandbox.call("g", 1)
        assert sandbox.state == "poisoned"
