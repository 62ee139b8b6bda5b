"""Keep descriptors 0, 1 and 2 free of files and sockets that Aegis opens.

A process may run with closed standard streams: a daemon, a cron job, ``>&-``. The kernel gives each new descriptor the
lowest free number (POSIX ``open``), so the next file or socket would become a standard stream, and guests and child
processes would read or write it. Aegis prevents that in three ways:

* The command line and the fork server own their process: they call :func:`occupy_standard` before they open anything.
* The library does not own its process: it passes each descriptor that it keeps through :func:`above_standard`, or opens
  it inside :func:`standard_reserved`. The latter also covers descriptors that the engine, ``mmap`` and ``subprocess``
  open.
* A guest inherits a stream only if the process had it at its start (:func:`inherited`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
import threading
from types import TracebackType

from aegis.support.lean import TYPE_CHECKING

if TYPE_CHECKING:
    import _socket
    import socket

__all__ = [
    "above_standard", "bare_socket_pair", "can_read", "can_write", "inherited", "is_socket", "occupy_standard",
    "socket_above_standard", "socket_pair", "standard_reserved", "unblocked",
]  # fmt: skip

_STANDARD = (0, 1, 2)
_PLACEHOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC
"""O_PATH makes reads and writes fail with EBADF, as on a closed descriptor."""


def occupy_standard() -> None:
    """Open ``/dev/null`` on each of descriptors 0, 1 and 2 that is closed; child processes inherit it."""
    for number in _STANDARD:
        if not _is_open(number):  # all lower numbers are open, so open() returns this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def above_standard(descriptor: int) -> int:
    """Return ``descriptor`` if it is above 2; otherwise close it and return a duplicate above 2."""
    if descriptor > 2:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(descriptor)


def socket_above_standard(opened: socket.socket) -> socket.socket:
    """Return ``opened`` if its descriptor is above 2; otherwise the same socket on a duplicate above 2."""
    if opened.fileno() > 2:
        return opened
    timeout = opened.gettimeout()
    moved = type(opened)(fileno=above_standard(opened.detach()))
    moved.settimeout(timeout)
    return moved


def bare_socket_pair(*, packets: bool = False) -> tuple[_socket.socket, _socket.socket]:
    """Return two connected blocking sockets without importing :mod:`socket`, which takes longer than the sockets.

    ``packets`` selects SOCK_SEQPACKET, which keeps message boundaries, instead of SOCK_STREAM.
    """
    import _socket

    ends = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET if packets else _socket.SOCK_STREAM)
    for end in ends:
        end.settimeout(None)
    return ends


def socket_pair(*, packets: bool = False) -> tuple[socket.socket, socket.socket]:
    """Return two connected blocking sockets, even if the application called :func:`socket.setdefaulttimeout`.

    A default timeout sets O_NONBLOCK on both open file descriptions, which other processes share after a fork.
    """
    import socket  # slow to import, and only some isolated runs need it

    made = [socket.socket(fileno=end.detach()) for end in bare_socket_pair(packets=packets)]
    for end in made:
        end.settimeout(None)
    return made[0], made[1]


def inherited(number: int) -> int | None:
    """Return ``number`` if the process was started with that standard stream and it is open, else ``None``.

    The interpreter sets ``sys.__stdin__`` and its siblings to ``None`` for streams that are closed at its start. A file
    that gets such a number later is not a standard stream.
    """
    if (sys.__stdin__, sys.__stdout__, sys.__stderr__)[number] is None:
        return None
    try:
        flags = fcntl.fcntl(number, fcntl.F_GETFL)
    except OSError:
        return None
    return None if flags & getattr(os, "O_PATH", 0) else number


def can_read(descriptor: int) -> bool:
    """Return whether a descriptor is open for reading."""
    return _access(descriptor) in (os.O_RDONLY, os.O_RDWR)


def can_write(descriptor: int) -> bool:
    """Return whether a descriptor is open for writing."""
    return _access(descriptor) in (os.O_WRONLY, os.O_RDWR)


def unblocked(descriptor: int, access: int) -> int | None:
    """Reopen the pipe or terminal behind ``descriptor`` in non-blocking mode; return ``None`` if that is impossible.

    O_NONBLOCK belongs to the open file description, which other processes may share, so setting it on ``descriptor``
    could break them. ``access`` is ``os.O_RDONLY`` or ``os.O_WRONLY``; ``descriptor`` itself must permit it, because
    reopening through /proc would otherwise widen the access.
    """
    if not (can_read if access == os.O_RDONLY else can_write)(descriptor):
        return None
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
        return None  # a reopened regular file would not share its position
    try:
        opened = os.open(f"/proc/self/fd/{descriptor}", access | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    return above_standard(opened)


def is_socket(descriptor: int) -> bool:
    """Return whether a descriptor is a socket."""
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _access(descriptor: int) -> int:
    try:
        return fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        return -1


def standard_reserved() -> contextlib.AbstractContextManager[None]:
    """Return a context in which no thread of this process can open a file on descriptor 0, 1 or 2."""
    if not _reservation.users:
        try:  # every sandbox passes here, so the three calls are written out instead of looping over _is_open
            _inheritable(0), _inheritable(1), _inheritable(2)
        except OSError:
            return _reservation
        return _NOTHING
    return _reservation


_inheritable = os.get_inheritable  # the cheapest test for an open descriptor: fcntl(2) F_GETFD


def _is_open(descriptor: int) -> bool:
    try:
        _inheritable(descriptor)
    except OSError:
        return False
    return True


class _Reservation:
    """Placeholders on the closed standard descriptors, shared by all threads inside :func:`standard_reserved`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.users = 0
        self._held: list[tuple[int, int]] = []
        """Number and inode of each placeholder: another thread may close one and open its own file on that number."""

    def __enter__(self) -> None:
        with self._lock:
            self.users += 1
            for number in _STANDARD:
                if not _is_open(number):
                    self._hold(os.open(os.devnull, _PLACEHOLDER))

    def _hold(self, descriptor: int) -> None:
        if descriptor in _STANDARD:
            self._held.append((descriptor, os.fstat(descriptor).st_ino))
        else:  # another thread took the number first
            os.close(descriptor)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self.users -= 1
            while not self.users and self._held:
                number, inode = self._held.pop()
                with contextlib.suppress(OSError):
                    placed = fcntl.fcntl(number, fcntl.F_GETFL) & getattr(os, "O_PATH", 0)
                    if placed and os.fstat(number).st_ino == inode:
                        os.close(number)


_NOTHING = contextlib.nullcontext()
_reservation = _Reservation()


def _renew() -> None:
    """Replace the reservation in a forked child, where the threads that held it do not exist."""
    global _reservation
    held, _reservation = _reservation, _Reservation()
    held.users = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
