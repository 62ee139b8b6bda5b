"""Streams and futures of the application in a worker, and the guest's that the application reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aegis.errors import CallError
from aegis.isolation.parent.host_calls import STREAM_DROP, STREAM_TAKE
from aegis.isolation.protocol.wit_values import (
    MAX_TAKEN_ELEMENTS,
    ValueBudget,
    WireHandles,
    elements_packer,
    elements_unpacker,
)
from aegis.values import Ended, Interest
from aegis.wit.types import Future, Stream

__all__ = ["WorkerEnds"]

Ask = Callable[[int, list[Any]], Any]


class _RemoteSource:
    """A stream of the application. The parent waits for its elements, and this process with it."""

    def __init__(self, number: int, ask: Ask, unpack: Callable[[Any], Any]) -> None:
        self._number, self._ask, self._unpack = number, ask, unpack
        self._over = False

    def take(self, count: int) -> Any:
        answer = None if self._over else self._ask(STREAM_TAKE, [self._number, min(count, MAX_TAKEN_ELEMENTS)])
        if answer is None:
            self._over = True
            raise Ended
        return self._unpack(answer)

    def take_last(self) -> Any:
        """Take the only element; the parent forgets the end then."""
        try:
            return self.take(1)
        finally:
            self._over = True

    def ready(self) -> bool:
        return True

    def interest(self) -> Interest:
        return Interest()

    def close(self) -> None:
        if not self._over:
            self._over = True
            self._ask(STREAM_DROP, [self._number])


class _RemoteFuture:
    """A future of the application, which is asked for when the guest reads it."""

    def __init__(self, source: _RemoteSource) -> None:
        self._source = source

    def ready(self) -> bool:
        return True

    def interest(self) -> Interest:
        return Interest()

    def result(self) -> Any:
        (value,) = self._source.take_last()
        return value

    def cancel(self) -> None:
        self._source.close()


class WorkerEnds:
    """The ends of one sandbox: the worker numbers the guest's, the parent the application's."""

    def __init__(self, handles: WireHandles, budget: Callable[[], ValueBudget]) -> None:
        self._handles, self._budget = handles, budget
        self._kept: dict[int, tuple[Any, Callable[[Any], Any]]] = {}
        """The guest's ends that the application reads, and the functions that encode their elements."""
        self.ask: Ask = _no_parent

    def keep(self, value: Any, of: Stream | Future, number: int) -> None:
        """Keep the readable end of a guest's stream or future for the application."""
        self._kept[number] = value.detach(), elements_packer(of.element, self._handles, self._budget())

    def find(self, number: int, of: Stream | Future) -> Any:
        """Return what stands for a stream or future of the application."""
        unpack = elements_unpacker(of.element, self._handles, self._budget())
        source = _RemoteSource(number, lambda number, values: self.ask(number, values), unpack)
        return _RemoteFuture(source) if isinstance(of, Future) else source

    def take(self, number: int, count: int) -> Any:
        """Run the guest until it has written; return its elements as plain data, ``None`` at the end."""
        end, pack = self._kept[number]
        values = end.take(count)
        if values is None:
            self.drop(number)
            return None
        return pack(values)

    def drop(self, number: int) -> None:
        """Drop an end, because the application reads no more."""
        kept = self._kept.pop(number, None)
        if kept is not None:
            kept[0].close()


def _no_parent(number: int, values: list[Any]) -> Any:
    raise CallError("a stream of the application cannot be read before the sandbox begins")
