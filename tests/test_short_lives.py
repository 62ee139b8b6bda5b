"""Parts of a sandbox that are made when they are first read, or once for all sandboxes of an artifact.

Oracle: a sandbox that is made as the one before it answers as the first one did, and none sees another's parts.
"""

from __future__ import annotations

import subprocess
import sys
from array import array
from typing import Any

import pytest

from aegis import Aegis, CallError
from aegis.engine.store.plan import plan_for
from tests.echo import own_echo_component
from tests.guests.catalogue import ROOT

PRINTS = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\20\\00\\00\\00\\03\\00\\00\\00\\23\\00\\00\\00\\02\\00\\00\\00") (data (i32.const 32) "abcde")
  (func (export "go") (param $vectors i32) (result i32)
    (call $write (i32.const 1) (i32.const 0) (local.get $vectors) (i32.const 64)))
  (func (export "count") (result i32) (drop (call $sizes (i32.const 64) (i32.const 68))) (i32.load (i32.const 64))))"""
LIVES = range(3)


def test_what_a_guest_printed_is_there_after_its_end_though_nobody_had_asked() -> None:
    runtime = Aegis(cache=False)
    sandbox = runtime.sandbox(runtime.load_wat(PRINTS))
    assert sandbox.call("go", 2) == 0
    sandbox.close()
    assert (sandbox.stdout, sandbox.stderr, sandbox.usage.stdout, sandbox.undelivered) == (b"abcde", b"", 5, None)


def test_nothing_that_a_guest_printed_is_there_after_a_reset() -> None:
    runtime = Aegis(cache=False)
    with runtime.sandbox(runtime.load_wat(PRINTS)) as sandbox:
        sandbox.call("go", 2)
        sandbox.reset()
        assert (sandbox.stdout, sandbox.usage.stdout) == (b"", 0)
        sandbox.call("go", 1)
        assert sandbox.stdout == b"abc"


def test_each_sandbox_of_a_module_is_answered_from_its_own_grants() -> None:
    """Calls of ten live sandboxes in turns: what answers is made once for all of them."""
    runtime = Aegis(cache=False)
    module = runtime.load_wat(PRINTS)
    boxes = [runtime.sandbox(module, args=["x"] * n) for n in range(10)]
    for _ in range(2):
        assert [box.call("count") for box in boxes] == list(range(10))
    for box in boxes[::2]:
        box.call("go", 1)
    assert [box.stdout for box in boxes] == [b"abc", b""] * 5
    for box in boxes:
        box.close()


@pytest.mark.parametrize("pooled", [False, True])
def test_a_component_made_as_the_one_before_has_all_its_parts(pooled: bool) -> None:
    runtime = Aegis(cache=False, pooled=pooled)
    component = runtime.load_wat(own_echo_component("u32"))
    for _ in LIVES:
        with runtime.sandbox(component) as sandbox:
            assert sandbox.run("echo-back", 7).value == 7
            assert sandbox.exports["echo-back"](8) == 8
            assert sandbox.call_many("echo-back", [array("I", [1, 2])]) == array("I", [1, 2])
            with pytest.raises(CallError, match="echo-back"):
                sandbox.call("echo-back", "text")
            sandbox.reset()
            assert sandbox.call("echo-back", 9) == 9
        assert sandbox.state == "closed"


def test_runtimes_that_take_turns_keep_their_own_limits() -> None:
    text = own_echo_component("string")
    small, large = Aegis(cache=False, value_bytes="1KiB"), Aegis(cache=False)
    component = large.load_wat(text)
    for _ in LIVES:
        with small.sandbox(component) as sandbox:
            assert not sandbox.run("echo-back", "x" * 2000).ok
        with large.sandbox(component) as sandbox:
            assert sandbox.call("echo-back", "x" * 2000) == "x" * 2000


def test_a_component_that_somebody_watches_is_not_made_as_one_that_nobody_does() -> None:
    runtime = Aegis(cache=False)
    component = runtime.load_wat(own_echo_component("u32"))
    for _ in LIVES:
        events: list[Any] = []
        with runtime.sandbox(component) as sandbox:
            assert sandbox.call("echo-back", 1) == 1
        with runtime.sandbox(component, subscribers=[events.append]) as sandbox:
            assert sandbox.call("echo-back", 1) == 1
        kinds = [event.kind for event in events]
        assert kinds[0] == "module_loaded"
        assert "execution_completed" in kinds


def test_more_components_than_the_pool_has_slots_are_all_made() -> None:
    runtime = Aegis(cache=False, pooled=True)
    component = runtime.load_wat(own_echo_component("string"))
    boxes = [runtime.sandbox(component) for _ in range(300)]
    assert [box.call("echo-back", str(n)) for n, box in enumerate(boxes)] == [str(n) for n in range(300)]
    assert len({id(box._run.store.plan) for box in boxes}) == 2  # type: ignore[union-attr]
    for box in boxes:
        box.close()


def test_a_module_keeps_the_plans_of_two_engines_that_take_turns() -> None:
    runtime = Aegis(cache=False)
    module = runtime.load_wat(PRINTS)
    limits, tier = runtime.policy.limits, runtime._backend
    pairs = [(plan_for(module, tier.config, limits), plan_for(module, tier.plain, limits)) for _ in LIVES]
    assert pairs == pairs[:1] * len(pairs)
    assert pairs[0][0] is not pairs[0][1]
    other = plan_for(module, tier.plain, Aegis(memory="1MiB").policy.limits)
    assert other not in pairs[0]


DAEMON = """
import os, sys
from aegis import Aegis
def low(): return [n for n in (0, 1, 2) if os.path.exists(f"/proc/self/fd/{n}")]
runtime = Aegis(cache=False, pooled=sys.argv[1] == "pooled")
artifact = runtime.load_wat(sys.argv[2])
os.close(0)
boxes = [runtime.sandbox(artifact) for _ in range(4)]
assert low() == [1, 2], low()
files = len(os.listdir("/proc/self/fd"))
boxes += [runtime.sandbox(artifact) for _ in range(4)]
assert len(os.listdir("/proc/self/fd")) == files, "a sandbox after the first opened a file"
assert low() == [1, 2], low()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it lists descriptors in /proc")
@pytest.mark.parametrize("artifact", ["module", "component"])
@pytest.mark.parametrize("pool", ["pooled", "plain"])
def test_no_sandbox_takes_a_closed_standard_stream(pool: str, artifact: str) -> None:
    """The engine opens the file of an initial memory with the first instance, and none with later ones."""
    text = PRINTS if artifact == "module" else own_echo_component("string")
    subprocess.run([sys.executable, "-c", DAEMON, pool, text], check=True, cwd=ROOT)
