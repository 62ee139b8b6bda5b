"""In the parent: a guest's standard streams, served to its worker message by message (see :mod:`.streams`).

The streams are those of a sandbox in process: the same limits, the same waits. What the worker says is counted and
bounded here, and stdin is read only as far as the guest asked.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from aegis.errors import AegisError, Cancelled, DeadlineExceeded
from aegis.host.stdio import Stdio
from aegis.isolation.protocol.channel import LOOK, Broken, Channel, Late
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.values import Decision

__all__ = ["STREAM_MESSAGES", "Delivery"]

Say = Callable[[list[Any]], None]
"""Sends a message to the worker; raises :class:`Late` if that does not take it."""
STREAM_MESSAGES = frozenset({"out", "in", "watch"})
_MAX_READ = 1 << 16
_LAST_WORDS = 0.2
"""Seconds for delivering what a worker had sent before it ended."""


class Delivery:
    """Serves the standard streams of one sandbox."""

    def __init__(self, stdio: Stdio) -> None:
        self.stdio = stdio
        stdio.unblock()  # a worker that waits can be killed, but this process must not block
        self._wanted = 0
        """How many bytes of stdin the guest waits for."""
        self._watched = False
        """Whether the guest wants to know when stdin is ready."""
        self._stuck = False
        """Whether a stream did not take what it was given by the deadline."""

    @property
    def pending(self) -> bool:
        """Whether something is to be done once stdin is ready."""
        return self._watched or self._wanted > 0

    def forget(self) -> None:
        """A call ended: nothing waits for stdin any more."""
        self._wanted, self._watched = 0, False

    @property
    def _may_read(self) -> bool:
        return self.stdio.stdin.descriptor is not None

    def terminals(self) -> tuple[bool, bool, bool]:
        """Return which of stdin, stdout and stderr are terminals."""
        stdio = self.stdio
        return stdio.stdin.is_terminal(), stdio.stdout.is_terminal(), stdio.stderr.is_terminal()

    # -- messages ------------------------------------------------------------------------------

    def serve(self, message: list[Any], say: Say) -> None:
        """Serve one of :data:`STREAM_MESSAGES`; raise :class:`Broken` for one that cannot be meant.

        ``OutputExceeded`` says that the worker sent more than the limit. ``DeadlineExceeded`` and ``Cancelled`` say
        that the stream did not take the bytes in time.
        """
        match message:
            case ["out", int(stream), bytes(data), bool(confirm)] if type(stream) is int and stream in (1, 2):
                self._deliver(stream, data, confirm, say)
            case ["in", int(count)] if self._may_read and type(count) is int and 0 < count <= _MAX_READ:
                self._wanted, self._watched = count, False
            case ["watch"] if self._may_read:
                self._watch(say)
            case _:
                raise Broken("a message about standard streams that cannot be meant")

    def _deliver(self, stream: int, data: bytes, confirm: bool, say: Say) -> None:
        number = self._write(stream, data)
        if confirm:
            say(["took", number])
        elif number:
            say(["lost", stream])

    def _write(self, stream: int, data: bytes) -> int:
        """Write to a stream, and return the error number, 0 for success."""
        output = self.stdio.stdout if stream == 1 else self.stdio.stderr
        try:
            output.write(data)
        except OSError as error:
            return error.errno or errno.EIO
        except (DeadlineExceeded, Cancelled):
            self._stuck = True
            raise
        return 0

    def _watch(self, say: Say) -> None:
        ready = bool(_ready((self._descriptor,), 0))
        self._watched = not ready
        say(["ready", ready])

    @property
    def _descriptor(self) -> int:
        descriptor = self.stdio.stdin.descriptor
        assert descriptor is not None
        return descriptor

    # -- stdin ---------------------------------------------------------------------------------

    def wait(self, channel: Channel, say: Say) -> bool:
        """Wait for stdin, at most :data:`LOOK` seconds, and serve it; tell whether the worker has a message instead."""
        if channel.waiting():
            return True
        ready = _ready((self._descriptor, channel.fileno()), LOOK)
        if channel.fileno() in ready:
            return True
        if self._descriptor in ready and self._wanted:
            self._read(say)
        elif self._descriptor in ready:
            self._watched = False
            say(["ready", True])
        return False

    def _read(self, say: Say) -> None:
        data, number = b"", 0
        try:
            data = os.read(self._descriptor, self._wanted)
        except BlockingIOError:  # another process was faster
            return
        except OSError as error:
            number = error.errno or errno.EIO
        self._wanted = 0
        say(["bytes", data, number])

    # -- the end -------------------------------------------------------------------------------

    def last_words(self, channel: Channel) -> None:
        """Deliver what the guest wrote before its worker ended, as far as the streams take it at once."""
        if self._stuck:  # part of it is lost already, and what follows would hide that
            return
        hurry = _Hurry(time.monotonic() + _LAST_WORDS)
        self.stdio.stdout.scope = self.stdio.stderr.scope = hurry
        with suppress(Broken, Late, AegisError):
            while True:
                match channel.recv(hurry.until):
                    case ["out", int(stream), bytes(data), _] if stream in (1, 2):
                        self._write(stream, data)


class _Hurry:
    """The scope of writes after a call: they end at ``until``. It implements :class:`aegis.values.CallScope`."""

    listens = False

    def __init__(self, until: float) -> None:
        self.until = until

    def remaining(self) -> float:
        """Return the seconds that are left."""
        if time.monotonic() >= self.until:
            raise Late
        return self.until - time.monotonic()

    def wait(
        self, seconds: float | None = None, *, read: Sequence[int] = (), write: Sequence[int] = ()
    ) -> tuple[list[int], list[int]]:
        """Wait for descriptors to be writable, or for ``seconds``."""
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
        """Streams decide nothing."""

    def logged(self, level: str, message: str) -> None:
        """Streams log nothing."""


def _ready(descriptors: Sequence[int], seconds: float) -> set[int]:
    """Return which of ``descriptors`` can be read, or have an end or an error to tell."""
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poller.poll(seconds * 1000)}
