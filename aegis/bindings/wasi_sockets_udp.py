# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:sockets/udp@0.2.12``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aegis.bindings.wasi_io_poll import POLLABLE, Pollable
from aegis.bindings.wasi_sockets_network import (
    ERROR_CODE,
    IP_ADDRESS_FAMILY,
    IP_SOCKET_ADDRESS,
    NETWORK,
    ErrorCode,
    IpAddressFamily,
    IpSocketAddress,
    Network,
)
from aegis.wit.types import Borrow, Function, Interface, List, Option, Own, Record, Resource, Result, Tuple
from aegis.wit.values import Err

__all__ = [
    "ERROR_CODE",
    "INCOMING_DATAGRAM",
    "INCOMING_DATAGRAM_STREAM",
    "INTERFACE",
    "IP_ADDRESS_FAMILY",
    "IP_SOCKET_ADDRESS",
    "NETWORK",
    "OUTGOING_DATAGRAM",
    "OUTGOING_DATAGRAM_STREAM",
    "POLLABLE",
    "UDP_SOCKET",
    "ErrorCode",
    "Host",
    "IncomingDatagram",
    "IncomingDatagramStream",
    "IpAddressFamily",
    "IpSocketAddress",
    "Network",
    "OutgoingDatagram",
    "OutgoingDatagramStream",
    "Pollable",
    "UdpSocket",
]


@dataclass(frozen=True, slots=True)
class IncomingDatagram:
    """The record ``incoming-datagram``."""

    data: bytes
    remote_address: IpSocketAddress


@dataclass(frozen=True, slots=True)
class OutgoingDatagram:
    """The record ``outgoing-datagram``."""

    data: bytes
    remote_address: IpSocketAddress | None


class UdpSocket(Protocol):
    """The resource ``udp-socket``."""

    def start_bind(self, network: Network, local_address: IpSocketAddress) -> Err[ErrorCode] | None: ...

    def finish_bind(self) -> Err[ErrorCode] | None: ...

    def stream(
        self,
        remote_address: IpSocketAddress | None,
    ) -> tuple[IncomingDatagramStream, OutgoingDatagramStream] | Err[ErrorCode]: ...

    def local_address(self) -> IpSocketAddress | Err[ErrorCode]: ...

    def remote_address(self) -> IpSocketAddress | Err[ErrorCode]: ...

    def address_family(self) -> IpAddressFamily: ...

    def unicast_hop_limit(self) -> int | Err[ErrorCode]: ...

    def set_unicast_hop_limit(self, value: int) -> Err[ErrorCode] | None: ...

    def receive_buffer_size(self) -> int | Err[ErrorCode]: ...

    def set_receive_buffer_size(self, value: int) -> Err[ErrorCode] | None: ...

    def send_buffer_size(self) -> int | Err[ErrorCode]: ...

    def set_send_buffer_size(self, value: int) -> Err[ErrorCode] | None: ...

    def subscribe(self) -> Pollable: ...


class IncomingDatagramStream(Protocol):
    """The resource ``incoming-datagram-stream``."""

    def receive(self, max_results: int) -> list[IncomingDatagram] | Err[ErrorCode]: ...

    def subscribe(self) -> Pollable: ...


class OutgoingDatagramStream(Protocol):
    """The resource ``outgoing-datagram-stream``."""

    def check_send(self) -> int | Err[ErrorCode]: ...

    def send(self, datagrams: list[OutgoingDatagram]) -> int | Err[ErrorCode]: ...

    def subscribe(self) -> Pollable: ...


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""


_NAME = "wasi:sockets/udp@0.2.12"

INCOMING_DATAGRAM = Record(
    "incoming-datagram",
    (("data", List("u8")), ("remote-address", IP_SOCKET_ADDRESS)),
    python=IncomingDatagram,
    owner=_NAME,
)
OUTGOING_DATAGRAM = Record(
    "outgoing-datagram",
    (("data", List("u8")), ("remote-address", Option(IP_SOCKET_ADDRESS))),
    python=OutgoingDatagram,
    owner=_NAME,
)
UDP_SOCKET = Resource("udp-socket", python=UdpSocket, owner=_NAME)
INCOMING_DATAGRAM_STREAM = Resource("incoming-datagram-stream", python=IncomingDatagramStream, owner=_NAME)
OUTGOING_DATAGRAM_STREAM = Resource("outgoing-datagram-stream", python=OutgoingDatagramStream, owner=_NAME)

