"""Convert addresses and errors between ``wasi:sockets/network`` and the system."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple

from aegis.bindings.wasi_sockets_network import (
    ErrorCode,
    IpAddressFamily,
    IpAddressIpv4,
    IpAddressIpv6,
    IpSocketAddressIpv4,
    IpSocketAddressIpv6,
    Ipv4SocketAddress,
    Ipv6SocketAddress,
)
from aegis.host.answering import answering_with
from aegis.host.preview2.io import Failed, IoError
from aegis.wit.values import Err

IpSocketAddress = IpSocketAddressIpv4 | IpSocketAddressIpv6
IpAddress = IpAddressIpv4 | IpAddressIpv6

__all__ = [
    "FAMILIES", "Endpoint", "IpAddress", "IpSocketAddress", "answering", "code_of", "endpoint_of", "failed",
    "ip_address_of", "refuse", "wit_address",
]  # fmt: skip

FAMILIES = {IpAddressFamily.IPV4: socket.AF_INET, IpAddressFamily.IPV6: socket.AF_INET6}

_CODES = {
    errno.EACCES: ErrorCode.ACCESS_DENIED, errno.EPERM: ErrorCode.ACCESS_DENIED,
    errno.EADDRINUSE: ErrorCode.ADDRESS_IN_USE, errno.EADDRNOTAVAIL: ErrorCode.ADDRESS_NOT_BINDABLE,
    errno.ECONNREFUSED: ErrorCode.CONNECTION_REFUSED, errno.ECONNRESET: ErrorCode.CONNECTION_RESET,
    errno.EPIPE: ErrorCode.CONNECTION_RESET, errno.ECONNABORTED: ErrorCode.CONNECTION_ABORTED,
    errno.ETIMEDOUT: ErrorCode.TIMEOUT, errno.EHOSTUNREACH: ErrorCode.REMOTE_UNREACHABLE,
    errno.ENETUNREACH: ErrorCode.REMOTE_UNREACHABLE, errno.ENETDOWN: ErrorCode.REMOTE_UNREACHABLE,
    errno.EHOSTDOWN: ErrorCode.REMOTE_UNREACHABLE, errno.EINVAL: ErrorCode.INVALID_ARGUMENT,
    errno.EMSGSIZE: ErrorCode.DATAGRAM_TOO_LARGE, errno.ENOBUFS: ErrorCode.OUT_OF_MEMORY,
    errno.ENOMEM: ErrorCode.OUT_OF_MEMORY, errno.EMFILE: ErrorCode.NEW_SOCKET_LIMIT,
    errno.ENFILE: ErrorCode.NEW_SOCKET_LIMIT, errno.EWOULDBLOCK: ErrorCode.WOULD_BLOCK,
    errno.EAGAIN: ErrorCode.WOULD_BLOCK, errno.EISCONN: ErrorCode.INVALID_STATE,
    errno.ENOTCONN: ErrorCode.INVALID_STATE, errno.EAFNOSUPPORT: ErrorCode.NOT_SUPPORTED,
    errno.EOPNOTSUPP: ErrorCode.NOT_SUPPORTED, errno.ENOPROTOOPT: ErrorCode.NOT_SUPPORTED,
    errno.EALREADY: ErrorCode.CONCURRENCY_CONFLICT,
}  # fmt: skip


class Endpoint(NamedTuple):
    """An address in its plain notation, and a port. No rule concerns the flow and scope of IPv6."""

    host: str
    port: int
    flow: int = 0
    scope: int = 0

    def system(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """Return the socket address for the system's calls."""
        return tuple(self) if ":" in self.host else (self.host, self.port)  # type: ignore[return-value]

    def is_unicast(self) -> bool:
        """Return whether it is the address of one host."""
        return self.host != "255.255.255.255" and not ip_address(self.host).is_multicast


def code_of(error: OSError) -> ErrorCode:
    """Return the code of an error of the system; ``unknown`` for one that has none."""
    return _CODES.get(error.errno or 0, ErrorCode.UNKNOWN)


def failed(error: OSError) -> Failed:
    """Return the failure of a stream; ``network-error-code`` returns its code."""
    code = code_of(error)
    return Failed(IoError(code.value, code))


def refuse(code: ErrorCode) -> Err[ErrorCode]:
    """Return the exception by which the guest receives ``code``."""
    return Err(code)


answering = answering_with(code_of, {OverflowError: ErrorCode.INVALID_ARGUMENT, ValueError: ErrorCode.INVALID_ARGUMENT})
"""Decorator: raise ``Err`` with the ``error-code`` of an error of the system."""


def endpoint_of(address: IpSocketAddress, family: IpAddressFamily) -> Endpoint:
    """Return the endpoint of ``address``; reject one that is not of ``family``, or an IPv4-mapped IPv6 address."""
    value = address.value
    if isinstance(value, Ipv4SocketAddress):
        if family is not IpAddressFamily.IPV4:
            raise refuse(ErrorCode.INVALID_ARGUMENT)
        return Endpoint(str(IPv4Address(bytes(value.address))), value.port)
    ip = IPv6Address(b"".join(part.to_bytes(2, "big") for part in value.address))
    if family is not IpAddressFamily.IPV6 or ip.ipv4_mapped is not None:
        raise refuse(ErrorCode.INVALID_ARGUMENT)
    return Endpoint(str(ip), value.port, value.flow_info, value.scope_id)


def wit_address(name: tuple[Any, ...], family: IpAddressFamily) -> IpSocketAddress:
    """Return the WIT value of a socket address of the system."""
    if family is IpAddressFamily.IPV4:
        parts = tuple(IPv4Address(name[0]).packed)
        return IpSocketAddressIpv4(Ipv4SocketAddress(name[1], parts))  # type: ignore[arg-type]
    packed = IPv6Address(name[0].partition("%")[0]).packed
    words = tuple(int.from_bytes(packed[n : n + 2], "big") for n in range(0, 16, 2))
    return IpSocketAddressIpv6(Ipv6SocketAddress(name[1], name[2], words, name[3]))  # type: ignore[arg-type]


def ip_address_of(text: str) -> IpAddress:
    """Return the WIT value of an address in plain notation."""
    if ":" not in text:
        return IpAddressIpv4(tuple(IPv4Address(text).packed))  # type: ignore[arg-type]
    packed = IPv6Address(text).packed
    return IpAddressIpv6(tuple(int.from_bytes(packed[n : n + 2], "big") for n in range(0, 16, 2)))  # type: ignore[arg-type]
