"""Attacks on other processes, on the kernel and on limits; held and inherited resources."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import socket
import struct
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from aegis.isolation.confine.kernel import libc, prctl
from tests.isolation.attacks.registry import X86, attack, call, tried

PARENT = os.getppid()
GET_SEALS = 1034


@attack
def nothing(order: dict[str, Any]) -> str:
    return "alive"


# -- what is held -----------------------------------------------------------------------------------


@attack
def held(order: dict[str, Any]) -> list[dict[str, int]]:
    """Return for every open descriptor its file, its access mode and its seals."""
    found = []
    for number in range(1024):
        try:
            status, flags = os.fstat(number), fcntl.fcntl(number, fcntl.F_GETFL)
        except OSError:
            continue
        seals = libc.fcntl(number, GET_SEALS)
        known = {"number": number, "device": status.st_dev, "inode": status.st_ino, "mode": status.st_mode}
        found.append({**known, "access": flags & os.O_ACCMODE, "seals": max(seals, 0)})
    return found


@attack
def time_others(order: dict[str, Any]) -> dict[str, Any]:
    """Query the processor time and affinity of each process; return the queries that were answered."""
    reported: dict[str, Any] = {}
    room, now = ctypes.create_string_buffer(1024), ctypes.create_string_buffer(16)
    for process in order["processes"]:
        calls = [("sched_getaffinity", process, 1024, room)]
        for kind in (0, 1, 2, 4, 5, 6):  # profile, virtual, scheduler; of a process and of a thread
            clock = (~process << 3 | kind) & 0xFFFFFFFF
            calls += [("clock_gettime", clock, room), ("clock_getres", clock, room)]
            calls += [("clock_nanosleep", clock, 0, now, None)]
        reported |= {str(one[:2]): tried(partial(call, *one)) for one in calls}
    return {name: value for name, value in reported.items() if value not in (-errno.EPERM, -errno.ENOSYS)}


# -- other processes, and the kernel ------------------------------------------------------------------


@attack
def fork(order: dict[str, Any]) -> int:
    child = os.fork()
    if not child:
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@attack
def execve(order: dict[str, Any]) -> None:
    os.execv(sys.executable, [sys.executable, "-c", 'print(\'{"value": "executed"}\')'])


@attack
def start_thread(order: dict[str, Any]) -> list[int]:
    ended: list[int] = []
    thread = threading.Thread(target=ended.append, args=(1,))
    try:
        thread.start()
    except RuntimeError:
        return []
    thread.join()
    return ended


@attack
def kill_parent(order: dict[str, Any]) -> None:
    os.kill(PARENT, 0)


@attack
def kill_self(order: dict[str, Any]) -> None:
    os.abort()


@attack
def trace_parent(order: dict[str, Any]) -> None:
    call("ptrace", 0x4206, PARENT, 0, 0)  # PTRACE_SEIZE, which stops no process and ends with this one


@attack
def system_call(order: dict[str, Any]) -> int:
    return call(order["name"], *order.get("arguments", ()))


@attack
def foreign_call(order: dict[str, Any]) -> int:
    """Call getpid by the 32-bit interface, where the same number is another call."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3")  # push rbx; mov eax, 20; int 0x80; pop rbx; ret
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))() == os.getpid())


@attack
def x32_call(order: dict[str, Any]) -> int:
    libc.syscall.restype = ctypes.c_long
    if libc.syscall(ctypes.c_long(0x40000000 | 39)) < 0:
        raise OSError(ctypes.get_errno(), "x32")
    return 1


@attack
def turn_dumpable(order: dict[str, Any]) -> int:
    return prctl(4, 1)


@attack
def dumpable(order: dict[str, Any]) -> int:
    return prctl(3)


@attack
def new_privileges_barred(order: dict[str, Any]) -> int:
    return prctl(39)


@attack
def death_signal(order: dict[str, Any]) -> int:
    wanted = ctypes.c_int()
    prctl(2, ctypes.byref(wanted))
    return wanted.value


@attack
def first_to_be_killed(order: dict[str, Any]) -> int:
    return int(Path("/proc/self/oom_score_adj").read_text())


@attack
def many_threads_at_once(order: dict[str, Any]) -> str:
    """Start threads until the kernel refuses."""
    end = threading.Event()
    started: list[threading.Thread] = []
    threading.stack_size(64 << 10)
    try:
        for _ in range(order["count"]):
            started.append(threading.Thread(target=end.wait, daemon=True))
            started[-1].start()
    except RuntimeError:
        return "refused"
    finally:
        end.set()
    return "started"


@attack
def identity(order: dict[str, Any]) -> dict[str, Any]:
    header, held = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8), ctypes.create_string_buffer(24)
    libc.syscall(ctypes.c_long(125 if X86 else 90), header, held)
    bounding = sum(prctl(23, capability) for capability in range(41))
    return {
        "user": os.getuid(),
        "capabilities": list(struct.unpack("=6I", held.raw)),
        "groups": os.getgroups(),
        "bounding": bounding,
    }


# -- limits -----------------------------------------------------------------------------------------


@attack
def take_memory(order: dict[str, Any]) -> int:
    return len(bytearray(order["bytes"]))


@attack
def grow_file(order: dict[str, Any]) -> int:
    descriptor = os.memfd_create("large")
    return os.pwrite(descriptor, b"x", order["bytes"])


@attack
def open_many(order: dict[str, Any]) -> int:
    return len([os.memfd_create("one") for _ in range(order["count"])])


@attack
def burn(order: dict[str, Any]) -> None:
    while time_used() < 10:
        pass


def time_used() -> float:
    """Return the processor time of this process in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@attack
def raise_limit(order: dict[str, Any]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))


# -- what was inherited -------------------------------------------------------------------------------


@attack
def read_inherited(order: dict[str, Any]) -> str:
    return os.pread(order["inherited"], 100, 0).decode()


@attack
def read_standard_input(order: dict[str, Any]) -> str:
    return os.read(0, 100).decode()


@attack
def environment(order: dict[str, Any]) -> dict[str, bool]:
    libc.getenv.restype = ctypes.c_char_p
    names = (b"SECRET", b"BEHIND_PYTHON")
    initial = Path("/proc/self/environ").read_bytes()
    return {
        "python": "SECRET" in os.environ,
        "c": any(libc.getenv(name) is not None for name in names),
        "kernel": b"swordfish" in initial,
    }


@attack
def clock_and_chance(order: dict[str, Any]) -> dict[str, Any]:
    """Read the machine's clock and its randomness."""
    return {"now": time.time(), "chance": os.urandom(16).hex()}


@attack
def machine(order: dict[str, Any]) -> list[str]:
    """Return the kernel's identification of the machine: host name, domain name, release."""
    reported = ctypes.create_string_buffer(6 * 65)  # struct utsname
    libc.uname(reported)
    _, name, release, _, _, domain = (reported.raw[n : n + 65].partition(b"\0")[0].decode() for n in range(0, 390, 65))
    return [name, socket.gethostname(), domain, release]
