"""File times in the parent: sets access and modification times for a worker whose guest may write files.

Landlock has no access right for utimensat(2), so a worker that could call it could change the times of files that are
not granted or granted read-only. The seccomp filter denies the call; the worker sends the parent an open descriptor of
the file or directory instead. The descriptor proves nothing by itself, so the parent verifies with the kernel:

* A file open for writing is beneath a writable grant, because Landlock allowed the worker to open it. A file open for
  reading must have a name beneath a writable grant.
* A directory is beneath a writable grant if a walk upwards through ``..`` reaches the granted directory.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import weakref
from collections.abc import Collection, Iterable

from aegis.host.files.directory import HostDirectory
from aegis.host.files.file_id import Identity, identity
from aegis.host.files.preopens import Preopen
from aegis.isolation.protocol.channel import ProtocolError
from aegis.support.descriptors import socket_pair
from aegis.support.lean import Any

__all__ = ["TimeService"]

_MAX_NAME_BYTES = 255
_MAX_DEPTH = 1024
_O_PATH = getattr(os, "O_PATH", 0)


class TimeService:
    """Sets times of files beneath the writable ``preopens``, and of files that the worker has open for writing."""

    def __init__(self, preopens: Iterable[Preopen]) -> None:
        directories = [preopen.directory for preopen in preopens]
        self._directories = {
            identity(each.status()) for each in directories if isinstance(each, HostDirectory) and each.writable
        }
        self._socket, self.worker_end = socket_pair(packets=True)
        self._socket.setblocking(False)
        self._closer = weakref.finalize(self, _close, self._socket, self.worker_end)

    def serve(self, name: Any, access: Any, change: Any) -> int | None:
        """Set the times, in nanoseconds, of the descriptor on the socket, or of the entry ``name`` in that directory.

        Return ``None``, or the error number of a failure. Raise :class:`ProtocolError` if the worker may not change the
        file: an honest worker would not have sent the request.
        """
        if not all(type(time) is int and -(1 << 63) <= time < 1 << 63 for time in (access, change)):
            raise ProtocolError("malformed file times")
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
            raise ProtocolError("request to set file times without a descriptor") from None
        if len(descriptors) != 1:
            for descriptor in descriptors:
                os.close(descriptor)
            raise ProtocolError("request to set file times without exactly one descriptor")
        return descriptors[0]

    def _check_file(self, descriptor: int) -> None:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        if flags & _O_PATH or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ProtocolError("request to set the times of a descriptor that is not an open regular file")
        if flags & os.O_ACCMODE == os.O_RDONLY and not self._is_named(descriptor):
            raise ProtocolError("request to set the times of a file without a writable grant")

    def _is_named(self, descriptor: int) -> bool:
        """Return whether an open file has a name beneath a writable grant.

        The path in ``/proc/self/fd`` is only a hint; the identities of the file and its directory are verified.
        """
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
            raise ProtocolError("request to set file times of an invalid name")
        if len(os.fsencode(name)) > _MAX_NAME_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if not self._is_granted(descriptor):
            raise ProtocolError("request to set file times without a writable grant")

    def close(self) -> None:
        """Close the socket."""
        self._closer()


def _is_beneath(descriptor: int, directories: Collection[Identity]) -> bool:
    """Return whether an open directory is one of ``directories`` or beneath one."""
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
