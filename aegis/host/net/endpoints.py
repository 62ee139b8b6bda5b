"""Addresses of sockets: as the system has them, and as values of ``wasi:sockets`` in any of its versions."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple

from aegis.host.net.socket_errors import refuse

__all__ = ["UNSPECIFIED", "AddressTypes", "Endpoint"]

UNSPECIFIED = ("0.0.0.0", "::")
"""The addresses of no host."""


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

    def is_one_peer(self) -> bool:
        """Return whether a peer can have it: neither port nor address are unspecified."""
        return bool(self.port) and self.host not in UNSPECIFIED


class AddressTypes:
    """The types of addresses in one version of ``wasi:sockets``, whose bindings are the module ``bindings``."""

    def __init__(self, bindings: Any) -> None:
        self._types = bindings
        self.families: dict[Any, int] = {
            bindings.IpAddressFamily.IPV4: socket.AF_INET, bindings.IpAddressFamily.IPV6: socket.AF_INET6,
        }  # fmt: skip
        """The system's address family for each ``ip-address-family``."""
        self.family_names = {system: wit for wit, system in self.families.items()}
        """The ``ip-address-family`` for each of the system's address families."""

    def endpoint_of(self, address: Any, family: int) -> Endpoint:
        """Return the endpoint of an ``ip-socket-address``.

        Raise ``EINVAL`` for one that is not of ``family``, and for an IPv4-mapped IPv6 address.
        """
        value = address.value
        if isinstance(value, self._types.Ipv4SocketAddress):
            if family != socket.AF_INET:
                raise refuse(errno.EINVAL)
            return Endpoint(str(IPv4Address(bytes(value.address))), value.port)
        ip = IPv6Address(b"".join(part.to_bytes(2, "big") for part in value.address))
        if family != socket.AF_INET6 or ip.ipv4_mapped is not None:
            raise refuse(errno.EINVAL)
        return Endpoint(str(ip), value.port, value.flow_info, value.scope_id)

    def socket_address(self, name: tuple[Any, ...], family: int) -> Any:
        """Return a socket address of the system as an ``ip-socket-address``."""
        types = self._types
        if family == socket.AF_INET:
            return types.IpSocketAddressIpv4(types.Ipv4SocketAddress(name[1], tuple(IPv4Address(name[0]).packed)))
        return types.IpSocketAddressIpv6(types.Ipv6SocketAddress(name[1], name[2], _words(name[0]), name[3]))

    def ip_address(self, text: str) -> Any:
        """Return an address in plain notation as an ``ip-address``."""
        if ":" not in text:
            return self._types.IpAddressIpv4(tuple(IPv4Address(text).packed))
        return self._types.IpAddressIpv6(_words(text))


def _words(text: str) -> tuple[int, ...]:
    packed = IPv6Address(text.partition("%")[0]).packed
    return tuple(int.from_bytes(packed[n : n + 2], "big") for n in range(0, 16, 2))
