"""Sockets in a worker, which the parent creates, binds and connects (:mod:`aegis.isolation.parent.sockets`)."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress

from aegis.host.net.sockets import GUEST_CONNECTION, Address, Datagram, Purpose
from aegis.isolation.protocol.packets import SOCKET_NUMBER
from aegis.support.lean import Any, cast

__all__ = ["RemoteSockets"]

_MAX_DESCRIPTORS = 4

Ask = Callable[..., Any]
"""Sends a request to the parent, a verb and its arguments, and returns the answer."""


class RemoteSockets:
    """Opens sockets for a :class:`~aegis.host.net.network.Network`; implements :class:`aegis.host.net.sockets.Opener`.

    The parent passes descriptors on the socket ``transfer``. A TCP socket is a real socket, a UDP socket is a stand-in.
    ``notify`` sends a request that the parent does not answer.
    """

    def __init__(self, transfer: int, ask: Ask, notify: Ask) -> None:
        self._transfer, self._ask, self._notify = transfer, ask, notify
        self._numbers: dict[socket.socket, int] = {}

    def open(self, family: int, kind: int) -> socket.socket:
        answer = self._ask("open", family, kind)
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        number = answer[0]
        given = self._received_descriptors(number)
        if kind == socket.SOCK_DGRAM:
            made = cast(socket.socket, _Datagrams(number, given, self._ask))
        else:
            made = socket.socket(family, kind, fileno=given[0])
        self._numbers[made] = number
        return made

    def _received_descriptors(self, number: int) -> list[int]:
        """Return the descriptors of a socket. Close those of earlier requests, whose calls were interrupted."""
        with socket.socket(fileno=os.dup(self._transfer)) as end:
            while True:
                data, given, _, _ = socket.recv_fds(end, SOCKET_NUMBER.size, _MAX_DESCRIPTORS)
                if SOCKET_NUMBER.unpack(data)[0] == number:
                    return given
                for descriptor in given:
                    os.close(descriptor)

    def close(self, opened: socket.socket) -> None:
        opened.close()
        number = self._numbers.pop(opened, None)
        if number is not None:  # the parent does not know sockets that the worker accepted
            self._notify("close", number)

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
        # Copied, because the data may be in shared memory, which the parent overwrites with its next message.
        return Datagram(size, (), None) if data is None else Datagram(size, tuple(sender), bytes(data))

    def room(self, opened: socket.socket) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if isinstance(opened, _Datagrams):
            return (opened.room,), ()
        return (), (opened.fileno(),)


class _Datagrams:
    """The part of :class:`socket.socket` that a guest's UDP socket needs; the parent holds the actual socket."""

    def __init__(self, number: int, given: list[int], ask: Ask) -> None:
        self._number, self._ask = number, ask
        self._arrivals, self.room = given

    def fileno(self) -> int:
        """Return a descriptor that is readable when a datagram has arrived."""
        return self._arrivals

    def setblocking(self, flag: bool) -> None:
        """Do nothing: the socket never blocks."""

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
        """Raise ``OSError``: the socket is never connected."""
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    def close(self) -> None:
        """Close both descriptors."""
        for descriptor in (self._arrivals, self.room):
            with suppress(OSError):
                os.close(descriptor)
        self._arrivals = self.room = -1


def _check(number: int) -> None:
    """Raise ``OSError`` for an error number that the parent returned; 0 means success."""
    if number:
        raise OSError(number, os.strerror(number))
