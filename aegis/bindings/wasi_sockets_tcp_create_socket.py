# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:sockets/tcp-create-socket@0.2.12``."""

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
from aegis.bindings.wasi_sockets_tcp import TCP_SOCKET, TcpSocket
from aegis.wit.types import Function, Interface, Own, Result
from aegis.wit.values import Err

__all__ = [
    "ERROR_CODE",
    "INTERFACE",
    "IP_ADDRESS_FAMILY",
    "NETWORK",
    "TCP_SOCKET",
    "ErrorCode",
    "Host",
    "IpAddressFamily",
    "Network",
    "TcpSocket",
]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def create_tcp_socket(self, address_family: IpAddressFamily) -> TcpSocket | Err[ErrorCode]: ...


_NAME = "wasi:sockets/tcp-create-socket@0.2.12"

INTERFACE = Interface(
    _NAME,
    functions={
        "create-tcp-socket": Function((("address-family", IP_ADDRESS_FAMILY),), Result(Own(TCP_SOCKET), ERROR_CODE)),
    },
    types={
        "network": NETWORK,
        "error-code": ERROR_CODE,
        "ip-address-family": IP_ADDRESS_FAMILY,
        "tcp-socket": TCP_SOCKET,
    },
)
