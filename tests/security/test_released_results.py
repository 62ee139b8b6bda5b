"""A host function's result that could not be passed to the guest is released with the sandbox at the latest.

Oracle: there are as many live objects and open descriptors after a sandbox is closed as before it was created.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from aegis import FilesystemCapability
from aegis.errors import AegisError, DeadlineExceeded, HostError, QuotaExceeded
from aegis.wit.values import Err, Ok
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime
from tests.test_late_results import expire

every_place = pytest.mark.parametrize("place", PLACES)
pytestmark = only_where_there_are_workers


class Thing:
    """A host object; ``live`` contains the objects that were not dropped."""

    live: ClassVar[list[Thing]] = []

    def __init__(self) -> None:
        self.live.append(self)

    def __drop__(self) -> None:
        self.live.remove(self)


@pytest.fixture(autouse=True)
def nothing_alive() -> None:
    Thing.live.clear()


# Each shape: its types in WAT, the type's name, its number of flat core values, and a value of it.
SHAPES: dict[str, tuple[str, str, Callable[[], Any]]] = {
    "own": ("", "(own $thing)", Thing),
    "list": ("(type $t (list (own $thing)))", "$t", lambda: [Thing() for _ in range(6)]),
    "tuple": ("(type $t (tuple (own $thing) (own $thing)))", "$t", lambda: (Thing(), Thing())),
    "option": ("(type $t (option (own $thing)))", "$t", Thing),
    "result": ("(type $t (result (own $thing)))", "$t", Thing),
    "ok": ("(type $t (result (own $thing)))", "$t", lambda: Ok(Thing())),
    "error": ("(type $t (result (error (own $thing))))", "$t", lambda: Err(Thing())),
    "record": (
        '(type $r (record (field "x" (own $thing)) (field "y" (own $thing)))) (export "r" (type $t (eq $r)))',
        "$t", lambda: {"x": Thing(), "y": Thing()},
    ),
    "variant": (
        '(type $v (variant (case "a" (own $thing)) (case "b"))) (export "v" (type $t (eq $v)))',
        "$t", lambda: ("a", Thing()),
    ),
    "list of records": (
        '(type $r (record (field "x" (own $thing)))) (export "r" (type $e (eq $r))) (type $t (list $e))',
        "$t", lambda: [{"x": Thing()} for _ in range(6)],
    ),
}  # fmt: skip


def component(shape: str, realloc: str = "i32.const 1024") -> str:
    types, name, _ = SHAPES[shape]
    plain = shape == "own"
    core = "(result i32)" if plain else "(param i32)"
    call = "(drop (call $make))" if plain else "(call $make (i32.const 16))"
    return f"""(component
  (type $api (instance (export "thing" (type $thing (sub resource))) {types}
    (export "make" (func (result {name})))))
  (import "test:things/things" (instance $i (type $api)))
  (core module $libc (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc}))
  (core instance $libc (instantiate $libc))
  (core func $make (canon lower (func $i "make") (memory (core memory $libc "memory"))
    (realloc (core func $libc "realloc"))))
  (core module $m (import "" "make" (func $make {core}))
    (func (export "go") (loop $l {call} (br $l)))
    (func (export "once") {call}))
  (core instance $n (instantiate $m (with "" (instance (export "make" (func $make))))))
  (func (export "go") (canon lift (core func $n "go")))
  (func (export "once") (canon lift (core func $n "once"))))"""


def call(place: str, shape: str, make: Callable[[Any], Any], name: str = "go", **options: Any) -> AegisError:
    """Return how the guest's call of ``make`` ended; the sandbox is closed."""
    realloc = options.pop("realloc", "i32.const 1024")
    made = runtime(place, fuel=None, **options)
    things = type("Things", (), {"make": lambda self: make(sandbox)})()
    with made.sandbox(made.load_wat(component(shape, realloc)), imports={"test:things/things": things}) as sandbox:
        with pytest.raises(AegisError) as caught:
            sandbox.call(name)
        assert sandbox.state == "poisoned"
    return caught.value


