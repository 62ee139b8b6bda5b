"""The *answer* step of the door: one place that answers every host call, in process and for a guest in a worker.

A recorder and a replayer are small implementations of :class:`aegis.AnswerStep`. Oracle: a recording of a run, replayed
without the grants and without the host functions, gives the guest the same run; and a recording made in one place
equals that made in the other, and can be replayed there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest

import aegis
from aegis import Aegis, AnswerStep, Err, HostCall, HostError, Ok, SandboxStateError, Some
from aegis.values import FuncType
from tests.guests.catalogue import source
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

pytestmark = [only_where_there_are_workers, pytest.mark.usual(one_of="place")]
every_place = pytest.mark.parametrize("place", PLACES)

NUMBERS = """(module
  (import "env" "add" (func $add (param i32 i64) (result i32)))
  (import "env" "two" (func $two (param f32) (result i32 f64)))
  (import "env" "none" (func $none))
  (func (export "go") (param i32) (result f64) (local f64)
    (call $none)
    (call $two (f32.const 0.5)) (local.set 1) (drop)
    (f64.add (local.get 1) (f64.convert_i32_s (call $add (local.get 0) (i64.const -1))))))"""
EXITS = """(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "go") (drop (call $random (i32.const 0) (i32.const 8))) (call $exit (i32.const 3))))"""
BUCKETS = """(component
  (import "acme:kv/store@0.1.0" (instance $store
    (export "bucket" (type $bucket (sub resource)))
    (export "[constructor]bucket" (func (param "name" string) (result (own $bucket))))
    (export "[method]bucket.count" (func (param "self" (borrow $bucket)) (result u32)))
    (export "find" (func (param "n" u32) (result (option (own $bucket)))))))
  (core module $memory (memory (export "memory") 1) (data (i32.const 8) "name")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $memory (instantiate $memory))
  (core func $new (canon lower (func $store "[constructor]bucket") (memory (core memory $memory "memory"))))
  (core func $count (canon lower (func $store "[method]bucket.count")))
  (core func $find (canon lower (func $store "find") (memory (core memory $memory "memory"))))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (param i32 i32) (result i32)))
    (import "" "count" (func $count (param i32) (result i32)))
    (import "" "find" (func $find (param i32 i32)))
    (func (export "go") (result i32) (local i32)
      (local.set 0 (call $new (i32.const 8) (i32.const 4)))
      (drop (call $count (local.get 0)))
      (call $find (i32.const 7) (i32.const 16))
      (if (i32.eqz (i32.load8_u (i32.const 16))) (then unreachable))
      (i32.add (call $count (local.get 0)) (call $count (i32.load (i32.const 20))))))
  (core instance $m (instantiate $m (with "" (instance (export "memory" (memory $memory "memory"))
    (export "new" (func $new)) (export "count" (func $count)) (export "find" (func $find))))))
  (func (export "go") (result u32) (canon lift (core func $m "go"))))"""


# -- a recorder and a replayer -------------------------------------------------------------------------


class Resource(NamedTuple):
    """A resource in a recording: its number, in the order of first use."""

    number: int


class Entry(NamedTuple):
    """One recorded call: what was asked, and the value or the error that it was answered with."""

    interface: str
    function: str
    arguments: Any
    value: Any
    error: BaseException | None = None


def plain(value: Any, resource: Callable[[Any], Any]) -> Any:
    """Return a value with its resources replaced by ``resource``."""
    if isinstance(value, (list, tuple)) and not isinstance(value, Resource):
        return type(value)(plain(item, resource) for item in value)
    for wrapper in (Ok, Err, Some):
        if isinstance(value, wrapper):
            return wrapper(plain(value.value, resource))
    module = type(value).__module__
    data = module in ("builtins", "enum") or module.startswith(("aegis.bindings", "aegis.wit", "aegis.types"))
    return value if data and not isinstance(value, Resource) else resource(value)


class Recorder:
    """Lets the host functions answer, and keeps each call with its answer."""

    def __init__(self) -> None:
        self.tape: list[Entry] = []
        self._seen: list[Any] = []

    def __call__(self, call: HostCall, /) -> Any:
        asked = call.interface, call.function, plain(call.arguments, self._numbered)
        try:
            value = call.answer()
        except BaseException as error:
            self.tape.append(Entry(*asked, None, error))
            raise
        self.tape.append(Entry(*asked, plain(value, self._numbered)))
        return value

    def _numbered(self, value: Any) -> Resource:
        for number, seen in enumerate(self._seen):
            if seen is value:
                return Resource(number)
        self._seen.append(value)
        return Resource(len(self._seen) - 1)


class StandIn:
    """A resource during a replay: an object without methods."""

    def __init__(self, number: int) -> None:
        self.number = number


class Replayer:
    """Answers from a recording; calls no host function."""

    def __init__(self, tape: list[Entry]) -> None:
        self.left = list(tape)
        self._made: dict[int, StandIn] = {}

    def __call__(self, call: HostCall, /) -> Any:
        entry = self.left.pop(0)
        arguments = plain(call.arguments, lambda value: Resource(value.number))
        assert (call.interface, call.function, arguments) == entry[:3]
        if entry.error is not None:
            raise entry.error
        return plain(entry.value, lambda of: self._made.setdefault(of.number, StandIn(of.number)))


def shown(tape: list[Entry]) -> list[Any]:
    """Return a recording in a form that compares equal if the calls and their answers are equal."""
    return [(*entry[:4], None if entry.error is None else (type(entry.error), str(entry.error))) for entry in tape]


# -- guests ------------------------------------------------------------------------------------------------


class Bucket:
    def __init__(self, name: str) -> None:
        self.name = name

    def count(self) -> int:
        return len(self.name)


class Store:
    Bucket = Bucket

    def find(self, n: int) -> Bucket | None:
        return Bucket("x" * n)


class Prices:
    def get(self, name: str) -> int:
        if name == "pear":
            raise Err(self.problem.Unknown())
        return len(name)

    problem: Any = None


def failing(*_: Any) -> Any:
    raise ValueError("no such number")


class Guest(NamedTuple):
    """A guest, one call of it, and what it needs from its host."""

    text: str
    call: tuple[Any, ...]
    imports: Mapping[str, Any] = {}
    policy: Mapping[str, Any] = {}


def wat(name: str) -> str:
    return source(name).read_text()


add = {"add": lambda a, b: a + b, "two": lambda x: (3, x * 2), "none": lambda: None}
GUESTS = {
    "numbers": Guest(NUMBERS, ("go", 41), {"env": add}),
    "an exception": Guest(NUMBERS, ("go", 41), {"env": {**add, "two": failing}}),
    "an exit": Guest(EXITS, ("go",)),
    "preview 1": Guest(wat("hello"), ("_start",)),
    "sockets": Guest(wat("buggy/denied-socket"), ("reaches", 80)),
    "a result": Guest(wat("shop"), ("total", ["fig", "plum"]), {"acme:shop/prices": Prices()}),
    "objects": Guest(BUCKETS, ("go",), {"acme:kv/store": Store()}),
}


def unused(*_: Any) -> Any:
    raise AssertionError("a replay calls no host function")


def hollow(imports: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return imports with the same names whose functions must not be called."""
    if "env" in imports:
        return {"env": dict.fromkeys(imports["env"], unused)}
    return imports


