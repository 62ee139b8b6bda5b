"""What opens and directs the system's sockets for a sandbox's :class:`~aegis.host.net.network.Network`.

The network judges each use of a socket, and an opener carries it out: :class:`SystemSockets` by the system's calls, and
in a worker, which may not make those calls, one that asks the parent.
"""

from __future__ import annotations

import socket
from typing import Any, NamedTuple, Protocol

from aegis.support.descriptors import socket_above_standard

__all__ = ["MAX_DATAGRAM_BYTES", "GUEST_CONNECTION", "Address", "Datagram", "Opener", "Purpose", "SystemSockets"]

Address = tuple[Any, ...]
"""A socket address as the system has it: a host and a port, and of IPv6 flow information and a scope besides."""
MAX_DATAGRAM_BYTES = 65507
"""Bytes of a datagram's payload: what UDP over IPv4 has room for (RFC 768)."""


class Purpose(NamedTuple):
    """What a connection is for, in the terms of rules. The name and the method are those of an HTTP request."""

    scheme: str
    name: str = ""
    method: str | None = None


GUEST_CONNECTION = Purpose("tcp")
"""A socket that the guest itself connects."""


class Datagram(NamedTuple):
    """A datagram that came; ``data`` is ``None`` where the guest may not hear the sender."""

    size: int
    sender: Address
    data: bytes | None


class Opener(Protocol):
    """Carries out what was judged. A failure is an ``OSError``; nothing waits."""

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
        """Have a bound socket accept connections."""
        ...

    def connect(self, opened: socket.socket, address: Address, purpose: Purpose) -> int:
        """Begin to connect a socket; return the error number, ``EINPROGRESS`` for one that is being connected."""
        ...

    def send(self, opened: socket.socket, data: bytes, address: Address) -> None:
        """Send a datagram."""
        ...

    def receive(self, opened: socket.socket) -> Datagram:
        """Return the next datagram; raise ``BlockingIOError`` when there is none."""
        ...

    def room(self, opened: socket.socket) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the descriptors that become readable, and those that become writable, when a socket has room."""
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
