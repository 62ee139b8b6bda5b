"""Numbers and layouts of WASI preview 1 (``wasi_snapshot_preview1.witx``)."""

from __future__ import annotations

import errno as posix
import os
import stat
from struct import Struct

from aegis.values import FuncType

__all__ = [
    "ERRNO_OF",
    "MAX_VECTOR_ITEMS",
    "SIGNATURES",
    "Errno",
    "Fdflags",
    "Refused",
    "Rights",
    "filestat",
    "filetype",
]


class Errno:
    """``errno``, the results of calls. Plain numbers: an enumeration would cost time in every call."""

    SUCCESS = 0
    TOOBIG = 1
    ACCES = 2
    AGAIN = 6
    BADF = 8
    BUSY = 10
    DEADLK = 16
    DQUOT = 19
    EXIST = 20
    FAULT = 21
    FBIG = 22
    ILSEQ = 25
    INTR = 27
    INVAL = 28
    IO = 29
    ISDIR = 31
    LOOP = 32
    MFILE = 33
    MLINK = 34
    NAMETOOLONG = 37
    NFILE = 41
    NODEV = 43
    NOENT = 44
    NOLCK = 46
    NOMEM = 48
    NOSPC = 51
    NOSYS = 52
    NOTDIR = 54
    NOTEMPTY = 55
    NOTSOCK = 57
    NOTSUP = 58
    NOTTY = 59
    NXIO = 60
    OVERFLOW = 61
    PERM = 63
    PIPE = 64
    RANGE = 68
    ROFS = 69
    SPIPE = 70
    TXTBSY = 74
    XDEV = 75
    NOTCAPABLE = 76


_POSIX_NAMES = {
    "E2BIG": Errno.TOOBIG, "EDEADLK": Errno.DEADLK, "ENOTSUP": Errno.NOTSUP, "EOPNOTSUPP": Errno.NOTSUP,
    "EWOULDBLOCK": Errno.AGAIN,
    **{f"E{name}": number for name, number in vars(Errno).items() if name.isupper()},
}  # fmt: skip
ERRNO_OF: dict[int | None, int] = {
    getattr(posix, name): number for name, number in _POSIX_NAMES.items() if hasattr(posix, name)
}
"""The ``errno`` for each POSIX error number; any other is ``IO``."""


class Refused(Exception):
    """A call fails with the ``errno`` ``number``."""

    def __init__(self, number: int) -> None:
        self.number = number


class Rights:
    """``rights``: the operations that a descriptor allows."""

    FD_DATASYNC = 1 << 0
    FD_READ = 1 << 1
    FD_SEEK = 1 << 2
    FD_FDSTAT_SET_FLAGS = 1 << 3
    FD_SYNC = 1 << 4
    FD_TELL = 1 << 5
    FD_WRITE = 1 << 6
    FD_ADVISE = 1 << 7
    FD_ALLOCATE = 1 << 8
    PATH_CREATE_DIRECTORY = 1 << 9
    PATH_CREATE_FILE = 1 << 10
    PATH_LINK_SOURCE = 1 << 11
    PATH_LINK_TARGET = 1 << 12
    PATH_OPEN = 1 << 13
    FD_READDIR = 1 << 14
    PATH_READLINK = 1 << 15
    PATH_RENAME_SOURCE = 1 << 16
    PATH_RENAME_TARGET = 1 << 17
    PATH_FILESTAT_GET = 1 << 18
    PATH_FILESTAT_SET_SIZE = 1 << 19
    PATH_FILESTAT_SET_TIMES = 1 << 20
    FD_FILESTAT_GET = 1 << 21
    FD_FILESTAT_SET_SIZE = 1 << 22
    FD_FILESTAT_SET_TIMES = 1 << 23
    PATH_SYMLINK = 1 << 24
    PATH_REMOVE_DIRECTORY = 1 << 25
    PATH_UNLINK_FILE = 1 << 26
    POLL_FD_READWRITE = 1 << 27
    SOCK_SHUTDOWN = 1 << 28
    SOCK_ACCEPT = 1 << 29


FILE_RIGHTS = (
    Rights.FD_DATASYNC | Rights.FD_READ | Rights.FD_SEEK | Rights.FD_FDSTAT_SET_FLAGS | Rights.FD_SYNC
    | Rights.FD_TELL | Rights.FD_WRITE | Rights.FD_ADVISE | Rights.FD_ALLOCATE | Rights.FD_FILESTAT_GET
    | Rights.FD_FILESTAT_SET_SIZE | Rights.FD_FILESTAT_SET_TIMES | Rights.POLL_FD_READWRITE
)  # fmt: skip
"""The rights that a regular file can have."""

