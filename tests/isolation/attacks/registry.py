"""The registry of attacks, and their shared helpers."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from typing import Any

from aegis.isolation.confine.kernel import libc

__all__ = ["ATTACKS", "ITS_OWN", "NUMBERS", "X86", "attack", "call", "outcome", "succeeds", "tried"]

ATTACKS: dict[str, Callable[[dict[str, Any]], Any]] = {}
X86 = platform.machine() == "x86_64"
NUMBERS = {  # x86-64, aarch64
    "ptrace": (101, 117), "unshare": (272, 97), "io_uring_setup": (425, 425), "bpf": (321, 280), "mount": (165, 40),
    "keyctl": (250, 219), "perf_event_open": (298, 241), "clone3": (435, 435), "process_vm_readv": (310, 270),
    "pidfd_open": (434, 434), "userfaultfd": (323, 282), "add_key": (248, 217), "kexec_load": (246, 104),
    "open_by_handle_at": (304, 265), "chroot": (161, 51), "setns": (308, 268), "tkill": (200, 130),
    "personality": (135, 92), "execveat": (322, 281), "tgkill": (234, 131), "no_such_call": (9999, 9999),
    "rt_sigqueueinfo": (129, 138), "init_module": (175, 105), "socketpair": (53, 199), "memfd_secret": (447, 447),
    # by path, for which Landlock has no right
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439), "stat": (4, None), "lstat": (6, None),
    "statx": (332, 291), "statfs": (137, 43), "readlink": (89, None), "chdir": (80, 49), "truncate": (76, 45),
    "utimensat": (280, 88), "futimesat": (261, None), "utime": (132, None), "utimes": (235, None),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "getxattr": (191, 8), "lgetxattr": (192, 9), "listxattr": (194, 11), "llistxattr": (195, 12),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "mknod": (133, None),
    "mknodat": (259, 33), "inotify_init1": (294, 26), "inotify_add_watch": (254, 27), "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263), "name_to_handle_at": (303, 264), "pivot_root": (155, 41), "umount2": (166, 39),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fspick": (433, 433),
    "mount_setattr": (442, 442), "quotactl": (179, 60), "quotactl_fd": (443, 443), "swapon": (167, 224),
    "acct": (163, 89), "fchdir": (81, 50), "creat": (85, None), "fstatfs": (138, 44),
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "sendmmsg": (307, 269),
    "recvmmsg": (299, 243), "landlock_create_ruleset": (444, 444), "seccomp": (317, 277), "capset": (126, 91),
    "setuid": (105, 146),
}  # fmt: skip
ITS_OWN = {  # calls that a worker may legitimately make
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "sched_getaffinity": (204, 123), "getsockopt": (55, 209), "fstat": (5, 80),
}  # fmt: skip


def attack(function: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """Register ``function`` as an attack under its name."""
    ATTACKS[function.__name__] = function
    return function


def call(name: str, *arguments: Any) -> int:
    """Make a system call directly, without the C library's wrapper."""
    number = {**NUMBERS, **ITS_OWN}[name][0 if X86 else 1]
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(number, *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return int(result)


def tried(action: Callable[[], Any]) -> Any:
    """Return the result of an action, or its negated error number."""
    try:
        return action()
    except OSError as error:
        return -(error.errno or 0)


def succeeds(function: Callable[..., Any], *arguments: Any) -> bool:
    """Return whether a call raises no ``OSError``."""
    try:
        function(*arguments)
    except OSError:
        return False
    return True


def outcome(order: dict[str, Any]) -> dict[str, Any]:
    """Return the result of the attack."""
    try:
        return {"value": ATTACKS[order["attack"]](order)}
    except OSError as error:
        return {"errno": error.errno}
    except (MemoryError, ValueError, RuntimeError) as error:
        return {"error": type(error).__name__}
