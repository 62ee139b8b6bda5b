"""Every kind of event, from every way to call, is written by every writer as one JSON line, without losses."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import threading
import warnings
from collections import UserDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar

import pytest

from aegis import AegisError, DeadlineExceeded, HostError, SandboxStateError
from aegis.observe import (
    EVENTS,
    CollectingSubscriber,
    Custom,
    Event,
    EventBus,
    ExecutionCompleted,
    ExecutionReport,
    ExecutionStarted,
    FuelConsumed,
    HostFunctionCalled,
    JsonLinesWriter,
    MemoryGrew,
    MetricsSubscriber,
    Outcome,
    SubscriberWarning,
)
from aegis.wit.types import Function, Interface
from tests.cli.command import aegis as command
from tests.echo import echo_component, own_echo_component
from tests.guests.catalogue import GUESTS
from tests.isolation.isolated import PLACES, runtime
from tests.observe.test_events import SAMPLES

MODULE = """(module (import "env" "f" (func $f (param i32) (result i32))) (memory (export "memory") 1)
  (func (export "go") (param i32) (result i32) (drop (memory.grow (i32.const 1))) (call $f (local.get 0)))
  (func (export "trap") unreachable))"""
TABLE = Interface("", {"echo-back": Function((("x", "u32"),), "u32")})


class Watched:
    """A sandbox with every subscriber of the package, and the lines that they wrote."""

    def __init__(self, place: str, text: str, imports: Mapping[str, Any], **more: Any) -> None:
        self.stream = io.StringIO()
        self.seen, self.metrics = CollectingSubscriber(), MetricsSubscriber()
        subscribers = (JsonLinesWriter(self.stream), self.seen, self.metrics)
        aegis = runtime(place, **{"fuel": 1_000_000, **more})
        self.box = aegis.sandbox(aegis.load_wat(text), imports=imports, subscribers=subscribers)

    def close(self) -> set[str]:
        """Check that each event was written with plain values, and return the kinds of events."""
        self.box.events.emit(Custom, name="own", data={"n": 1})
        self.box.close()
        assert self.box.events.failures == []
        lines = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        assert [line["seq"] for line in lines] == list(range(1, len(self.seen) + 1))
        for line, event in zip(lines, self.seen, strict=True):
            assert line == json.loads(json.dumps(event.to_dict()))
        assert all(type(event.function) is str for event in self.seen.of(ExecutionStarted))
        assert self.metrics.metrics.executions == len(self.seen.of(ExecutionCompleted))
        return {line["kind"] for line in lines}


BASIC = {"module_loaded", "execution_started", "memory_grew", "fuel_consumed", "execution_completed", "custom"}


@pytest.mark.parametrize("place", PLACES)
def test_every_way_to_call_a_component_is_recorded(place: str) -> None:
    watched = Watched(place, echo_component("u32"), {"echo": lambda x: x})
    box = watched.box
    bound = box.bind(TABLE)
    ways: list[Callable[[], Any]] = [
        lambda: box.call("echo-back", 7),
        lambda: box.run("echo-back", 7).value,
        lambda: box.exports["echo-back"](7),
        lambda: bound.echo_back(7),
        lambda: asyncio.run(box.acall("echo-back", 7)),
    ]
    assert [way() for way in ways] == [7] * 5
    assert [event.function for event in watched.seen.of(ExecutionStarted)] == ["echo-back"] * 5
    assert watched.close() == BASIC | {"host_function_called"}


@pytest.mark.parametrize("place", PLACES)
def test_every_way_to_call_a_module_is_recorded(place: str) -> None:
    watched = Watched(place, MODULE, {"env": {"f": lambda x: x}})
    box = watched.box
    assert [box.call("go", 1), box.run("go", 2).value, asyncio.run(box.acall("go", 3))] == [1, 2, 3]
    with pytest.raises(AegisError):
        box.call("trap")
    assert watched.close() == BASIC | {"host_function_called", "error"}


@pytest.mark.parametrize("place", PLACES)
def test_functions_of_exported_interfaces_are_recorded_by_their_whole_names(place: str) -> None:
    watched = Watched(place, (GUESTS / "components" / "counter.wat").read_text(), {})
    counters = watched.box.exports["test:counters/counters"]
    assert counters.Counter(5).increment(1) == 6
    name = "test:counters/counters@1.0.0#[method]counter.increment"
    assert name in [event.function for event in watched.seen.of(ExecutionStarted)]
    assert watched.close() >= BASIC - {"memory_grew"}


@pytest.mark.parametrize("isolation", [(), ("--isolate",)], ids=PLACES)
def test_programs_and_calls_of_the_command_are_recorded(tmp_path: Path, isolation: tuple[str, ...]) -> None:
    file, log = tmp_path / "echo.wat", tmp_path / "events"
    run, call = '(func (export "_start"))', '(func (export "f") (param f32) (result f32) local.get 0)'
    file.write_text(f"(module (memory 1) {run} {call})")
    for words in ((), ("-e", "f")):
        assert command("run", *isolation, *words, "--events", log, file, *(("0.1",) if words else ())).code == 0
        kinds = [json.loads(line)["kind"] for line in log.read_text().splitlines()]
        assert {"module_loaded", "execution_started", "execution_completed"} <= set(kinds)


@pytest.mark.parametrize("isolation", [(), ("--isolate",)], ids=PLACES)
def test_a_call_of_a_component_by_the_command_is_recorded(tmp_path: Path, isolation: tuple[str, ...]) -> None:
    file, log = tmp_path / "echo.wat", tmp_path / "events"
    file.write_text(own_echo_component("u32"))
    assert command("run", *isolation, "--events", log, "--invoke", "echo-back(7)", file).out == "7\n"
    started = [json.loads(line) for line in log.read_text().splitlines() if "execution_started" in line]
    assert [line["function"] for line in started] == ["echo-back"]


def test_every_kind_of_event_passes_through_every_subscriber() -> None:
    stream = io.StringIO()
    writer, seen, metrics = JsonLinesWriter(stream), CollectingSubscriber(), MetricsSubscriber()
    bus = EventBus("r", [writer, seen, metrics])
    for event, fields in SAMPLES.items():
        bus.emit(event, **fields)  # type: ignore[arg-type]
    assert bus.failures == []
    kinds = [json.loads(line)["kind"] for line in stream.getvalue().splitlines()]
    assert sorted(kinds) == sorted(EVENTS) == sorted(event.kind for event in seen)
    assert (metrics.metrics.executions, metrics.metrics.logs, metrics.metrics.denials) == (1, 1, 1)


# -- what events hold ---------------------------------------------------------------------------------


class Seven(IntEnum):
    SEVEN = 7


class Evil:
    def __repr__(self) -> str:
        raise RuntimeError


class EvilMapping(UserDict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError


def cycle() -> list[Any]:
    made: list[Any] = []
    made.append({"again": made})
    return made


ODD = [
    b"\xff", bytearray(b"a"), memoryview(b"b"), float("nan"), float("inf"), {1, 2}, frozenset({"x"}), Evil(),
    EvilMapping(), object, Decimal(1), 1j, 10**6000, -(10**6000), "\ud800", "\x1b[2J\u202e", Seven.SEVEN, cycle(),
    [[[[[[[[[[[1]]]]]]]]]]], {"\udfff": 1, 2: 3, None: 4, (1,): 5}, range(3), iter([1]), "x" * 10**6, [0] * 10**5, ...,
]  # fmt: skip


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__.encode("ascii", "replace").decode())
def test_whatever_an_embedder_puts_into_an_event_is_written_as_json(value: Any) -> None:
    stream = io.StringIO()
    bus = EventBus("r", [JsonLinesWriter(stream)])
    bus.emit(Custom, name="odd", data={"value": value})
    bus.emit(Custom, name="odd", data={"value": [value, {"inner": value}]})
    assert bus.failures == []
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all(json.loads(line)["kind"] == "custom" and line.isascii() and len(line) < 50_000 for line in lines)


def test_a_field_of_another_type_is_refused_when_the_event_is_made() -> None:
    wrong: list[tuple[type[Event], dict[str, Any]]] = [
        (ExecutionStarted, {"function": TABLE}),
        (ExecutionStarted, {"function": ("a", "b")}),
        (ExecutionStarted, {"function": "f", "arguments": "1"}),
        (ExecutionStarted, {"function": "f", "arguments": True}),
        (HostFunctionCalled, {"module": "m", "name": "n", "seconds": "1"}),
        (HostFunctionCalled, {"module": "m", "name": b"n", "seconds": 1.0}),
        (HostFunctionCalled, {"module": "m", "name": "n", "seconds": 1.0, "ok": 1}),
        (FuelConsumed, {"fuel": 1.5}),
        (Custom, {"name": 5}),
        (Custom, {"name": "n", "data": [("a", 1)]}),
        (Custom, {"name": "n", "run": 5}),
    ]
    for event, fields in wrong:
        with pytest.raises(TypeError, match=event.__name__):
            event(**fields)


def test_a_field_of_a_subclass_holds_the_plain_value() -> None:
    class Name(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "other"

    event = ExecutionStarted(function=Name("f"), arguments=Seven.SEVEN, ts=1)
    assert (type(event.function), event.function) == (str, "f")
    assert type(event.arguments) is int
    assert type(event.ts) is float
    assert json.loads(MemoryGrew(before=0, after=10**6000).to_json())["after"].startswith("an integer of")


@dataclass(frozen=True, slots=True, kw_only=True)
class Own(Event):
    kind: ClassVar[str] = "own"

    where: Path
    items: list[Any]


def test_an_event_class_of_the_embedder_is_written_as_json_too() -> None:
    event = Own(where=Path("/secret"), items=[b"x", float("nan"), 10**6000])
    data = json.loads(event.to_json())
    assert (data["where"], data["items"][:2]) == ("<PosixPath>", ["x", "nan"])


def test_an_error_of_the_embedder_with_a_field_kind_is_a_host_error() -> None:
    class Odd(Exception):
        kind = object()

    def fail(x: int) -> int:
        raise Odd

    watched = Watched("in-process", MODULE, {"env": {"f": fail}})
    with pytest.raises(HostError):
        watched.box.call("go", 1)
    assert [event.error for event in watched.seen.of(HostFunctionCalled)] == ["host-error"]
    watched.close()


def test_a_report_names_a_function_of_bindings_by_its_name() -> None:
    report = ExecutionReport.of(Outcome(), artifact=Path("x.wasm"), function=TABLE)  # type: ignore[arg-type]
    assert json.loads(report.to_json())["artifact"] == "x.wasm"


# -- subscribers that fail ----------------------------------------------------------------------------


def exits(event: Event) -> None:
    raise SystemExit(3)


def cancelled(event: Event) -> None:
    raise asyncio.CancelledError


def broken(event: Event) -> None:
    raise Evil  # type: ignore[misc] - a TypeError


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def unspeakable(event: Event) -> None:
    raise Unspeakable


@pytest.mark.parametrize("subscriber", [exits, cancelled, broken, unspeakable])
@pytest.mark.parametrize("place", PLACES)
def test_a_subscriber_that_fails_is_reported_once_and_the_run_goes_on(place: str, subscriber: Any) -> None:
    aegis = runtime(place)
    component = aegis.load_wat(echo_component("u32"))
    warns = pytest.warns(SubscriberWarning, match=f"event subscriber {subscriber.__name__} failed at event 1")
    with warns as warned, aegis.sandbox(component, imports={"echo": lambda x: x}, subscribers=[subscriber]) as box:
        outcome = box.run("echo-back", 5)
    assert (outcome.value, len(warned)) == (5, 1)
    report = ExecutionReport.of(outcome, subscribers_failed=len(box.events.failures))
    assert report.to_dict()["subscribers_failed"] == 1
    assert "incomplete: 1 subscriber failed" in report.to_text()


def test_the_text_of_a_warning_of_a_failing_subscriber_is_not_kept() -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        for number in range(20):
            EventBus(f"run-{number}", [exits]).emit(Custom, name="a")
    assert [warning.category for warning in warned] == [SubscriberWarning] * 20
    kept = vars(sys.modules[EventBus.__module__]).get("__warningregistry__", {})
    assert not any(SubscriberWarning in key for key in kept if isinstance(key, tuple))


def test_where_warnings_are_errors_a_failing_subscriber_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus("r", [exits])
    with caplog.at_level(logging.WARNING, "aegis.observe"):
        bus.emit(Custom, name="a")
    assert "the event subscriber exits failed at event 1 of run r and was unsubscribed" in caplog.text


@pytest.mark.parametrize("stream", ["closed", "full", "read-only"])
def test_a_writer_whose_file_takes_nothing_is_reported(tmp_path: Path, stream: str) -> None:
    path = Path("/dev/full") if stream == "full" else tmp_path / "events"
    mode = "r" if stream == "read-only" else "w"
    path.touch()
    aegis = runtime("in-process")
    warns = pytest.warns(SubscriberWarning, match="JsonLinesWriter failed")
    with suppress(OSError), path.open(mode) as opened:  # closing it meets the full device once more
        if stream == "closed":
            opened.close()
        module, writer = aegis.load_wat(MODULE), JsonLinesWriter(opened)
        with warns, aegis.sandbox(module, imports={"env": {"f": lambda x: x}}, subscribers=[writer]) as box:
            assert box.call("go", 3) == 3
        assert len(box.events.failures) == 1


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", [ExecutionStarted, HostFunctionCalled, ExecutionCompleted])
def test_a_subscriber_cannot_call_the_sandbox_whose_event_it_handles(place: str, kind: type[Event]) -> None:
    """Such a call emitted events that waited for the subscriber, which waited for the call, up to the deadline."""
    refused: list[SandboxStateError] = []

    def nosy(event: Event) -> None:
        if isinstance(event, kind):
            with pytest.raises(SandboxStateError, match="this thread is delivering one of its events") as error:
                box.call("echo-back", 1)
            refused.append(error.value)

    aegis = runtime(place)
    component = aegis.load_wat(echo_component("u32"))
    with aegis.sandbox(component, imports={"echo": lambda x: x}, subscribers=[nosy]) as box:
        assert box.call("echo-back", 5) == 5
        assert box.events.failures == []
        assert [error.state for error in refused] == ["busy"]
        assert box.call("echo-back", 6) == 6


@pytest.mark.parametrize("place", PLACES)
def test_a_subscriber_that_does_not_return_cannot_keep_a_call_beyond_its_deadline(place: str) -> None:
    blocked, release = threading.Event(), threading.Event()

    def blocks(event: Event) -> None:
        if isinstance(event, HostFunctionCalled):
            blocked.set()
            release.wait()

    aegis = runtime(place, timeout="0.5s")
    module = aegis.load_wat(MODULE)
    with aegis.sandbox(module, imports={"env": {"f": lambda x: x}}, subscribers=[blocks]) as box:
        try:
            with pytest.raises(DeadlineExceeded):
                box.call("go", 1)
            assert blocked.is_set()
            assert not release.is_set()
            assert box.events.lost > 0
        finally:
            release.set()