@every_place
@pytest.mark.parametrize("shape", SHAPES)
def test_objects_in_a_result_that_exceeds_the_handle_limit_are_released(place: str, shape: str) -> None:
    error = call(place, shape, lambda _: SHAPES[shape][2](), handles=5)
    assert isinstance(error, QuotaExceeded)
    assert Thing.live == []


@every_place
@pytest.mark.parametrize("shape", SHAPES)
def test_objects_in_a_result_that_comes_after_the_deadline_are_released(place: str, shape: str) -> None:
    def late(sandbox: Any) -> Any:
        expire(sandbox)
        return SHAPES[shape][2]()

    assert isinstance(call(place, shape, late), DeadlineExceeded)
    assert Thing.live == []


BAD: dict[str, tuple[str, Callable[[], Any]]] = {
    "None in a list": ("list", lambda: [Thing(), Thing(), None]),
    "None in a tuple": ("tuple", lambda: (Thing(), None)),
    "a tuple that is too short": ("tuple", lambda: (Thing(),)),
    "None in a record": ("record", lambda: {"x": Thing(), "y": None}),
    "a record that lacks a field": ("record", lambda: {"x": Thing()}),
    "None in a list's record": ("list of records", lambda: [{"x": Thing()}, {"x": None}]),
    "a number in a list of records": ("list of records", lambda: [{"x": Thing()}, 7]),
}


@every_place
@pytest.mark.parametrize("bad", BAD)
def test_objects_in_a_result_that_is_not_of_its_type_are_released(place: str, bad: str) -> None:
    shape, make = BAD[bad]
    assert isinstance(call(place, shape, lambda _: make()), HostError)
    assert Thing.live == []


@every_place
@pytest.mark.parametrize("realloc", ["unreachable", "i32.const -8"], ids=["traps", "gives no memory"])
@pytest.mark.parametrize("shape", ["list", "list of records"])
def test_objects_in_a_result_that_finds_no_memory_are_released(place: str, realloc: str, shape: str) -> None:
    call(place, shape, lambda _: SHAPES[shape][2](), "once", realloc=realloc)
    assert Thing.live == []


@every_place
def test_an_awaited_result_that_cannot_be_handed_over_is_released(place: str) -> None:
    import asyncio

    class Things:
        async def make(self) -> Any:
            return [Thing(), Thing(), None]

    async def main() -> None:
        made = runtime(place)
        sandbox = made.sandbox(made.load_wat(component("list")), imports={"test:things/things": Things()})
        with sandbox, pytest.raises(HostError):
            await sandbox.acall("once")

    asyncio.run(main())
    assert Thing.live == []


GIVES = """(component
  (type $api (instance (export "thing" (type $thing (sub resource)))
    (export "open" (func (result (own $thing))))
    (export "give" (func (param "x" (own $thing)) (param "s" string)))))
  (import "test:things/things" (instance $i (type $api)))
  (core module $libc (memory (export "memory") 16))
  (core instance $libc (instantiate $libc))
  (core func $open (canon lower (func $i "open")))
  (core func $give (canon lower (func $i "give") (memory (core memory $libc "memory"))))
  (core module $m
    (import "" "open" (func $open (result i32))) (import "" "give" (func $give (param i32 i32 i32)))
    (func (export "go") (call $give (call $open) (i32.const 0) (i32.const 500000))))
  (core instance $n (instantiate $m (with "" (instance
    (export "open" (func $open)) (export "give" (func $give))))))
  (func (export "go") (canon lift (core func $n "go"))))"""


def test_objects_that_the_guest_gave_up_are_released_when_the_other_arguments_cannot_be_read() -> None:
    things = type("Things", (), {"open": lambda self: Thing(), "give": lambda self, x, s: None})()
    made = runtime("in-process", value_bytes=100_000)
    sandbox = made.sandbox(made.load_wat(GIVES), imports={"test:things/things": things})
    with sandbox, pytest.raises(QuotaExceeded):
        sandbox.call("go")
    assert Thing.live == []


