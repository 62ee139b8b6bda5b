"""Streams and futures of components as Python objects: ``stream<T>`` and ``future<T>`` of WIT.

A guest's stream or future is a reader here. What the application passes for one may be any iterable or asynchronous
iterable, or a :class:`StreamWriter`; for a future its value, an awaitable, or a :class:`FutureWriter`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from aegis.errors import CallError
from aegis.support.lean import late

if TYPE_CHECKING:
    import asyncio
else:
    asyncio = late("asyncio")

__all__ = [
    "ByteSource", "ByteStreamReader", "ElementQueue", "FutureReader", "FutureSource", "FutureWriter", "GuestEnd",
    "StreamReader", "StreamSource", "StreamWriter", "check_future", "check_stream",
]  # fmt: skip

T = TypeVar("T")
_CHUNK_BYTES = 65536
_CHUNK_ELEMENTS = 1024


class GuestEnd(Protocol):
    """The readable end of a guest's stream or future, which a reader uses."""

    def take(self, count: int) -> Any:
        """Run the guest until it has written; return up to ``count`` elements, ``None`` at the end."""

    async def atake(self, count: int) -> Any:
        """Like :meth:`take`, while the event loop runs other tasks."""

    def pump(self, sink: Any, ended: Callable[[], None] = lambda: None) -> Any:
        """Pass all elements to ``sink`` as the guest writes them; then call ``ended``.

        Return an object whose ``stop()`` ends that.
        """

    def then(self, take: Callable[[Any], None]) -> None:
        """Pass the value of a future to ``take`` when the guest has written it."""

    def put_back(self, elements: Any) -> None:
        """Have the next read return ``elements``, which were read and not delivered."""

    def close(self) -> None:
        """Drop the end: the guest learns at its next write that its elements are not read any more."""


class _EndOwner:
    """The common part of the readers: one owner of one readable end."""

    def __init__(self, end: GuestEnd) -> None:
        self._end: GuestEnd | None = end

    @property
    def end(self) -> GuestEnd:
        """The end itself, for its next owner; raise ``CallError`` if it was passed on or closed."""
        if self._end is None:
            raise CallError("the stream or future was passed on already, or closed: read it before")
        return self._end

    def detach(self) -> GuestEnd:
        """Give the end to another owner; this object is closed afterwards."""
        end = self.end
        ahead = self.read_ahead()
        self._end = None
        if ahead:
            end.put_back(list(ahead))
        return end

    def read_ahead(self) -> Sequence[Any]:
        """Return the elements that were read from the guest, and that the application has not got yet."""
        return ()

    def close(self) -> None:
        """Drop the end: the guest learns at its next write that its elements are not read any more.

        A second close does nothing. The end of a sandbox closes its streams.
        """
        end, self._end = self._end, None
        if end is not None:
            end.close()

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter ends
            self.close()

    def pump(self, sink: Any, ended: Callable[[], None] = lambda: None) -> Any:
        """Pass all elements to ``sink`` as the guest writes them; then call ``ended``. For host functions.

        A sink has ``room()``, ``give(elements)``, ``ready()``, ``interest()`` and ``close()``, none of which blocks.
        Return an object whose ``stop()`` ends that, for a sink that has failed.
        """
        return self.detach().pump(sink, ended)


