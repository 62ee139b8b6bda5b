"""Functions without parameters and results, whose native buffer no view of Python keeps alive.

The buffer holds the engine's handle of the function. If it were freed after the first call, the engine would call what
other objects wrote there. Oracle: the process that makes the calls ends normally, and the guest counted every call.
"""

from __future__ import annotations

import pytest

from tests.cli.command import ROOT
from tests.cli.preloaded import run_program

SCRIPT = '''
import sys
from dataclasses import replace
from aegis import Aegis, Isolation, Limits, Policy

COUNTS = """(core module $m (global $calls (mut i32) (i32.const 0)) (memory (export "memory") 1)
      (func (export "f") (global.set $calls (i32.add (global.get $calls) (i32.const 1))))
      (func (export "after") (global.set $calls (i32.add (global.get $calls) (i32.const 1))))
      (func (export "end") (param i32) (global.set $calls (i32.add (global.get $calls) (i32.const 1))))
      (func (export "calls") (result i32) (global.get $calls)))
    (core instance $m (instantiate $m))
    (func (export "calls") (result u32) (canon lift (core func $m "calls")))"""
CALLS = """(core module $n (import "" "f" (func $f)) (func (export "go") (call $f)))"""

def between(options):
    """Return a component whose first instance calls a function of the second."""
    return f"""(component
      (component $callee {COUNTS} (func (export "f") (canon lift (core func $m "f"){options})))
      (instance $callee (instantiate $callee))
      (component $caller (import "f" (func $f)) (core func $f (canon lower (func $f))) {CALLS}
        (core instance $n (instantiate $n (with "" (instance (export "f" (func $f))))))
        (func (export "go") (canon lift (core func $n "go"))))
      (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
      (export "go" (func $caller "go")) (export "calls" (func $callee "calls")))"""

GUESTS = {
    "between components": between(""),
    "between components, with post-return": between('(post-return (core func $m "after"))'),
    "a component's export": f"""(component {COUNTS} (func (export "go") (canon lift (core func $m "f"))))""",
    "a destructor": f"""(component {COUNTS} (type $r (resource (rep i32) (dtor (core func $m "end"))))
      (core func $new (canon resource.new $r)) (core func $drop (canon resource.drop $r))
      (core module $n (import "" "new" (func $new (param i32) (result i32))) (import "" "drop" (func $drop (param i32)))
        (func (export "go") (call $drop (call $new (i32.const 7)))))
      (core instance $n (instantiate $n
        (with "" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
      (func (export "go") (canon lift (core func $n "go"))))""",
    "a module's export": """(module (global $calls (mut i32) (i32.const 0))
      (func (export "go") (global.set $calls (i32.add (global.get $calls) (i32.const 1))))
      (func (export "calls") (result i32) (global.get $calls)))""",
}
name, place, rounds = sys.argv[1], sys.argv[2], 600  # fused calls begin after 256
# With fuel, calls between components pass through the host.
policy = Policy(limits=Limits().with_(fuel=None if place == "linked" else 1_000_000_000))
if place == "worker":
    policy = replace(policy, isolation=Isolation(workers=1))
with Aegis(policy, cache=False) as runtime, runtime.sandbox(runtime.load_wat(GUESTS[name])) as sandbox:
    others = []
    for number in range(rounds):
        sandbox.call("go")
        others.append([bytes(size) for size in range(number % 64, 512, 64)])  # take the place of what was freed
    print(sandbox.call("calls"))
'''
NAMES = {
    "between components": 600, "between components, with post-return": 1200, "a component's export": 600,
    "a destructor": 600, "a module's export": 600,
}  # fmt: skip
"""The expected count of calls for each guest of the script."""


@pytest.mark.usual(every=4)
@pytest.mark.parametrize("place", ["through the host", "linked", "worker"])
@pytest.mark.parametrize("name", NAMES)
def test_a_function_without_values_is_called_from_live_memory(name: str, place: str) -> None:
    done = run_program(SCRIPT, name, place, imported=["aegis.runtime"], cwd=ROOT, seconds=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{NAMES[name]}\n", "")
