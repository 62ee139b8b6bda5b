"""Streams and futures of the application in a worker, and the guest's that the application reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from aegis.component.release import release
from aegis.errors import CallError
from aegis.isolation.parent.host_calls import STREAM_DROP, STREAM_TAKE
from aegis.isolation.protocol.wit_values import (
    MAX_TAKEN_ELEMENTS,
    ValueBudget,
    elements_packer,
    elements_unpacker,
)
from aegis.isolation.worker.late_answers import LateAnswer
from aegis.values import Ended, Interest
from aegis.wit.types import Future, List, Stream

if TYPE_CHECKING:
    from aegis.isolation.protocol.wit_values import WireHandles

    class _EndOwnerHandles(WireHandles, Protocol):
        """The handle table of the sandbox, to which the ends belong."""

        imported: int


__all__ = ["WorkerEnds"]

Ask = Callable[[int, list[Any]], Any]


class _RemoteSource:
    """A stream of the application. ``lost`` releases elements that the guest did not read."""

    def __init__(
        self, number: int, ends: WorkerEnds, unpack: Callable[[Any], Any], lost: Callable[[Any], None]
    ) -> None:
        self._number, self._ends, self._unpack, self._lost = number, ends, unpack, lost
        self._asked: LateAnswer | None = None
        """The request that is pending. It outlives a read that the guest cancels: the next read gets its elements."""
        self._rest: Any = None
        self.over = False

    def take(self, count: int) -> Any:
        """Return up to ``count`` elements; ``None`` if the application has none yet."""
        if not self._rest:
            if self.over:
                raise Ended
            if not self.ask(count):
                return None
            if self._asked is not None:
                asked, self._asked = self._asked, None
                self._got(asked.result())
        values, self._rest = self._rest, None
        if values is None:
            self.over = True
            raise Ended
        if len(values) > count:
            values, self._rest = values[:count], values[count:]
        return values

    def ask(self, count: int) -> bool:
        """Request elements, unless a request is pending; return whether there is an answer."""
        if self._asked is None:
            answer = self._ends.ask_later(STREAM_TAKE, [self._number, min(count, MAX_TAKEN_ELEMENTS)])
            if answer.__class__ is not LateAnswer:
                self._got(answer)
                return True
            answer.lost, answer.failed = self._came_too_late, self._drop
            self._asked = answer
        return self._asked.ready()

    def _got(self, answer: Any) -> None:
        self._rest = None if answer is None else self._unpack(answer)

    def ready(self) -> bool:
        return bool(self._rest) or self.over or self._asked is None or self._asked.ready()

    def interest(self) -> Interest:
        return Interest()

    def close(self) -> None:
        rest, self._rest = self._rest, None
        if rest:
            self._lost(rest)
        if self.over:
            return
        self.over = True
        asked, self._asked = self._asked, None
        if asked is None:
            self._drop()
        elif asked.given is None:
            asked.cancel()  # the parent closes the stream
        elif asked.given[0]:
            asked.cancel()  # the error ends nothing
            self._drop()
        else:
            self._came_too_late(asked.given[1])

    def _drop(self) -> None:
        self._ends.ask(STREAM_DROP, [self._number])

    def _came_too_late(self, answer: Any) -> None:
        if answer is not None:
            self._lost(self._unpack(answer))
            self._drop()


class _RemoteFuture(_RemoteSource):
    """A future of the application, which is asked for when the guest reads it. The parent forgets it with its value."""

    def ready(self) -> bool:
        return bool(self._rest) or self.ask(1)

    def result(self) -> Any:
        try:
            (value,) = self.take(1)
        finally:
            self.over = True
        return value

    def cancel(self) -> None:
        self.close()

    def _came_too_late(self, answer: Any) -> None:
        self._lost(self._unpack(answer))


class WorkerEnds:
    """The ends of one sandbox: the worker numbers the guest's, the parent the application's."""

    def __init__(self, handles: _EndOwnerHandles, budget: Callable[[], ValueBudget]) -> None:
        self._handles, self._budget = handles, budget
        self._kept: dict[int, tuple[Any, Callable[[Any], Any]]] = {}
        """The guest's ends that the application reads, and the functions that encode their elements."""
        self.ask: Ask = _no_parent
        self.ask_later: Ask = _no_parent

    def keep(self, value: Any, of: Stream | Future, number: int) -> None:
        """Keep the readable end of a guest's stream or future for the application."""
        self._kept[number] = value.detach(), elements_packer(of.element, self._handles, self._budget())

    def find(self, number: int, of: Stream | Future) -> Any:
        """Return what stands for a stream or future of the application."""
        unpack = elements_unpacker(of.element, self._handles, self._budget())
        listed = None if of.element is None else List(of.element)
        kind = _RemoteFuture if isinstance(of, Future) else _RemoteSource
        return kind(number, self, unpack, lambda values: release(listed, values, self._handles.imported))

    def take(self, number: int, count: int) -> Any:
        """Run the guest until it has written; return its elements as plain data, ``None`` at the end."""
        kept = self._kept.get(number)
        if kept is None:  # another thread has read the end
            return None
        end, pack = kept
        values = end.take(count)
        if values is None:
            self.drop(number)
            return None
        return pack(values)

    def start(self, number: int, count: int, done: Callable[[Any], None]) -> Callable[[], None]:
        """Start to read an end; ``done`` gets its elements, ``None`` at the end. Return the function that cancels."""
        kept = self._kept.get(number)
        if kept is None:  # closed before the read began
            done(None)
            return _nothing
        return kept[0].start(count, done)  # type: ignore[no-any-return]

    def packed(self, number: int, values: Any) -> Any:
        """Return elements that a read got as plain data, and forget an end without more."""
        if values is None:
            self.drop(number)
            return None
        return self._kept[number][1](values)

    def drop(self, number: int) -> None:
        """Drop an end, because the application reads no more."""
        kept = self._kept.pop(number, None)
        if kept is not None:
            kept[0].close()


def _nothing() -> None:
    pass


def _no_parent(number: int, values: list[Any]) -> Any:
    raise CallError("a stream of the application cannot be read before the sandbox begins")