class _StreamOwner(_EndOwner, Generic[T]):
    """The common part of both stream readers; ``T`` is what iteration yields."""

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class StreamReader(_StreamOwner[T]):
    """A guest's ``stream<T>``: an iterator and an asynchronous iterator of its elements.

    Reading runs the guest until it writes, within the limits of a call. The reader of a ``stream<u8>`` is a
    :class:`ByteStreamReader`::

        for line in sandbox.call("lines"):
            print(line)

        async for line in await sandbox.acall("lines"):
            print(line)
    """

    def __init__(self, end: GuestEnd) -> None:
        super().__init__(end)
        self._ready: deque[T] = deque()

    def read_ahead(self) -> Sequence[T]:
        """Return the elements that were read from the guest, and that the application has not got yet."""
        return self._ready

    def read(self, count: int = _CHUNK_ELEMENTS) -> list[T]:
        """Return up to ``count`` elements, at least one; ``[]`` at the end of the stream.

        Raise the errors of :meth:`aegis.Sandbox.call` if the guest does not write.
        """
        if not self._ready:
            self._ready.extend(_positive(count, self.end.take) or ())
        return self._taken(count)

    async def aread(self, count: int = _CHUNK_ELEMENTS) -> list[T]:
        """Like :meth:`read`, while the event loop runs other tasks."""
        if not self._ready:
            self._ready.extend(await _positive(count, self.end.atake) or ())
        return self._taken(count)

    def _taken(self, count: int) -> list[T]:
        ready = self._ready
        if len(ready) <= count:
            taken = list(ready)
            ready.clear()
            return taken
        return [ready.popleft() for _ in range(count)]

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if not self._ready:
            self._ready.extend(self.end.take(_CHUNK_ELEMENTS) or ())
        if not self._ready:
            raise StopIteration
        return self._ready.popleft()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        if not self._ready:
            self._ready.extend(await self.end.atake(_CHUNK_ELEMENTS) or ())
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()


class ByteStreamReader(_StreamOwner[bytes]):
    """A guest's ``stream<u8>``: an iterator and an asynchronous iterator of pieces of bytes.

    ::

        with open("result", "wb") as file:
            file.writelines(sandbox.call("render"))
    """

    def read(self, count: int = _CHUNK_BYTES) -> bytes:
        """Return up to ``count`` bytes, at least one; ``b""`` at the end of the stream."""
        return _positive(count, self.end.take) or b""

    async def aread(self, count: int = _CHUNK_BYTES) -> bytes:
        """Like :meth:`read`, while the event loop runs other tasks."""
        return await _positive(count, self.end.atake) or b""

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = self.read()
        if not piece:
            raise StopIteration
        return piece

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await self.aread()
        if not piece:
            raise StopAsyncIteration
        return piece


def _positive(count: int, take: Callable[[int], Any]) -> Any:
    if count < 1:
        raise CallError(f"the number of elements to read must be positive, not {count}")
    return take(count)


class FutureReader(_EndOwner, Generic[T]):
    """A guest's ``future<T>``. Await it, or call :meth:`result`; either may be repeated."""

    def __init__(self, end: GuestEnd) -> None:
        super().__init__(end)
        self._values: Sequence[T] = ()

    def result(self) -> T:
        """Run the guest until it has written the value; return the value."""
        if not self._values:
            self._values = self.end.take(1) or ()
        return self._value()

    def __await__(self) -> Generator[Any, None, T]:
        return self._awaited().__await__()

    async def _awaited(self) -> T:
        if not self._values:
            self._values = await self.end.atake(1) or ()
        return self._value()

    def _value(self) -> T:
        if not self._values:
            raise CallError("the guest dropped the future without a value")
        return self._values[0]

    def then(self, take: Callable[[T], None]) -> None:
        """Pass the value to ``take`` when the guest has written it. For host functions."""
        if self._values:
            take(self._values[0])
        else:
            self.detach().then(take)

    def read_ahead(self) -> Sequence[T]:
        """Return the value, if it was read."""
        return self._values

    def check_open(self) -> None:
        """Raise ``CallError`` if there is neither a value nor an end to read it from."""
        if not self._values:
            self.end  # noqa: B018  # it raises


