"""Send on a socket that other processes may share, without waiting and without a change of its flags."""

from __future__ import annotations

import ctypes
import os
import socket

__all__ = ["send_now"]

_FLAGS = getattr(socket, "MSG_DONTWAIT", 0) | getattr(socket, "MSG_NOSIGNAL", 0)


def send_now(descriptor: int, data: bytes) -> int:
    """Send as much of ``data`` as a socket takes at once; raise ``BlockingIOError`` if that is nothing.

    A socket object would not do: with a default timeout, Python makes the open file non-blocking for all processes.
    """
    library = ctypes.CDLL(None, use_errno=True)
    library.send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
    library.send.restype = ctypes.c_ssize_t
    sent: int = library.send(descriptor, data, len(data), _FLAGS)
    if sent < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return sent
