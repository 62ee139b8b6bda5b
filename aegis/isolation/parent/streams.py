"""Standard streams in the parent: serves a worker's reads and writes of them, one message at a time.

The streams have the same limits and waits as those of an in-process sandbox. The parent counts and bounds everything
that the worker sends, and reads from stdin only as many bytes as the guest requested.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from aegis.errors import AegisError, Cancelled, DeadlineExceeded, ReaderGone
from aegis.host.stdio import Stdio
from aegis.isolation.protocol.channel import CHECK_SECONDS, Channel, ChannelTimeout, ProtocolError
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.values import Decision

__all__ = ["STREAM_MESSAGES", "Delivery"]

Send = Callable[[list[Any]], None]
"""Sends a message to the worker; raises :class:`ChannelTimeout` if the worker does not receive it in time."""
STREAM_MESSAGES = frozenset({"out", "in", "watch"})
_MAX_READ_BYTES = 1 << 16
_DRAIN_SECONDS = 0.2
"""Time for delivering the output that a worker sent before it ended."""


class Delivery:
    """Serves the standard streams of one sandbox."""

    def __init__(self, stdio: Stdio) -> None:
        self.stdio = stdio
        stdio.unblock()  # a blocked worker can be killed, but the parent must not block
        self._wanted = 0
        """Bytes of stdin that the guest waits for."""
        self._watched = False
        """Whether the guest waits for stdin to become readable."""
        self._stuck = False
        """Whether a write to a stream was interrupted by the deadline or a cancellation."""

    @property
    def pending(self) -> bool:
        """Whether the guest waits for stdin."""
        return self._watched or self._wanted > 0

    def forget(self) -> None:
        """Stop waiting for stdin, after a call ended."""
        self._wanted, self._watched = 0, False

    @property
    def _may_read(self) -> bool:
        return self.stdio.stdin.descriptor is not None

    def terminals(self) -> tuple[bool, bool, bool]:
        """Return whether stdin, stdout and stderr are terminals."""
        stdio = self.stdio
        return stdio.stdin.is_terminal(), stdio.stdout.is_terminal(), stdio.stderr.is_terminal()

    # -- messages ------------------------------------------------------------------------------

    def serve(self, message: list[Any], send: Send) -> None:
        """Serve one of :data:`STREAM_MESSAGES`.

        Raise :class:`ProtocolError` for a malformed message, ``OutputExceeded`` if the worker sent more output than the
        limit, ``ReaderGone`` if the policy ends the run for want of a reader, and ``DeadlineExceeded`` or ``Cancelled``
        if the call is stopped while the stream does not accept the bytes.
        """
        match message:
            case ["out", int(stream), bytes(data), bool(confirm)] if type(stream) is int and stream in (1, 2):
                self._deliver(stream, data, confirm, send)
            case ["in", int(count)] if self._may_read and type(count) is int and 0 < count <= _MAX_READ_BYTES:
                self._wanted, self._watched = count, False
            case ["watch"] if self._may_read:
                self._watch(send)
            case _:
                raise ProtocolError("malformed message about standard streams")

    def _deliver(self, stream: int, data: bytes, confirm: bool, send: Send) -> None:
        number = self._write(stream, data)
        if confirm:
            send(["took", number])
        elif number:
            send(["lost", stream])

    def _write(self, stream: int, data: bytes) -> int:
        """Write to a stream; return 0, or the error number of a failure."""
        output = self.stdio.stdout if stream == 1 else self.stdio.stderr
        try:
            output.write(data)
        except OSError as error:
            return error.errno or errno.EIO
        except ReaderGone:
            raise
        except (DeadlineExceeded, Cancelled):
            self._stuck = True
            raise
        return 0

    def _watch(self, send: Send) -> None:
        ready = bool(_ready((self.descriptor,), 0))
        self._watched = not ready
        send(["ready", ready])

    @property
    def descriptor(self) -> int:
        """The descriptor of stdin, if the guest may read it."""
        descriptor = self.stdio.stdin.descriptor
        assert descriptor is not None
        return descriptor

    # -- stdin ---------------------------------------------------------------------------------

    def wait(self, channel: Channel, send: Send, seconds: float = CHECK_SECONDS) -> bool:
        """Wait at most ``seconds`` for stdin or a message; serve stdin; return whether a message waits."""
        if channel.waiting():
            return True
        ready = _ready((self.descriptor, channel.fileno()), seconds)
        if channel.fileno() in ready:
            return True
        if self.descriptor in ready and self._wanted:
            self._read(send)
        elif self.descriptor in ready:
            self._watched = False
            send(["ready", True])
        return False

    def _read(self, send: Send) -> None:
        data, number = b"", 0
        try:
            data = os.read(self.descriptor, self._wanted)
        except BlockingIOError:  # another process read the bytes first
            return
        except OSError as error:
            number = error.errno or errno.EIO
        self._wanted = 0
        send(["bytes", data, number])

    # -- the end -------------------------------------------------------------------------------

    def deliver_rest(self, channel: Channel) -> None:
        """Deliver the output that the guest wrote before its worker ended, for at most :data:`_DRAIN_SECONDS`."""
        if self._stuck:  # an earlier part was lost; delivering the rest would hide the gap
            return
        drain = _DrainScope(time.monotonic() + _DRAIN_SECONDS)
        self.stdio.stdout.scope = self.stdio.stderr.scope = drain
        with suppress(ProtocolError, ChannelTimeout, AegisError):
            while True:
                match channel.recv(drain.until):
                    case ["out", int(stream), bytes(data), _] if stream in (1, 2):
                        self._write(stream, data)


class _DrainScope:
    """The scope of writes after a call, with the deadline ``until``; implements :class:`aegis.values.CallScope`."""

    clocks: Any = None
    listens = False

    def __init__(self, until: float) -> None:
        self.until = until

    def remaining(self) -> float:
        """Return the seconds until the deadline; raise :class:`ChannelTimeout` after it."""
        if time.monotonic() >= self.until:
            raise ChannelTimeout
        return self.until - time.monotonic()

    def wait(
        self, seconds: float | None = None, *, read: Sequence[int] = (), write: Sequence[int] = ()
    ) -> tuple[list[int], list[int]]:
        """Wait until a descriptor is writable, or without descriptors for ``seconds``."""
        if not write:
            time.sleep(min(seconds or 0, self.remaining()))
            return [], []
        poller = select.poll()
        for descriptor in write:
            poller.register(descriptor, select.POLLOUT)
        while not poller.poll(self.remaining() * 1000):
            self.remaining()
        return [], list(write)

    def decided(self, decision: Decision) -> None:
        """Ignore the decision: streams make none."""

    def logged(self, level: str, message: str) -> None:
        """Ignore the message: streams log none."""


def _ready(descriptors: Sequence[int], seconds: float) -> set[int]:
    """Return the descriptors that are readable, closed, or in error."""
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poller.poll(seconds * 1000)}
