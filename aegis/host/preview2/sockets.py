"""``wasi:sockets``: the network resource, name lookup, and the creation of sockets."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from aegis.bindings.wasi_sockets_network import ErrorCode, IpAddressFamily
from aegis.host.net.network import Lookup
from aegis.host.preview2.io import Interest, IoError, Pollable
from aegis.host.preview2.socket_address import ip_address_of, refuse
from aegis.host.preview2.tcp import TcpSocket
from aegis.host.preview2.udp import UdpSocket
from aegis.policy.addresses import read_address
from aegis.policy.patterns import plain_host

if TYPE_CHECKING:
    from aegis.host.preview2.socket_address import IpAddress
    from aegis.host.wasi import Wasi

__all__ = ["implementation"]

_MAX_NAME_CHARACTERS = 253
_TEMPORARY = {socket.EAI_AGAIN}
_ABSENT = {socket.EAI_NONAME} | {getattr(socket, n) for n in ("EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, n)}


class NetworkHandle:
    """The resource ``network``: the one network of the sandbox."""


class ResolveAddressStream:
    """The resource ``resolve-address-stream``: the addresses of one name that the policy allows."""

    def __init__(self, wasi: Wasi, lookup: Lookup | None, addresses: list[str]) -> None:
        self._wasi, self._lookup, self._addresses = wasi, lookup, addresses
        self._error: ErrorCode | None = None

    def resolve_next_address(self) -> IpAddress | None:
        if self._lookup is not None:
            self._collect(self._lookup)
        if self._error is not None:
            raise refuse(self._error)
        return ip_address_of(self._addresses.pop(0)) if self._addresses else None

    def _collect(self, lookup: Lookup) -> None:
        if not lookup.done:
            raise refuse(ErrorCode.WOULD_BLOCK)
        self._lookup = None
        self._addresses = self._wasi.grants.network.answered(lookup)
        lookup.close()
        if lookup.error is not None:
            self._error = _resolver_error(lookup.error)
        elif not self._addresses:
            self._error = ErrorCode.NAME_UNRESOLVABLE

    def subscribe(self) -> Pollable:
        return Pollable(self, self._wasi)

    def ready(self) -> bool:
        return self._lookup is None or self._lookup.done

    def interest(self) -> Interest:
        return Interest() if self._lookup is None else Interest(read=(self._lookup.descriptor,))

    def __drop__(self) -> None:
        lookup, self._lookup = self._lookup, None
        if lookup is not None:
            self._wasi.grants.network.forget(lookup)


def _resolver_error(error: OSError) -> ErrorCode:
    if error.errno in _ABSENT:
        return ErrorCode.NAME_UNRESOLVABLE
    return ErrorCode.TEMPORARY_RESOLVER_FAILURE if error.errno in _TEMPORARY else ErrorCode.PERMANENT_RESOLVER_FAILURE


class _Sockets:
    """Every interface of ``wasi:sockets``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def instance_network(self) -> NetworkHandle:
        return NetworkHandle()

    def network_error_code(self, err: IoError) -> ErrorCode | None:
        return err.code if isinstance(err.code, ErrorCode) else None

    def create_tcp_socket(self, address_family: IpAddressFamily) -> TcpSocket:
        return TcpSocket(self._wasi, address_family)

    def create_udp_socket(self, address_family: IpAddressFamily) -> UdpSocket:
        return UdpSocket(self._wasi, address_family)

    def resolve_addresses(self, network: object, name: str) -> ResolveAddressStream:
        """Look a name up. An address, in any notation, is its own result, and is judged when it is used."""
        host = plain_host(name)
        if host is None or len(name) > _MAX_NAME_CHARACTERS:
            raise refuse(ErrorCode.INVALID_ARGUMENT)
        if read_address(host) is not None:
            return ResolveAddressStream(self._wasi, None, [host])
        if not self._wasi.grants.network.may_look_up(host):
            raise refuse(ErrorCode.ACCESS_DENIED)
        try:
            lookup = self._wasi.grants.network.look_up(host)
        except OSError:
            raise refuse(ErrorCode.NEW_SOCKET_LIMIT) from None
        return ResolveAddressStream(self._wasi, lookup, [])


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _Sockets(wasi)
