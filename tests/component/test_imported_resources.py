"""Host resources held by the guest: created, lent, moved, dropped; and the drops at every kind of end."""

from __future__ import annotations

from typing import Any

import pytest

from aegis import Aegis, GuestTrap, HostError

RUNTIME = Aegis(cache=False, pooled=False)

GUEST = """(component
  (type $files (instance
    (export "file" (type $file (sub resource)))
    (type $own (own $file))
    (export "[constructor]file" (func (param "name" string) (result $own)))
    (export "[method]file.size" (func (param "self" (borrow $file)) (result u32)))
    (export "[static]file.largest" (func (param "a" (borrow $file)) (param "b" (borrow $file)) (result u32)))
    (export "close" (func (param "which" $own)))
    (export "copy" (func (param "of" (borrow $file)) (result $own)))))
  (import "test:files/files@0.1.0" (instance $i (type $files)))
  (alias export $i "file" (type $file))
  (core module $memory
    (memory (export "memory") 1) (data (i32.const 0) "onetwo")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $memory (instantiate $memory))
  (core func $open (canon lower (func $i "[constructor]file") (memory (core memory $memory "memory"))))
  (core func $size (canon lower (func $i "[method]file.size")))
  (core func $largest (canon lower (func $i "[static]file.largest")))
  (core func $close (canon lower (func $i "close")))
  (core func $copy (canon lower (func $i "copy")))
  (core func $drop (canon resource.drop $file))
  (core module $m
    (import "" "open" (func $open (param i32 i32) (result i32)))
    (import "" "size" (func $size (param i32) (result i32)))
    (import "" "largest" (func $largest (param i32 i32) (result i32)))
    (import "" "close" (func $close (param i32)))
    (import "" "copy" (func $copy (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (func $one (result i32) (call $open (i32.const 0) (i32.const 3)))
    (func $two (result i32) (call $open (i32.const 3) (i32.const 3)))
    (func (export "open-use-drop") (result i32) (local $file i32) (local $size i32)
      (local.set $file (call $one))
      (local.set $size (call $size (local.get $file)))
      (call $drop (local.get $file))
      (local.get $size))
    (func (export "give") (call $close (call $one)))
    (func (export "lend-both") (result i32) (call $largest (call $one) (call $two)))
    (func (export "copy") (result i32) (local $file i32)
      (local.set $file (call $copy (call $one)))
      (call $size (local.get $file)))
    (func (export "keep") (result i32) (call $one))
    (func (export "drop-later") (param i32) (call $drop (local.get 0)))
    (func (export "trap") (drop (call $one)) unreachable))
  (core instance $m (instantiate $m (with "" (instance
    (export "open" (func $open)) (export "size" (func $size)) (export "largest" (func $largest))
    (export "close" (func $close)) (export "copy" (func $copy)) (export "drop" (func $drop))))))
  (func (export "open-use-drop") (result u32) (canon lift (core func $m "open-use-drop")))
  (func (export "give") (canon lift (core func $m "give")))
  (func (export "lend-both") (result u32) (canon lift (core func $m "lend-both")))
  (func (export "copy") (result u32) (canon lift (core func $m "copy")))
  (func (export "keep") (result u32) (canon lift (core func $m "keep")))
  (func (export "drop-later") (param "handle" u32) (canon lift (core func $m "drop-later")))
  (func (export "trap") (canon lift (core func $m "trap"))))"""


