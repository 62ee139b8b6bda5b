"""Sources: the elements of a Python object on their way to a guest that reads them.

A source never blocks, except in the ``next`` of a plain iterator: that is the application's code, as a host function
is. Its exceptions are those of a host function.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from typing import Any, Protocol

from aegis.engine.threads.await_result import awaited_later
from aegis.engine.threads.guest_thread import thread_state
from aegis.errors import AegisError, CallError, HostError
from aegis.text import printable
from aegis.values import Ended, Interest
from aegis.wit.streams import ElementQueue, StreamWriter
from aegis.wit.types import List, WitType, children

__all__ = ["ElementSource", "source_of"]

_CHUNK_BYTES = 65536
"""Bytes that one read of a file returns, and that an asynchronous iterable of bytes is read ahead of the guest."""
_MAX_AHEAD_ELEMENTS = 64
"""Elements, or pieces of bytes, that an asynchronous iterable is read ahead of the guest."""
_MAX_UNBOUNDED_ELEMENTS = 64
"""Elements of a type without a bound on its size, such as a text, that one read of the guest takes from an iterable:
the guest says how many it wants, and all of them are in memory at once."""


class ElementSource(Protocol):
    """A stream's elements as the host has them."""

    def take(self, count: int) -> Any:
        """Return up to ``count`` elements, at least one; ``None`` if there are none yet; raise :class:`Ended`."""

    def ready(self) -> bool:
        """Return whether :meth:`take` would return elements or raise."""

    def interest(self) -> Interest:
        """Return the events to wait for while it is not ready."""

    def close(self) -> None:
        """Release what the source holds: the guest reads no more."""


def _raised(error: BaseException) -> HostError:
    """Return the error for an exception of the application's iterator."""
    return HostError(f"a stream of the host raised {type(error).__name__}: {printable(str(error))}")


def _bytes_of(piece: Any) -> memoryview:
    try:
        return memoryview(piece).cast("B")
    except TypeError:
        raise HostError(
            f"a stream of the host has a wrong element: expected bytes for stream<u8>, not {type(piece).__name__}"
        ) from None


class _Iterated:
    """The elements of an iterable, of the type ``element``."""

    def __init__(self, values: Iterable[Any], element: Any) -> None:
        self._values: Iterator[Any] = iter(values)
        self._unbounded = element is not None and _is_unbounded(element)

    def take(self, count: int) -> list[Any]:
        found: list[Any] = []
        if self._unbounded:
            count = min(count, _MAX_UNBOUNDED_ELEMENTS)
        try:
            for value in self._values:
                found.append(value)
                if len(found) == count:
                    break
        except AegisError:
            raise
        except Exception as error:
            raise _raised(error) from error
        if not found:
            raise Ended
        return found

    def ready(self) -> bool:
        return True

    def interest(self) -> Interest:
        return Interest()

    def close(self) -> None:
        _close(self._values)


class _Pieces:
    """The bytes of an iterable of buffers."""

    def __init__(self, pieces: Iterable[Any]) -> None:
        self._pieces: Iterator[Any] = iter(pieces)
        self._rest = memoryview(b"")

    def take(self, count: int) -> memoryview:
        while not self._rest:
            try:
                piece = next(self._pieces)
            except StopIteration:
                raise Ended from None
            except AegisError:
                raise
            except Exception as error:
                raise _raised(error) from error
            self._rest = _bytes_of(piece)
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def ready(self) -> bool:
        return True

    def interest(self) -> Interest:
        return Interest()

    def close(self) -> None:
        self._rest = memoryview(b"")
        _close(self._pieces)


def _is_unbounded(of: WitType) -> bool:
    """Return whether a value of the type may be of any size."""
    return of == "string" or isinstance(of, List) or any(map(_is_unbounded, children(of)))


def _close(values: Any) -> None:
    """Close a generator, whose ``finally`` blocks run now; other iterators are the application's."""
    if hasattr(values, "throw"):
        values.close()


class _Queued:
    """The elements that another thread or an event loop puts into a queue; ``flat``: they are bytes."""

    def __init__(self, queue: ElementQueue, flat: bool, wake: Callable[[], None]) -> None:
        queue.attach(wake)
        self._queue, self._flat = queue, flat

    def take(self, count: int) -> Any:
        try:
            piece = self._queue.take(count)
        except EOFError:
            raise Ended from None
        except AegisError:
            raise
        except Exception as error:
            raise _raised(error) from error
        return piece if piece is None or not self._flat else _bytes_of(piece)

    def ready(self) -> bool:
        return self._queue.ready()

    def interest(self) -> Interest:
        """Return no events: the queue wakes the door."""
        return Interest()

    def close(self) -> None:
        self._queue.drop()


class _AsyncIterated:
    """The elements of an asynchronous iterable, which the event loop of the call reads ahead of the guest."""

    def __init__(self, values: AsyncIterable[Any], flat: bool, door: Any) -> None:
        queue = ElementQueue(_CHUNK_BYTES if flat else _MAX_AHEAD_ELEMENTS)
        self._queued = _Queued(queue, flat, door.wake)
        self._feeding = awaited_later(door, _feed(values, queue, flat), "a stream of the host")
        self.take, self.ready, self.interest = self._queued.take, self._queued.ready, self._queued.interest

    def close(self) -> None:
        self._queued.close()
        self._feeding.cancel()


async def _feed(values: AsyncIterable[Any], queue: ElementQueue, flat: bool) -> None:
    iterator = aiter(values)
    try:
        async for value in iterator:
            await queue.aput(bytes(_bytes_of(value)) if flat else (value,))
    except BrokenPipeError:
        if not queue.dropped:
            raise
    except Exception as error:
        queue.finish(error)
    finally:
        queue.finish()
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


def source_of(value: Any, element: Any, door: Any) -> ElementSource:
    """Return the source of what the application passed for a stream with elements of the type ``element``.

    Raise ``CallError`` for an object that is no stream.
    """
    flat = element == "u8"
    if hasattr(value, "take") and hasattr(value, "interest"):
        return value  # type: ignore[no-any-return]
    if isinstance(value, StreamWriter):
        return _Queued(value.queue, flat, door.wake)
    if isinstance(value, AsyncIterable) and (thread_state.loop is not None or not isinstance(value, Iterable)):
        return _AsyncIterated(value, flat, door)
    if flat and isinstance(value, (bytes, bytearray, memoryview)):
        return _Pieces((value,))
    if flat and hasattr(value, "readinto"):
        return _Pieces(iter(lambda: value.read(_CHUNK_BYTES), b""))
    if (isinstance(value, Iterable) and not isinstance(value, (str, bytes))) or (flat and isinstance(value, Iterable)):
        return _Pieces(value) if flat else _Iterated(value, element)
    raise CallError(
        f"expected an iterable for the stream, not {type(value).__name__}: "
        "pass an iterable or asynchronous iterable of its elements, or a StreamWriter"
    )
