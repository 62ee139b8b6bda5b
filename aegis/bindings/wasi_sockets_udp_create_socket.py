# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:sockets/udp-create-socket@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.bindings.wasi_sockets_network import (
    ERROR_CODE,
    IP_ADDRESS_FAMILY,
    NETWORK,
    ErrorCode,
    IpAddressFamily,
    Network,
)
from aegis.bindings.wasi_sockets_udp import UDP_SOCKET, UdpSocket
from aegis.wit.types import Function, Interface, Own, Result
from aegis.wit.values import Err

__all__ = [
    "ERROR_CODE",
    "INTERFACE",
    "IP_ADDRESS_FAMILY",
    "NETWORK",
    "UDP_SOCKET",
    "ErrorCode",
    "Host",
    "IpAddressFamily",
    "Network",
    "UdpSocket",
]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def create_udp_socket(self, address_family: IpAddressFamily) -> UdpSocket | Err[ErrorCode]: ...


_NAME = "wasi:sockets/udp-create-socket@0.2.12"

INTERFACE = Interface(
    _NAME,
    functions={
        "create-udp-socket": Function((("address-family", IP_ADDRESS_FAMILY),), Result(Own(UDP_SOCKET), ERROR_CODE)),
    },
    types={
        "network": NETWORK,
        "error-code": ERROR_CODE,
        "ip-address-family": IP_ADDRESS_FAMILY,
        "udp-socket": UDP_SOCKET,
    },
)
