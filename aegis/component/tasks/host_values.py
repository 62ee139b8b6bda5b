"""Streams and futures as Python values: what a host function or the embedder gets and may give."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Hashable, Iterable, Iterator, Sized
from typing import Any

from aegis.component.tasks.convert import HostElements
from aegis.component.tasks.copies import CopyResult
from aegis.component.tasks.host_ends import (
    HostPump,
    LaterFuture,
    Sink,
    SourceFuture,
    SourceStream,
    _SinkBuffer,
)
from aegis.errors import CallError
from aegis.values import Ended, Interest, Promise
from aegis.wit.types import Future

__all__ = ["GuestFuture", "GuestStream", "host_reader", "host_shared"]

_PIECE_BYTES = 65536


class GuestStream:
    """The readable end of a guest's stream."""

    def __init__(self, shared: Any, typed: HostElements, state: Any) -> None:
        self._shared, self._typed, self._state = shared, typed, state

    def pump(self, sink: Sink, ended: Callable[[], None] = lambda: None) -> HostPump:
        """Pass all elements to ``sink``, as the guest writes them; then call ``ended``. For host functions."""
        return HostPump(self._take(), sink, self._typed, self._state.tasks, ended)

    def _take(self) -> Any:
        """Return what both ends share, for another owner of this end."""
        shared, self._shared = self._shared, None
        if shared is None:
            raise CallError("the stream was passed on already, or closed")
        return shared

    def close(self) -> None:
        """Drop the end: the guest learns at its next write that nobody reads; a second close does nothing."""
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.drop()


class GuestFuture(GuestStream):
    """The readable end of a guest's future."""

    def then(self, take: Callable[[Any], None]) -> None:
        """Pass the value to ``take`` when the guest has written it. For host functions."""
        shared = self._take()
        buffer = _SinkBuffer(self._typed, 1, lambda values: take(values[0]))
        shared.read(buffer, lambda reclaim: None, lambda result: None)


class _Iterated:
    """A source of the elements of a Python iterable, in pieces of at most ``count``."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._values: Iterator[Any] = iter(values)

    def take(self, count: int) -> list[Any]:
        found = []
        for value in self._values:
            found.append(value)
            if len(found) == count:
                break
        if not found:
            raise Ended
        return found

    def ready(self) -> bool:
        return True

    def interest(self) -> Interest:
        return Interest()

    def close(self) -> None:
        close = getattr(self._values, "close", None)
        if close is not None:
            close()


class _Bytes:
    """A source of the bytes of a buffer, or of an iterable of buffers."""

    def __init__(self, value: Any) -> None:
        flat = isinstance(value, (bytes, bytearray, memoryview))
        self._pieces: Iterator[Any] = iter([value] if flat else value)
        self._rest = memoryview(b"")

    def take(self, count: int) -> memoryview:
        while not self._rest:
            try:
                piece = next(self._pieces)
            except StopIteration:
                raise Ended from None
            self._rest = memoryview(piece).cast("B")
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def ready(self) -> bool:
        return True

    def interest(self) -> Interest:
        return Interest()

    def close(self) -> None:
        self._rest = memoryview(b"")
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


def host_reader(shared: Any, of: Any, typed: HostElements, state: Any) -> GuestStream:
    """Return the object by which the host reads a stream or future of the guest."""
    return (GuestFuture if isinstance(of, Future) else GuestStream)(shared, typed, state)


def host_shared(value: Any, of: Any, shape: Hashable, typed: HostElements, tasks: Any) -> Any:
    """Return what the guest's end of a stream or future shares with the host's ``value``."""
    if isinstance(value, GuestStream):
        return value._take()
    if isinstance(of, Future):
        if hasattr(value, "result") and hasattr(value, "interest"):
            return LaterFuture(value, shape, typed, tasks)
        made = SourceFuture(shape, typed, tasks)
        if isinstance(value, Promise):
            value.attach(made.set, tasks.expect)
        else:
            made.set(value)
        return made
    return SourceStream(_source(value, of), shape, typed, tasks)


def _source(value: Any, of: Any) -> Any:
    if hasattr(value, "take") and hasattr(value, "interest"):
        return value
    if of.element == "u8" and isinstance(value, (bytes, bytearray, memoryview, Iterable)):
        return _Bytes(value)
    if isinstance(value, Iterable):
        return _Iterated(value)
    raise CallError(f"expected an iterable for the stream, not {type(value).__name__}")


_ = AsyncIterable, Sized, CopyResult, _PIECE_BYTES
