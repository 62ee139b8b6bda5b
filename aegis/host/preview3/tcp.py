"""The resource ``tcp-socket`` of ``wasi:sockets/types``, on the sockets of :mod:`aegis.host.net.tcp_socket`.

The resource and the streams made from it share one socket of the system, which the last of them closes. A stream reads
from the socket when the guest reads from the stream, so the host buffers no bytes that the guest does not read; of
those to send it buffers one piece.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from typing import TYPE_CHECKING

from aegis.host.net.endpoints import UNSPECIFIED, Endpoint
from aegis.host.net.socket_errors import WrongStateError, refuse
from aegis.host.net.tcp_socket import HeldTcpSocket, TcpSender
from aegis.host.preview3.socket_types import ADDRESSES, SocketResource, answering, code_of
from aegis.host.preview3.streams import receive, refused_source, refused_stream, source
from aegis.values import Ended, Interest

if TYPE_CHECKING:
    from aegis.bindings.wasi_sockets_types_0_3 import IpSocketAddress
    from aegis.host.net.held_socket import SharedSocket
    from aegis.host.preview3.streams import GivenStream
    from aegis.host.wasi import Wasi
    from aegis.values import Promise

__all__ = ["AsyncTcpSocket"]

_CHUNK_BYTES = 65536
_CONNECTIONS_PER_READ = 16
_CHECKED_AGAIN_SECONDS = 0.1
"""Time between two attempts to accept when the limit ``sockets`` is reached, or the system lacks resources."""
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""Errors of accept(2) for a lack of resources, during which the descriptor stays readable."""
_LASTING = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}
"""Errors of accept(2) after which a socket accepts no more; all others are those of one connection."""


class AsyncTcpSocket(SocketResource, HeldTcpSocket):
    """The resource ``tcp-socket``."""

    _sends = _receives = False

    @answering
    def bind(self, local_address: IpSocketAddress) -> None:
        self.bind_to(ADDRESSES.endpoint_of(local_address, self.family))

    @answering
    def connect(self, remote_address: IpSocketAddress) -> _Connecting:
        self.begin_connecting(ADDRESSES.endpoint_of(remote_address, self.family))
        return _Connecting(self)

    @answering
    def listen(self) -> _ConnectionSource:
        """Listen; bind an unbound socket to a free port of all addresses first."""
        self.must("unbound", "bound")
        if self.state == "unbound":
            self.bind_to(Endpoint(UNSPECIFIED[self.family == socket.AF_INET6], 0))
        self.start_listening()
        return _ConnectionSource(self)

    def send(self, data: GivenStream) -> Promise:
        if self.state != "connected" or self._sends:
            return refused_stream(data, code_of(WrongStateError()))
        self._sends = True
        return receive(data, _PeerWriter(self.wasi, self.shared), code_of)

    def receive(self) -> tuple[object, Promise]:
        if self.state != "connected" or self._receives:
            return refused_source(code_of(WrongStateError()))
        self._receives = True
        return source(_PeerReader(self.wasi, self.shared), code_of)

    @answering
    def get_local_address(self) -> IpSocketAddress:
        self.must("bound", "listening", "connecting", "connected")
        return self._address(self.local_name())

    @answering
    def get_remote_address(self) -> IpSocketAddress:
        self.must("connected")
        return self._address(self.peer)

    def get_is_listening(self) -> bool:
        return self.state == "listening"

    # -- options -------------------------------------------------------------------------------------

    @answering
    def set_listen_backlog_size(self, value: int) -> None:
        if not value:
            raise refuse(errno.EINVAL)
        self.must("unbound", "bound", "listening")
        self.set_backlog(value)

    @answering
    def get_keep_alive_enabled(self) -> bool:
        return self.read_keep_alive()

    @answering
    def set_keep_alive_enabled(self, value: bool) -> None:
        self.write_keep_alive(value)

    @answering
    def get_keep_alive_idle_time(self) -> int:
        return self.read_keep_alive_part("IDLE")

    @answering
    def set_keep_alive_idle_time(self, value: int) -> None:
        self.write_keep_alive_part("IDLE", value)

    @answering
    def get_keep_alive_interval(self) -> int:
        return self.read_keep_alive_part("INTVL")

    @answering
    def set_keep_alive_interval(self, value: int) -> None:
        self.write_keep_alive_part("INTVL", value)

    @answering
    def get_keep_alive_count(self) -> int:
        return self.read_keep_alive_part("CNT")

    @answering
    def set_keep_alive_count(self, value: int) -> None:
        self.write_keep_alive_part("CNT", value)

    @answering
    def get_hop_limit(self) -> int:
        return self.read_hop_limit()

    @answering
    def set_hop_limit(self, value: int) -> None:
        self.write_hop_limit(value)