INTERFACE = Interface(
    _NAME,
    functions={
        "[method]udp-socket.start-bind": Function(
            (("self", Borrow(UDP_SOCKET)), ("network", Borrow(NETWORK)), ("local-address", IP_SOCKET_ADDRESS)),
            Result(None, ERROR_CODE),
        ),
        "[method]udp-socket.finish-bind": Function((("self", Borrow(UDP_SOCKET)),), Result(None, ERROR_CODE)),
        "[method]udp-socket.stream": Function(
            (("self", Borrow(UDP_SOCKET)), ("remote-address", Option(IP_SOCKET_ADDRESS))),
            Result(Tuple((Own(INCOMING_DATAGRAM_STREAM), Own(OUTGOING_DATAGRAM_STREAM))), ERROR_CODE),
        ),
        "[method]udp-socket.local-address": Function(
            (("self", Borrow(UDP_SOCKET)),),
            Result(IP_SOCKET_ADDRESS, ERROR_CODE),
        ),
        "[method]udp-socket.remote-address": Function(
            (("self", Borrow(UDP_SOCKET)),),
            Result(IP_SOCKET_ADDRESS, ERROR_CODE),
        ),
        "[method]udp-socket.address-family": Function((("self", Borrow(UDP_SOCKET)),), IP_ADDRESS_FAMILY),
        "[method]udp-socket.unicast-hop-limit": Function((("self", Borrow(UDP_SOCKET)),), Result("u8", ERROR_CODE)),
        "[method]udp-socket.set-unicast-hop-limit": Function(
            (("self", Borrow(UDP_SOCKET)), ("value", "u8")),
            Result(None, ERROR_CODE),
        ),
        "[method]udp-socket.receive-buffer-size": Function((("self", Borrow(UDP_SOCKET)),), Result("u64", ERROR_CODE)),
        "[method]udp-socket.set-receive-buffer-size": Function(
            (("self", Borrow(UDP_SOCKET)), ("value", "u64")),
            Result(None, ERROR_CODE),
        ),
        "[method]udp-socket.send-buffer-size": Function((("self", Borrow(UDP_SOCKET)),), Result("u64", ERROR_CODE)),
        "[method]udp-socket.set-send-buffer-size": Function(
            (("self", Borrow(UDP_SOCKET)), ("value", "u64")),
            Result(None, ERROR_CODE),
        ),
        "[method]udp-socket.subscribe": Function((("self", Borrow(UDP_SOCKET)),), Own(POLLABLE)),
        "[method]incoming-datagram-stream.receive": Function(
            (("self", Borrow(INCOMING_DATAGRAM_STREAM)), ("max-results", "u64")),
            Result(List(INCOMING_DATAGRAM), ERROR_CODE),
        ),
        "[method]incoming-datagram-stream.subscribe": Function(
            (("self", Borrow(INCOMING_DATAGRAM_STREAM)),),
            Own(POLLABLE),
        ),
        "[method]outgoing-datagram-stream.check-send": Function(
            (("self", Borrow(OUTGOING_DATAGRAM_STREAM)),),
            Result("u64", ERROR_CODE),
        ),
        "[method]outgoing-datagram-stream.send": Function(
            (("self", Borrow(OUTGOING_DATAGRAM_STREAM)), ("datagrams", List(OUTGOING_DATAGRAM))),
            Result("u64", ERROR_CODE),
        ),
        "[method]outgoing-datagram-stream.subscribe": Function(
            (("self", Borrow(OUTGOING_DATAGRAM_STREAM)),),
            Own(POLLABLE),
        ),
    },
    types={
        "pollable": POLLABLE,
        "network": NETWORK,
        "error-code": ERROR_CODE,
        "ip-socket-address": IP_SOCKET_ADDRESS,
        "ip-address-family": IP_ADDRESS_FAMILY,
        "incoming-datagram": INCOMING_DATAGRAM,
        "outgoing-datagram": OUTGOING_DATAGRAM,
        "udp-socket": UDP_SOCKET,
        "incoming-datagram-stream": INCOMING_DATAGRAM_STREAM,
        "outgoing-datagram-stream": OUTGOING_DATAGRAM_STREAM,
    },
)
