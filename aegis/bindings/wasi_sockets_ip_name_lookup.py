# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:sockets/ip-name-lookup@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.bindings.wasi_io_poll import POLLABLE, Pollable
from aegis.bindings.wasi_sockets_network import ERROR_CODE, IP_ADDRESS, NETWORK, ErrorCode, IpAddress, Network
from aegis.wit.types import Borrow, Function, Interface, Option, Own, Resource, Result
from aegis.wit.values import Err

__all__ = [
    "ERROR_CODE",
    "INTERFACE",
    "IP_ADDRESS",
    "NETWORK",
    "POLLABLE",
    "RESOLVE_ADDRESS_STREAM",
    "ErrorCode",
    "Host",
    "IpAddress",
    "Network",
    "Pollable",
    "ResolveAddressStream",
]


class ResolveAddressStream(Protocol):
    """The resource ``resolve-address-stream``."""

    def resolve_next_address(self) -> IpAddress | Err[ErrorCode] | None: ...

    def subscribe(self) -> Pollable: ...


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def resolve_addresses(self, network: Network, name: str) -> ResolveAddressStream | Err[ErrorCode]: ...


_NAME = "wasi:sockets/ip-name-lookup@0.2.12"

RESOLVE_ADDRESS_STREAM = Resource("resolve-address-stream", python=ResolveAddressStream, owner=_NAME)

INTERFACE = Interface(
    _NAME,
    functions={
        "resolve-addresses": Function(
            (("network", Borrow(NETWORK)), ("name", "string")),
            Result(Own(RESOLVE_ADDRESS_STREAM), ERROR_CODE),
        ),
        "[method]resolve-address-stream.resolve-next-address": Function(
            (("self", Borrow(RESOLVE_ADDRESS_STREAM)),),
            Result(Option(IP_ADDRESS), ERROR_CODE),
        ),
        "[method]resolve-address-stream.subscribe": Function(
            (("self", Borrow(RESOLVE_ADDRESS_STREAM)),),
            Own(POLLABLE),
        ),
    },
    types={
        "pollable": POLLABLE,
        "network": NETWORK,
        "error-code": ERROR_CODE,
        "ip-address": IP_ADDRESS,
        "resolve-address-stream": RESOLVE_ADDRESS_STREAM,
    },
)
