"""In the parent: set times of files for a worker whose guest may write.

Landlock has no right for utimensat(2): a worker that may make the call could change the times of files that are not
granted, or are granted for reading. So it may not, and sends the parent what it wants changed as an open descriptor.
The descriptor is no proof of anything by itself; the parent asks the kernel:

* a file that is open for writing lies beneath a grant for writing, for Landlock let the worker open it; of one that is
  open for reading a name must be found beneath such a grant;
* a directory lies beneath such a grant if a walk upwards, by ``..``, meets the directory that was granted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import weakref
from collections.abc import Collection, Iterable

from aegis.host.files.beneath import Identity, identity
from aegis.host.files.directory import HostDirectory
from aegis.host.files.preopens import Preopen
from aegis.isolation.protocol.channel import Broken
from aegis.support.descriptors import socket_pair
from aegis.support.lean import Any

__all__ = ["TimeService"]

_MAX_NAME_BYTES = 255
_MAX_DEPTH = 1024
_O_PATH = getattr(os, "O_PATH", 0)


class TimeService:
    """Sets times beneath what ``preopens`` grant for writing, and of files that the worker has open for writing."""

    def __init__(self, preopens: Iterable[Preopen]) -> None:
        directories = [preopen.directory for preopen in preopens]
        self._directories = {
            identity(each.status()) for each in directories if isinstance(each, HostDirectory) and each.writable
        }
        self._socket, self.worker_end = socket_pair(packets=True)
        self._socket.setblocking(False)
        self._closer = weakref.finalize(self, _close, self._socket, self.worker_end)

    def serve(self, name: Any, access: Any, change: Any) -> int | None:
        """Set the times of what came by the socket, or of ``name`` in it; return the error number of a failure.

        Raise :class:`Broken` for what a worker may not change: it would not have asked.
        """
        if not all(type(time) is int and -(1 << 63) <= time < 1 << 63 for time in (access, change)):
            raise Broken("times that cannot be read")
        descriptor = self._received()
        try:
            if name is None:
                self._check_file(descriptor)
                os.utime(descriptor, ns=(access, change))
            else:
                self._check_entry(descriptor, name)
                os.utime(name, ns=(access, change), dir_fd=descriptor, follow_symlinks=False)
        except OSError as error:
            return error.errno or errno.EIO
        except OverflowError:
            return errno.EOVERFLOW
        finally:
            os.close(descriptor)
        return None

    def _received(self) -> int:
        try:
            _, descriptors, _, _ = socket.recv_fds(self._socket, 1, 4, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            raise Broken("times of no file") from None
        if len(descriptors) != 1:
            for descriptor in descriptors:
                os.close(descriptor)
            raise Broken("times of no file, or of several")
        return descriptors[0]

    def _check_file(self, descriptor: int) -> None:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        if flags & _O_PATH or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Broken("times of something that is no open file")
        if flags & os.O_ACCMODE == os.O_RDONLY and not self._is_named(descriptor):
            raise Broken("times of a file that was not granted for writing")

    def _is_named(self, descriptor: int) -> bool:
        """Tell whether a grant for writing has a name for an open file. The path is a hint; the names are checked."""
        try:
            folder, _, name = os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")
            parent = os.open(folder or "/", _O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            return identity(found) == identity(os.fstat(descriptor)) and self._is_granted(parent)
        except OSError:
            return False
        finally:
            os.close(parent)

    def _is_granted(self, directory: int) -> bool:
        return stat.S_ISDIR(os.fstat(directory).st_mode) and _is_beneath(directory, self._directories)

    def _check_entry(self, descriptor: int, name: Any) -> None:
        if type(name) is not str or not name or name == ".." or "/" in name or "\0" in name:
            raise Broken("times of something that is no name")
        if len(os.fsencode(name)) > _MAX_NAME_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if not self._is_granted(descriptor):
            raise Broken("times of something that was not granted for writing")

    def close(self) -> None:
        """Close the socket."""
        self._closer()


def _is_beneath(descriptor: int, directories: Collection[Identity]) -> bool:
    """Tell whether an open directory is one of ``directories``, or lies beneath one."""
    before = None
    for steps in range(_MAX_DEPTH):
        found = identity(os.stat("../" * steps or ".", dir_fd=descriptor))
        if found in directories:
            return True
        if found == before:  # the root directory is its own parent
            return False
        before = found
    return False


def _close(*ends: socket.socket) -> None:
    for end in ends:
        end.close()
