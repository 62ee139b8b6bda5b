"""``wasi:sockets``: the network resource, name lookup, and the creation of sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.bindings.wasi_sockets_network import ErrorCode, IpAddressFamily
from aegis.host.net.guest_lookup import GuestLookup
from aegis.host.net.socket_errors import resolver_error_name
from aegis.host.preview2.io import Interest, IoError, Pollable
from aegis.host.preview2.socket_address import ADDRESSES, answering, refuse
from aegis.host.preview2.tcp import TcpSocket
from aegis.host.preview2.udp import UdpSocket

if TYPE_CHECKING:
    from aegis.host.preview2.socket_address import IpAddress
    from aegis.host.wasi import Wasi

__all__ = ["implementation"]


class NetworkHandle:
    """The resource ``network``: the one network of the sandbox."""


class ResolveAddressStream:
    """The resource ``resolve-address-stream``: the addresses of one name that the policy allows."""

    def __init__(self, wasi: Wasi, lookup: GuestLookup) -> None:
        self._wasi = wasi
        self._lookup: GuestLookup | None = lookup
        self._addresses: list[str] = []
        self._error: ErrorCode | None = None

    def resolve_next_address(self) -> IpAddress | None:
        if self._lookup is not None:
            self._collect(self._lookup)
        if self._error is not None:
            raise refuse(self._error)
        return ADDRESSES.ip_address(self._addresses.pop(0)) if self._addresses else None

    def _collect(self, lookup: GuestLookup) -> None:
        if not lookup.done:
            raise refuse(ErrorCode.WOULD_BLOCK)
        self._lookup = None
        try:
            self._addresses = lookup.addresses()
        except OSError as error:
            self._error = ErrorCode(resolver_error_name(error))

    def subscribe(self) -> Pollable:
        return Pollable(self, self._wasi)

    def ready(self) -> bool:
        return self._lookup is None or self._lookup.done

    def interest(self) -> Interest:
        return Interest() if self._lookup is None else Interest(read=self._lookup.awaited)

    def __drop__(self) -> None:
        lookup, self._lookup = self._lookup, None
        if lookup is not None:
            lookup.forget()


class _Sockets:
    """Every interface of ``wasi:sockets``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def instance_network(self) -> NetworkHandle:
        return NetworkHandle()

    def network_error_code(self, err: IoError) -> ErrorCode | None:
        return err.code if isinstance(err.code, ErrorCode) else None

    @answering
    def create_tcp_socket(self, address_family: IpAddressFamily) -> TcpSocket:
        return TcpSocket(self._wasi, ADDRESSES.families[address_family])

    @answering
    def create_udp_socket(self, address_family: IpAddressFamily) -> UdpSocket:
        return UdpSocket(self._wasi, ADDRESSES.families[address_family])

    @answering
    def resolve_addresses(self, network: object, name: str) -> ResolveAddressStream:
        """Look a name up; see :class:`~aegis.host.net.guest_lookup.GuestLookup`."""
        lookup = GuestLookup(self._wasi.grants.network, name)
        try:
            lookup.begin()
        except OSError:
            raise refuse(ErrorCode.NEW_SOCKET_LIMIT) from None
        return ResolveAddressStream(self._wasi, lookup)


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _Sockets(wasi)
