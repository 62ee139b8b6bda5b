"""``wasi:sockets/udp``: the policy judges every datagram, outgoing and incoming."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from aegis.bindings.wasi_sockets_network import ErrorCode
from aegis.bindings.wasi_sockets_udp import IncomingDatagram, OutgoingDatagram
from aegis.errors import GuestTrap
from aegis.host.net.udp_socket import HeldUdpSocket
from aegis.host.preview2.io import Interest, Pollable
from aegis.host.preview2.socket_address import ADDRESSES, answering, refuse
from aegis.host.preview2.socket_base import PollableSocket
from aegis.wit.values import Err

if TYPE_CHECKING:
    from aegis.host.net.endpoints import Endpoint
    from aegis.host.net.held_socket import SharedSocket
    from aegis.host.preview2.socket_address import IpSocketAddress

__all__ = ["UdpSocket"]

_DATAGRAMS_PER_CALL = 16


class UdpSocket(PollableSocket, HeldUdpSocket):
    """The resource ``udp-socket``; WASI 0.2 has the state ``bind-started`` besides."""

    pair = 0
    """The number of the latest pair of streams, the only one that works."""

    @answering
    def start_bind(self, network: object, local_address: IpSocketAddress) -> None:
        self.bind_to(ADDRESSES.endpoint_of(local_address, self.family))
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
        self.set_remote(None if remote_address is None else ADDRESSES.endpoint_of(remote_address, self.family))
        self.pair += 1
        return IncomingDatagramStream(self, self.remote), OutgoingDatagramStream(self, self.remote)

    @answering
    def local_address(self) -> IpSocketAddress:
        if self.state == "unbound":
            raise refuse(ErrorCode.INVALID_STATE)
        return self._address(self.local_name())

    @answering
    def remote_address(self) -> IpSocketAddress:
        if self.remote is None:
            raise refuse(ErrorCode.INVALID_STATE)
        return self._address(self.remote)

    def unicast_hop_limit(self) -> int:
        return self.hop_limit()

    def set_unicast_hop_limit(self, value: int) -> None:
        self.set_hop_limit(value)


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
                    came = self.owner.next_datagram(self.remote)
                except BlockingIOError:
                    break
                if came is not None:
                    data, sender = came
                    found.append(IncomingDatagram(data, ADDRESSES.socket_address(sender, self.owner.family)))
        return found


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
    def _send(self, datagram: OutgoingDatagram) -> None:
        owner, given = self.owner, datagram.remote_address
        target = owner.target(None if given is None else ADDRESSES.endpoint_of(given, owner.family), self.remote)
        owner.judge(datagram.data, target)
        owner.send_to(datagram.data, target)