OPENS = """(component
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error-t))
  (type $types (instance
    (export "descriptor" (type $descriptor (sub resource)))
    (type $flags' (flags "read" "write" "file-integrity-sync" "data-integrity-sync" "requested-write-sync"
      "mutate-directory"))
    (export "descriptor-flags" (type $flags (eq $flags')))
    (type $path' (flags "symlink-follow")) (export "path-flags" (type $path (eq $path')))
    (type $open' (flags "create" "directory" "exclusive" "truncate")) (export "open-flags" (type $open (eq $open')))
    (type $code' (enum "access" "would-block" "already" "bad-descriptor" "busy" "deadlock" "quota" "exist"
      "file-too-large" "illegal-byte-sequence" "in-progress" "interrupted" "invalid" "io" "is-directory" "loop"
      "too-many-links" "message-size" "name-too-long" "no-device" "no-entry" "no-lock" "insufficient-memory"
      "insufficient-space" "not-directory" "not-empty" "not-recoverable" "unsupported" "no-tty" "no-such-device"
      "overflow" "not-permitted" "pipe" "read-only" "invalid-seek" "text-file-busy" "cross-device"))
    (export "error-code" (type $code (eq $code')))
    (export "[method]descriptor.open-at" (func (param "self" (borrow $descriptor)) (param "path-flags" $path)
      (param "path" string) (param "open-flags" $open) (param "flags" $flags)
      (result (result (own $descriptor) (error $code)))))))
  (import "wasi:filesystem/types@0.2.0" (instance $fs (type $types)))
  (alias export $fs "descriptor" (type $descriptor))
  (type $preopens (instance (alias outer 1 $descriptor (type $outer))
    (export "descriptor" (type $descriptor (eq $outer)))
    (type $pair (tuple (own $descriptor) string)) (type $pairs (list $pair))
    (export "get-directories" (func (result $pairs)))))
  (import "wasi:filesystem/preopens@0.2.0" (instance $pre (type $preopens)))
  (core module $libc (memory (export "memory") 1) (data (i32.const 512) "file")
    (global $at (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.set $at (i32.add (global.get $at) (i32.const 64))) (global.get $at)))
  (core instance $libc (instantiate $libc))
  (core func $get (canon lower (func $pre "get-directories") (memory (core memory $libc "memory"))
    (realloc (core func $libc "realloc"))))
  (core func $open (canon lower (func $fs "[method]descriptor.open-at") (memory (core memory $libc "memory"))))
  (core module $m
    (import "" "memory" (memory 1)) (import "" "get" (func $get (param i32)))
    (import "" "open" (func $open (param i32 i32 i32 i32 i32 i32 i32)))
    (func (export "go") (local $d i32)
      (call $get (i32.const 16))
      (local.set $d (i32.load (i32.load (i32.const 16))))
      (loop $l
        (call $open (local.get $d) (i32.const 0) (i32.const 512) (i32.const 4) (i32.const 0) (i32.const 1)
          (i32.const 32))
        (br_if $l (i32.eqz (i32.load8_u (i32.const 32)))))))
  (core instance $n (instantiate $m (with "" (instance (export "memory" (memory $libc "memory"))
    (export "get" (func $get)) (export "open" (func $open))))))
  (func (export "go") (canon lift (core func $n "go"))))"""


@every_place
def test_files_opened_by_a_guest_that_may_hold_no_more_handles_are_closed(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    made = runtime(
        place, fuel=None, handles=20, open_files=60,
        filesystem=FilesystemCapability.read_only(f"{tmp_path}::/"),
    )  # fmt: skip
    artifact = made.load_wat(OPENS)
    before = -1
    for run in range(30):
        with made.sandbox(artifact) as sandbox, pytest.raises(QuotaExceeded, match="handles"):
            sandbox.call("go")
        before = open_descriptors() if run == 4 else before
    assert open_descriptors() <= before


def open_descriptors() -> int:
    gc.collect()  # sandboxes that other tests dropped have descriptors too
    return len(os.listdir("/proc/self/fd"))
