"""In a worker: sockets that the parent makes, binds and connects (:mod:`aegis.isolation.parent.sockets`)."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress

from aegis.host.net.sockets import GUEST_CONNECTION, Address, Datagram, Purpose
from aegis.isolation.parent.sockets import SOCKET_NUMBER
from aegis.support.lean import Any, cast

__all__ = ["RemoteSockets"]

_MAX_DESCRIPTORS = 4

Ask = Callable[..., Any]
"""Asks the parent, with a verb and its words, and returns the answer."""


class RemoteSockets:
    """Opens sockets for a :class:`~aegis.host.net.network.Network`; implements :class:`aegis.host.net.sockets.Opener`.

    Descriptors come by the socket ``way``. Of TCP a socket is the system's own; of UDP it is a stand-in. ``tell`` is
    told of sockets that were closed.
    """

    def __init__(self, way: int, ask: Ask, tell: Ask) -> None:
        self._way, self._ask, self._tell = way, ask, tell
        self._numbers: dict[socket.socket, int] = {}

    def open(self, family: int, kind: int) -> socket.socket:
        answer = self._ask("open", family, kind)
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        number = answer[0]
        given = self._given(number)
        if kind == socket.SOCK_DGRAM:
            made = cast(socket.socket, _Datagrams(number, given, self._ask))
        else:
            made = socket.socket(family, kind, fileno=given[0])
        self._numbers[made] = number
        return made

    def _given(self, number: int) -> list[int]:
        """Return the descriptors of a socket; those of one that was asked for in a call that was ended are closed."""
        with socket.socket(fileno=os.dup(self._way)) as end:
            while True:
                data, given, _, _ = socket.recv_fds(end, SOCKET_NUMBER.size, _MAX_DESCRIPTORS)
                if SOCKET_NUMBER.unpack(data)[0] == number:
                    return given
                for descriptor in given:
                    os.close(descriptor)

    def close(self, opened: socket.socket) -> None:
        opened.close()
        number = self._numbers.pop(opened, None)
        if number is not None:  # one that was accepted is not the parent's
            self._tell("close", number)

    def bind(self, opened: socket.socket, address: Address) -> None:
        _check(self._ask("bind", self._numbers[opened], list(address)))

    def listen(self, opened: socket.socket, backlog: int) -> None:
        _check(self._ask("listen", self._numbers[opened], backlog))

    def connect(self, opened: socket.socket, address: Address, purpose: Purpose = GUEST_CONNECTION) -> int:
        whole = [*address, 0, 0] if ":" in address[0] and len(address) == 2 else list(address)
        return int(self._ask("connect", self._numbers[opened], *purpose, whole))

    def send(self, opened: socket.socket, data: bytes, address: Address) -> None:
        _check(self._ask("send", self._numbers[opened], data, list(address)))

    def receive(self, opened: socket.socket) -> Datagram:
        answer = self._ask("receive", self._numbers[opened])
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        size, sender, data = answer
        # The data may lie in memory that the parent writes anew with its next message.
        return Datagram(size, (), None) if data is None else Datagram(size, tuple(sender), bytes(data))

    def room(self, opened: socket.socket) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if isinstance(opened, _Datagrams):
            return (opened.room,), ()
        return (), (opened.fileno(),)


class _Datagrams:
    """The part of :class:`socket.socket` that a guest's UDP socket needs; the socket itself is the parent's."""

    def __init__(self, number: int, given: list[int], ask: Ask) -> None:
        self._number, self._ask = number, ask
        self._news, self.room = given

    def fileno(self) -> int:
        """Return a descriptor that is readable when a datagram has come."""
        return self._news

    def setblocking(self, flag: bool) -> None:
        """Do nothing: it never blocks."""

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Set an option."""
        _check(self._ask("set", self._number, int(level), int(option), int(value)))

    def getsockopt(self, level: int, option: int) -> int:
        """Return an option."""
        answer = self._ask("get", self._number, int(level), int(option))
        _check(answer if isinstance(answer, int) else 0)
        return int(answer[0])

    def getsockname(self) -> tuple[Any, ...]:
        """Return the local address."""
        answer = self._ask("name", self._number)
        _check(answer if isinstance(answer, int) else 0)
        return tuple(answer)

    def getpeername(self) -> tuple[Any, ...]:
        """Raise ``OSError``: such a socket is never connected."""
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    def close(self) -> None:
        """Close both descriptors."""
        for descriptor in (self._news, self.room):
            with suppress(OSError):
                os.close(descriptor)
        self._news = self.room = -1


def _check(number: int) -> None:
    """Raise what the parent's system said."""
    if number:
        raise OSError(number, os.strerror(number))
