"""With trap_missing, every function that is not provided traps when it is called; everything else works."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegis.errors import GuestTrap, LinkError
from aegis.sandbox.sandbox import Sandbox
from tests.cli.command import aegis
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

pytestmark = [only_where_there_are_workers, pytest.mark.usual(one_of="place")]
every_place = pytest.mark.parametrize("place", PLACES)

ASSEMBLYSCRIPT = """(module
  (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
  (import "wasi_snapshot_preview1" "sock_open" (func $open (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "env" "given" (func $given (result i64)))
  (memory (export "memory") 1)
  (func (export "fine") (result i64) (drop (call $random (i32.const 0) (i32.const 8))) (call $given))
  (func (export "abort") (call $abort (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4)))
  (func (export "open") (result i32) (call $open (i32.const 1))))"""
UNSTABLE = """(component
  (type $clock (instance
    (export "now" (func (result u64)))
    (export "resolution" (func (result u64)))
    (export "now-in-another-zone" (func (param "zone" string) (result u64)))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $i (type $clock)))
  (core module $libc (memory (export "memory") 1))
  (core instance $libc (instantiate $libc))
  (core func $now (canon lower (func $i "now")))
  (core func $zone (canon lower (func $i "now-in-another-zone") (memory (core memory $libc "memory"))))
  (core module $m
    (import "" "now" (func $now (result i64))) (import "" "zone" (func $zone (param i32 i32) (result i64)))
    (func (export "fine") (result i64) (call $now))
    (func (export "zone") (result i64) (call $zone (i32.const 0) (i32.const 2))))
  (core instance $n (instantiate $m (with "" (instance (export "now" (func $now)) (export "zone" (func $zone))))))
  (func (export "fine") (result u64) (canon lift (core func $n "fine")))
  (func (export "zone") (result u64) (canon lift (core func $n "zone"))))"""
METHOD = """(component
  (type $error (instance (export "error" (type $error (sub resource)))
    (export "[method]error.to-debug-string-in" (func (param "self" (borrow $error)) (param "x" u32) (result u32)))
    (export "[static]error.latest" (func (result u32)))))
  (import "wasi:io/error@0.2.0" (instance $i (type $error)))
  (core func $method (canon lower (func $i "[method]error.to-debug-string-in")))
  (core func $static (canon lower (func $i "[static]error.latest")))
  (core module $m (import "" "static" (func $static (result i32)))
    (import "" "method" (func $method (param i32 i32) (result i32)))
    (func (export "fine") (result i32) i32.const 3)
    (func (export "static") (result i32) (call $static)))
  (core instance $n (instantiate $m (with "" (instance
    (export "static" (func $static)) (export "method" (func $method))))))
  (func (export "fine") (result u32) (canon lift (core func $n "fine")))
  (func (export "static") (result u32) (canon lift (core func $n "static"))))"""
SNAPSHOT = UNSTABLE.replace("clock@0.2.0", "clock@0.2.0-rc-2023-11-10").replace(
    '(export "resolution" (func (result u64)))', '(export "resolution" (func (result u32)))')  # fmt: skip
UNKNOWN = UNSTABLE.replace("wasi:clocks/monotonic-clock@0.2.0", "wasi:nn/graph@0.2.0-rc-2024-10-28")

# Missing functions: the artifact, an export that runs, an export that traps, the name in the trap.
ROWS = {
    "AssemblyScript's abort": (ASSEMBLYSCRIPT, "fine", "abort", "env.abort"),
    "a function of preview 1 that there is not": (ASSEMBLYSCRIPT, "fine", "open", "wasi_snapshot_preview1.sock_open"),
    "an unstable function of a served interface": (UNSTABLE, "fine", "zone", "monotonic-clock@0.2.0#now-in-another"),
    "a static function of a served resource": (METHOD, "fine", "static", r"wasi:io/error@0.2.0#\[static\]error.latest"),
    "a function of a snapshot": (SNAPSHOT, "fine", "zone", "0.2.0-rc-2023-11-10#now-in-another-zone"),
    "an interface that is not served": (UNKNOWN, None, "fine", "wasi:nn/graph@0.2.0-rc-2024-10-28#now"),
}


def box(place: str, text: str, **options: bool) -> Sandbox:
    made = runtime(place)
    imports = {"env": {"given": lambda: 7}} if text is ASSEMBLYSCRIPT else None
    return made.sandbox(made.load_wat(text), imports=imports, **options)


@every_place
@pytest.mark.parametrize("name", ROWS)
def test_a_missing_function_traps_with_trap_missing(place: str, name: str) -> None:
    text, runs, traps, named = ROWS[name]
    with box(place, text, trap_missing=True) as sandbox:
        if runs is not None:
            assert sandbox.call(runs) is not None
        with pytest.raises(GuestTrap, match=f"the guest called .*{named}.*, which nothing provides") as caught:
            sandbox.call(traps)
        assert caught.value.code == "missing-import"


@every_place
@pytest.mark.parametrize("name", ROWS)
def test_without_that_the_same_artifact_is_refused(place: str, name: str) -> None:
    text = ROWS[name][0]
    made = runtime(place)
    imports = {"env": {"given": lambda: 7}} if text is ASSEMBLYSCRIPT else None
    artifact = made.load_wat(text)
    with made.sandbox(artifact, imports=imports, trap_missing=True):
        pass
    with pytest.raises(LinkError):
        made.sandbox(artifact, imports=imports)


@every_place
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('(module (import "env" "m" (memory 1)))', "define the memory in the module"),
        ('(module (import "env" "g" (global i32)))', "define the global in the module"),
        ('(module (import "env" "t" (table 1 funcref)))', "define the table in the module"),
        ('(module (import "env" "f" (func (param funcref))))', "Python cannot provide a function with funcref"),
    ],
)
def test_an_import_that_is_not_a_function_of_numbers_cannot_be_omitted(place: str, text: str, said: str) -> None:
    made = runtime(place)
    with pytest.raises(LinkError, match=said) as caught:
        made.sandbox(made.load_wat(text.replace("(module", '(module (import "env" "a" (func))')), trap_missing=True)
    assert len(caught.value.missing) == 1


class Clock:
    """Provides all of the clock that the component imports."""

    def now(self) -> int:
        return 5

    def resolution(self) -> int:
        return 1

    def now_in_another_zone(self, zone: str) -> int:
        return 7


@pytest.mark.parametrize("recycle", [0, 8])
@every_place
@pytest.mark.parametrize("first", [True, False], ids=["provided first", "missing first"])
def test_imports_of_one_sandbox_are_not_those_of_another_of_the_artifact(place: str, first: bool, recycle: int) -> None:
    """Even where one worker serves both."""
    made = runtime(place, isolation={"workers": 1, "recycle": recycle})
    component = made.load_wat(UNSTABLE)
    for provided in (first, not first, first):
        imports = {"wasi:clocks/monotonic-clock@0.2.0": Clock()} if provided else {}
        with made.sandbox(component, imports=imports, trap_missing=True) as sandbox:
            if provided:
                assert (sandbox.call("fine"), sandbox.call("zone")) == (5, 7)
            else:
                with pytest.raises(GuestTrap, match="now-in-another-zone"):
                    sandbox.call("zone")


@pytest.mark.parametrize("isolate", [[], ["--isolate"]], ids=["in-process", "isolated"])
def test_the_command_runs_a_module_whose_missing_functions_trap(isolate: list[str], tmp_path: Path) -> None:
    (tmp_path / "as.wat").write_text(ASSEMBLYSCRIPT.replace('(import "env" "given" (func $given (result i64)))', "")
                                     .replace("(call $given)", "(i64.const 7)"))  # fmt: skip
    words = ["run", "--no-cache", *isolate, "--trap-missing", "-e"]
    assert aegis(*words, "fine", tmp_path / "as.wat")[:2] == (0, "7\n")
    ended = aegis(*words, "abort", tmp_path / "as.wat")
    assert ended.code == 134
    assert "env.abort, which nothing provides" in ended.err
    refused = aegis("run", "--no-cache", *isolate, "-e", "fine", tmp_path / "as.wat")
    assert refused.code == 126
    assert "--trap-missing" in refused.err
