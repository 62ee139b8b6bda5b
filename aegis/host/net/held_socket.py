"""The common part of the resources ``tcp-socket`` and ``udp-socket`` of ``wasi:sockets``, in all its versions.

The functions here and in :mod:`aegis.host.net.tcp_socket` and :mod:`aegis.host.net.udp_socket` raise ``OSError``; each
version converts addresses, options and errors to its own types.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from typing import TYPE_CHECKING, Any

from aegis.host.net.socket_errors import refuse

if TYPE_CHECKING:
    from aegis.host.net.network import Network
    from aegis.host.wasi import Wasi

__all__ = ["HeldSocket", "SharedSocket"]

_MAX_BUFFER_BYTES = 1 << 22


class SharedSocket:
    """A socket of the system with several users: a resource, and the streams made from it. The last one closes it."""

    def __init__(self, network: Network, opened: socket.socket) -> None:
        self.socket, self._network = opened, network
        self._users = 1

    @classmethod
    def new(cls, network: Network, family: int, kind: int) -> SharedSocket:
        """Return a new socket; raise ``EMFILE`` when the limit ``sockets`` is reached."""
        opened = network.open(family, kind)
        if opened is None:
            raise refuse(errno.EMFILE)
        if family == socket.AF_INET6:
            with contextlib.suppress(OSError):
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        return cls(network, opened)

    def use(self) -> SharedSocket:
        """Count one more user."""
        self._users += 1
        return self

    def release(self) -> None:
        """Count one user less; the last one closes the socket."""
        self._users -= 1
        if not self._users:
            self._network.close_socket(self.socket)

    def number(self) -> int:
        """Return the descriptor to wait for."""
        return self.socket.fileno()

    def shut_down(self, how: int) -> None:
        """Shut down one direction or both; do nothing if the connection has ended."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(how)


class HeldSocket:
    """A socket resource, with the options that both kinds have. ``family`` is the system's address family."""

    def __init__(self, wasi: Wasi, family: int, shared: SharedSocket) -> None:
        self.wasi, self.network = wasi, wasi.grants.network
        self.family, self.shared = family, shared

    def __drop__(self) -> None:
        self.shared.release()

    def local_name(self) -> tuple[Any, ...]:
        """Return the local address."""
        return tuple(self.shared.socket.getsockname())

    # -- options -----------------------------------------------------------------------------------

    def _hops(self) -> tuple[int, int]:
        if self.family == socket.AF_INET:
            return socket.IPPROTO_IP, socket.IP_TTL
        return socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS

    def read_hop_limit(self) -> int:
        return self.shared.socket.getsockopt(*self._hops())

    def write_hop_limit(self, value: int) -> None:
        if not value:
            raise refuse(errno.EINVAL)
        self.shared.socket.setsockopt(*self._hops(), value)

    def read_buffer_size(self, option: int) -> int:
        """Return the size of a buffer in bytes; ``option`` is ``SO_RCVBUF`` or ``SO_SNDBUF``."""
        found = self.shared.socket.getsockopt(socket.SOL_SOCKET, option)
        return found // 2 if sys.platform == "linux" else found  # Linux doubles the value that was set: socket(7)

    def write_buffer_size(self, option: int, value: int) -> None:
        """Set the size of a buffer in bytes."""
        if not value:
            raise refuse(errno.EINVAL)
        self.shared.socket.setsockopt(socket.SOL_SOCKET, option, min(value, _MAX_BUFFER_BYTES))
