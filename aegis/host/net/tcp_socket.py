"""TCP sockets of a guest: clients and servers; the policy judges each address before any call of the system.

The states and the results are those of the WIT's operational semantics. No function blocks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Any, Self

from aegis.host.net.endpoints import UNSPECIFIED
from aegis.host.net.held_socket import HeldSocket, SharedSocket
from aegis.host.net.socket_errors import WrongStateError, refuse
from aegis.support.descriptors import socket_above_standard

if TYPE_CHECKING:
    from aegis.host.net.endpoints import Endpoint
    from aegis.host.net.network import Network
    from aegis.host.wasi import Wasi

__all__ = ["HeldTcpSocket", "TcpSender"]

_SECOND = 1_000_000_000
_MAX_QUEUED_CONNECTIONS = 4096
_MAX_DENIED_CONNECTIONS = 16
_LARGEST_KEEP_ALIVE = {"IDLE": 32767, "INTVL": 32767, "CNT": 127}
"""The largest values that Linux accepts, in seconds and probes."""


class HeldTcpSocket(HeldSocket):
    """A TCP socket; ``state`` is one of the states in the WIT."""

    def __init__(self, wasi: Wasi, family: int, shared: SharedSocket | None = None, peer: Any = ()) -> None:
        made = shared or SharedSocket.new(wasi.grants.network, family, socket.SOCK_STREAM)
        super().__init__(wasi, family, made)
        self.state = "unbound" if shared is None else "connected"
        self.peer: tuple[Any, ...] = peer
        """The address of the peer. The system forgets it when the connection ends, and guests ask for it afterwards."""
        self._backlog = 128
        if shared is not None:
            self._without_delay()

    def must(self, *states: str) -> None:
        """Raise unless the socket is in one of ``states``."""
        if self.state not in states:
            raise WrongStateError

    def _without_delay(self) -> None:
        with contextlib.suppress(OSError):
            self.shared.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # -- binding and listening -----------------------------------------------------------------------

    def bind_to(self, endpoint: Endpoint) -> None:
        """Bind an unbound socket to an address that the policy allows."""
        host, port = endpoint[:2]
        self.must("unbound")
        if not endpoint.is_unicast():
            raise refuse(errno.EINVAL)
        # A client may bind to a free port that the system chooses; a port that peers can know needs a rule.
        if (port or host not in UNSPECIFIED) and not self.network.may_listen("tcp", host, port):
            raise refuse(errno.EACCES)
        with contextlib.suppress(OSError):
            self.shared.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.network.bind(self.shared.socket, endpoint.system())
        self.state = "bound"

    def start_listening(self) -> None:
        """Make a bound socket listen, if the policy allows its address."""
        self.must("bound")
        name = self.local_name()
        if not self.network.may_listen("tcp", str(name[0]).partition("%")[0], int(name[1])):
            raise refuse(errno.EACCES)
        self.network.listen(self.shared.socket, self._backlog)
        self.state = "listening"

    def set_backlog(self, value: int) -> None:
        """Set the number of connections that may wait to be accepted."""
        self._backlog = min(value, _MAX_QUEUED_CONNECTIONS)
        if self.state == "listening":
            self.network.listen(self.shared.socket, self._backlog)

    def next_connection(self) -> Self:
        """Return the socket of the next connection.

        Raise ``EMFILE`` when the limit ``sockets`` is reached, and ``EWOULDBLOCK`` if there is no connection. Those of
        denied peers are closed, a bounded number of them in one call.
        """
        if self.network.full():
            raise refuse(errno.EMFILE)
        for _ in range(_MAX_DENIED_CONNECTIONS):
            accepted, peer = self.shared.socket.accept()
            if self.network.may_accept("tcp", str(peer[0]).partition("%")[0], int(peer[1])):
                break
            accepted.close()
        else:
            raise refuse(errno.EWOULDBLOCK)
        accepted = self.network.adopt(socket_above_standard(accepted))
        self.network.connecting()
        return type(self)(self.wasi, self.family, SharedSocket(self.network, accepted), peer)

    # -- connecting ----------------------------------------------------------------------------------

    def begin_connecting(self, endpoint: Endpoint) -> None:
        """Begin to connect to a peer that the policy allows."""
        host, port = endpoint[:2]
        self.must("unbound", "bound")
        if not endpoint.is_one_peer() or not endpoint.is_unicast():
            raise refuse(errno.EINVAL)
        if not self.network.may_connect("tcp", host, port):
            raise refuse(errno.EACCES)
        self.network.connecting()
        number = self.network.connect(self.shared.socket, endpoint.system())
        if number not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            self.state = "closed"
            raise OSError(number, os.strerror(number))
        self.state, self.peer = "connecting", endpoint.system()

    def connecting_over(self) -> bool:
        """Return whether the attempt to connect has ended."""
        return bool(self.wasi.scope.wait(0, write=(self.shared.number(),))[1])

    def end_connecting(self) -> None:
        """Complete an attempt to connect that has ended; raise its error."""
        number = self.shared.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self.state = "closed"
            raise OSError(number, os.strerror(number))
        self.state = "connected"
        self._without_delay()

    # -- options -------------------------------------------------------------------------------------

    def read_keep_alive(self) -> bool:
        return bool(self.shared.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def write_keep_alive(self, value: bool) -> None:
        self.shared.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, value)

    def read_keep_alive_part(self, name: str) -> int:
        """Return an option of keep-alive: ``IDLE`` and ``INTVL`` in nanoseconds, ``CNT`` in probes."""
        found = self.shared.socket.getsockopt(socket.IPPROTO_TCP, _keep_alive_option(name))
        return found if name == "CNT" else found * _SECOND

    def write_keep_alive_part(self, name: str, value: int) -> None:
        """Set an option of keep-alive, rounded up to whole seconds."""
        if not value:
            raise refuse(errno.EINVAL)
        whole = value if name == "CNT" else -(-value // _SECOND)
        self.shared.socket.setsockopt(
            socket.IPPROTO_TCP, _keep_alive_option(name), min(whole, _LARGEST_KEEP_ALIVE[name])
        )


def _keep_alive_option(name: str) -> int:
    found = getattr(socket, f"TCP_KEEP{name}", None)
    if found is None:
        raise refuse(errno.EOPNOTSUPP)
    return int(found)


class TcpSender:
    """Sends bytes to the peer. Those that the system does not take at once are buffered, one piece at most."""

    def __init__(self, network: Network, shared: SharedSocket) -> None:
        self._network, self._shared = network, shared.use()
        self._pending = b""

    def accept(self, data: bytes) -> None:
        """Send ``data`` and buffer the rest of it; for a sender that is :meth:`flushed`."""
        self._network.charge(len(data))
        self._pending += data
        self._send()

    def _send(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._pending:
                self._pending = self._pending[self._shared.socket.send(self._pending) :]

    def flushed(self) -> bool:
        """Send buffered bytes; return whether none are left."""
        if self._pending:
            self._send()
        return not self._pending

    def discard(self) -> None:
        """Drop the buffered bytes: the peer is gone."""
        self._pending = b""

    def number(self) -> int:
        """Return the descriptor to wait for."""
        return self._shared.number()

    def finish(self) -> None:
        """Shut this direction down."""
        self._shared.shut_down(socket.SHUT_WR)

    def release(self) -> None:
        """Release the socket."""
        self._shared.release()
