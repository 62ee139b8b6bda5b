"""``wasi:sockets/udp``: the policy judges every datagram, outgoing and incoming."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from aegis.bindings.wasi_sockets_network import ErrorCode, IpAddressFamily
from aegis.bindings.wasi_sockets_udp import IncomingDatagram, OutgoingDatagram
from aegis.errors import GuestTrap
from aegis.host.net.sockets import MAX_DATAGRAM_BYTES
from aegis.host.preview2.io import Interest, Pollable
from aegis.host.preview2.socket_address import answering, endpoint_of, refuse, wit_address
from aegis.host.preview2.socket_base import SharedSocket, SocketBase, new_socket
from aegis.wit.values import Err

if TYPE_CHECKING:
    from aegis.host.net.sockets import Address
    from aegis.host.preview2.socket_address import Endpoint, IpSocketAddress
    from aegis.host.wasi import Wasi

__all__ = ["UdpSocket"]

_UNSPECIFIED = ("0.0.0.0", "::")
_DATAGRAMS_PER_CALL = 16


class UdpSocket(SocketBase):
    """The resource ``udp-socket``. Its peer is kept here; the system's socket is not connected."""

    def __init__(self, wasi: Wasi, family: IpAddressFamily) -> None:
        super().__init__(wasi, family, new_socket(wasi.grants.network, family, socket.SOCK_DGRAM))
        self.state = "unbound"
        self.open_to_all = False
        self.remote: Endpoint | None = None
        self.pair = 0
        """The number of the latest pair of streams, the only one that works."""

    @answering
    def start_bind(self, network: object, local_address: IpSocketAddress) -> None:
        endpoint = endpoint_of(local_address, self.family)
        host, port = endpoint[:2]
        if self.state != "unbound":
            raise refuse(ErrorCode.INVALID_STATE)
        if port or host not in _UNSPECIFIED:
            # With a rule for listening, every peer that no rule denies may send to it; without one, only the peers
            # that it may send to.
            if not self.network.may_listen("udp", host, port):
                raise refuse(ErrorCode.ACCESS_DENIED)
            self.open_to_all = True
        self.network.bind(self.shared.socket, endpoint.system())
        self.state = "bind-started"

    @answering
    def finish_bind(self) -> None:
        if self.state != "bind-started":
            raise refuse(ErrorCode.NOT_IN_PROGRESS)
        self.state = "bound"

    @answering
    def stream(self, remote_address: IpSocketAddress | None) -> tuple[IncomingDatagramStream, OutgoingDatagramStream]:
        if self.state != "bound":
            raise refuse(ErrorCode.INVALID_STATE)
        remote = None if remote_address is None else _remote(remote_address, self.family)
        if remote is not None and not self.network.may_connect("udp", *remote[:2]):
            raise refuse(ErrorCode.ACCESS_DENIED)
        self.remote = remote
        self.pair += 1
        return IncomingDatagramStream(self, remote), OutgoingDatagramStream(self, remote)

    @answering
    def local_address(self) -> IpSocketAddress:
        if self.state == "unbound":
            raise refuse(ErrorCode.INVALID_STATE)
        return self._local()

    @answering
    def remote_address(self) -> IpSocketAddress:
        if self.remote is None:
            raise refuse(ErrorCode.INVALID_STATE)
        return wit_address(self.remote, self.family)

    def unicast_hop_limit(self) -> int:
        return self.hop_limit()

    def set_unicast_hop_limit(self, value: int) -> None:
        self.set_hop_limit(value)


def _remote(address: IpSocketAddress, family: IpAddressFamily) -> Endpoint:
    endpoint = endpoint_of(address, family)
    if not endpoint.port or endpoint.host in _UNSPECIFIED:
        raise refuse(ErrorCode.INVALID_ARGUMENT)
    return endpoint