class FutureWriter(Generic[T]):
    """A ``future<T>`` that the application gives to a guest, and whose value it provides later, from any thread."""

    __slots__ = ("_lock", "_take", "_values")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: tuple[T, ...] = ()
        self._take: Callable[[T], None] | None = None

    def set(self, value: T) -> None:
        """Provide the value; later values are ignored."""
        with self._lock:
            if self._values:
                return
            self._values = (value,)
            take = self._take
        if take is not None:
            take(value)

    def check_unused(self) -> None:
        """Raise ``CallError`` if the future was given to a guest."""
        if self._take is not None:
            raise CallError("the future was given to a guest already: create another FutureWriter")

    def attach(self, take: Callable[[T], None]) -> None:
        """Pass the value to ``take``, now or when it is provided. Raise ``CallError`` for a second call."""
        with self._lock:
            self.check_unused()
            self._take = take
            values = self._values
        if values:
            take(values[0])


class ElementQueue:
    """A bounded queue of elements between threads: a writer puts pieces, and the scheduler of a guest takes elements.

    ``limit`` is the number of elements above which a writer waits.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._lock = limit, threading.Condition()
        self._pieces: deque[Any] = deque()
        self._count = self._at = 0
        """Elements in all pieces, and of the first one those that were taken already."""
        self._over = self._dropped = False
        self._error: BaseException | None = None
        self._wake: Callable[[], None] | None = None
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    # -- the writer ----------------------------------------------------------------------------

    @property
    def dropped(self) -> bool:
        """Whether the guest reads no more."""
        return self._dropped

    def put(self, piece: Sequence[Any]) -> None:
        """Add a piece; wait while the queue is full. Raise ``BrokenPipeError`` if the guest reads no more."""
        with self._lock:
            while not self._accept(piece):
                self._lock.wait()
        self._notify()

    async def aput(self, piece: Sequence[Any]) -> None:
        """Like :meth:`put`, while the event loop runs other tasks."""
        while True:
            with self._lock:
                if self._accept(piece):
                    break
                loop = asyncio.get_running_loop()
                waiting = loop.create_future()
                self._waiting.append((loop, waiting))
            await waiting
        self._notify()

    def _accept(self, piece: Sequence[Any]) -> bool:
        if self._dropped:
            raise BrokenPipeError("the guest reads the stream no more")
        if self._over:
            raise ValueError("the stream is closed")
        if self._count >= self._limit:
            return False
        if len(piece):
            self._pieces.append(piece)
            self._count += len(piece)
        return True

    def finish(self, error: BaseException | None = None) -> None:
        """End the stream, after the elements that are in the queue; ``error`` is raised for its reader then."""
        with self._lock:
            if not self._over:
                self._over, self._error = True, error
        self._notify()

    def _notify(self) -> None:
        wake = self._wake
        if wake is not None:
            wake()

    # -- the guest's side ----------------------------------------------------------------------

    def check_unused(self) -> None:
        """Raise ``CallError`` if the stream was given to a guest."""
        if self._wake is not None:
            raise CallError("the stream was given to a guest already: create another StreamWriter")

    def attach(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever there may be something to take. Raise ``CallError`` for a second call."""
        with self._lock:
            self.check_unused()
            self._wake = wake

    def take(self, count: int) -> Any:
        """Return a piece of up to ``count`` elements, ``None`` if there is none yet; raise ``EOFError`` at the end."""
        with self._lock:
            if not self._pieces:
                if not self._over:
                    return None
                raise self._error or EOFError
            first, at = self._pieces[0], self._at
            piece = first[at : at + count]  # only what is taken is copied, since the guest may take little at a time
            self._at = at + len(piece)
            if self._at == len(first):
                self._pieces.popleft()
                self._at = 0
            self._count -= len(piece)
            self._room()
        return piece

    def ready(self) -> bool:
        """Return whether :meth:`take` would return elements or raise."""
        return bool(self._pieces) or self._over

    def drop(self) -> None:
        """Note that the guest reads no more; writers raise ``BrokenPipeError``."""
        with self._lock:
            self._dropped = True
            self._pieces.clear()
            self._count = self._at = 0
            self._room()

    def _room(self) -> None:
        """Wake the writers that wait for room."""
        if self._count < self._limit or self._dropped:
            self._lock.notify_all()
            while self._waiting:
                loop, waiting = self._waiting.popleft()
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(_resolve, waiting)


