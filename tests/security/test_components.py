"""Components that attack through handles, re-entrance, instantiation, time and size end as documented."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from aegis import (
    Aegis,
    AegisError,
    ArtifactError,
    GuestTrap,
    HostError,
    MemoryExceeded,
    OutOfFuel,
    QuotaExceeded,
    SandboxStateError,
    StdioCapability,
)

RUNTIME = Aegis(cache=False, pooled=False, timeout="20s")


HANDLES = """(component
  (type $host (instance
    (export "thing" (type $thing (sub resource)))
    (export "other" (type $other (sub resource)))
    (export "open" (func (result (own $thing))))
    (export "use" (func (param "x" (borrow $thing))))
    (export "use-other" (func (param "x" (borrow $other))))
    (export "give" (func (param "x" (own $thing))))))
  (import "test:things/things" (instance $i (type $host)))
  (alias export $i "thing" (type $thing))
  (core func $open (canon lower (func $i "open")))
  (core func $use (canon lower (func $i "use")))
  (core func $use-other (canon lower (func $i "use-other")))
  (core func $give (canon lower (func $i "give")))
  (core func $drop (canon resource.drop $thing))
  (core module $m
    (import "" "open" (func $open (result i32)))
    (import "" "use" (func $use (param i32)))
    (import "" "use-other" (func $use-other (param i32)))
    (import "" "give" (func $give (param i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "forge") (call $use (i32.const 77)))
    (func (export "use-after-drop") (local i32)
      (local.set 0 (call $open)) (call $drop (local.get 0)) (call $use (local.get 0)))
    (func (export "drop-twice") (local i32)
      (local.set 0 (call $open)) (call $drop (local.get 0)) (call $drop (local.get 0)))
    (func (export "use-after-give") (local i32)
      (local.set 0 (call $open)) (call $give (local.get 0)) (call $use (local.get 0)))
    (func (export "of-another-type") (call $use-other (call $open)))
    (func (export "well") (local i32)
      (local.set 0 (call $open)) (call $use (local.get 0)) (call $use (local.get 0)) (call $drop (local.get 0)))
    (func (export "leak") (drop (call $open)))
    (func (export "flood") (loop $again (drop (call $open)) (br $again))))
  (core instance $m (instantiate $m (with "" (instance
    (export "open" (func $open)) (export "use" (func $use)) (export "use-other" (func $use-other))
    (export "give" (func $give)) (export "drop" (func $drop))))))
  (func (export "forge") (canon lift (core func $m "forge")))
  (func (export "use-after-drop") (canon lift (core func $m "use-after-drop")))
  (func (export "drop-twice") (canon lift (core func $m "drop-twice")))
  (func (export "use-after-give") (canon lift (core func $m "use-after-give")))
  (func (export "of-another-type") (canon lift (core func $m "of-another-type")))
  (func (export "well") (canon lift (core func $m "well")))
  (func (export "leak") (canon lift (core func $m "leak")))
  (func (export "flood") (canon lift (core func $m "flood"))))"""


class Thing:
    """A host object that counts its uses and drops."""

    live = 0

    def __init__(self) -> None:
        type(self).live += 1

    def __drop__(self) -> None:
        type(self).live -= 1


class Things:
    """The host's side of ``test:things/things``; ``used`` records its arguments."""

    def __init__(self) -> None:
        self.kind = type("Thing", (Thing,), {"live": 0})
        self.used: list[Any] = []
        self.opened: list[Any] = []

    def open(self) -> Any:
        self.opened.append(self.kind())
        return self.opened[-1]

    def use(self, x: Any) -> None:
        self.used.append(x)

    use_other = give = use


@pytest.mark.parametrize("name", ["forge", "use-after-drop", "drop-twice", "use-after-give", "of-another-type"])
def test_a_handle_that_is_not_held_is_a_trap(name: str) -> None:
    things = Things()
    with RUNTIME.sandbox(RUNTIME.load_wat(HANDLES), imports={"test:things/things": things}) as sandbox:
        with pytest.raises(GuestTrap):
            sandbox.call(name)
        assert not things.used or name == "use-after-give"


def test_handles_that_are_held_are_the_hosts_own_objects() -> None:
    things = Things()
    with RUNTIME.sandbox(RUNTIME.load_wat(HANDLES), imports={"test:things/things": things}) as sandbox:
        sandbox.call("well")
        assert things.used == [things.opened[0], things.opened[0]]
        assert things.kind.live == 0
        sandbox.call("leak")
        assert things.kind.live == 1
    assert things.kind.live == 0, "what the guest leaked is dropped with its sandbox"


def test_a_flood_of_handles_ends_at_its_limit() -> None:
    things = Things()
    runtime = Aegis(cache=False, pooled=False, handles=100)
    with runtime.sandbox(runtime.load_wat(HANDLES), imports={"test:things/things": things}) as sandbox:
        with pytest.raises(QuotaExceeded) as caught:
            sandbox.call("flood")
        assert (caught.value.limit, caught.value.allowed) == ("handles", 100)
    assert things.kind.live == 0, "the one over the limit never reached the guest, and was released"


REENTRANT = """(component
  (import "again" (func $again))
  (core func $again (canon lower (func $again)))
  (core module $m (import "" "again" (func $again)) (func (export "go") (call $again)))
  (core instance $m (instantiate $m (with "" (instance (export "again" (func $again))))))
  (func (export "go") (canon lift (core func $m "go"))))"""


def test_a_component_cannot_be_entered_twice() -> None:
    reported: list[BaseException] = []

    def again() -> None:
        try:
            sandbox.call("go")
        except SandboxStateError as error:
            reported.append(error)

    component = RUNTIME.load_wat(REENTRANT)
    with RUNTIME.sandbox(component, imports={"again": again}) as sandbox:
        sandbox.call("go")
        sandbox.call("go")
    assert [str(error) for error in reported] == [
        "a component cannot be entered while a call into it is under way, not even by its host functions: "
        "return first, or use another sandbox"
    ] * 2


def test_an_exception_belongs_to_its_own_sandbox() -> None:
    component = RUNTIME.load_wat(REENTRANT)
    problems: list[str] = []

    def one(number: int) -> None:
        def fails() -> None:
            raise ValueError(f"number {number}")

        for _ in range(50):
            with RUNTIME.sandbox(component, imports={"again": fails}) as sandbox:
                try:
                    sandbox.call("go")
                except HostError as error:
                    if str(error.__cause__) != f"number {number}":
                        problems.append(str(error))
                else:
                    problems.append("no error")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def bomb(levels: int) -> str:
    """Levels of components, each of which instantiates the next one twice."""
    text = "(component $c0 (core module $m) (core instance (instantiate $m)))"
    for level in range(1, levels):
        twice = f"(instance (instantiate $c{level - 1}))" * 2
        text = f"(component $c{level} {text} {twice})"
    return text


def test_an_instantiation_bomb_is_refused_before_it_is_compiled() -> None:
    with pytest.raises(MemoryExceeded, match=r"8,388,608/64 core instances"):
        RUNTIME.load_wat(bomb(24))
    assert RUNTIME.load_wat(bomb(5)).structure.totals.instances == 16  # type: ignore[union-attr]


def test_memories_of_a_component_count_together() -> None:
    many = " ".join(f"(core module $m{n} (memory 300)) (core instance (instantiate $m{n}))" for n in range(4))
    runtime = Aegis(cache=False, pooled=False, memory="64MiB")
    with pytest.raises(MemoryExceeded, match=r"\(78,643,200/67,108,864 bytes of initial memory of the component\)"):
        runtime.sandbox(runtime.load_wat(f"(component {many})"))


def test_a_start_that_traps_or_spins_ends() -> None:
    runtime = Aegis(cache=False, pooled=False, fuel=1_000_000)
    for start, error in (("unreachable", GuestTrap), ("(loop $again (br $again))", OutOfFuel)):
        text = f"(component (core module $m (func $s {start}) (start $s)) (core instance (instantiate $m)))"
        with pytest.raises(error):
            runtime.sandbox(runtime.load_wat(text))


UNSUPPORTED = [
    ('(component (type $m (map u8 u8)) (import "f" (func (result $m))))', "the import f uses maps"),
    ('(component (type $e (stream error-context)) (import "f" (func (param "x" $e))))', "error contexts"),
    ("(component (core func (canon thread.index)))", "thread.index"),
]


@pytest.mark.parametrize(("text", "message"), UNSUPPORTED, ids=["map", "error-context", "thread"])
def test_features_that_aegis_does_not_run_are_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        RUNTIME.load_wat(text)
    assert message in str(caught.value)
    assert "does not support" in str(caught.value)


def test_any_bytes_in_a_component_end_in_a_documented_way() -> None:
    import random

    from aegis.engine.compile.artifact import text_to_binary

    seed = text_to_binary(HANDLES)
    chance = random.Random(7)
    for _ in range(300):
        raw = bytearray(seed)
        for _ in range(chance.randint(1, 4)):
            raw[chance.randrange(8, len(raw))] = chance.randrange(256)
        try:
            component = RUNTIME.load(bytes(raw))
            with RUNTIME.sandbox(component, trap_missing=True) as sandbox:
                for name in list(sandbox.exports):
                    sandbox.run(name)
        except AegisError:
            continue


POLL = """(component
  (type $poll (instance
    (export "pollable" (type $p (sub resource)))
    (type $many (list (borrow $p)))
    (type $ready (list u32))
    (export "poll" (func (param "in" $many) (result $ready)))))
  (import "wasi:io/poll@0.2.3" (instance $poll (type $poll)))
  (alias export $poll "pollable" (type $pollable))
  (type $clock (instance
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $p (eq $outer)))
    (type $own (own $p))
    (export "subscribe-duration" (func (param "when" u64) (result $own)))))
  (import "wasi:clocks/monotonic-clock@0.2.3" (instance $clock (type $clock)))
  (core module $memory (memory (export "memory") 80)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
  (core instance $memory (instantiate $memory))
  (core func $poll (canon lower (func $poll "poll")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $timer (canon lower (func $clock "subscribe-duration")))
  (core module $m
    (import "" "memory" (memory 80))
    (import "" "poll" (func $poll (param i32 i32 i32)))
    (import "" "timer" (func $timer (param i64) (result i32)))
    (func (export "go") (param $count i32) (result i32) (local $handle i32) (local $n i32)
      (local.set $handle (call $timer (i64.const 0)))
      (loop $fill
        (i32.store offset=64 (i32.mul (local.get $n) (i32.const 4)) (local.get $handle))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $fill (i32.lt_u (local.get $n) (local.get $count))))
      (call $poll (i32.const 64) (local.get $count) (i32.const 16))
      (i32.load (i32.const 20))))
  (core instance $m (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "poll" (func $poll)) (export "timer" (func $timer))))))
  (func (export "go") (param "count" u32) (result u32) (canon lift (core func $m "go"))))"""


def test_a_poll_of_a_million_is_refused_before_it_is_read() -> None:
    component = RUNTIME.load_wat(POLL)
    with RUNTIME.sandbox(component) as sandbox:
        assert sandbox.call("go", 3) == 3
        with pytest.raises((QuotaExceeded, GuestTrap)):
            sandbox.call("go", 1_000_000)
        sandbox.reset()
        with pytest.raises(QuotaExceeded, match=r"\(5,000/4,096 handles\) by handles passed at once"):
            sandbox.call("go", 5000)


READ = """(component
  (type $streams (instance
    (export "error" (type $e (sub resource)))
    (type $own (own $e))
    (type $v (variant (case "last-operation-failed" $own) (case "closed")))
    (export "stream-error" (type $error (eq $v)))
    (export "input-stream" (type $in (sub resource)))
    (type $bytes (list u8))
    (type $r (result $bytes (error $error)))
    (export "[method]input-stream.blocking-read"
      (func (param "self" (borrow $in)) (param "len" u64) (result $r)))))
  (import "wasi:io/streams@0.2.0" (instance $streams (type $streams)))
  (alias export $streams "input-stream" (type $input))
  (type $stdin (instance
    (alias outer 1 $input (type $outer))
    (export "input-stream" (type $in (eq $outer)))
    (type $own (own $in))
    (export "get-stdin" (func (result $own)))))
  (import "wasi:cli/stdin@0.2.7" (instance $stdin (type $stdin)))
  (core module $memory (memory (export "memory") 4)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $memory (instantiate $memory))
  (core func $read (canon lower (func $streams "[method]input-stream.blocking-read")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $stdin (canon lower (func $stdin "get-stdin")))
  (core module $m
    (import "" "memory" (memory 4))
    (import "" "read" (func $read (param i32 i64 i32)))
    (import "" "stdin" (func $stdin (result i32)))
    (func (export "go") (result i32)
      (call $read (call $stdin) (i64.const -1) (i32.const 16))
      (if (result i32) (i32.load8_u (i32.const 16)) (then (i32.const -1)) (else (i32.load (i32.const 24))))))
  (core instance $m (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "read" (func $read)) (export "stdin" (func $stdin))))))
  (func (export "go") (result s32) (canon lift (core func $m "go"))))"""


def test_a_read_of_everything_gives_a_chunk_and_versions_are_served_by_name() -> None:
    component = RUNTIME.load_wat(READ)
    with RUNTIME.sandbox(component, stdio=StdioCapability(stdin=bytes(200_000))) as sandbox:
        assert sandbox.call("go") == 65536
    with RUNTIME.sandbox(component) as sandbox:
        assert sandbox.call("go") == -1
