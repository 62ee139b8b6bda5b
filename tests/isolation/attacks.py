"""What a compromised worker would try: ``python -m tests.isolation.attacks``, with an order on standard input.

The order is JSON: the attack, what the confinement leaves, which layers to leave out. The answer on standard
output is JSON too: the layers, and what came of the attack, an error number, an error's name or a value.
"""

from __future__ import annotations

import ctypes
import encodings.idna  # noqa: F401 (behind Landlock nothing can be imported)
import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from aegis.isolation.confine import Confinement, confine
from aegis.isolation.confine.bpf import ALLOW, Assembler, fail
from aegis.isolation.confine.kernel import libc, prctl
from aegis.isolation.wire import decode

ATTACKS: dict[str, Callable[[dict[str, Any]], Any]] = {}
PARENT = os.getppid()
GET_SEALS = 1034
X86 = platform.machine() == "x86_64"
NUMBERS = {  # x86-64, aarch64
    "ptrace": (101, 117), "unshare": (272, 97), "io_uring_setup": (425, 425), "bpf": (321, 280), "mount": (165, 40),
    "keyctl": (250, 219), "perf_event_open": (298, 241), "clone3": (435, 435), "process_vm_readv": (310, 270),
    "pidfd_open": (434, 434), "userfaultfd": (323, 282), "add_key": (248, 217), "kexec_load": (246, 104),
    "open_by_handle_at": (304, 265), "chroot": (161, 51), "setns": (308, 268), "tkill": (200, 130),
    "personality": (135, 92), "execveat": (322, 281), "tgkill": (234, 131), "no_such_call": (9999, 9999),
    "rt_sigqueueinfo": (129, 138), "init_module": (175, 105), "socketpair": (53, 199), "memfd_secret": (447, 447),
    # by path, where Landlock has no right for it
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
    "landlock_create_ruleset": (444, 444), "seccomp": (317, 277), "capset": (126, 91), "setuid": (105, 146),
}  # fmt: skip
ITS_OWN = {  # calls that a worker may make for itself
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "sched_getaffinity": (204, 123),
}  # fmt: skip