class _DatagramStream:
    """One direction of a UDP socket."""

    def __init__(self, owner: UdpSocket, remote: Endpoint | None) -> None:
        self.owner, self.remote = owner, remote
        self.shared: SharedSocket = owner.shared.use()
        self._pair, self._dropped = owner.pair, False

    def must_be_latest(self) -> None:
        """Raise ``invalid-state`` if the socket has a newer pair of streams."""
        if self._pair != self.owner.pair:
            raise refuse(ErrorCode.INVALID_STATE)

    def __drop__(self) -> None:
        self._dropped = True  # a pollable that outlives its stream is ready
        self.shared.release()

    def subscribe(self) -> Pollable:
        return Pollable(self, self.owner.wasi)

    def ready(self) -> bool:
        interest = self.interest()
        return self._dropped or any(self.owner.wasi.scope.wait(0, read=interest.read, write=interest.write))

    def interest(self) -> Interest:
        return Interest()


class IncomingDatagramStream(_DatagramStream):
    """The resource ``incoming-datagram-stream``."""

    def interest(self) -> Interest:
        return Interest(read=(self.shared.number(),))

    @answering
    def receive(self, max_results: int) -> list[IncomingDatagram]:
        self.must_be_latest()
        found: list[IncomingDatagram] = []
        # Dropped datagrams count too, so that the call ends in a flood of denied ones.
        for _ in range(min(max_results, _DATAGRAMS_PER_CALL) + _DATAGRAMS_PER_CALL):
            if len(found) >= min(max_results, _DATAGRAMS_PER_CALL):
                break
            with contextlib.suppress(ConnectionError):
                try:
                    came = self._next()
                except BlockingIOError:
                    break
                if came is not None:
                    data, sender = came
                    found.append(IncomingDatagram(data, wit_address(sender, self.owner.family)))
        return found

    def _next(self) -> tuple[bytes, Address] | None:
        """Return the next datagram and its sender, ``None`` in place of one from another peer."""
        listening = self.remote is None and self.owner.open_to_all
        came = self.owner.network.receive_datagram(self.shared.socket, listening=listening)
        if came is None or self.remote is None:
            return came
        host, port = came[1][:2]
        return came if (str(host).partition("%")[0], port) == self.remote[:2] else None


class OutgoingDatagramStream(_DatagramStream):
    """The resource ``outgoing-datagram-stream``."""

    def __init__(self, owner: UdpSocket, remote: Endpoint | None) -> None:
        super().__init__(owner, remote)
        self._permit = 0

    def interest(self) -> Interest:
        return Interest(*self.owner.network.room(self.shared.socket))

    @answering
    def check_send(self) -> int:
        self.must_be_latest()
        self._permit = _DATAGRAMS_PER_CALL if self.ready() else 0
        return self._permit

    def send(self, datagrams: list[OutgoingDatagram]) -> int:
        """Send the datagrams; as the WIT says, an error is raised only if none was sent before it."""
        self.must_be_latest()
        if len(datagrams) > self._permit:
            raise GuestTrap(
                f"the guest trapped: send beyond the permit of check-send ({len(datagrams)}/{self._permit} datagrams): "
                "call check-send before each send",
                code="stream",
            )
        self._permit -= len(datagrams)
        sent = 0
        for datagram in datagrams:
            try:
                self._send(datagram)
            except Err as error:
                if sent or error.value is ErrorCode.WOULD_BLOCK:
                    break
                raise
            sent += 1
        return sent

    @answering
    def _send_to(self, data: bytes, target: Endpoint) -> None:
        self.owner.network.send_datagram(self.shared.socket, data, target.system())

    def _send(self, datagram: OutgoingDatagram) -> None:
        target = self.remote
        if datagram.remote_address is not None:
            given = _remote(datagram.remote_address, self.owner.family)
            if target is not None and given != target:
                raise refuse(ErrorCode.INVALID_ARGUMENT)
            target = given
        if target is None:
            raise refuse(ErrorCode.INVALID_ARGUMENT)
        if len(datagram.data) > MAX_DATAGRAM_BYTES:
            raise refuse(ErrorCode.DATAGRAM_TOO_LARGE)
        if not self.owner.network.may_connect("udp", *target[:2]):
            raise refuse(ErrorCode.ACCESS_DENIED)
        self._send_to(datagram.data, target)
