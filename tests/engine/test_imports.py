"""Host functions of a module's stores: each call identifies the store by a number, and the import within it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from aegis import Aegis, GuestTrap, HostError
from aegis.engine.call import trampoline

RUNTIME = Aegis(cache=False, pooled=False)
MANY = 300


def many() -> str:
    """A module with many imports of one type under two module names, called in turn by number."""
    imports = " ".join(
        f'(import "{"even" if n % 2 == 0 else "odd"}" "f{n}" (func $f{n} (param i32) (result i32)))'
        for n in range(MANY)
    )
    exports = " ".join(
        f'(func (export "call{n}") (param i32) (result i32) (call $f{n} (local.get 0)))' for n in range(MANY)
    )
    return f"(module {imports} {exports})"


def functions(base: int) -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {"even": {}, "odd": {}}
    for n in range(MANY):
        made["even" if n % 2 == 0 else "odd"][f"f{n}"] = lambda x, n=n: base + 1000 * n + x
    return made


@pytest.mark.parametrize("measured", [False, True])
def test_each_import_reaches_its_own_function_of_its_own_sandbox(measured: bool) -> None:
    """Oracle: the result names the import and the sandbox; sandboxes of one module are called alternately."""
    module = RUNTIME.load_wat(many())
    boxes = [RUNTIME.sandbox(module, imports=functions(base), measured=measured) for base in (10**6, 2 * 10**6)]
    for n in (0, 1, 2, 254, 255, 256, MANY - 1):
        assert [box.call(f"call{n}", 5) for box in boxes] == [base + 1000 * n + 5 for base in (10**6, 2 * 10**6)]
    for box in boxes:
        box.close()


def test_a_failing_import_is_the_one_that_is_named() -> None:
    made = functions(0)
    made["odd"]["f255"] = lambda x: "no number"
    with RUNTIME.sandbox(RUNTIME.load_wat(many()), imports=made) as sandbox:
        assert sandbox.call("call254", 1) == 254_001
        with pytest.raises(HostError, match=r"odd\.f255"):
            sandbox.call("call255", 1)


def test_a_store_has_one_number_however_many_functions_it_imports() -> None:
    taken = len(trampoline.slots) - len(trampoline._free)
    with RUNTIME.sandbox(RUNTIME.load_wat(many()), imports=functions(0)) as sandbox:
        sandbox.call("call7", 0)
        assert len(trampoline.slots) - len(trampoline._free) == taken + 1
    assert len(trampoline.slots) - len(trampoline._free) == taken


def test_the_number_of_a_store_that_is_gone_lets_nothing_through() -> None:
    """Oracle: a slot is vacant before another store can use it, and the door of a vacant slot has no calls left."""
    sandbox = RUNTIME.sandbox(RUNTIME.load_wat(many()), imports=functions(0))
    number = sandbox._run.store.slot  # type: ignore[union-attr]
    assert trampoline.slots[number][0] is sandbox._run.door
    sandbox.close()
    door, served, names, called = trampoline.slots[number]
    assert (door.calls_left, served, names, called) == (0, (), (), [])


def test_numbers_are_taken_and_given_back_by_many_threads() -> None:
    """Oracle: no two live stores have the same number, whichever threads create and close them meanwhile."""
    module = RUNTIME.load_wat(many())
    wrong: list[object] = []

    def work(base: int) -> None:
        for _ in range(20):
            with RUNTIME.sandbox(module, imports=functions(base)) as sandbox:
                got = sandbox.call("call9", 1)
                if got != base + 9001:
                    wrong.append(got)

    threads = [threading.Thread(target=work, args=(10**6 * n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


PRINTS = """(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "bytes") (result i32) (drop (call $sizes (i32.const 0) (i32.const 4))) (i32.load (i32.const 4)))
  (func (export "random") (result i32) (drop (call $random (i32.const 8) (i32.const 4))) (i32.load (i32.const 8)))
  (func (export "close") (result i32) (call $close (i32.const 1))))"""


def test_sandboxes_of_one_module_share_nothing_of_the_host() -> None:
    """Arguments, random bytes and descriptors belong to a sandbox, although its linking is computed once per module."""
    module = RUNTIME.load_wat(PRINTS)
    with RUNTIME.sandbox(module, args=["a"]) as one, RUNTIME.sandbox(module, args=["four"]) as other:
        assert (one.call("bytes"), other.call("bytes")) == (2, 5)
        first = [one.call("random"), one.call("random")]
        assert first[0] != first[1]
        assert [other.call("random"), other.call("random")] == first  # the same seeded generator, from its beginning
        assert (one.call("close"), one.call("close")) == (0, 8)
        assert other.call("close") == 0
        one.reset()
        assert (one.call("random"), one.call("close")) == (first[0], 0)


def test_a_missing_import_is_reported_for_every_sandbox() -> None:
    text = PRINTS.replace('"fd_close" (func $close (param i32)', '"fd_shut" (func $close (param i32)')
    module = RUNTIME.load_wat(text)
    for _ in range(2):
        with pytest.raises(Exception, match=r"there is no such function in wasi_snapshot_preview1"):
            RUNTIME.sandbox(module)
    with RUNTIME.sandbox(module, trap_missing=True) as sandbox:
        assert sandbox.call("bytes") == 0
        with pytest.raises(GuestTrap, match=r"fd_shut, which nothing provides"):
            sandbox.call("close")