def _resolve(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class StreamWriter(Generic[T]):
    """A ``stream<T>`` that the application gives to a guest once, and writes piece by piece, from any thread or loop.

    ``limit`` is the number of elements that may wait for the guest. Writing waits while there are more::

        async def feed(writer):
            async with writer:
                await writer.awrite(b"some bytes")

        writer = aegis.StreamWriter()
        async with asyncio.TaskGroup() as group:
            group.create_task(feed(writer))
            result = await sandbox.acall("consume", writer)
    """

    def __init__(self, *, limit: int = 65536) -> None:
        if limit < 1:
            raise CallError(f"limit must be positive, not {limit}")
        self.queue = ElementQueue(limit)
        """The elements on their way to the guest."""

    @property
    def reader_dropped(self) -> bool:
        """Whether the guest reads no more; writing raises ``BrokenPipeError`` then."""
        return self.queue.dropped

    def write(self, elements: Iterable[T]) -> None:
        """Add elements; block while too many wait. For a ``stream<u8>`` they are bytes.

        Raise ``BrokenPipeError`` if the guest reads no more, ``ValueError`` after :meth:`close`.
        """
        self.queue.put(_piece(elements))

    async def awrite(self, elements: Iterable[T]) -> None:
        """Like :meth:`write`, while the event loop runs other tasks."""
        await self.queue.aput(_piece(elements))

    def close(self) -> None:
        """End the stream; a second close does nothing."""
        self.queue.finish()

    def __enter__(self) -> StreamWriter[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> StreamWriter[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_stream(value: Any, flat: bool, where: str) -> None:
    """Raise ``CallError`` for a value that cannot be given as a stream; ``flat``: its elements are bytes.

    ``where`` names the value in the message.
    """
    if isinstance(value, _StreamOwner):
        value.end  # noqa: B018  # it raises if the reader is closed
    elif isinstance(value, StreamWriter):
        value.queue.check_unused()
    elif (
        isinstance(value, str if flat else (str, bytes)) or not isinstance(value, (Iterable, AsyncIterable))
    ) and not (hasattr(value, "take") and hasattr(value, "interest")):
        raise CallError(
            f"{where}: expected an iterable for the stream, not {type(value).__name__}: "
            "pass an iterable or asynchronous iterable of its elements, or a StreamWriter"
        )


def check_future(value: Any, where: str) -> None:
    """Raise ``CallError`` for a reader or writer of a future that cannot be given; other values are checked later."""
    if isinstance(value, FutureReader):
        value.check_open()
    elif isinstance(value, FutureWriter):
        value.check_unused()
    elif isinstance(value, _StreamOwner):
        raise CallError(f"{where}: expected a future, not {type(value).__name__}")


def _piece(elements: Any) -> Sequence[Any]:
    if isinstance(elements, (bytes, tuple)):
        return elements
    if isinstance(elements, (bytearray, memoryview)):
        return bytes(elements)
    return list(elements)


StreamSource: TypeAlias = Iterable[T] | AsyncIterable[T] | StreamWriter[T] | StreamReader[T]
"""What may be passed for a ``stream<T>``: an iterable of its elements, or the writer or reader of another stream."""
ByteSource: TypeAlias = (
    bytes | bytearray | memoryview | Iterable[bytes] | AsyncIterable[bytes] | StreamWriter[int] | ByteStreamReader
)
"""What may be passed for a ``stream<u8>``: bytes, an iterable of pieces such as a file, or another stream."""
FutureSource: TypeAlias = T | Awaitable[T] | FutureWriter[T] | FutureReader[T]
"""What may be passed for a ``future<T>``: its value, an awaitable of it, or the writer or reader of another future."""