DIRECTORY_RIGHTS = (
    Rights.FD_SYNC | Rights.FD_DATASYNC | Rights.FD_FDSTAT_SET_FLAGS | Rights.PATH_CREATE_DIRECTORY
    | Rights.PATH_CREATE_FILE | Rights.PATH_LINK_SOURCE | Rights.PATH_LINK_TARGET | Rights.PATH_OPEN
    | Rights.FD_READDIR | Rights.PATH_READLINK | Rights.PATH_RENAME_SOURCE | Rights.PATH_RENAME_TARGET
    | Rights.PATH_FILESTAT_GET | Rights.PATH_FILESTAT_SET_SIZE | Rights.PATH_FILESTAT_SET_TIMES
    | Rights.FD_FILESTAT_GET | Rights.FD_FILESTAT_SET_TIMES | Rights.PATH_SYMLINK
    | Rights.PATH_REMOVE_DIRECTORY | Rights.PATH_UNLINK_FILE
)  # fmt: skip
"""The rights that a directory can have."""

ALL_RIGHTS = FILE_RIGHTS | DIRECTORY_RIGHTS


class Fdflags:
    """``fdflags`` of an open file."""

    APPEND = 1
    DSYNC = 2
    NONBLOCK = 4
    RSYNC = 8
    SYNC = 16


O_CREAT, O_DIRECTORY, O_EXCL, O_TRUNC = 1, 2, 4, 8
ATIM, ATIM_NOW, MTIM, MTIM_NOW = 1, 2, 4, 8
SYMLINK_FOLLOW = 1
MAX_VECTOR_ITEMS = 1024
"""Buffers in one vectored call: ``IOV_MAX`` of Linux."""

U32, U64 = Struct("<I"), Struct("<Q")
TWO_U32 = Struct("<II")
PRESTAT = Struct("<B3xI")
FDSTAT = Struct("<BxH4xQQ")
FILESTAT = Struct("<QQB7xQQQQQ")
DIRENT = Struct("<QQIB3x")
EVENT = Struct("<QHB5xQH6x")

UNKNOWN, BLOCK, CHARACTER, DIRECTORY, REGULAR, SOCKET_STREAM, SYMLINK = 0, 1, 2, 3, 4, 6, 7
_TYPES = {
    stat.S_IFREG: REGULAR, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK, stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK, stat.S_IFSOCK: SOCKET_STREAM,
}  # fmt: skip


def filetype(mode: int) -> int:
    """Return the ``filetype`` of a POSIX mode; a FIFO is ``unknown`` in preview 1."""
    return _TYPES.get(stat.S_IFMT(mode), UNKNOWN)


def filestat(status: os.stat_result, inode: int, times: tuple[int, int, int]) -> bytes:
    """Return the ``filestat`` of a POSIX status, with the inode number and the times that the guest may see."""
    return FILESTAT.pack(1, inode, filetype(status.st_mode), status.st_nlink, status.st_size, *times)


def _signatures() -> dict[str, FuncType]:
    """Return the types. Parameters by letter: ``i`` is i32, ``I`` is i64, ``s`` an i64 that stays signed."""
    shapes = {
        "args_get": "ii", "args_sizes_get": "ii", "environ_get": "ii", "environ_sizes_get": "ii",
        "clock_res_get": "ii", "clock_time_get": "iIi", "fd_advise": "iIIi", "fd_allocate": "iII", "fd_close": "i",
        "fd_datasync": "i", "fd_fdstat_get": "ii", "fd_fdstat_set_flags": "ii", "fd_fdstat_set_rights": "iII",
        "fd_filestat_get": "ii", "fd_filestat_set_size": "iI", "fd_filestat_set_times": "iIIi",
        "fd_pread": "iiiIi", "fd_prestat_get": "ii", "fd_prestat_dir_name": "iii", "fd_pwrite": "iiiIi",
        "fd_read": "iiii", "fd_readdir": "iiiIi", "fd_renumber": "ii", "fd_seek": "isii", "fd_sync": "i",
        "fd_tell": "ii", "fd_write": "iiii", "path_create_directory": "iii", "path_filestat_get": "iiiii",
        "path_filestat_set_times": "iiiiIIi", "path_link": "iiiiiii", "path_open": "iiiiiIIii",
        "path_readlink": "iiiiii", "path_remove_directory": "iii", "path_rename": "iiiiii", "path_symlink": "iiiii",
        "path_unlink_file": "iii", "poll_oneoff": "iiii", "proc_raise": "i", "sched_yield": "", "random_get": "ii",
        "sock_accept": "iii", "sock_recv": "iiiiii", "sock_send": "iiiii", "sock_shutdown": "ii",
    }  # fmt: skip
    letters = {"i": "i32", "I": "i64", "s": "i64"}
    found = {name: FuncType(tuple(letters[c] for c in shape), ("i32",)) for name, shape in shapes.items()}
    return {**found, "proc_exit": FuncType(("i32",), ())}


SIGNATURES = _signatures()
"""The type of every function of preview 1."""

SIGNED = {"fd_seek": 1}
"""The position of the one parameter that is a signed number, by function."""
