"""Keep descriptors 0, 1 and 2 free of anything that Aegis opens.

A process may run with standard streams closed: a daemon, a cron job, ``>&-``. The kernel gives each new descriptor the
lowest free number, so the next file or socket would become a standard stream, which guests and child processes then use
as such. Aegis prevents that in three ways:

* The command and the fork server own their process. They call :func:`occupy_standard` before they open anything else.
* The library does not own its process. A descriptor that it keeps goes through :func:`above_standard`, or is opened
  inside :func:`standard_reserved`, as is what the engine, ``mmap`` and ``subprocess`` open for themselves.
* A guest inherits a stream only if the process was started with it (:func:`inherited`).
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
"""With O_PATH reading and writing fail with EBADF, as they do on a closed descriptor."""


def occupy_standard() -> None:
    """Open ``/dev/null`` on each of 0, 1 and 2 that is closed, for child processes too."""
    for number in _STANDARD:
        if not _is_open(number):  # the lower ones are open, so the kernel gives this number
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def above_standard(descriptor: int) -> int:
    """Return ``descriptor``, or a copy above 2 in its place; the original is closed then."""
    if descriptor > 2:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(descriptor)


def socket_above_standard(opened: socket.socket) -> socket.socket:
    """Return ``opened``, or the same socket with a descriptor above 2."""
    if opened.fileno() > 2:
        return opened
    timeout = opened.gettimeout()
    moved = type(opened)(fileno=above_standard(opened.detach()))
    moved.settimeout(timeout)
    return moved


def bare_socket_pair(*, packets: bool = False) -> tuple[_socket.socket, _socket.socket]:
    """Return what :func:`socket_pair` does, without the module socket, which costs a start more than the sockets.

    With ``packets`` what is sent at once is received at once.
    """
    import _socket

    ends = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET if packets else _socket.SOCK_STREAM)
    for end in ends:
        end.settimeout(None)
    return ends


def socket_pair(*, packets: bool = False) -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets that block, whatever :func:`socket.setdefaulttimeout` the application chose.

    A default timeout makes both ends non-blocking, and with them the copies in other processes.
    """
    import socket  # costs start-up time that only some isolated runs need

    made = [socket.socket(fileno=end.detach()) for end in bare_socket_pair(packets=packets)]
    for end in made:
        end.settimeout(None)
    return made[0], made[1]


def inherited(number: int) -> int | None:
    """Return the standard stream ``number``, or ``None`` where the process has none.

    The interpreter notes at its start which streams are open. One that was closed then stays absent: a file
    that got its number later is not a stream, whoever opened it.
    """
    if (sys.__stdin__, sys.__stdout__, sys.__stderr__)[number] is None:
        return None
    try:
        flags = fcntl.fcntl(number, fcntl.F_GETFL)
    except OSError:
        return None
    return None if flags & getattr(os, "O_PATH", 0) else number


def can_read(descriptor: int) -> bool:
    """Tell whether a descriptor was opened for reading."""
    return _access(descriptor) in (os.O_RDONLY, os.O_RDWR)


def can_write(descriptor: int) -> bool:
    """Tell whether a descriptor was opened for writing."""
    return _access(descriptor) in (os.O_WRONLY, os.O_RDWR)


def unblocked(descriptor: int, access: int) -> int | None:
    """Open the pipe or terminal behind ``descriptor`` anew, non-blocking; ``None`` where that cannot be.

    O_NONBLOCK belongs to the open file, which other processes may share, and which it would break for them. ``access``
    is ``os.O_RDONLY`` or ``os.O_WRONLY``; ``descriptor`` must permit it itself.
    """
    if not (can_read if access == os.O_RDONLY else can_write)(descriptor):
        return None
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
        return None  # a file opened anew would have a position of its own
    try:
        opened = os.open(f"/proc/self/fd/{descriptor}", access | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    return above_standard(opened)


def is_socket(descriptor: int) -> bool:
    """Tell whether a descriptor is a socket."""
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
    """Keep closed numbers of 0, 1 and 2 from being given out in this process until the block is left."""
    if not _reservation.users:
        try:  # this is on the way of every sandbox, so each question is asked without a function of ours around it
            _inheritable(0), _inheritable(1), _inheritable(2)
        except OSError:
            return _reservation
        return _NOTHING
    return _reservation


_inheritable = os.get_inheritable  # the cheapest question about a descriptor: fcntl(2) F_GETFD


def _is_open(descriptor: int) -> bool:
    try:
        _inheritable(descriptor)
    except OSError:
        return False
    return True


class _Reservation:
    """Placeholders on closed numbers, shared by all threads that are inside a reserved block."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.users = 0
        self._held: list[tuple[int, int]] = []
        """Each placeholder's number and inode: another thread may have closed it and opened a file of its own there."""

    def __enter__(self) -> None:
        with self._lock:
            self.users += 1
            for number in _STANDARD:
                if not _is_open(number):
                    self._hold(os.open(os.devnull, _PLACEHOLDER))

    def _hold(self, descriptor: int) -> None:
        if descriptor in _STANDARD:
            self._held.append((descriptor, os.fstat(descriptor).st_ino))
        else:  # another thread was faster
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
    """In a forked child: no other thread is left to release what it held."""
    global _reservation
    held, _reservation = _reservation, _Reservation()
    held.users = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
