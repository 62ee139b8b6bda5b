"""The common part of TCP and UDP sockets: the system's socket with its users, and the options."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import TYPE_CHECKING

from aegis.bindings.wasi_sockets_network import ErrorCode, IpAddressFamily
from aegis.host.preview2.io import Pollable
from aegis.host.preview2.socket_address import FAMILIES, answering, code_of, refuse, wit_address

if TYPE_CHECKING:
    from aegis.host.net.network import Network
    from aegis.host.preview2.io import Interest
    from aegis.host.preview2.socket_address import IpSocketAddress
    from aegis.host.wasi import Wasi

__all__ = ["SharedSocket", "SocketBase", "new_socket"]

_MAX_BUFFER_BYTES = 1 << 22


class SharedSocket:
    """A socket of the system with several users: a resource, and the streams made from it. The last one closes it."""

    def __init__(self, network: Network, opened: socket.socket) -> None:
        self.socket, self._network = opened, network
        self._users = 1

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


def new_socket(network: Network, family: IpAddressFamily, kind: int) -> SharedSocket:
    """Return a new socket; raise ``new-socket-limit`` when the limit ``sockets`` is reached."""
    try:
        opened = network.open(FAMILIES[family], kind)
    except OSError as error:
        raise refuse(code_of(error)) from None
    if opened is None:
        raise refuse(ErrorCode.NEW_SOCKET_LIMIT)
    if family is IpAddressFamily.IPV6:
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return SharedSocket(network, opened)


class SocketBase:
    """A socket resource: a ``PollTarget`` with the options that both kinds have."""

    def __init__(self, wasi: Wasi, family: IpAddressFamily, shared: SharedSocket) -> None:
        self.wasi, self.network = wasi, wasi.grants.network
        self.family, self.shared = family, shared

    def __drop__(self) -> None:
        self.shared.release()

    def ready(self) -> bool:
        return True

    def interest(self) -> Interest:
        from aegis.host.preview2.io import Interest

        return Interest()

    def subscribe(self) -> Pollable:
        return Pollable(self, self.wasi)

    def address_family(self) -> IpAddressFamily:
        return self.family

    def _name(self) -> tuple[str, int]:
        found = self.shared.socket.getsockname()
        return str(found[0]).partition("%")[0], int(found[1])

    def _local(self) -> IpSocketAddress:
        return wit_address(self.shared.socket.getsockname(), self.family)

    # -- options -----------------------------------------------------------------------------------

    def _hops(self) -> tuple[int, int]:
        if self.family is IpAddressFamily.IPV4:
            return socket.IPPROTO_IP, socket.IP_TTL
        return socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS

    @answering
    def hop_limit(self) -> int:
        return self.shared.socket.getsockopt(*self._hops())

    @answering
    def set_hop_limit(self, value: int) -> None:
        if not value:
            raise refuse(ErrorCode.INVALID_ARGUMENT)
        self.shared.socket.setsockopt(*self._hops(), value)

    @answering
    def receive_buffer_size(self) -> int:
        return self._buffer(socket.SO_RCVBUF)

    @answering
    def set_receive_buffer_size(self, value: int) -> None:
        self._set_buffer(socket.SO_RCVBUF, value)

    @answering
    def send_buffer_size(self) -> int:
        return self._buffer(socket.SO_SNDBUF)

    @answering
    def set_send_buffer_size(self, value: int) -> None:
        self._set_buffer(socket.SO_SNDBUF, value)

    def _buffer(self, option: int) -> int:
        found = self.shared.socket.getsockopt(socket.SOL_SOCKET, option)
        return found // 2 if sys.platform == "linux" else found  # Linux doubles the value that was set: socket(7)

    def _set_buffer(self, option: int, value: int) -> None:
        if not value:
            raise refuse(ErrorCode.INVALID_ARGUMENT)
        self.shared.socket.setsockopt(socket.SOL_SOCKET, option, min(value, _MAX_BUFFER_BYTES))