class Files:
    """The host side of ``test:files/files``; ``log`` records every event with its object."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        log = self.log

        class File:
            def __init__(self, name: str) -> None:
                self.name = name
                log.append(("open", self))

            def size(self) -> int:
                log.append(("size", self))
                return len(self.name)

            @staticmethod
            def largest(a: Any, b: Any) -> int:
                log.append(("largest", (a, b)))
                return max(len(a.name), len(b.name))

            def __drop__(self) -> None:
                log.append(("drop", self))

        self.File = File

    def close(self, which: Any) -> None:
        self.log.append(("close", which))

    def copy(self, of: Any) -> Any:
        self.log.append(("copy", of))
        return Copy(of, self.log)

    def words(self) -> list[str]:
        return [word for word, _ in self.log]


class Copy:
    """An object of any class with the right methods is accepted."""

    def __init__(self, of: Any, log: list[tuple[str, Any]]) -> None:
        self.of, self.log = of, log

    def size(self) -> int:
        return 1000 + len(self.of.name)

    def __drop__(self) -> None:
        self.log.append(("drop", self))


@pytest.fixture(scope="module")
def user() -> Any:
    return RUNTIME.load_wat(GUEST)


def test_a_guest_opens_uses_and_drops_an_object_of_the_host(user: Any) -> None:
    files = Files()
    with RUNTIME.sandbox(user, imports={"test:files/files@0.1.0": files}) as sandbox:
        for _ in range(3):
            assert sandbox.call("open-use-drop") == 3
        assert files.words() == ["open", "size", "drop"] * 3
        first = [thing for _, thing in files.log[:3]]
        assert first[0] is first[1] is first[2]
        assert first[0].name == "one"
    assert len(files.log) == 9, "nothing is dropped again"


def test_a_moved_resource_belongs_to_the_host_and_is_not_dropped(user: Any) -> None:
    files = Files()
    with RUNTIME.sandbox(user, imports={"test:files/files": files}) as sandbox:
        sandbox.call("give")
    assert files.words() == ["open", "close"]
    assert files.log[0][1] is files.log[1][1]


def test_a_lent_resource_arrives_as_the_object_itself(user: Any) -> None:
    files = Files()
    with RUNTIME.sandbox(user, imports={"test:files/files": files}) as sandbox:
        assert sandbox.call("lend-both") == 3
        (_, one), (_, two), (_, pair) = files.log
        assert pair == (one, two)
        assert [thing.name for thing in pair] == ["one", "two"]
    assert files.words()[3:] == ["drop", "drop"]


def test_an_object_of_any_class_with_the_methods_will_do(user: Any) -> None:
    files = Files()
    with RUNTIME.sandbox(user, imports={"test:files/files": files}) as sandbox:
        assert sandbox.call("copy") == 1003
    assert sorted(type(thing).__name__ for word, thing in files.log if word == "drop") == ["Copy", "File"]


def test_a_resource_held_between_calls_is_dropped_once(user: Any) -> None:
    files = Files()
    with RUNTIME.sandbox(user, imports={"test:files/files": files}) as sandbox:
        handles = [sandbox.call("keep") for _ in range(3)]
        sandbox.call("drop-later", handles[1])
        assert files.words() == ["open"] * 3 + ["drop"]
        with pytest.raises(GuestTrap):
            sandbox.call("drop-later", handles[1])
        assert files.words().count("drop") <= 3
    dropped = [thing for word, thing in files.log if word == "drop"]
    assert len(dropped) == 3
    assert {id(thing) for thing in dropped} == {id(thing) for word, thing in files.log if word == "open"}


@pytest.mark.parametrize("end", ["close", "reset", "trap"])
def test_every_ending_drops_the_held_resources(user: Any, end: str) -> None:
    files = Files()
    sandbox = RUNTIME.sandbox(user, imports={"test:files/files": files})
    sandbox.call("keep")
    if end == "trap":
        with pytest.raises(GuestTrap):
            sandbox.call("trap")
    if end == "reset":
        sandbox.reset()
        assert files.words() == ["open", "drop"]
        assert sandbox.call("open-use-drop") == 3
    sandbox.close()
    assert files.words().count("open") == files.words().count("drop")


def test_an_object_that_is_in_two_places_is_dropped_for_each(user: Any) -> None:
    class Same(Files):
        def copy(self, of: Any) -> Any:
            return of

    files = Same()
    with RUNTIME.sandbox(user, imports={"test:files/files": files}) as sandbox:
        assert sandbox.call("copy") == 3
    assert files.words() == ["open", "size", "drop", "drop"]


def test_a_drop_that_raises_is_a_host_error(user: Any) -> None:
    files = Files()

    class Clinging(files.File):  # type: ignore[name-defined, misc]
        def __drop__(self) -> None:
            raise RuntimeError("not yet")

    files.File = Clinging
    with RUNTIME.sandbox(user, imports={"test:files/files": files}) as sandbox:
        with pytest.raises(HostError, match="not yet") as caught:
            sandbox.call("open-use-drop")
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert sandbox.state == "poisoned"


def test_objects_without_a_drop_need_none(user: Any) -> None:
    files = Files()
    del files.File.__drop__
    with RUNTIME.sandbox(user, imports={"test:files/files": files}) as sandbox:
        assert sandbox.call("open-use-drop") == 3


@pytest.mark.parametrize("given", [None, 7, object])
def test_a_host_must_return_an_object_of_the_resource(user: Any, given: Any) -> None:
    """Methods are looked up when they are called; only an object that can never have them is rejected at once."""

    class Odd(Files):
        def copy(self, of: Any) -> Any:
            return given

    with RUNTIME.sandbox(user, imports={"test:files/files": Odd()}) as sandbox, pytest.raises(HostError):
        sandbox.call("copy")
