"""``wasi:sockets``: the creation of sockets, and name lookup."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from aegis.bindings.wasi_sockets_ip_name_lookup_0_3 import (
    ErrorCodeAccessDenied,
    ErrorCodeInvalidArgument,
    ErrorCodeNameUnresolvable,
    ErrorCodeOther,
    ErrorCodePermanentResolverFailure,
    ErrorCodeTemporaryResolverFailure,
)
from aegis.bindings.wasi_sockets_types_0_3 import ErrorCodeNotSupported
from aegis.host.answering import answering_with
from aegis.host.net.guest_lookup import GuestLookup
from aegis.host.net.socket_errors import refuse, resolver_error_name
from aegis.host.preview3.socket_types import ADDRESSES, code_of
from aegis.host.preview3.tcp import AsyncTcpSocket
from aegis.host.preview3.udp import AsyncUdpSocket
from aegis.values import Interest
from aegis.wit.values import Err

if TYPE_CHECKING:
    from collections.abc import Callable

    from aegis.bindings.wasi_sockets_ip_name_lookup_0_3 import ErrorCode
    from aegis.bindings.wasi_sockets_types_0_3 import IpAddress, IpAddressFamily
    from aegis.host.wasi import Wasi

__all__ = ["implementation"]

_CHECKED_AGAIN_SECONDS = 0.1
"""Time between two checks whether one more name can be looked up."""
_NOT_SUPPORTED = ErrorCodeNotSupported()
"""The code for a system without the address family of a new socket."""
_ANSWERS: dict[str, ErrorCode] = {
    "name-unresolvable": ErrorCodeNameUnresolvable(),
    "temporary-resolver-failure": ErrorCodeTemporaryResolverFailure(),
    "permanent-resolver-failure": ErrorCodePermanentResolverFailure(),
}
_REFUSALS: dict[int, ErrorCode] = {
    errno.EINVAL: ErrorCodeInvalidArgument(), errno.EACCES: ErrorCodeAccessDenied(),
    errno.EMFILE: ErrorCodeOther("new-socket-limit"),
}  # fmt: skip


def _refusal(error: OSError) -> ErrorCode:
    return _REFUSALS.get(error.errno or 0, ErrorCodeOther(None))


_answering = answering_with(_refusal, {})
"""Decorator: raise ``Err`` with the ``error-code`` of a look-up that does not begin."""


class _Resolving:
    """A look-up of a name. A sandbox may have few of them under way at the same time; the others wait."""

    def __init__(self, wasi: Wasi, name: str) -> None:
        self._network = wasi.grants.network
        self._lookup = GuestLookup(self._network, name)
        self._begun = False
        self._failure: ErrorCode | None = None
        self._begin()

    def _begin(self) -> None:
        """Begin, unless too many look-ups are under way; raise ``EMFILE`` if the limit ``sockets`` is reached."""
        if self._lookup.is_address:
            self._begun = True
        elif self._network.full():
            raise refuse(errno.EMFILE)
        elif self._network.may_begin_lookup():
            self._lookup.begin()
            self._begun = True

    def ready(self) -> bool:
        if not self._begun and not self._network.full():
            try:
                self._begin()
            except OSError as error:
                self._begun, self._failure = True, _refusal(error)
        return self._begun and self._lookup.done

    def interest(self) -> Interest:
        if not self._begun:
            return Interest(host_time=time.monotonic() + _CHECKED_AGAIN_SECONDS)
        return Interest(read=self._lookup.awaited)

    def result(self) -> list[IpAddress]:
        if self._failure is not None:
            raise Err(self._failure)
        try:
            found = self._lookup.addresses()
        except OSError as error:
            raise Err(_ANSWERS[resolver_error_name(error)]) from None
        return [ADDRESSES.ip_address(address) for address in found]

    def cancel(self) -> None:
        """Give the look-up up."""
        self._lookup.forget()


class _NameLookup:
    """``wasi:sockets/ip-name-lookup``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    @_answering
    def resolve_addresses(self, name: str) -> _Resolving:
        return _Resolving(self._wasi, name)


class _SocketClass:
    """The static functions of a socket resource."""

    def __init__(self, wasi: Wasi, made: Callable[[Wasi, int], AsyncTcpSocket | AsyncUdpSocket]) -> None:
        self._wasi, self._made = wasi, made

    def create(self, address_family: IpAddressFamily) -> AsyncTcpSocket | AsyncUdpSocket:
        try:
            return self._made(self._wasi, ADDRESSES.families[address_family])
        except OSError as error:
            raise Err(_NOT_SUPPORTED if error.errno == errno.EAFNOSUPPORT else code_of(error)) from None


class _SocketTypes:
    """``wasi:sockets/types``."""

    def __init__(self, wasi: Wasi) -> None:
        self.TcpSocket = _SocketClass(wasi, AsyncTcpSocket)
        self.UdpSocket = _SocketClass(wasi, AsyncUdpSocket)


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _NameLookup(wasi) if interface == "wasi:sockets/ip-name-lookup" else _SocketTypes(wasi)
