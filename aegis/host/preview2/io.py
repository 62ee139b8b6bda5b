"""``wasi:io``: errors, polling, and the streams by which files, sockets and HTTP bodies are read and written.

A kind of stream overrides a few methods that never block; the functions of the WIT are built here on those. A read
returns at most 64 KiB, and a write takes no more than ``check-write`` permitted, even if the guest asks for more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn, Protocol

from aegis.bindings.wasi_io_streams import StreamErrorClosed, StreamErrorLastOperationFailed
from aegis.errors import GuestTrap
from aegis.values import Ended, Interest
from aegis.wit.values import Err

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi

__all__ = [
    "CHUNK_BYTES",
    "Ended",
    "Failed",
    "InputStream",
    "Interest",
    "IoError",
    "OutputStream",
    "PollTarget",
    "Pollable",
    "implementation",
    "wait_for",
]  # fmt: skip

CHUNK_BYTES = 65536
"""Bytes that one read returns, or one permit allows, at most."""
_MAX_BLOCKING_WRITE_BYTES = 4096
_MAX_POLLABLES = 65536


class PollTarget(Protocol):
    """An object that can become ready, such as a stream or a timer."""

    def ready(self) -> bool:
        """Return whether it is ready; never block."""
        ...

    def interest(self) -> Interest:
        """Return the events to wait for while it is not ready."""
        ...


class Failed(Exception):
    """The last operation failed; ``error`` is the resource that the guest receives."""

    def __init__(self, error: IoError) -> None:
        super().__init__(error.message)
        self.error = error


class IoError:
    """The resource ``wasi:io/error.error``; ``code`` is its code in ``wasi:filesystem`` or ``wasi:http``."""

    def __init__(self, message: str, code: object = None) -> None:
        self.message, self.code = message, code

    def to_debug_string(self) -> str:
        return self.message


def wait_for(wasi: Wasi, interests: Iterable[Interest]) -> None:
    """Wait until one of ``interests`` may be ready, no longer than until the deadline."""
    reads: list[int] = []
    writes: list[int] = []
    soonest: int | None = None
    again = math.inf
    for interest in interests:
        reads += interest.read
        writes += interest.write
        if interest.instant is not None:
            soonest = interest.instant if soonest is None else min(soonest, interest.instant)
        if interest.host_time is not None:
            again = min(again, interest.host_time)
    left = None if again == math.inf else max(0.0, again - time.monotonic())
    clocks, scope = wasi.grants.clocks, wasi.scope
    if soonest is None:
        scope.wait(left, read=reads, write=writes)
        return
    span = max(0, soonest - clocks.monotonic())
    if clocks.real:
        scope.wait(span / 1e9 if left is None else min(left, span / 1e9), read=reads, write=writes)
        return
    # A stand-in clock does not advance while the host waits; it advances when nothing else is ready.
    if (reads or writes) and any(scope.wait(0, read=reads, write=writes)):
        return
    clocks.sleep(span, scope)


class Pollable:
    """The resource ``wasi:io/poll.pollable``."""

    def __init__(self, waitable: PollTarget, wasi: Wasi) -> None:
        self.waitable, self._wasi = waitable, wasi

    def ready(self) -> bool:
        return self.waitable.ready()

    def block(self) -> None:
        while not self.waitable.ready():
            wait_for(self._wasi, [self.waitable.interest()])


class _Poll:
    """``wasi:io/poll``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def poll(self, in_: Sequence[Pollable]) -> list[int]:
        """Return the indexes of the pollables that are ready; wait for at least one."""
        if not in_:
            raise GuestTrap(
                "the guest trapped: it polled an empty list, which never becomes ready: poll at least one", code="poll"
            )
        if len(in_) > _MAX_POLLABLES:
            raise GuestTrap(
                f"the guest trapped: too many pollables in one poll ({len(in_):,}/{_MAX_POLLABLES:,}): poll fewer",
                code="poll",
            )
        while True:
            found = [n for n, pollable in enumerate(in_) if pollable.waitable.ready()]
            if found:
                return found
            wait_for(self._wasi, (pollable.waitable.interest() for pollable in in_))


class _ByteStream:
    """The common part of both directions: the end of the stream, and its failures."""

    def __init__(self, wasi: Wasi) -> None:
        self.wasi = wasi
        self.ended = False

    def interest(self) -> Interest:
        """Return the events to wait for while the stream is not ready."""
        return Interest()

    def close(self) -> None:
        """Release the file or socket of the stream, which the guest dropped."""

    def __drop__(self) -> None:
        self.ended = True  # a pollable that outlives its stream is ready
        self.close()

    def wait(self) -> None:
        wait_for(self.wasi, [self.interest()])

    def over(self) -> NoReturn:
        self.ended = True
        raise Err(StreamErrorClosed()) from None

    def failed(self, failure: Failed) -> NoReturn:
        self.ended = True
        raise Err(StreamErrorLastOperationFailed(failure.error)) from None


