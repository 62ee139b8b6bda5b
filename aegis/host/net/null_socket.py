"""What a guest without any network has for a socket: it can be made and set up, and reaches nobody.

No socket of the system's stands behind it, so a process that may have none can serve such a guest; each attempt to
reach somebody is judged, and denied, as ever.
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
    """The part of :class:`socket.socket` that a guest can come to use before it is denied."""

    def __init__(self, family: int, kind: int) -> None:
        self._any = "::" if family == socket.AF_INET6 else "0.0.0.0"
        self._extra: tuple[int, ...] = (0, 0) if family == socket.AF_INET6 else ()
        self._name: tuple[Any, ...] = (self._any, 0, *self._extra)
        self._options: dict[tuple[int, int], int] = {}
        self._silence: tuple[int, int] | None = None

    def fileno(self) -> int:
        """Return a descriptor that may be written, and to which nothing ever comes."""
        if self._silence is None:
            with standard_reserved():
                self._silence = os.pipe()
        return self._silence[1]

    def setblocking(self, flag: bool) -> None:
        """Do nothing: it never blocks."""

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Remember an option."""
        doubled = sys.platform == "linux" and option in (socket.SO_RCVBUF, socket.SO_SNDBUF)
        self._options[level, option] = 2 * value if doubled and level == socket.SOL_SOCKET else value

    def getsockopt(self, level: int, option: int) -> int:
        """Return an option as it was set, or what systems set."""
        if level == socket.SOL_SOCKET and option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            return self._options.get((level, option), _BUFFER_BYTES)
        hops = (socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
        return self._options.get((level, option), _HOPS if (level, option) in hops else 0)

    def bind(self, address: tuple[Any, ...]) -> None:
        """Take an address; a free port is always the same."""
        self._name = (address[0], address[1] or _FIRST_PORT, *self._extra)

    def getsockname(self) -> tuple[Any, ...]:
        """Return the address that was taken."""
        return self._name

    def getpeername(self) -> NoReturn:
        """There is no other side."""
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    def recvfrom(self, count: int) -> NoReturn:
        """Nothing comes."""
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def close(self) -> None:
        """Close the silence."""
        if self._silence is not None:
            for descriptor in self._silence:
                os.close(descriptor)
            self._silence = None
