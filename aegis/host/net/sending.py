"""Send on a socket that other processes may share, without blocking and without changing its flags."""

from __future__ import annotations

import ctypes
import os
import socket

__all__ = ["send_now"]

_FLAGS = getattr(socket, "MSG_DONTWAIT", 0) | getattr(socket, "MSG_NOSIGNAL", 0)


def send_now(descriptor: int, data: bytes) -> int:
    """Send as much of ``data`` as the socket takes at once; raise ``BlockingIOError`` if it takes nothing.

    A socket object is no alternative: with a default timeout, Python sets O_NONBLOCK on the open file description,
    which all processes share.
    """
    library = ctypes.CDLL(None, use_errno=True)
    library.send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
    library.send.restype = ctypes.c_ssize_t
    sent: int = library.send(descriptor, data, len(data), _FLAGS)
    if sent < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return sent
