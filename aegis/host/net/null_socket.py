"""The socket of a guest without network: it can be created and configured, and reaches no peer.

There is no socket of the system behind it, so a process that may not create one can serve such a guest. Each attempt
to connect or send is judged by the policy, and denied, as for other sockets.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import Any, NoReturn

from aegis.support.descriptors import standard_reserved

__all__ = ["NullSocket"]

_FIRST_PORT = 49152
_BUFFER_BYTES = 212_992
_HOPS = 64


class NullSocket:
    """The part of :class:`socket.socket` that a guest can use before the policy denies it anything."""

    def __init__(self, family: int, kind: int) -> None:
        self._any = "::" if family == socket.AF_INET6 else "0.0.0.0"
        self._extra: tuple[int, ...] = (0, 0) if family == socket.AF_INET6 else ()
        self._name: tuple[Any, ...] = (self._any, 0, *self._extra)
        self._options: dict[tuple[int, int], int] = {}
        self._pipe: tuple[int, int] | None = None

    def fileno(self) -> int:
        """Return a descriptor that is writable and never becomes readable."""
        if self._pipe is None:
            with standard_reserved():
                self._pipe = os.pipe()
        return self._pipe[1]

    def setblocking(self, flag: bool) -> None:
        """Do nothing: no operation blocks."""

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Store the value of an option."""
        doubled = sys.platform == "linux" and option in (socket.SO_RCVBUF, socket.SO_SNDBUF)
        self._options[level, option] = 2 * value if doubled and level == socket.SOL_SOCKET else value

    def getsockopt(self, level: int, option: int) -> int:
        """Return the stored value of an option, or a usual default."""
        if level == socket.SOL_SOCKET and option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            return self._options.get((level, option), _BUFFER_BYTES)
        hops = (socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
        return self._options.get((level, option), _HOPS if (level, option) in hops else 0)

    def bind(self, address: tuple[Any, ...]) -> None:
        """Store the local address; the port for 0 is always the same."""
        self._name = (address[0], address[1] or _FIRST_PORT, *self._extra)

    def getsockname(self) -> tuple[Any, ...]:
        """Return the local address."""
        return self._name

    def getpeername(self) -> NoReturn:
        """Raise ``ENOTCONN``: there is no peer."""
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    def recvfrom(self, count: int) -> NoReturn:
        """Raise ``EAGAIN``: no datagram ever arrives."""
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def close(self) -> None:
        """Close the pipe behind :meth:`fileno`."""
        if self._pipe is not None:
            for descriptor in self._pipe:
                os.close(descriptor)
            self._pipe = None