def run(place: str, guest: Guest, step: AnswerStep | None, imports: Mapping[str, Any]) -> Any:
    made: Aegis = runtime(place, **guest.policy)
    with made.sandbox(made.load_wat(guest.text), imports=imports, answer=step) as sandbox:
        outcome = sandbox.run(*guest.call)
        code = outcome.error.code if outcome.status == "exited" else None
        return outcome.status, outcome.value, code, outcome.usage.host_calls, sandbox.stdout


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("name", GUESTS)
@pytest.mark.parametrize("recorded_in", PLACES)
@pytest.mark.parametrize("replayed_in", PLACES)
def test_a_recorded_run_is_replayed_without_the_host(name: str, recorded_in: str, replayed_in: str) -> None:
    guest = GUESTS[name]
    usual = run(recorded_in, guest, None, guest.imports)
    recorder = Recorder()
    recorded = run(recorded_in, guest, recorder, guest.imports)
    assert recorded == usual
    assert recorder.tape
    replayer = Replayer(recorder.tape)
    replayed = run(replayed_in, guest, replayer, hollow(guest.imports))
    assert replayer.left == []
    assert replayed[:4] == recorded[:4]
    assert replayed[4] == b""  # the host's own function would have written it


@pytest.mark.parametrize("name", GUESTS)
def test_a_recording_is_the_same_in_both_places(name: str) -> None:
    guest, tapes = GUESTS[name], []
    for place in PLACES:
        recorder = Recorder()
        run(place, guest, recorder, guest.imports)
        tapes.append(shown(recorder.tape))
    assert tapes[0] == tapes[1]


