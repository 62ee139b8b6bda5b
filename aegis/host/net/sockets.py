"""Operations on the system's sockets, for the :class:`~aegis.host.net.network.Network` of a sandbox.

The network judges each use of a socket and an opener carries it out: :class:`SystemSockets` by calls of the system, and
in a worker, which may not make those calls, another one by requests to the parent.
"""

from __future__ import annotations

import socket
from typing import Any, NamedTuple, Protocol

from aegis.support.descriptors import socket_above_standard

__all__ = ["GUEST_CONNECTION", "MAX_DATAGRAM_BYTES", "Address", "Datagram", "Opener", "Purpose", "SystemSockets"]

Address = tuple[Any, ...]
"""A socket address of the system: host and port, for IPv6 also flow information and scope."""
MAX_DATAGRAM_BYTES = 65507
"""The largest payload of a datagram of UDP over IPv4, in bytes (RFC 768)."""


class Purpose(NamedTuple):
    """The purpose of a connection, in the terms of rules. Name and method are those of an HTTP request."""

    scheme: str
    name: str = ""
    method: str | None = None


GUEST_CONNECTION = Purpose("tcp")
"""The purpose of a socket that the guest itself connects."""


class Datagram(NamedTuple):
    """A received datagram; ``data`` is ``None`` if the policy denies the sender."""

    size: int
    sender: Address
    data: bytes | None


class Opener(Protocol):
    """Carries out operations that were judged. A failure is an ``OSError``; no method blocks."""

    def open(self, family: int, kind: int) -> socket.socket:
        """Return a new socket."""
        ...

    def close(self, opened: socket.socket) -> None:
        """Close a socket."""
        ...

    def bind(self, opened: socket.socket, address: Address) -> None:
        """Bind a socket to a local address."""
        ...

    def listen(self, opened: socket.socket, backlog: int) -> None:
        """Make a bound socket accept connections."""
        ...

    def connect(self, opened: socket.socket, address: Address, purpose: Purpose) -> int:
        """Begin to connect a socket; return the error number, ``EINPROGRESS`` while the connection is being made."""
        ...

    def send(self, opened: socket.socket, data: bytes, address: Address) -> None:
        """Send a datagram."""
        ...

    def receive(self, opened: socket.socket) -> Datagram:
        """Return the next datagram; raise ``BlockingIOError`` when there is none."""
        ...

    def room(self, opened: socket.socket) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the descriptors that become readable, and those that become writable, when a socket can send."""
        ...


class SystemSockets:
    """Sockets of this process."""

    def open(self, family: int, kind: int) -> socket.socket:
        return socket_above_standard(socket.socket(family, kind))

    def close(self, opened: socket.socket) -> None:
        opened.close()

    def bind(self, opened: socket.socket, address: Address) -> None:
        opened.bind(address)

    def listen(self, opened: socket.socket, backlog: int) -> None:
        opened.listen(backlog)

    def connect(self, opened: socket.socket, address: Address, purpose: Purpose) -> int:
        return opened.connect_ex(address)

    def send(self, opened: socket.socket, data: bytes, address: Address) -> None:
        opened.sendto(data, address)

    def receive(self, opened: socket.socket) -> Datagram:
        data, sender = opened.recvfrom(1 << 16)
        return Datagram(len(data), sender, data)

    def room(self, opened: socket.socket) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (), (opened.fileno(),)
