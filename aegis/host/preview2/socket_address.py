"""Addresses and errors in the types of ``wasi:sockets/network``."""

from __future__ import annotations

from aegis.bindings import wasi_sockets_network
from aegis.bindings.wasi_sockets_network import (
    ErrorCode,
    IpAddressIpv4,
    IpAddressIpv6,
    IpSocketAddressIpv4,
    IpSocketAddressIpv6,
)
from aegis.host.answering import answering_with
from aegis.host.net.endpoints import AddressTypes
from aegis.host.net.socket_errors import error_name
from aegis.host.preview2.io import Failed, IoError
from aegis.wit.values import Err

IpSocketAddress = IpSocketAddressIpv4 | IpSocketAddressIpv6
IpAddress = IpAddressIpv4 | IpAddressIpv6

__all__ = ["ADDRESSES", "IpAddress", "IpSocketAddress", "answering", "code_of", "failed", "refuse"]

ADDRESSES = AddressTypes(wasi_sockets_network)


def code_of(error: OSError) -> ErrorCode:
    """Return the code of an error of the system; ``unknown`` for one that has none."""
    return ErrorCode(error_name(error))


def failed(error: OSError) -> Failed:
    """Return the failure of a stream; ``network-error-code`` returns its code."""
    code = code_of(error)
    return Failed(IoError(code.value, code))


def refuse(code: ErrorCode) -> Err[ErrorCode]:
    """Return the exception by which the guest receives ``code``."""
    return Err(code)


answering = answering_with(code_of, {OverflowError: ErrorCode.INVALID_ARGUMENT, ValueError: ErrorCode.INVALID_ARGUMENT})
"""Decorator: raise ``Err`` with the ``error-code`` of an error of the system."""
