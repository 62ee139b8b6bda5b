"""The guest's standard streams in a worker: each read and each write is a message to the parent.

The worker has no descriptors of the parent's streams. It sends these messages on the channel:

    ["out", stream, bytes, confirm]   write to stdout (1) or stderr (2)    ->  with ``confirm``: ["took", errno or 0]
    ["in", count]                     read up to ``count`` bytes of stdin  ->  ["bytes", bytes, errno or 0]
    ["watch"]                         is stdin readable?                   ->  ["ready", bool]; if not, a notice later

The parent sends two notices unprompted: ``["ready", True]`` when a watched stdin becomes readable, and
``["lost", stream]`` when an unconfirmed write failed. Most writes are unconfirmed, because a confirmation takes as long
as a host call. The first write of each stream and the first after a loss are confirmed, so that the guest gets the
error of its stream.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from aegis.host.stdio import StandardInput, StandardOutput
from aegis.isolation.protocol import turn_messages
from aegis.isolation.protocol.channel import SHARED_MIN_BYTES, Channel, ProtocolError
from aegis.support.lean import Any
from aegis.values import CallScope

__all__ = ["NOTICES", "RemoteInput", "RemoteOutput", "RemoteStreams"]

NOTICES = frozenset({"ready", "lost"})
_CHUNK_BYTES = SHARED_MIN_BYTES // 2


class RemoteStreams:
    """Sends the stream messages of one sandbox; ``handle`` serves other messages that arrive in the meantime."""

    def __init__(self, channel: Channel, scope: CallScope, handle: Callable[[list[Any]], Any]) -> None:
        self.channel, self._scope, self._handle = channel, scope, handle
        self._poller = select.poll()
        self._poller.register(channel.fileno(), select.POLLIN | select.POLLOUT)
        self.ready = False
        """Whether the parent reported that stdin is readable, and the guest has not read since."""
        self.watched = False
        """Whether the parent will send a notice when stdin is readable."""
        self.confirmed: set[int] = set()
        """Streams whose latest confirmed write succeeded."""

    def note(self, message: list[Any]) -> None:
        """Process a notice."""
        if message[0] == "lost":
            self.confirmed.discard(message[1])
        else:
            self.ready, self.watched = message[1], not message[1]

    def forget(self) -> None:
        """Reset the state of stdin after a call, with which the parent's watch ended."""
        self.ready = self.watched = False

    def keep(self, stream: int, data: bytes) -> None:
        """Send ``data`` to a stream that the parent captures; that cannot fail."""
        if not self._now() & select.POLLOUT:
            self._wait_writable()
        self.channel.send(["out", stream, data, False], notice=True)

    def write(self, stream: int, data: bytes) -> None:
        """Send ``data`` for the parent to write; raise ``OSError`` if the write is confirmed and failed."""
        self._wait_writable()
        confirm = stream not in self.confirmed
        self.channel.send(["out", stream, data, confirm], notice=True)
        if confirm:
            (number,) = self._answer("took")
            if number:
                raise OSError(number, os.strerror(number))
            self.confirmed.add(stream)

    def _wait_writable(self) -> None:
        """Wait until the channel accepts more data; process the parent's notices first."""
        number = self.channel.fileno()
        while True:
            events = self._now()
            if self.channel.waiting() or events & ~select.POLLOUT:
                self._handle(self.channel.recv())
            elif events:
                return
            else:
                self._scope.wait(read=(number,), write=(number,))

    def _now(self) -> int:
        """Return the poll(2) events of the channel without waiting."""
        found = self._poller.poll(0)
        return found[0][1] if found else 0

    def read(self, count: int) -> bytes:
        """Return up to ``count`` bytes of stdin; empty at its end."""
        self.channel.send(["in", count], notice=True)
        data, number = self._answer("bytes")
        self.forget()
        if number:
            raise OSError(number, os.strerror(number))
        return bytes(data)

    def watch(self) -> int | None:
        """Return the descriptor that becomes readable when stdin does; ``None`` if stdin is readable now."""
        while self.watched and self.channel.waiting():
            self._handle(self.channel.recv())
        if not self.ready and not self.watched:
            self.channel.send(["watch"], notice=True)
            self.note(["ready", *self._answer("ready")])
        return None if self.ready else self.channel.fileno()

    def _answer(self, kind: str) -> list[Any]:
        while True:
            if not self.channel.waiting() and not self._scope.wait(read=(self.channel.fileno(),))[0]:
                continue  # woken for another reason
            message = self.channel.recv()
            if message[0] == kind:
                return list(message[1:])
            if message[0] not in NOTICES and message[0] not in turn_messages.NOTICES:
                raise ProtocolError("an answer to another request")
            self._handle(message)


class RemoteInput(StandardInput):
    """Standard input, read by the parent."""

    def __init__(self, streams: RemoteStreams, scope: CallScope, *, terminal: bool) -> None:
        super().__init__(b"", scope)
        self._streams, self._terminal = streams, terminal

    def read(self, count: int) -> bytes:
        return self._streams.read(min(count, 1 << 16)) if count > 0 else b""

    def awaited(self) -> int | None:
        return self._streams.watch()

    def is_terminal(self) -> bool:
        return self._terminal


class RemoteOutput(StandardOutput):
    """Standard output or error, written by the parent.

    This process enforces the limit so that the guest gets an error; the parent enforces it against this process.
    """

    def __init__(
        self, number: int, mode: str, limit: int | None, scope: CallScope, streams: RemoteStreams, *, terminal: bool
    ) -> None:  # fmt: skip
        super().__init__(("stdin", "stdout", "stderr")[number], "inherit", number, limit, scope)
        self._streams, self._terminal = streams, terminal
        self._put = streams.keep if mode == "capture" else streams.write

    def send(self, data: bytes) -> int:
        for at in range(0, len(data), _CHUNK_BYTES):
            self._put(self.descriptor, data[at : at + _CHUNK_BYTES])
        return len(data)

    def awaited(self) -> int | None:
        return self._streams.channel.fileno()

    def is_terminal(self) -> bool:
        return self._terminal
