from __future__ import annotations

import threading

import pytest

from aegis.observe import CollectingSubscriber, Custom, Event, EventBus, GuestLogged, MemoryGrew


def test_without_subscribers_nothing_is_made() -> None:
    def never() -> Event:
        raise AssertionError("an event was made for nobody")

    bus = EventBus("r")
    bus.emit(never)
    assert not bus.active


def test_events_are_stamped_in_order() -> None:
    seen = CollectingSubscriber()
    bus = EventBus("r7", [seen], clock=lambda: 12.5)
    bus.emit(MemoryGrew, before=0, after=1)
    bus.emit(GuestLogged, level="info", message="m")
    assert seen.events == (
        MemoryGrew(ts=12.5, run="r7", seq=1, before=0, after=1),
        GuestLogged(ts=12.5, run="r7", seq=2, level="info", message="m"),
    )


def test_a_subscriber_that_raises_is_dropped_and_recorded() -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("broken")

    seen = CollectingSubscriber()
    bus = EventBus("r", [broken, seen])
    bus.emit(Custom, name="a")
    bus.emit(Custom, name="b")
    assert [e.seq for e in seen] == [1, 2]
    (failure,) = bus.failures
    assert failure.subscriber is broken
    assert str(failure.error) == "broken"
    assert failure.event.seq == 1
    assert bus.active


def test_the_bus_falls_silent_when_its_last_subscriber_is_dropped() -> None:
    bus = EventBus("r", [lambda event: 1 / 0])
    bus.emit(Custom, name="a")
    bus.emit(Custom, name="b")
    assert not bus.active
    assert len(bus.failures) == 1


def test_an_interrupt_passes_and_leaves_the_bus_usable() -> None:
    calls: list[int] = []

    def interrupted(event: Event) -> None:
        calls.append(event.seq)
        if event.seq == 1:
            raise KeyboardInterrupt

    bus = EventBus("r", [interrupted])
    with pytest.raises(KeyboardInterrupt):
        bus.emit(Custom, name="a")
    bus.emit(Custom, name="b")
    assert calls == [1, 2]


def test_events_caused_by_a_subscriber_follow_the_event_it_handles() -> None:
    seen = CollectingSubscriber()

    def answer(event: Event) -> None:
        if isinstance(event, Custom) and event.name == "question":
            bus.emit(Custom, name="answer")

    bus = EventBus("r", [answer, seen])
    bus.emit(Custom, name="question")
    assert [(e.seq, e.name) for e in seen.of(Custom)] == [(1, "question"), (2, "answer")]


def test_a_subscriber_that_answers_every_event_ends() -> None:
    seen = CollectingSubscriber()
    bus = EventBus("r", [seen, lambda event: bus.emit(Custom, name="again")])
    bus.emit(Custom, name="first")
    assert [e.seq for e in seen] == list(range(1, 66))
    assert bus.lost == 1
    bus.emit(Custom, name="second")
    assert len(seen) == 130


def test_threads_share_a_bus_without_gap_or_disorder() -> None:
    seen = CollectingSubscriber()
    bus = EventBus("r", [seen])

    def work() -> None:
        for _ in range(500):
            bus.emit(MemoryGrew, before=0, after=1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [e.seq for e in seen] == list(range(1, 2001))
