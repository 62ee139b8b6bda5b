"""Where a command's files come from: a path, standard input, or a pipe that a shell made."""

from __future__ import annotations

import errno
import os
import stat
import sys

from aegis.engine.compile.artifact import read_file
from aegis.errors import ArtifactNotFound
from aegis.limits import Limits
from aegis.text import printable

__all__ = ["read_artifact", "read_bounded", "read_pipe"]


def read_artifact(path: str, limits: Limits) -> bytes:
    """Return the module at ``path``, or on standard input for ``-``, no further than the size limit."""
    most = -1 if limits.module_size is None else limits.module_size + 1
    if path == "-":
        return sys.stdin.buffer.read(most)
    if not path:
        raise ArtifactNotFound("the name of the file is empty; name a module, or - for standard input")
    piped = read_pipe(path, most)
    return read_file(path, limits) if piped is None else piped


def read_bounded(path: str, most: int) -> bytes:
    """Return what is in a file or a pipe, a device included, of ``most`` bytes at most.

    Raise ``OSError`` for what cannot be read, and :class:`~aegis.errors.ArtifactNotFound` for a pipe that nothing
    writes to.
    """
    data = read_pipe(path, most + 1)
    if data is None:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes")
    return data


def read_pipe(path: str, most: int) -> bytes | None:
    """Return what is written to the pipe at ``path``, up to ``most`` bytes; ``None`` for anything that is no pipe.

    To open a pipe that nothing writes to would wait for ever: that is an :class:`~aegis.errors.ArtifactNotFound`.
    """
    try:
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None  # whoever opens it says why it cannot be read
    with open(descriptor, "rb") as pipe:
        try:
            first = os.read(descriptor, 1)
        except BlockingIOError:
            first = None  # there is a writer, which has written nothing yet
        if first == b"":
            raise ArtifactNotFound(f"{printable(path)} is a pipe that nothing writes to; name a file")
        os.set_blocking(descriptor, True)
        return (first or b"") + pipe.read(most)
