# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:sockets/network@0.2.12``."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from aegis.wit.types import Enum, Interface, Record, Resource, Tuple, Variant

__all__ = [
    "ERROR_CODE",
    "INTERFACE",
    "IPV4_ADDRESS",
    "IPV4_SOCKET_ADDRESS",
    "IPV6_ADDRESS",
    "IPV6_SOCKET_ADDRESS",
    "IP_ADDRESS",
    "IP_ADDRESS_FAMILY",
    "IP_SOCKET_ADDRESS",
    "NETWORK",
    "ErrorCode",
    "Host",
    "IpAddress",
    "IpAddressFamily",
    "IpAddressIpv4",
    "IpAddressIpv6",
    "IpSocketAddress",
    "IpSocketAddressIpv4",
    "IpSocketAddressIpv6",
    "Ipv4Address",
    "Ipv4SocketAddress",
    "Ipv6Address",
    "Ipv6SocketAddress",
    "Network",
]


class Network(Protocol):
    """The resource ``network``."""


class ErrorCode(enum.Enum):
    """The enum ``error-code``."""

    UNKNOWN = "unknown"
    ACCESS_DENIED = "access-denied"
    NOT_SUPPORTED = "not-supported"
    INVALID_ARGUMENT = "invalid-argument"
    OUT_OF_MEMORY = "out-of-memory"
    TIMEOUT = "timeout"
    CONCURRENCY_CONFLICT = "concurrency-conflict"
    NOT_IN_PROGRESS = "not-in-progress"
    WOULD_BLOCK = "would-block"
    INVALID_STATE = "invalid-state"
    NEW_SOCKET_LIMIT = "new-socket-limit"
    ADDRESS_NOT_BINDABLE = "address-not-bindable"
    ADDRESS_IN_USE = "address-in-use"
    REMOTE_UNREACHABLE = "remote-unreachable"
    CONNECTION_REFUSED = "connection-refused"
    CONNECTION_RESET = "connection-reset"
    CONNECTION_ABORTED = "connection-aborted"
    DATAGRAM_TOO_LARGE = "datagram-too-large"
    NAME_UNRESOLVABLE = "name-unresolvable"
    TEMPORARY_RESOLVER_FAILURE = "temporary-resolver-failure"
    PERMANENT_RESOLVER_FAILURE = "permanent-resolver-failure"


class IpAddressFamily(enum.Enum):
    """The enum ``ip-address-family``."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"


Ipv4Address: TypeAlias = tuple[int, int, int, int]

Ipv6Address: TypeAlias = tuple[int, int, int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class IpAddressIpv4:
    """``ipv4`` of ``ip-address``."""

    value: Ipv4Address


@dataclass(frozen=True, slots=True)
class IpAddressIpv6:
    """``ipv6`` of ``ip-address``."""

    value: Ipv6Address


IpAddress: TypeAlias = IpAddressIpv4 | IpAddressIpv6


@dataclass(frozen=True, slots=True)
class Ipv4SocketAddress:
    """The record ``ipv4-socket-address``."""

    port: int
    address: Ipv4Address


@dataclass(frozen=True, slots=True)
class Ipv6SocketAddress:
    """The record ``ipv6-socket-address``."""

    port: int
    flow_info: int
    address: Ipv6Address
    scope_id: int


@dataclass(frozen=True, slots=True)
class IpSocketAddressIpv4:
    """``ipv4`` of ``ip-socket-address``."""

    value: Ipv4SocketAddress


@dataclass(frozen=True, slots=True)
class IpSocketAddressIpv6:
    """``ipv6`` of ``ip-socket-address``."""

    value: Ipv6SocketAddress


IpSocketAddress: TypeAlias = IpSocketAddressIpv4 | IpSocketAddressIpv6


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""


_NAME = "wasi:sockets/network@0.2.12"

NETWORK = Resource("network", python=Network, owner=_NAME)
ERROR_CODE = Enum(
    "error-code",
    (
        "unknown",
        "access-denied",
        "not-supported",
        "invalid-argument",
        "out-of-memory",
        "timeout",
        "concurrency-conflict",
        "not-in-progress",
        "would-block",
        "invalid-state",
        "new-socket-limit",
        "address-not-bindable",
        "address-in-use",
        "remote-unreachable",
        "connection-refused",
        "connection-reset",
        "connection-aborted",
        "datagram-too-large",
        "name-unresolvable",
        "temporary-resolver-failure",
        "permanent-resolver-failure",
    ),
    python=ErrorCode,
    owner=_NAME,
)
IP_ADDRESS_FAMILY = Enum("ip-address-family", ("ipv4", "ipv6"), python=IpAddressFamily, owner=_NAME)
IPV4_ADDRESS = Tuple(("u8", "u8", "u8", "u8"))
IPV6_ADDRESS = Tuple(("u16", "u16", "u16", "u16", "u16", "u16", "u16", "u16"))
IP_ADDRESS = Variant(
    "ip-address",
    (("ipv4", IPV4_ADDRESS), ("ipv6", IPV6_ADDRESS)),
    python=(IpAddressIpv4, IpAddressIpv6),
    owner=_NAME,
)
IPV4_SOCKET_ADDRESS = Record(
    "ipv4-socket-address",
    (("port", "u16"), ("address", IPV4_ADDRESS)),
    python=Ipv4SocketAddress,
    owner=_NAME,
)
IPV6_SOCKET_ADDRESS = Record(
    "ipv6-socket-address",
    (("port", "u16"), ("flow-info", "u32"), ("address", IPV6_ADDRESS), ("scope-id", "u32")),
    python=Ipv6SocketAddress,
    owner=_NAME,
)
IP_SOCKET_ADDRESS = Variant(
    "ip-socket-address",
    (("ipv4", IPV4_SOCKET_ADDRESS), ("ipv6", IPV6_SOCKET_ADDRESS)),
    python=(IpSocketAddressIpv4, IpSocketAddressIpv6),
    owner=_NAME,
)

INTERFACE = Interface(
    _NAME,
    types={
        "network": NETWORK,
        "error-code": ERROR_CODE,
        "ip-address-family": IP_ADDRESS_FAMILY,
        "ipv4-address": IPV4_ADDRESS,
        "ipv6-address": IPV6_ADDRESS,
        "ip-address": IP_ADDRESS,
        "ipv4-socket-address": IPV4_SOCKET_ADDRESS,
        "ipv6-socket-address": IPV6_SOCKET_ADDRESS,
        "ip-socket-address": IP_SOCKET_ADDRESS,
    },
)