def attack(function: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """Make ``function`` one of the attacks, by its name."""
    ATTACKS[function.__name__] = function
    return function


def call(name: str, *arguments: Any) -> int:
    """Make a system call, whatever the C library thinks of it."""
    number = {**NUMBERS, **ITS_OWN}[name][0 if X86 else 1]
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(number, *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return int(result)


@attack
def nothing(order: dict[str, Any]) -> str:
    return "alive"


# -- what is held -----------------------------------------------------------------------------------


@attack
def held(order: dict[str, Any]) -> list[dict[str, int]]:
    """Tell of every open descriptor which file it is of, what may be done with it, and what seals it has."""
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
    """Ask for the processor time, and for the processors, of each process; return what was told."""
    told: dict[str, Any] = {}
    room, now = ctypes.create_string_buffer(1024), ctypes.create_string_buffer(16)
    for process in order["processes"]:
        calls = [("sched_getaffinity", process, 1024, room)]
        for kind in (0, 1, 2, 4, 5, 6):  # profile, virtual, scheduler; of a process and of a thread
            clock = (~process << 3 | kind) & 0xFFFFFFFF
            calls += [("clock_gettime", clock, room), ("clock_getres", clock, room)]
            calls += [("clock_nanosleep", clock, 0, now, None)]
        told |= {str(one[:2]): tried(partial(call, *one)) for one in calls}
    return {name: value for name, value in told.items() if value not in (-errno.EPERM, -errno.ENOSYS)}


def tried(action: Callable[[], int]) -> int:
    """Return what an action gave, or its error number, negative."""
    try:
        return action()
    except OSError as error:
        return -(error.errno or 0)


# -- files ----------------------------------------------------------------------------------------


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
    """Everything that a guest may do to a tree that it may write."""
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
    """Make a file as a later run would find it, by its path or from a granted directory."""
    root = order["granted"][0] if order.get("beneath") else None
    descriptor = os.open(order["path"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=root)
    os.write(descriptor, b"code")
    return "planted"


@attack
def give_another_name(order: dict[str, Any]) -> None:
    os.link(order["path"], order["to"])


@attack
def plant_link(order: dict[str, Any]) -> None:
    """Put a symbolic link in the place of what is there, which no check of Aegis stands before."""
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
    """What the descriptor of one file gives beside that file."""
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


def succeeds(function: Callable[..., Any], *arguments: Any) -> bool:
    """Tell whether a call raises no ``OSError``."""
    try:
        function(*arguments)
    except OSError:
        return False
    return True


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
"""System calls that change, or look at, what a path names; none of them is Landlock's to judge but the last few."""


@attack
def calls_by_path(order: dict[str, Any]) -> list[str]:
    """Make each of these calls with a path outside every grant, and return which succeed."""
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
    """Have the parent set the times of a file, or of a name in a directory, which this process merely holds."""
    session, name = order["session"], order.get("name")
    flags = {"hold": os.O_PATH, "read": os.O_RDONLY, "write": os.O_WRONLY}[order.get("open", "hold")]
    descriptors = [os.open(order["path"], flags) for _ in range(order.get("count", 1))]
    if descriptors:
        with socket.socket(fileno=os.dup(session.descriptors[session.setup.times])) as end:
            socket.send_fds(end, [b"t"], descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return session.set_times(name, tuple(order.get("times", (1, 2))))  # type: ignore[no-any-return]


@attack
def climb(order: dict[str, Any]) -> list[str]:
    """List what lies above a granted directory, from its descriptor."""
    session = order["session"]
    held = session.descriptors[session.setup.folders[order["folder"]].descriptor]
    above = os.open("../" * 40, os.O_RDONLY, dir_fd=held)
    return sorted(os.listdir(above))


# -- names ----------------------------------------------------------------------------------------


@attack
def look_up(order: dict[str, Any]) -> dict[str, Any]:
    """Look a name up as the host's own code does."""
    network = order["session"].sandbox._grants.network
    lookup = network.look_up(order["name"])
    while not lookup.done:
        network.scope.wait(read=(lookup.descriptor,))
    error, withheld = lookup.error, lookup.withheld
    return {"found": network.answered(lookup), "error": error and error.errno, "withheld": withheld}


@attack
def ask_for_names(order: dict[str, Any]) -> list[Any]:
    """Have the parent look names up, whatever the policy says, and return the packets that come back."""
    session = order["session"]
    for number, name in order["names"]:
        session.resolve(number, name)
    descriptor = session.descriptors[session.setup.resolver]
    packets = []
    for _ in range(order["answers"]):
        session.sandbox._door.wait(20, read=(descriptor,))
        packets.append(decode(os.read(descriptor, 1 << 17)))
    return packets


@attack
def resolve_blindly(order: dict[str, Any]) -> None:
    """Ask for a name without a socket on which the answer could come."""
    order["session"].resolve(1, order["name"])


@attack
def known_roots(order: dict[str, Any]) -> int:
    """Return how many roots of trust this process verifies servers by."""
    from aegis.host.http.transport import roots

    return int(roots().cert_store_stats()["x509_ca"])


@attack
def begin_look_ups(order: dict[str, Any]) -> None:
    """Ask for names, and do not wait for the answers."""
    for name in order["names"]:
        order["session"].sandbox._grants.network.look_up(name)


@attack
def connect_held_sockets(order: dict[str, Any]) -> list[str]:
    """Connect or bind each socket that the worker holds to a path, or send to one; return which could be."""
    found = []
    for held in [d for d in range(3, 100) if succeeds(os.fstat, d)]:
        try:
            end = socket.socket(fileno=os.dup(held))
        except OSError:
            continue
        with end:
            for way in ("connect", "bind"):
                if succeeds(getattr(end, way), order["path"] + ("" if way == "connect" else ".bound")):
                    found.append(f"{way} {held}")
            if end.type != socket.SOCK_STREAM:
                succeeds(end.sendto, b"x", order["path"])
    return found


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
    call("ptrace", 0x4206, PARENT, 0, 0)  # PTRACE_SEIZE, which stops nobody and ends with this process


@attack
def system_call(order: dict[str, Any]) -> int:
    return call(order["name"], *order.get("arguments", ()))


@attack
def foreign_call(order: dict[str, Any]) -> int:
    """Ask for getpid in the 32-bit way: the same number is another call there."""
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
    """Start threads without end, or until the kernel refuses."""
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
    """Return the seconds of processor time that this process used."""
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


# -- network ----------------------------------------------------------------------------------------------


@attack
def open_socket(order: dict[str, Any]) -> str:
    with socket.socket(*order["socket"]):
        return "opened"


@attack
def connect(order: dict[str, Any]) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
        opened.settimeout(10)
        opened.connect(("127.0.0.1", order["port"]))
        return "connected"


@attack
def connect_fast(order: dict[str, Any]) -> int:
    """Connect without connect(2)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
        return opened.sendto(b"x", 0x20000000, ("127.0.0.1", order["port"]))


@attack
def connect_abstract(order: dict[str, Any]) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened:
        opened.connect("\0" + order["name"])
        return "connected"


@attack
def bind(order: dict[str, Any]) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
        opened.bind(("127.0.0.1", order["port"]))
        opened.listen()
        return "bound"


@attack
def attach_filter(order: dict[str, Any]) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        instructions = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0), 8)
        opened.setsockopt(
            socket.SOL_SOCKET, 26, struct.pack("@HxxxxxxP", 1, ctypes.addressof(instructions))
        )  # SO_ATTACH_FILTER
        return "attached"


@attack
def resolve(order: dict[str, Any]) -> int:
    return len(socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM))


@attack
def use_sockets(order: dict[str, Any]) -> str:
    """What our own sockets do: both families and kinds, options, a datagram to oneself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setblocking(False)
        opened.bind(("127.0.0.1", 0))
        opened.sendto(b"to myself", opened.getsockname())
        opened.settimeout(10)
        return opened.recv(100).decode()


# -- the process ----------------------------------------------------------------------------------------------


def outcome(order: dict[str, Any]) -> dict[str, Any]:
    """Return what came of the attack."""
    try:
        return {"value": ATTACKS[order["attack"]](order)}
    except OSError as error:
        return {"errno": error.errno}
    except (MemoryError, ValueError, RuntimeError) as error:
        return {"error": type(error).__name__}


def drop_admin() -> None:
    """Lose CAP_SYS_ADMIN, as root does in a container."""
    header, held = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8), ctypes.create_string_buffer(24)
    libc.syscall(ctypes.c_long(125 if X86 else 90), header, held)
    words = list(struct.unpack("=6I", held.raw))
    words[0], words[1] = words[0] & ~(1 << 21), words[1] & ~(1 << 21)
    call("capset", header, ctypes.create_string_buffer(struct.pack("=6I", *words), 24))


def hide(names: dict[str, int]) -> None:
    """Do as a container does: a filter around the process answers these calls with an error number."""
    code = Assembler()
    code.load(0)
    for name, number in names.items():
        code.jump_equal(NUMBERS[name][0 if X86 else 1], otherwise=name)
        code.ret(fail(number))
        code.label(name)
    code.ret(ALLOW)
    instructions = code.assemble()
    held = ctypes.create_string_buffer(instructions, len(instructions))
    program = struct.pack("@HxxxxxxP", len(instructions) // 8, ctypes.addressof(held))
    prctl(38, 1)
    prctl(22, 2, ctypes.create_string_buffer(program, len(program)))


def main() -> None:
    """Prepare what the order asks for, confine this process, attack, answer."""
    order = json.loads(sys.stdin.buffer.read())
    libc.setenv(b"BEHIND_PYTHON", b"1", 1)
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (most if order.get("core") else 0, most))
    if "folder" in order:
        os.chdir(order["folder"])
    if order.get("user"):
        os.setgroups([])
        os.setresgid(*[order["user"]] * 3)
        os.setresuid(*[order["user"]] * 3)  # which leaves a process that is not dumpable
    elif os.geteuid() == 0:
        os.setgroups([4, 27])
    if order.get("drops_admin"):
        drop_admin()
    if "hide" in order:
        hide(order["hide"])
    if order.get("personality"):
        call("personality", order["personality"])
    if order.get("dies_with_parent"):
        prctl(1, int(signal.SIGKILL))
    granted = [os.open(path, order.get("mode", os.O_RDONLY)) for path in order.get("grant", ())]
    order["granted"] = granted
    if order.get("inherit"):
        order["inherited"] = os.open(order["inherit"], os.O_RDONLY)
    wanted: dict[str, Any] = {"keep_fds": (1, 2), "file_bytes": 1 << 20, **order.get("wanted", {})}
    if granted:
        wanted["write_fds" if order.get("writes") else "read_fds"] = tuple(granted)
    if order.get("thread"):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    layers = confine(Confinement(**wanted), skip=order.get("skip", ()))
    os.write(1, json.dumps({"layers": layers}).encode() + b"\n")
    os.write(1, json.dumps(outcome(order)).encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    main()
