"""An append-only file of lines that several processes may share, such as a log of events."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

__all__ = ["AppendedFile"]

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
# O_NONBLOCK: opening a FIFO without a reader would block for ever; open(2) raises ENXIO instead.
_FLAGS |= getattr(os, "O_NONBLOCK", 0)


class AppendedFile:
    """A file, FIFO or device to which each text is appended at once, by one ``write`` without a buffer.

    The file is created if it does not exist and never truncated. A line is in the kernel when :meth:`write` returns, so
    it survives the death of this process; it survives that of the machine only after the kernel has written it to disk.
    With ``O_APPEND``, the kernel writes the lines of several processes to a local file one after the other (open(2)).
    In a FIFO, lines of more than 4096 bytes may mix with those of others (pipe(7)); network file systems may not append
    atomically.

    If the file ends within a line, because its writer was killed or the disk was full, the next line starts anew.
    Raise ``OSError`` if the file cannot be opened, and ``ValueError`` for a path with a NUL.
    """

    __slots__ = ("_descriptor", "_torn")

    def __init__(self, path: str | os.PathLike[str], *, folder: int | None = None, follow: bool = True) -> None:
        """Open ``path``, relative to the open directory ``folder``; without ``follow``, reject a symbolic link."""
        flags = _FLAGS | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
        self._descriptor = os.open(path, flags, 0o666, dir_fd=folder)
        os.set_blocking(self._descriptor, True)
        self._torn = _ends_within_a_line(self._descriptor, path, folder)

    def write(self, text: str, /) -> None:
        """Append ``text``. Raise ``OSError`` if it cannot be written whole."""
        data = text.encode("utf-8")
        if self._torn:
            data = b"\n" + data
        written = os.write(self._descriptor, data)
        self._torn = written < len(data)
        while written < len(data):  # a full disk or a limit on the file's size: the next write raises the reason
            written += os.write(self._descriptor, data[written:])
        self._torn = False

    def flush(self) -> None:
        """Do nothing: :meth:`write` keeps nothing back."""

    def stop_waiting(self) -> None:
        """Let :meth:`write` raise ``BlockingIOError`` instead of waiting for the reader of a full pipe."""
        with suppress(OSError):
            os.set_blocking(self._descriptor, False)

    def close(self) -> None:
        """Close the file; a second close does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


def _ends_within_a_line(descriptor: int, path: str | os.PathLike[str], folder: int | None) -> bool:
    """Return whether the file ends without a newline and no other writer is about to write it.

    Every writer holds a shared lock. Only a process that gets the exclusive one knows that the last line is complete;
    it does not wait for the lock, which any process that may read the file can hold.
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return False
    try:
        import fcntl
    except ImportError:
        return False
    torn = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        reader = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0), dir_fd=folder)
        try:
            size = os.fstat(reader).st_size
            same = os.path.samestat(os.fstat(reader), os.fstat(descriptor))
            torn = same and size > 0 and os.pread(reader, 1, size - 1) != b"\n"
        finally:
            os.close(reader)
    except OSError:
        pass  # another writer has the file open, or this user may only write it
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return torn
