"""In a worker: the guest's standard streams, each write and each read a message to the parent.

The worker holds no descriptor of the parent's streams. On the conversation with the parent it says:

    ["out", stream, bytes, confirm]   deliver to stdout (1) or stderr (2)  ->  with ``confirm``: ["took", errno or 0]
    ["in", count]                     read up to ``count`` bytes of stdin  ->  ["bytes", bytes, errno or 0]
    ["watch"]                         is stdin ready?                      ->  ["ready", bool]; if not, once more later

The parent may send two notices without being asked: ``["ready", True]`` after a watch, and ``["lost", stream]`` when a
write failed that was not to be confirmed. Most writes are not, for a confirmation takes as long as a host call. The
first write of each stream is confirmed, and the first after a loss, so that the guest gets the error of its stream.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from aegis.host.stdio import StandardInput, StandardOutput
from aegis.isolation.protocol.channel import LARGE, Broken, Channel
from aegis.support.lean import Any
from aegis.values import CallScope

__all__ = ["NOTICES", "RemoteInput", "RemoteOutput", "RemoteStreams"]

NOTICES = frozenset({"ready", "lost"})
_PIECE = LARGE // 2


class RemoteStreams:
    """One sandbox's part of the conversation that is about its standard streams.

    ``handle`` serves a message of the parent's that is about something else.
    """

    def __init__(self, channel: Channel, scope: CallScope, handle: Callable[[list[Any]], Any]) -> None:
        self.channel, self._scope, self._handle = channel, scope, handle
        self._poller = select.poll()
        self._poller.register(channel.fileno(), select.POLLIN | select.POLLOUT)
        self.ready = False
        """Whether the parent said that stdin is ready, and nothing was read since."""
        self.watched = False
        """Whether the parent will say when stdin is ready."""
        self.confirmed: set[int] = set()
        """Streams whose latest confirmed write succeeded."""

    def note(self, message: list[Any]) -> None:
        """Take over a notice."""
        if message[0] == "lost":
            self.confirmed.discard(message[1])
        else:
            self.ready, self.watched = message[1], not message[1]

    def forget(self) -> None:
        """A call ended, and with it the parent's watch."""
        self.ready = self.watched = False

    def keep(self, stream: int, data: bytes) -> None:
        """Have the parent keep ``data``, which cannot fail."""
        if not self._now() & select.POLLOUT:
            self._scope.wait(write=(self.channel.fileno(),))
        self.channel.send(["out", stream, data, False], notice=True)

    def write(self, stream: int, data: bytes) -> None:
        """Have the parent deliver ``data``; raise the error of the stream, if it is known to have one."""
        self._room()
        confirm = stream not in self.confirmed
        self.channel.send(["out", stream, data, confirm], notice=True)
        if confirm:
            (number,) = self._answer("took")
            if number:
                raise OSError(number, os.strerror(number))
            self.confirmed.add(stream)

    def _room(self) -> None:
        """Wait until the parent takes more, and hear its notices."""
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
        """Return what the conversation is ready for, without the cost of a wait."""
        found = self._poller.poll(0)
        return found[0][1] if found else 0

    def read(self, count: int) -> bytes:
        """Return up to ``count`` bytes of stdin, none at its end."""
        self.channel.send(["in", count], notice=True)
        data, number = self._answer("bytes")
        self.forget()
        if number:
            raise OSError(number, os.strerror(number))
        return bytes(data)

    def watch(self) -> int | None:
        """Return what becomes readable when stdin is ready, ``None`` if it is."""
        while self.watched and self.channel.waiting():
            self._handle(self.channel.recv())
        if not self.ready and not self.watched:
            self.channel.send(["watch"], notice=True)
            self.note(["ready", *self._answer("ready")])
        return None if self.ready else self.channel.fileno()

    def _answer(self, kind: str) -> list[Any]:
        while True:
            if not self.channel.waiting():
                self._scope.wait(read=(self.channel.fileno(),))
            message = self.channel.recv()
            if message[0] == kind:
                return list(message[1:])
            if message[0] not in NOTICES:
                raise Broken("an answer to another question")
            self._handle(message)


class RemoteInput(StandardInput):
    """A standard input that the parent reads."""

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
    """A standard output that the parent delivers. The limit is enforced here for the guest, and there for good."""

    def __init__(
        self, number: int, mode: str, limit: int | None, scope: CallScope, streams: RemoteStreams, *, terminal: bool
    ) -> None:  # fmt: skip
        super().__init__(("stdin", "stdout", "stderr")[number], "inherit", number, limit, scope)
        self._streams, self._terminal = streams, terminal
        self._put = streams.keep if mode == "capture" else streams.write

    def send(self, data: bytes) -> int:
        for at in range(0, len(data), _PIECE):
            self._put(self.descriptor, data[at : at + _PIECE])
        return len(data)

    def awaited(self) -> int | None:
        return self._streams.channel.fileno()

    def is_terminal(self) -> bool:
        return self._terminal
