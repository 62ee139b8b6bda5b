"""An error that interrupted a conversion may be garbage collected together with its frames.

CPython before 3.13 crashes when its collector clears a ``memoryview`` whose buffer another object still uses, such as
the iterator of ``struct.iter_unpack`` in a frame that a traceback keeps alive. Oracle: the process survives.
"""

from __future__ import annotations

import pytest

from tests.cli.command import ROOT
from tests.cli.preloaded import run_program

ELEMENTS = {
    "char": "char",
    "tuple": "(tuple char u32)",
    "option": "(option char)",
    "result": "(result char)",
    "strings": "string",
    "lists": "(list char)",
    "records in lists": "(list (tuple u8 char))",
    "flags and chars": "(tuple bool char u8)",
}

SCRIPT = '''
import gc, sys
from aegis import Aegis, GuestTrap

def text(of):
    """Return a guest of a list whose second half is no value of the type, as a result and as an argument."""
    types, depth = [], 0
    while "(" in of:  # innermost first: a type that is made of others needs a name of its own
        start = of.rindex("(")
        end = of.index(")", start) + 1
        types.append(f"(type $t{len(types)} {of[start:end]})")
        of = of[:start] + f"$t{len(types) - 1}" + of[end:]
    return f"""(component {" ".join(types)} (type $l (list {of}))
      (import "take" (func $take (param "x" $l)))
      (core module $m (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 32768))
        (func (export "lie") (result i32)
          (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 64))
          (memory.fill (i32.const 1200) (i32.const 255) (i32.const 4096)) (i32.const 0)))
      (core instance $m (instantiate $m))
      (core func $take (canon lower (func $take) (memory (core memory $m "memory"))))
      (core module $n (import "" "take" (func $take (param i32 i32))) (import "" "lie" (func $lie (result i32)))
        (func (export "hand") (drop (call $lie)) (call $take (i32.const 1024) (i32.const 64))))
      (core instance $n (instantiate $n (with "" (instance
        (export "take" (func $take)) (export "lie" (func $m "lie"))))))
      (func (export "lie") (result $l) (canon lift (core func $m "lie") (memory (core memory $m "memory"))))
      (func (export "hand") (canon lift (core func $n "hand"))))"""

runtime = Aegis(cache=False, pooled=False)
component = runtime.load_wat(text(sys.argv[1]))
with runtime.sandbox(component, imports={"take": lambda x: None}) as sandbox:
    for name in ("lie", "hand"):
        try:
            sandbox.call(name)
        except GuestTrap as error:
            error.itself = error
        else:
            raise SystemExit("no trap")
        sandbox.reset()
        gc.collect()
print("alive")
'''


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("name", ELEMENTS)
def test_the_collector_may_take_the_error_of_a_list_that_was_half_read(name: str) -> None:
    done = run_program(SCRIPT, ELEMENTS[name], imported=["aegis.runtime"], cwd=ROOT, seconds=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "alive\n", "")
