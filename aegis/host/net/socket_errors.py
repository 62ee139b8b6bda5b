"""The error codes of ``wasi:sockets``, by their names in WIT, for each error of the system.

The names are those of WASI 0.2, which has all codes of 0.3 but ``connection-broken``.
"""

from __future__ import annotations

import errno
import os
import socket

__all__ = ["WrongStateError", "error_name", "refuse", "resolver_error_name"]

_NAMES = {
    errno.EACCES: "access-denied", errno.EPERM: "access-denied", errno.EADDRINUSE: "address-in-use",
    errno.EADDRNOTAVAIL: "address-not-bindable", errno.ECONNREFUSED: "connection-refused",
    errno.ECONNRESET: "connection-reset", errno.EPIPE: "connection-reset", errno.ECONNABORTED: "connection-aborted",
    errno.ETIMEDOUT: "timeout", errno.EHOSTUNREACH: "remote-unreachable", errno.ENETUNREACH: "remote-unreachable",
    errno.ENETDOWN: "remote-unreachable", errno.EHOSTDOWN: "remote-unreachable", errno.EINVAL: "invalid-argument",
    errno.EMSGSIZE: "datagram-too-large", errno.ENOBUFS: "out-of-memory", errno.ENOMEM: "out-of-memory",
    errno.EMFILE: "new-socket-limit", errno.ENFILE: "new-socket-limit", errno.EWOULDBLOCK: "would-block",
    errno.EAGAIN: "would-block", errno.EISCONN: "invalid-state", errno.ENOTCONN: "invalid-state",
    errno.EAFNOSUPPORT: "not-supported", errno.EOPNOTSUPP: "not-supported", errno.ENOPROTOOPT: "not-supported",
    errno.EALREADY: "concurrency-conflict",
}  # fmt: skip
_TEMPORARY = {socket.EAI_AGAIN}
_ABSENT = {socket.EAI_NONAME} | {getattr(socket, n) for n in ("EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, n)}


class WrongStateError(OSError):
    """An operation that is not valid in the state of its socket."""

    def __init__(self) -> None:
        super().__init__(errno.EISCONN, "the operation is not valid in the state of the socket")


def refuse(number: int) -> OSError:
    """Return the error of the system with this number."""
    return OSError(number, os.strerror(number))


def error_name(error: OSError) -> str:
    """Return the name of the code of an error of the system; ``unknown`` for one that has none."""
    return _NAMES.get(error.errno or 0, "unknown")


def resolver_error_name(error: OSError) -> str:
    """Return the name of the code of an error of the resolver."""
    if error.errno in _ABSENT:
        return "name-unresolvable"
    return "temporary-resolver-failure" if error.errno in _TEMPORARY else "permanent-resolver-failure"
