"""Files of a campaign, opened so that a pipe or a device in their place is an error and not a wait."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["read_regular", "write_regular"]


def read_regular(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the contents of a regular file. Raise ``OSError`` for anything else, and beyond ``most`` bytes."""
    descriptor = os.open(path, os.O_RDONLY | _WITHOUT_WAITING)
    with open(descriptor, "rb") as file:
        _require_regular(descriptor, path)
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes", os.fspath(path))
    return data


def write_regular(path: str | os.PathLike[str], text: str | bytes) -> None:
    """Write a regular file, text as UTF-8. Raise ``OSError`` where something else has its name."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | _WITHOUT_WAITING, 0o666)
    with open(descriptor, "wb") as file:
        _require_regular(descriptor, path)
        file.truncate()
        file.write(text.encode() if isinstance(text, str) else text)


_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
_WITHOUT_WAITING |= getattr(os, "O_BINARY", 0)
"""To open a FIFO waits for its other end, and a terminal may become the process's own."""


def _require_regular(descriptor: int, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(Path(path)))