# -- the parts of a call ---------------------------------------------------------------------------------------


@every_place
def test_a_call_has_its_interface_function_type_and_arguments(place: str) -> None:
    seen: list[HostCall] = []

    def step(call: HostCall) -> Any:
        seen.append(call)
        return call.answer()

    assert run(place, GUESTS["numbers"], step, GUESTS["numbers"].imports)[1] == 41.0
    assert [call[:4] for call in seen] == [
        ("env", "none", FuncType((), ()), ()),
        ("env", "two", FuncType(("f32",), ("i32", "f64")), (0.5,)),
        ("env", "add", FuncType(("i32", "i64"), ("i32",)), (41, -1)),
    ]


@every_place
def test_a_step_answers_in_place_of_the_function(place: str) -> None:
    def step(call: HostCall) -> Any:
        return {"none": None, "two": (1, 0.25), "add": 7}[call.function]

    assert run(place, GUESTS["numbers"], step, hollow(GUESTS["numbers"].imports))[1] == 7.25


@every_place
@pytest.mark.parametrize("answer", [1 << 40, "text", (1, 2), None, b"x"])
def test_an_answer_of_another_type_is_an_error_of_the_host(place: str, answer: object) -> None:
    guest = GUESTS["numbers"]
    made = runtime(place)
    step = lambda call: answer if call.function == "add" else call.answer()  # noqa: E731
    with made.sandbox(made.load_wat(guest.text), imports=guest.imports, answer=step) as sandbox:
        outcome = sandbox.run("go", 1)
    assert isinstance(outcome.error, HostError)
    assert "env.add" in str(outcome.error)


@every_place
def test_an_exception_of_a_step_is_the_cause_of_the_error(place: str) -> None:
    error = KeyError("step")

    def step(call: HostCall) -> Any:
        raise error

    for name in ("numbers", "preview 1", "sockets"):
        guest = GUESTS[name]
        made = runtime(place)
        with made.sandbox(made.load_wat(guest.text), imports=guest.imports, answer=step) as sandbox:
            outcome = sandbox.run(*guest.call)
        assert isinstance(outcome.error, HostError)
        assert outcome.error.__cause__ is error


@every_place
def test_a_step_may_ask_the_function_more_than_once(place: str) -> None:
    made = runtime(place)
    step = lambda call: call.answer() + call.answer() if call.function == "add" else call.answer()  # noqa: E731
    counted: list[int] = []
    functions = {**add, "add": lambda a, b: counted.append(1) or a}  # type: ignore[func-returns-value]
    with made.sandbox(made.load_wat(NUMBERS), imports={"env": functions}, answer=step) as sandbox:
        assert sandbox.call("go", 20) == 41.0
    assert len(counted) == 2
    with made.sandbox(made.load_wat(wat("hello")), answer=lambda call: call.answer() or call.answer()) as sandbox:
        sandbox.run("_start")
        assert sandbox.stdout.count(b"hello") == 2