class InputStream(_ByteStream):
    """The resource ``wasi:io/streams.input-stream``. Each kind of source overrides :meth:`take`."""

    def take(self, count: int) -> bytes | None:
        """Return up to ``count`` bytes, ``None`` if there are none yet; raise ``Ended`` or ``Failed``."""
        raise Ended

    def ready(self) -> bool:
        """Return whether a read would not block: there are bytes, or the stream has ended or failed."""
        return True

    def subscribe(self) -> Pollable:
        return Pollable(self, self.wasi)

    def read(self, len: int) -> bytes:
        return self._read(len) or b""

    def blocking_read(self, len: int) -> bytes:
        while True:
            data = self._read(len)
            if data is not None:
                return data
            self.wait()

    def skip(self, len: int) -> int:
        return self.read(len).__len__()

    def blocking_skip(self, len: int) -> int:
        return self.blocking_read(len).__len__()

    def _read(self, count: int) -> bytes | None:
        if self.ended:
            self.over()
        if not count:
            return b""
        try:
            return self.take(min(count, CHUNK_BYTES))
        except Ended:
            self.over()
        except Failed as failure:
            self.failed(failure)


class OutputStream(_ByteStream):
    """The resource ``wasi:io/streams.output-stream``. Each kind of sink overrides :meth:`room` and :meth:`give`."""

    _permit = 0

    def room(self) -> int:
        """Return how many bytes the sink accepts now, 0 for none yet; raise ``Ended`` or ``Failed``."""
        raise Ended

    def give(self, data: bytes) -> None:
        """Accept ``data``, no more than :meth:`room` returned; raise ``Ended`` or ``Failed``."""
        raise Ended

    def flush_now(self) -> None:
        """Begin to send the accepted bytes."""

    def flushed(self) -> bool:
        """Return whether all accepted bytes were sent; raise ``Ended`` or ``Failed``."""
        return True

    def ready(self) -> bool:
        """Return whether ``check-write`` would permit bytes, or the stream has ended or failed."""
        if self.ended:
            return True
        try:
            return self.room() > 0
        except (Ended, Failed):
            return True

    def subscribe(self) -> Pollable:
        return Pollable(self, self.wasi)

    def check_write(self) -> int:
        self._permit = min(self._room(), CHUNK_BYTES)
        return self._permit

    def write(self, contents: bytes) -> None:
        self._allowed(len(contents))
        self._give(contents)

    def flush(self) -> None:
        self._begin_flush()

    def blocking_flush(self) -> None:
        self._begin_flush()
        while not self._flushed():
            self.wait()

    def write_zeroes(self, len: int) -> None:
        self._allowed(len)
        self._give(bytes(len))

    def blocking_write_and_flush(self, contents: bytes) -> None:
        self._at_once(len(contents))
        self._write_all(contents)
        self.blocking_flush()

    def blocking_write_zeroes_and_flush(self, len: int) -> None:
        self._at_once(len)
        self._write_all(bytes(len))
        self.blocking_flush()

    def splice(self, src: InputStream, len: int) -> int:
        room = min(self._room(), len, CHUNK_BYTES)
        data = src.read(room) if room else b""
        self._give(data)
        return data.__len__()

    def blocking_splice(self, src: InputStream, len: int) -> int:
        if not len:
            return 0
        while not (room := min(self._room(), len, CHUNK_BYTES)):
            self.wait()
        data = src.blocking_read(room)
        self._give(data)
        return data.__len__()

    # -- in terms of the kind of sink ------------------------------------------------------------

    def _allowed(self, count: int) -> None:
        if count > self._permit:
            raise GuestTrap(
                f"the guest trapped: write beyond the permit of check-write ({count:,}/{self._permit:,} bytes): "
                "call check-write before each write",
                code="stream",
            )
        self._permit -= count

    @staticmethod
    def _at_once(count: int) -> None:
        if count > _MAX_BLOCKING_WRITE_BYTES:
            raise GuestTrap(
                f"the guest trapped: blocking write too long ({count:,}/{_MAX_BLOCKING_WRITE_BYTES:,} bytes): "
                "write in several parts",
                code="stream",
            )

    def _write_all(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            room = self._room()
            if room:
                self._give(data[at : at + room])
                at += room
            else:
                self.wait()

    def _room(self) -> int:
        if self.ended:
            self.over()
        try:
            return self.room()
        except Ended:
            self.over()
        except Failed as failure:
            self.failed(failure)

    def _give(self, data: bytes) -> None:
        if self.ended:
            self.over()
        try:
            if data:
                self.give(data)
        except Ended:
            self.over()
        except Failed as failure:
            self.failed(failure)

    def _begin_flush(self) -> None:
        if self.ended:
            self.over()
        try:
            self.flush_now()
        except Ended:
            self.over()
        except Failed as failure:
            self.failed(failure)

    def _flushed(self) -> bool:
        try:
            return self.flushed()
        except Ended:
            self.over()
        except Failed as failure:
            self.failed(failure)


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _Poll(wasi)  # errors and streams have no functions but their resources' own
