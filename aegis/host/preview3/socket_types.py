"""Addresses, errors and options of sockets in the types of ``wasi:sockets/types``."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from aegis.bindings import wasi_sockets_types_0_3
from aegis.bindings.wasi_sockets_types_0_3 import ERROR_CODE, ErrorCode, ErrorCodeInvalidArgument, ErrorCodeOther
from aegis.host.answering import answering_with
from aegis.host.net.endpoints import AddressTypes
from aegis.host.net.held_socket import HeldSocket
from aegis.host.net.socket_errors import error_name

if TYPE_CHECKING:
    from aegis.bindings.wasi_sockets_types_0_3 import IpAddressFamily, IpSocketAddress

__all__ = ["ADDRESSES", "SocketResource", "answering", "code_of"]

ADDRESSES = AddressTypes(wasi_sockets_types_0_3)
assert ERROR_CODE.python is not None
_CLASSES = dict(zip((name for name, _ in ERROR_CODE.cases), ERROR_CODE.python, strict=True))
_NAMES = {errno.EPIPE: "connection-broken", errno.EALREADY: "invalid-state", errno.EAFNOSUPPORT: "invalid-argument"}
"""The codes that WASI 0.2 does not have, or has for fewer errors."""


def code_of(error: OSError) -> ErrorCode:
    """Return the code of an error of the system: ``other`` for one that has none, or one of WASI 0.2 alone."""
    name = _NAMES.get(error.errno or 0) or error_name(error)
    made: ErrorCode = _CLASSES[name]() if name in _CLASSES else ErrorCodeOther(None if name == "unknown" else name)
    return made


answering = answering_with(code_of, {OverflowError: ErrorCodeInvalidArgument(), ValueError: ErrorCodeInvalidArgument()})
"""Decorator: raise ``Err`` with the ``error-code`` of an error of the system."""


class SocketResource(HeldSocket):
    """A socket resource, with the options that both kinds have."""

    def get_address_family(self) -> IpAddressFamily:
        family: IpAddressFamily = ADDRESSES.family_names[self.family]
        return family

    def _address(self, name: tuple[Any, ...]) -> IpSocketAddress:
        address: IpSocketAddress = ADDRESSES.socket_address(name, self.family)
        return address

    @answering
    def get_receive_buffer_size(self) -> int:
        return self.read_buffer_size(socket.SO_RCVBUF)

    @answering
    def set_receive_buffer_size(self, value: int) -> None:
        self.write_buffer_size(socket.SO_RCVBUF, value)

    @answering
    def get_send_buffer_size(self) -> int:
        return self.read_buffer_size(socket.SO_SNDBUF)

    @answering
    def set_send_buffer_size(self, value: int) -> None:
        self.write_buffer_size(socket.SO_SNDBUF, value)
