"""Sources: the elements of a Python object on their way to a guest that reads them.

A source never blocks, except in the ``next`` of a plain iterator: that is the application's code, as a host function
is. Its exceptions are those of a host function.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from aegis.engine.native.signals import NEAR
from aegis.engine.threads.await_result import awaited_later
from aegis.engine.threads.guest_thread import thread_state
from aegis.errors import AegisError, CallError, HostError
from aegis.support.lean import late
from aegis.text import printable
from aegis.values import Ended, Interest
from aegis.wit.streams import ElementQueue, StreamWriter, check_stream
from aegis.wit.types import List, WitType, children

if TYPE_CHECKING:
    import asyncio
else:
    asyncio = late("asyncio")

__all__ = ["ElementSource", "ReadOn", "later_of", "raised_by", "source_of", "wrong_element"]

_STREAM = "a stream of the host"
_CHUNK_BYTES = 65536
"""Bytes that one read of a file returns, and that an asynchronous iterable of bytes is read ahead of the guest."""
_MAX_TAKE_SECONDS = 0.01
"""The guest gets the elements of a slow iterator piece by piece, and its deadline is checked in between."""
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


def wrong_element(wrong: object, *, is_future: bool = False) -> HostError:
    """Return the error for an element of the application that has another type than its stream or future."""
    return HostError(
        f"a future of the host has a wrong value: {wrong}" if is_future else f"{_STREAM} has a wrong element: {wrong}"
    )


def raised_by(giver: str, error: BaseException) -> HostError:
    """Return the error for an exception of the application's iterator or awaitable."""
    raised = HostError(f"{giver} raised {type(error).__name__}: {printable(str(error))}")
    raised.__cause__ = error
    return raised


def later_of(door: Any, awaitable: Any, giver: str) -> Any:
    """Start to await ``awaitable``; return the operation. Raise ``CallError`` in a synchronous call: it has no loop."""
    try:
        return awaited_later(door, awaitable, giver)
    except HostError:
        raise CallError(
            f"{giver} is asynchronous, but the guest was called synchronously: "
            "call the guest with `await sandbox.acall(…)`"
        ) from None


def _iterator(values: Iterable[Any]) -> Iterator[Any]:
    """Return the iterator of an iterable; raise ``CallError`` if that fails: the guest has not read anything."""
    try:
        return iter(values)
    except AegisError:
        raise
    except Exception as error:
        raise CallError(str(raised_by(_STREAM, error))) from error


def _bytes_of(piece: Any) -> memoryview:
    try:
        view = memoryview(piece)
        return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
    except TypeError:
        raise wrong_element(f"expected bytes for stream<u8>, not {type(piece).__name__}") from None


class _Iterated:
    """The elements of an iterable, of the type ``element``."""

    def __init__(self, values: Iterable[Any], element: Any) -> None:
        self._values = _iterator(values)
        self._unbounded = element is not None and _is_unbounded(element)

    def take(self, count: int) -> list[Any]:
        """Return elements; of an iterator that takes time, those that it returned within some milliseconds."""
        found: list[Any] = []
        if self._unbounded:
            count = min(count, _MAX_UNBOUNDED_ELEMENTS)
        until = monotonic() + _MAX_TAKE_SECONDS
        try:
            for value in self._values:
                found.append(value)
                if len(found) == count or monotonic() > until:
                    break
        except AegisError:
            raise
        except Exception as error:
            raise raised_by(_STREAM, error) from error
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
        self._pieces = _iterator(pieces)
        self._rest = memoryview(b"")

    def take(self, count: int) -> memoryview | None:
        """Return bytes; ``None`` after some milliseconds of empty pieces: the deadline is checked in between."""
        until = 0.0
        while not self._rest:
            now = monotonic()
            if until and now > until:
                return None
            until = until or now + _MAX_TAKE_SECONDS
            try:
                piece = next(self._pieces)
            except StopIteration:
                raise Ended from None
            except AegisError:
                raise
            except Exception as error:
                raise raised_by(_STREAM, error) from error
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
        try:
            values.close()
        except AegisError:
            raise
        except Exception as error:
            raise raised_by(_STREAM, error) from error


class _Queued:
    """The elements that another thread or an event loop puts into a queue; ``flat``: they are bytes."""

    wakes_door = True
    """New elements wake the door, so that it need not be checked before."""

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
            raise raised_by(_STREAM, error) from error
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

    wakes_door = True

    def __init__(self, values: AsyncIterable[Any], flat: bool, door: Any) -> None:
        queue = ElementQueue(_CHUNK_BYTES if flat else _MAX_AHEAD_ELEMENTS)
        self._queued = _Queued(queue, flat, door.wake)
        self._feeding = later_of(door, _feed(values, queue, flat), _STREAM)
        self.take, self.ready, self.interest = self._queued.take, self._queued.ready, self._queued.interest

    def close(self) -> None:
        self._queued.close()
        self._feeding.cancel()


async def _feed(values: AsyncIterable[Any], queue: ElementQueue, flat: bool) -> None:
    iterator = None
    try:
        iterator = aiter(values)
        async for value in iterator:
            piece = bytes(_bytes_of(value)) if flat else (value,)
            await queue.aput(piece)
            if not piece:
                await asyncio.sleep(0)  # empty pieces never fill the queue, which would let the event loop run
    except BaseException as error:
        if not queue.dropped:
            queue.finish(error if isinstance(error, AegisError) else raised_by(_STREAM, error))
        if not isinstance(error, Exception):
            raise
    finally:
        queue.finish()
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


class ReadOn:
    """The elements that a reader has read ahead, and then those that are left in the guest's stream."""

    def __init__(self, values: Sequence[Any], end: Any, wake: Callable[[], None]) -> None:
        self._values, self._end, self._wake = list(values), end, wake
        self._cancel: Callable[[], None] | None = None
        self._over = False

    def take(self, count: int) -> Any:
        if not self.ready():
            return None
        if not self._values:
            raise Ended
        taken, self._values = self._values[:count], self._values[count:]
        return taken

    def ready(self) -> bool:
        """Return whether there are elements or the stream has ended; otherwise read, if no read is under way."""
        if not self._values and not self._over and self._cancel is None:
            self._cancel = _nothing
            cancel = self._end.start(_MAX_AHEAD_ELEMENTS, self._got)
            if self._cancel is not None:  # the elements were not there yet
                self._cancel = cancel
        return bool(self._values) or self._over

    def _got(self, values: Sequence[Any] | None) -> None:
        self._cancel = None
        if values is None:
            self._over = True
        else:
            self._values += values
        self._wake()

    def interest(self) -> Interest:
        return Interest()

    def close(self) -> None:
        cancel, self._cancel = self._cancel, _nothing
        if cancel is not None:
            cancel()
        self._end.close()


def _nothing() -> None:
    pass


def source_of(value: Any, element: Any, door: Any) -> ElementSource:
    """Return the source of what the application passed for a stream with elements of the type ``element``.

    Raise ``CallError`` for an object that is no stream.
    """
    flat = element == "u8"
    check_stream(value, flat, _STREAM)
    if hasattr(value, "take") and hasattr(value, "interest"):
        return value  # type: ignore[no-any-return]
    door.near = NEAR  # an iterator is code of the application
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
    raise AssertionError(value)
