"""Read the input files of a command: from a path, from standard input, or from a pipe of the shell."""

from __future__ import annotations

import errno
import os
import stat
import sys

from aegis.engine.compile.artifact import admit_size, is_text, read_file, text_to_binary
from aegis.errors import ArtifactNotFound
from aegis.limits import Limits
from aegis.text import printable

__all__ = ["read_artifact", "read_bounded", "read_pipe"]


def read_artifact(path: str, limits: Limits) -> bytes:
    """Return the module at ``path``, or from standard input for ``-``; read at most one byte beyond the size limit.

    Text from standard input or a pipe, which have no name that ends in ``.wat``, is recognised by its first character.
    """
    most = -1 if limits.module_size is None else limits.module_size + 1
    if path == "-":
        return _binary(sys.stdin.buffer.read(most), path, limits)
    if not path:
        raise ArtifactNotFound("the file name is empty: name a module, or - for standard input")
    piped = read_pipe(path, most)
    return read_file(path, limits) if piped is None else _binary(piped, path, limits)


def _binary(data: bytes, path: str, limits: Limits) -> bytes:
    if not is_text(data):
        return data
    name = "standard input" if path == "-" else printable(path)
    admit_size(data, limits, name)
    return text_to_binary(data, name)


def read_bounded(path: str, most: int) -> bytes:
    """Return the contents of a file, pipe or device.

    Raise ``OSError`` if it cannot be read or is larger than ``most`` bytes, and
    :class:`~aegis.errors.ArtifactNotFound` for a pipe without a writer.
    """
    data = read_pipe(path, most + 1)
    if data is None:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes")
    return data


def read_pipe(path: str, most: int) -> bytes | None:
    """Return up to ``most`` bytes from the pipe at ``path``; ``None`` if it is not a pipe.

    Raise :class:`~aegis.errors.ArtifactNotFound` for a pipe without a writer, on which a read would block for ever.
    """
    try:
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None  # the caller opens the path and reports the error
    with open(descriptor, "rb") as pipe:
        try:
            first = os.read(descriptor, 1)
        except BlockingIOError:
            first = None  # the pipe has a writer that has not written yet
        if first == b"":
            raise ArtifactNotFound(f"{printable(path)} is a pipe without a writer: name a file")
        os.set_blocking(descriptor, True)
        return (first or b"") + pipe.read(most)