@every_place
def test_a_call_cannot_be_answered_later_nor_elsewhere(place: str) -> None:
    kept: list[HostCall] = []
    errors: list[BaseException] = []

    def ask(call: HostCall) -> None:
        try:
            call.answer()
        except BaseException as error:
            errors.append(error)

    def step(call: HostCall) -> Any:
        kept.append(call)
        thread = threading.Thread(target=ask, args=(call,))
        thread.start()
        thread.join()
        return call.answer()

    run(place, GUESTS["preview 1"], step, {})
    calls = len(errors)
    assert calls == len(kept) > 0
    ask(kept[0])
    assert [type(error) for error in errors] == [SandboxStateError] * (calls + 1)


@every_place
def test_an_asynchronous_host_function_is_awaited_before_the_step_sees_its_result(place: str) -> None:
    async def slowly(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    recorder = Recorder()
    made = runtime(place)
    with made.sandbox(made.load_wat(NUMBERS), imports={"env": {**add, "add": slowly}}, answer=recorder) as sandbox:
        assert asyncio.run(sandbox.acall("go", 42)) == 42.0
    assert recorder.tape[-1] == ("env", "add", (42, -1), 41, None)


@every_place
def test_a_step_sees_the_calls_of_a_start_function(place: str) -> None:
    text = '(module (import "env" "f" (func $f (param i32))) (func $s (call $f (i32.const 5))) (start $s))'
    recorder = Recorder()
    made = runtime(place)
    made.sandbox(made.load_wat(text), imports={"env": {"f": lambda n: None}}, answer=recorder).close()
    assert [entry[:3] for entry in recorder.tape] == [("env", "f", (5,))]


@every_place
def test_a_step_stays_for_the_guest_after_a_reset(place: str) -> None:
    recorder, made = Recorder(), runtime(place)
    with made.sandbox(made.load_wat(wat("hello")), answer=recorder) as sandbox:
        sandbox.run("_start")
        calls = len(recorder.tape)
        sandbox.reset()
        sandbox.run("_start")
    assert len(recorder.tape) == 2 * calls > 0


@every_place
def test_a_step_changes_neither_denials_nor_events(place: str) -> None:
    """The host function checks the policy itself, so a step that asks it sees the denial as its error."""
    guest = GUESTS["sockets"]
    kinds: list[Any] = []
    for step in (None, Recorder()):
        heard = aegis.CollectingSubscriber()
        made = runtime(place)
        with made.sandbox(made.load_wat(guest.text), subscribers=[heard], answer=step) as sandbox:
            sandbox.run(*guest.call)
        kinds.append([(e.kind, getattr(e, "name", None), getattr(e, "allowed", None)) for e in heard.events])
    assert kinds[0] == kinds[1]
    assert "host_function_called" in {kind for kind, *_ in kinds[0]}


@every_place
def test_the_host_call_limit_holds_under_a_step(place: str) -> None:
    made = runtime(place, host_calls=2)
    with made.sandbox(made.load_wat(NUMBERS), imports={"env": add}, answer=lambda call: call.answer()) as sandbox:
        assert sandbox.run("go", 1).status == "quota-exceeded"


@every_place
def test_a_step_that_outlasts_the_deadline_ends_its_call(place: str) -> None:
    made = runtime(place, timeout="200ms")

    def step(call: HostCall) -> Any:
        threading.Event().wait(0.5)
        return call.answer()

    for name in ("numbers", "preview 1"):
        guest = GUESTS[name]
        with made.sandbox(made.load_wat(guest.text), imports=guest.imports, answer=step) as sandbox:
            assert sandbox.run(*guest.call).status == "timeout"
