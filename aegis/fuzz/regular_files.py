"""Read and write regular files only: a FIFO or a device under the same name is an error instead of a hang."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from aegis.errors import PolicyError
from aegis.text import printable

__all__ = ["read_regular", "results_folder", "write_regular"]


def read_regular(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Return the contents of a regular file. Raise ``OSError`` for another kind of file, or one above ``max_bytes``."""
    descriptor = os.open(path, os.O_RDONLY | _OPEN_FLAGS)
    with open(descriptor, "rb") as file:
        _require_regular(descriptor, path)
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes:,} bytes", os.fspath(path))
    return data


def write_regular(path: str | os.PathLike[str], text: str | bytes) -> None:
    """Create or overwrite a regular file; text is encoded as UTF-8. Raise ``OSError`` for any other kind of file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | _OPEN_FLAGS, 0o666)
    with open(descriptor, "wb") as file:
        _require_regular(descriptor, path)
        file.truncate()
        file.write(text.encode() if isinstance(text, str) else text)


def results_folder(path: str) -> Path:
    """Create a directory for results if needed; raise ``PolicyError`` if it cannot be written, before there are any."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        write_regular(probe, b"")
        probe.unlink()
    except (FileExistsError, NotADirectoryError):
        raise PolicyError(
            f"{printable(path)} cannot be written: it is not a directory, or is inside a file: name a directory"
        ) from None
    except OSError as error:
        raise PolicyError(f"{printable(path)} cannot be written: {error.strerror or error}") from None
    return folder


_OPEN_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
_OPEN_FLAGS |= getattr(os, "O_BINARY", 0)
"""Without ``O_NONBLOCK``, opening a FIFO blocks until its other end is opened. Without ``O_NOCTTY``, opening a terminal
may make it the controlling terminal of the process."""


def _require_regular(descriptor: int, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(Path(path)))