class _Connecting:
    """An attempt to connect. The guest has lent the socket to it, so it cannot drop the socket meanwhile."""

    def __init__(self, owner: AsyncTcpSocket) -> None:
        self._owner = owner

    def ready(self) -> bool:
        return self._owner.connecting_over()

    def interest(self) -> Interest:
        return Interest(write=(self._owner.shared.number(),))

    @answering
    def result(self) -> None:
        self._owner.end_connecting()

    def cancel(self) -> None:
        """Give the attempt up; shutdown(2) ends it, and the socket is closed as after a failed one."""
        self._owner.shared.shut_down(socket.SHUT_RDWR)
        self._owner.state = "closed"


class _ConnectionSource:
    """The connections that a socket accepts, as a stream that ends only when the socket cannot accept any more.

    While the limit ``sockets`` is reached, connections wait in the queue of the system.
    """

    def __init__(self, owner: AsyncTcpSocket) -> None:
        self._shared, self._owner = owner.shared.use(), owner
        self._not_before = 0.0
        """The ``time.monotonic()`` of the next attempt, after one that the system had no resources for."""

    def take(self, count: int) -> list[AsyncTcpSocket] | None:
        found: list[AsyncTcpSocket] = []
        while len(found) < min(count, _CONNECTIONS_PER_READ):
            try:
                found.append(self._owner.next_connection())
            except OSError as error:
                if error.errno in _LASTING and not found:
                    raise Ended from None
                if error.errno in _EXHAUSTED:
                    self._not_before = time.monotonic() + _CHECKED_AGAIN_SECONDS
                break
        return found or None

    def ready(self) -> bool:
        if self._owner.network.full() or time.monotonic() < self._not_before:
            return False
        return bool(self._owner.wasi.scope.wait(0, read=(self._shared.number(),))[0])

    def interest(self) -> Interest:
        now = time.monotonic()
        if self._owner.network.full() or now < self._not_before:
            return Interest(host_time=max(self._not_before, now + _CHECKED_AGAIN_SECONDS))
        return Interest(read=(self._shared.number(),))

    def close(self) -> None:
        self._shared.release()


class _PeerReader:
    """The bytes from the peer."""

    def __init__(self, wasi: Wasi, shared: SharedSocket) -> None:
        self._wasi, self._shared = wasi, shared.use()

    def take(self, count: int) -> bytes | None:
        try:
            data = self._shared.socket.recv(min(count, _CHUNK_BYTES))
        except BlockingIOError:
            return None
        if not data:
            raise Ended
        self._wasi.grants.network.charge(len(data))
        return data

    def ready(self) -> bool:
        return bool(self._wasi.scope.wait(0, read=(self._shared.number(),))[0])

    def interest(self) -> Interest:
        return Interest(read=(self._shared.number(),))

    def close(self) -> None:
        self._shared.shut_down(socket.SHUT_RD)
        self._shared.release()


class _PeerWriter:
    """The bytes to the peer. At their end, the direction is shut down when all were sent."""

    def __init__(self, wasi: Wasi, shared: SharedSocket) -> None:
        self._wasi = wasi
        self._sender = TcpSender(wasi.grants.network, shared)

    def room(self) -> int:
        if not self._sender.flushed():
            return 0
        return _CHUNK_BYTES if self._wasi.scope.wait(0, write=(self._sender.number(),))[1] else 0

    def give(self, data: bytes) -> None:
        self._sender.accept(data)

    def flushed(self) -> bool:
        return self._sender.flushed()

    def interest(self) -> Interest:
        return Interest(write=(self._sender.number(),))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sender.finish()
        self._sender.release()
