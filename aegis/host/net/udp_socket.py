"""UDP sockets of a guest: the policy judges every datagram, outgoing and incoming. No function blocks."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from aegis.host.net.endpoints import UNSPECIFIED, Endpoint
from aegis.host.net.held_socket import HeldSocket, SharedSocket
from aegis.host.net.socket_errors import WrongStateError, refuse
from aegis.host.net.sockets import MAX_DATAGRAM_BYTES

if TYPE_CHECKING:
    from aegis.host.net.sockets import Address
    from aegis.host.wasi import Wasi

__all__ = ["HeldUdpSocket"]


class HeldUdpSocket(HeldSocket):
    """A UDP socket. Its peer is kept here; the system's socket is not connected."""

    def __init__(self, wasi: Wasi, family: int) -> None:
        super().__init__(wasi, family, SharedSocket.new(wasi.grants.network, family, socket.SOCK_DGRAM))
        self.state = "unbound"
        self.remote: Endpoint | None = None
        self._open_to_all = False

    def bind_to(self, endpoint: Endpoint) -> None:
        """Bind an unbound socket to an address that the policy allows.

        With a rule for listening, every peer that no rule denies may send to it; without one, only the peers that it
        may send to.
        """
        host, port = endpoint[:2]
        if self.state != "unbound":
            raise WrongStateError
        if port or host not in UNSPECIFIED:
            if not self.network.may_listen("udp", host, port):
                raise refuse(errno.EACCES)
            self._open_to_all = True
        self.network.bind(self.shared.socket, endpoint.system())
        self.state = "bound"

    def bind_to_any(self) -> None:
        """Bind a socket that is unbound to a free port that the system chooses."""
        if self.state == "unbound":
            self.bind_to(Endpoint(UNSPECIFIED[self.family == socket.AF_INET6], 0))

    def set_remote(self, remote: Endpoint | None) -> None:
        """Set the only peer, which the policy must allow, or allow any peer again."""
        if remote is not None:
            if not remote.is_one_peer():
                raise refuse(errno.EINVAL)
            if not self.network.may_connect("udp", *remote[:2]):
                raise refuse(errno.EACCES)
        self.remote = remote

    def target(self, given: Endpoint | None, remote: Endpoint | None) -> Endpoint:
        """Return the peer for a datagram to ``given``, or else to the only peer ``remote``."""
        if given is not None:
            if not given.is_one_peer() or (remote is not None and given != remote):
                raise refuse(errno.EINVAL)
            return given
        if remote is None:
            raise refuse(errno.EINVAL)
        return remote

    def judge(self, data: bytes, target: Endpoint) -> None:
        """Raise unless a datagram of this size may be sent to ``target``."""
        if len(data) > MAX_DATAGRAM_BYTES:
            raise refuse(errno.EMSGSIZE)
        if not self.network.may_connect("udp", *target[:2]):
            raise refuse(errno.EACCES)

    def send_to(self, data: bytes, target: Endpoint) -> None:
        """Send a datagram that was judged."""
        self.network.send_datagram(self.shared.socket, data, target.system())

    def next_datagram(self, remote: Endpoint | None) -> tuple[bytes, Address] | None:
        """Return the next datagram and its sender, ``None`` in place of one that may not arrive.

        ``remote`` is the only peer, if there is one. Raise ``EWOULDBLOCK`` if there is no datagram.
        """
        listening = remote is None and self._open_to_all
        came = self.network.receive_datagram(self.shared.socket, listening=listening)
        if came is None or remote is None:
            return came
        host, port = came[1][:2]
        return came if (str(host).partition("%")[0], port) == remote[:2] else None
