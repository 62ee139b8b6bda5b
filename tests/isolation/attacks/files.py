"""Attacks on files: read, change and plant them, and inspect those of others."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from tests.isolation.attacks.registry import NUMBERS, X86, attack, call, succeeds


@attack
def read_file(order: dict[str, Any]) -> str:
    with open(order["path"], "rb") as file:
        return file.read(100).decode()


@attack
def list_directory(order: dict[str, Any]) -> int:
    return len(os.listdir(order["path"]))


@attack
def read_beneath(order: dict[str, Any]) -> str:
    descriptor = os.open(order["name"], os.O_RDONLY, dir_fd=order["granted"][0])
    return os.read(descriptor, 100).decode()


@attack
def write_beneath(order: dict[str, Any]) -> int:
    descriptor = os.open(order["name"], os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=order["granted"][0])
    return os.write(descriptor, b"written")


@attack
def change_beneath(order: dict[str, Any]) -> list[str]:
    """Perform every operation that a guest may perform on a writable tree."""
    root = order["granted"][0]
    os.mkdir("sub", dir_fd=root)
    os.close(os.open("file", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=root))
    os.rename("file", "sub/moved", src_dir_fd=root, dst_dir_fd=root)
    os.link("sub/moved", "linked", src_dir_fd=root, dst_dir_fd=root)
    os.symlink("linked", "pointer", dir_fd=root)
    os.unlink("sub/moved", dir_fd=root)
    os.rmdir("sub", dir_fd=root)
    return sorted(os.listdir(root))


@attack
def make_fifo(order: dict[str, Any]) -> None:
    os.mkfifo("fifo", dir_fd=order["granted"][0])


@attack
def move_out(order: dict[str, Any]) -> None:
    os.rename("inside", order["path"], src_dir_fd=order["granted"][0])


@attack
def plant(order: dict[str, Any]) -> str:
    """Create a file that a later run would find, by its path or from a granted directory."""
    root = order["granted"][0] if order.get("beneath") else None
    descriptor = os.open(order["path"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=root)
    os.write(descriptor, b"code")
    return "planted"


@attack
def give_another_name(order: dict[str, Any]) -> None:
    os.link(order["path"], order["to"])


@attack
def plant_link(order: dict[str, Any]) -> None:
    """Replace an existing file by a symbolic link, without passing any check of Aegis."""
    root = order["granted"][0]
    try:
        os.rmdir(order["name"], dir_fd=root)
    except NotADirectoryError:
        os.unlink(order["name"], dir_fd=root)
    except FileNotFoundError:
        pass
    os.symlink(order["target"], order["name"], dir_fd=root)


@attack
def look_around_a_file(order: dict[str, Any]) -> dict[str, Any]:
    """Return what the descriptor of a single granted file reveals about its neighbours."""
    descriptor = order["granted"][0]
    ways: dict[str, Callable[[], Any]] = {
        "listing": lambda: os.listdir(descriptor),
        "listing above": lambda: os.listdir(f"/proc/self/fd/{descriptor}/.."),
        "parent": lambda: os.open("..", os.O_RDONLY, dir_fd=descriptor),
        "parent's status": lambda: os.stat("..", dir_fd=descriptor).st_nlink,
        "sibling": lambda: os.open("sibling", os.O_RDONLY, dir_fd=descriptor),
        "sibling by name": lambda: os.open(order["sibling"], os.O_RDONLY),
        "folder by name": lambda: os.listdir(os.path.dirname(order["sibling"])),
        "reopened for writing": lambda: os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY),
        "written": lambda: os.pwrite(descriptor, b"changed", 0),
        "cut": lambda: os.ftruncate(descriptor, 0),
    }
    found: dict[str, Any] = {"contents": os.pread(descriptor, 100, 0).decode()}
    for name, way in ways.items():
        try:
            found[name] = way()
        except OSError as error:
            found[name] = errno.errorcode[error.errno or 0]
    return found


@attack
def write_relative(order: dict[str, Any]) -> list[str]:
    name = f"planted-{os.getpid()}"
    with open(name, "w", encoding="utf-8") as file:
        file.write("x")
    os.unlink(name)
    return ["written"]


WAYS: dict[str, Callable[[str], Any]] = {
    "open": lambda path: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)),
    "write": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)),
    "list": lambda path: os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY)),
    "hold": lambda path: os.close(os.open(path, os.O_PATH | os.O_NOFOLLOW)),
    "stat": os.stat,
    "lstat": os.lstat,
    "readlink": os.readlink,
    "readlinkat": lambda path: os.readlink(path, dir_fd=0),
    "statat": lambda path: os.stat(path, dir_fd=0, follow_symlinks=False),
    "access": lambda path: call("access", path.encode(), 0) if X86 else os.stat(path),
    "faccessat": lambda path: call("faccessat", -100, path.encode(), 0),
    "statx": lambda path: call("statx", -100, path.encode(), 0, 0xFFF, ctypes.create_string_buffer(256)),
    "statfs": os.statvfs,
    "getxattr": lambda path: os.listxattr(path),
}


@attack
def reach(order: dict[str, Any]) -> dict[str, list[str]]:
    """Return which ways of reaching which paths succeed."""
    return {path: found for path in order["paths"] if (found := [way for way in WAYS if succeeds(WAYS[way], path)])}


AT_CWD = -100
TIMES = struct.pack("=4q", 1, 0, 2, 0)
BY_PATH: dict[str, Callable[[bytes], tuple[Any, ...]]] = {
    "utimensat": lambda path: (AT_CWD, path, TIMES, 0),
    "futimesat": lambda path: (AT_CWD, path, TIMES),
    "utimes": lambda path: (path, TIMES),
    "utime": lambda path: (path, TIMES),
    "chmod": lambda path: (path, 0o600),
    "fchmodat": lambda path: (AT_CWD, path, 0o600),
    "chown": lambda path: (path, os.geteuid(), os.getegid()),
    "lchown": lambda path: (path, os.geteuid(), os.getegid()),
    "fchownat": lambda path: (AT_CWD, path, os.geteuid(), os.getegid(), 0),
    "truncate": lambda path: (path, 3),
    "setxattr": lambda path: (path, b"user.aegis", b"1", 1, 0),
    "lsetxattr": lambda path: (path, b"user.aegis", b"1", 1, 0),
    "getxattr": lambda path: (path, b"user.aegis", ctypes.create_string_buffer(8), 8),
    "listxattr": lambda path: (path, ctypes.create_string_buffer(99), 99),
    "removexattr": lambda path: (path, b"user.aegis"),
    "inotify_init1": lambda path: (0,),
    "name_to_handle_at": lambda path: (AT_CWD, path, struct.pack("=Ii128x", 128, 0), bytes(4), 0),
    "open_tree": lambda path: (AT_CWD, path, 0),
    "mknodat": lambda path: (AT_CWD, path + b".fifo", 0o10600, 0),
    "chdir": lambda path: (os.path.dirname(path),),
}
"""System calls that change or inspect what a path names; Landlock controls only the last few of them."""


@attack
def calls_by_path(order: dict[str, Any]) -> list[str]:
    """Make each of these calls with a path outside every grant, and return those that succeed."""
    path = order["path"].encode()
    return [
        name
        for name, arguments in BY_PATH.items()
        if NUMBERS[name][0 if X86 else 1] is not None and succeeds(call, name, *arguments(path))
    ]


@attack
def time_of_open_file(order: dict[str, Any]) -> None:
    """Set the times of a file that was opened for reading, by its descriptor."""
    descriptor = os.open(order["path"], os.O_RDONLY)
    os.utime(descriptor, ns=(1, 2))


@attack
def have_times_set(order: dict[str, Any]) -> int | None:
    """Let the parent set the times of a file, or of a name in a directory, that this process only holds for reading."""
    session, name = order["session"], order.get("name")
    flags = {"hold": os.O_PATH, "read": os.O_RDONLY, "write": os.O_WRONLY}[order.get("open", "hold")]
    descriptors = [os.open(order["path"], flags) for _ in range(order.get("count", 1))]
    if descriptors:
        with socket.socket(fileno=os.dup(session.descriptors[session.spec.times])) as end:
            socket.send_fds(end, [b"t"], descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return session.set_times(name, tuple(order.get("times", (1, 2))))  # type: ignore[no-any-return]


@attack
def climb(order: dict[str, Any]) -> list[str]:
    """List the parent of a granted directory through its descriptor."""
    session = order["session"]
    held = session.descriptors[session.spec.folders[order["folder"]].descriptor]
    above = os.open("../" * 40, os.O_RDONLY, dir_fd=held)
    return sorted(os.listdir(above))


@attack
def status(order: dict[str, Any]) -> dict[str, Any]:
    """Return the status of a granted directory, of names in it, and of all other descriptors."""
    session = order["session"]
    granted = [session.descriptors[folder.descriptor] for folder in session.spec.folders]
    born = ctypes.create_string_buffer(256)
    found: dict[str, Any] = {"granted": [], "held": [], "born": []}
    for number in range(200):
        if not succeeds(os.fstat, number):
            continue
        if number not in granted:
            found["held"].append(list(os.fstat(number)[:3]))
            continue
        found["granted"].append(fields(os.fstat(number)))
        found["granted"] += [fields(os.stat(name, dir_fd=number)) for name in order["names"]]
    for number, name, flags in ((granted[0] if granted else 0, b"", 0x1000), (AT_CWD, b".", 0)):
        try:
            found["born"].append(call("statx", number, name, flags, 0x800, born))  # STATX_BTIME
        except OSError as error:
            found["born"].append(error.errno)
    return found


def fields(status: os.stat_result) -> list[int]:
    """Return the fields that identify a file, and its times of change."""
    return [status.st_ino, status.st_dev, status.st_nlink, status.st_uid, status.st_mtime_ns, status.st_ctime_ns]
