from __future__ import annotations

import io
import json
import threading

import pytest

from aegis.observe import (
    CollectingSubscriber,
    Custom,
    ErrorRaised,
    EventBus,
    ExecutionCompleted,
    JsonLinesWriter,
    MemoryGrew,
)


class Stream(io.StringIO):
    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


def test_a_collector_keeps_the_latest() -> None:
    seen = CollectingSubscriber(limit=3)
    for n in range(5):
        seen(Custom(name=str(n)))
    assert [e.name for e in seen.of(Custom)] == ["2", "3", "4"]
    assert seen.of(MemoryGrew) == []
    assert (len(seen), seen.dropped) == (3, 2)
    seen.clear()
    assert (seen.events, seen.dropped) == ((), 0)


def test_a_collector_without_room_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="give a positive value"):
        CollectingSubscriber(limit=0)


def test_a_writer_flushes_each_event() -> None:
    stream = Stream()
    bus = EventBus("r", [JsonLinesWriter(stream)])
    bus.emit(MemoryGrew, before=0, after=65536)
    assert stream.flushes == 1
    bus.emit(ErrorRaised, error_kind="trap", blame="guest", message="\n")
    assert stream.flushes == 2
    lines = stream.getvalue().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["memory_grew", "error"]


def test_a_writer_has_an_end_but_reports_how_calls_end() -> None:
    stream = Stream()
    writer = JsonLinesWriter(stream, limit=200)
    for n in range(100):
        writer(MemoryGrew(before=n, after=n + 1, seq=n + 1))
    writer(ExecutionCompleted(function="f", status="returned", exit_code=0, seconds=0.0))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["kind"] for line in lines] == ["memory_grew"] * (len(lines) - 2) + ["custom", "execution_completed"]
    assert lines[-2]["name"] == "events_cut"
    assert lines[-2]["data"] == {"after_seq": lines[-3]["seq"]}
    assert writer.dropped == 100 - (len(lines) - 2)


def test_a_writer_without_limit_writes_everything() -> None:
    stream = Stream()
    writer = JsonLinesWriter(stream, limit=None)
    for n in range(100):
        writer(MemoryGrew(before=n, after=n + 1))
    assert len(stream.getvalue().splitlines()) == 100
    assert writer.dropped == 0


def test_sandboxes_share_a_writer_without_mixing_lines() -> None:
    stream = io.StringIO()
    writer = JsonLinesWriter(stream)

    def work(run: str) -> None:
        bus = EventBus(run, [writer])
        for _ in range(200):
            bus.emit(Custom, name="x" * 500)

    threads = [threading.Thread(target=work, args=(f"r{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    for n in range(4):
        assert [line["seq"] for line in lines if line["run"] == f"r{n}"] == list(range(1, 201))


def test_a_closed_stream_does_not_break_the_run() -> None:
    stream = io.StringIO()
    stream.close()
    bus = EventBus("r", [JsonLinesWriter(stream)])
    bus.emit(Custom, name="a")
    assert [type(f.error) for f in bus.failures] == [ValueError]
