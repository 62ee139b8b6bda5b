"""The system calls that a confined worker may make: the allow list, and the BPF program that enforces it.

A call that is not listed fails with EPERM. A call that is newer than the list fails with ENOSYS, so that the C library
falls back to an older one. If a call is safe only with certain arguments, the list has conditions on them. A seccomp
filter cannot read memory behind a pointer, so restricting paths and socket addresses is left to Landlock and
namespaces.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence

from aegis.isolation.confine.bpf import ALLOW, KILL, Assembler, fail
from aegis.isolation.confine.kernel import MACHINES
from aegis.isolation.confine.model import Confinement
from aegis.isolation.confine.numbers import NEWEST, NUMBERS
from aegis.support.lean import NamedTuple

__all__ = ["AUDIT_ARCH", "Argument", "Rule", "allowed", "program"]

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000  # the second ABI of x86-64 shares its AUDIT_ARCH and sets this bit
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data


class Argument(NamedTuple):
    """A condition on an argument: its lower (or ``upper``) 32 bits, masked with ``mask``, equal one of ``values``.

    Registers of classic BPF have 32 bits, so the two halves of a 64-bit argument need separate conditions.
    """

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    upper: bool = False


Rule = tuple[tuple[Argument, ...], ...]
"""Alternatives, each a conjunction of conditions. An empty rule allows any arguments."""

_ANY: Rule = ()
_MAX_LINEAR_SEARCH_ITEMS = 3  # ranges searched linearly; more are searched by bisection
_NULL = 0

# -- needed by Python and the engine, whatever is granted -----------------------------------------
_MEMORY = "brk madvise mmap mprotect mremap munmap membarrier memfd_create mincore"
_DESCRIPTORS = (
    "read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range dup dup2 dup3 "
    "fstat newfstatat fsync fdatasync ftruncate fadvise64 pipe pipe2 eventfd2 "
    "poll ppoll select pselect6 epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2"
)
_SOCKETS_HELD = "recvfrom recvmsg shutdown getsockname getpeername"
_THREADS = "futex set_robust_list rseq sched_yield getcpu exit exit_group restart_syscall"
_SIGNALS = "rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait sigaltstack"
_TIME = "nanosleep gettimeofday"
_IDENTITY = "getpid gettid getppid getuid geteuid getgid getegid getrusage sysinfo uname getcwd getrandom"

# -- needed for files, in addition to descriptors -------------------------------------------------
# Landlock has no access right for stat and readlink. newfstatat and readlinkat are allowed, because Aegis needs them.
_READING = "open openat openat2 readlinkat getdents64"
# utimensat is not allowed: Landlock has no access right for it, so the parent sets times for the worker.
_WRITING = "mkdir mkdirat unlink unlinkat rmdir rename renameat renameat2 link linkat symlink symlinkat fallocate"

# Not SO_PEERCRED, SO_PEERGROUPS and the like: on the sockets to the parent they reveal its process id, user and groups.
_GETSOCKOPT: Rule = (
    # SO_TYPE, SO_ERROR, SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE, SO_PROTOCOL, SO_DOMAIN
    (Argument(1, (1,)), Argument(2, (3, 4, 7, 8, 9, 38, 39))),
    (Argument(1, (6,)), Argument(2, (4, 5, 6))),  # TCP_KEEPIDLE, KEEPINTVL, KEEPCNT
    (Argument(1, (0,)), Argument(2, (2,))),  # IP_TTL
    (Argument(1, (41,)), Argument(2, (16,))),  # IPV6_UNICAST_HOPS
)

# -- needed for the network, in addition to sockets that the parent passes -------------------------
# Not socket, connect, bind or listen: the filter cannot check an address behind a pointer, so the parent makes them.
_ACCEPTING = "accept accept4"
_SETSOCKOPT: Rule = (
    (Argument(1, (1,)), Argument(2, (2, 7, 8, 9))),  # SO_REUSEADDR, SNDBUF, RCVBUF, KEEPALIVE
    (Argument(1, (6,)), Argument(2, (1, 4, 5, 6))),  # TCP_NODELAY, KEEPIDLE, KEEPINTVL, KEEPCNT
    (Argument(1, (0,)), Argument(2, (2,))),  # IP_TTL
    (Argument(1, (41,)), Argument(2, (16, 26))),  # IPV6_UNICAST_HOPS, V6ONLY
)
_MSG_FASTOPEN = 0x20000000  # connects without connect(2)
# Only without a destination address: the filter cannot check one.
_SENDTO: Rule = ((Argument(3, (0,), _MSG_FASTOPEN), Argument(4, (_NULL,)), Argument(4, (_NULL,), upper=True)),)
_SENDMSG: Rule = ((Argument(2, (0,), _MSG_FASTOPEN),),)

_THREAD = 0x003D0F00  # VM|FS|FILES|SIGHAND|THREAD|SYSVSEM|SETTLS|PARENT_SETTID|CHILD_CLEARTID
_CLONE_DETACHED = 0x00400000  # musl sets it, and the kernel ignores it
_CLONE: Rule = ((Argument(0, (_THREAD,), ~_CLONE_DETACHED & 0xFFFFFFFF), Argument(0, (0,), upper=True)),)
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC, F_ADD_SEALS, F_GET_SEALS
_FCNTL: Rule = ((Argument(1, (0, 1, 2, 3, 1030, 1033, 1034)),),)
_IOCTL: Rule = ((Argument(1, (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)),),)  # TCGETS, FIONREAD, FIONBIO, FIO(N)CLEX
# A negative clock id is the CPU clock of a process or thread (clock_gettime(2)); reading it needs no permission, so the
# worker could measure any process of the machine. Allow only ids 0 to 15.
_CLOCK: Rule = ((Argument(0, (0,), 0xFFFFFFF0),),)
_ITSELF: Rule = ((Argument(0, (0,)),),)
_MISSING = frozenset({"sched_getaffinity"})
"""Calls that fail with ENOSYS for rejected arguments: pthread_getattr_np(3) then ignores the failure."""
_PRCTL: Rule = ((Argument(0, (15, 16)),),)  # PR_SET_NAME, PR_GET_NAME: names of threads
_PRLIMIT: Rule = ((Argument(0, (0,)), Argument(2, (_NULL,)), Argument(2, (_NULL,), upper=True)),)  # reads, does not set


def allowed(wanted: Confinement, process: int) -> dict[str, Rule]:
    """Return the rule of each system call that ``wanted`` allows to the process with the id ``process``."""
    plain = f"{_MEMORY} {_DESCRIPTORS} {_SOCKETS_HELD} {_THREADS} {_SIGNALS} {_TIME} {_IDENTITY}"
    if wanted.reads:
        plain = f"{plain} {_READING}"
    if wanted.write_fds:
        plain = f"{plain} {_WRITING}"
    rules: dict[str, Rule] = {
        "tgkill": ((Argument(0, (process,)),),),  # abort(3)
        "clock_gettime": _CLOCK,
        "clock_getres": _CLOCK,
        "clock_nanosleep": _CLOCK,
        "sched_getaffinity": _ITSELF,
        "fcntl": _FCNTL,
        "ioctl": _IOCTL,
        "prctl": _PRCTL,
        "prlimit64": _PRLIMIT,
        "sendto": _SENDTO,
        "getsockopt": _GETSOCKOPT,
    }
    if wanted.threads:
        rules["clone"] = _CLONE
    if wanted.write_fds:
        rules["sendmsg"] = _SENDMSG  # passes a descriptor to the parent, which sets the times of the file
    if wanted.network:
        rules["setsockopt"] = _SETSOCKOPT
        if wanted.listens:
            plain = f"{plain} {_ACCEPTING}"
    return {**rules, **dict.fromkeys(plain.split(), _ANY)}


def program(rules: Mapping[str, Rule], machine: str) -> bytes:
    """Return the filter that allows ``rules`` on ``machine``, as an array of ``struct sock_filter``."""
    column = MACHINES.index(machine)
    code = Assembler()
    code.load(_ARCH)
    code.jump_equal(AUDIT_ARCH[machine], then="this machine")
    code.ret(KILL)
    code.label("this machine")
    code.load(_NUMBER)
    if machine == "x86_64":
        code.jump_at_least(_X32, otherwise="this ABI")
        code.ret(KILL)
        code.label("this ABI")
    code.jump_greater(NEWEST, then="unknown")
    # clone3 passes its flags behind a pointer, where the filter cannot read them; after ENOSYS, libc uses clone.
    code.jump_equal(_known("clone3", column), otherwise="known")
    code.label("unknown")
    code.ret(fail(errno.ENOSYS))
    code.label("known")
    unconditional = [name for name, rule in rules.items() if rule is _ANY]
    for name, rule in rules.items():
        if rule is not _ANY:
            _conditional(code, _known(name, column), name, rule)
    _search(code, _ranges(number for name in unconditional if (number := NUMBERS[name][column]) is not None))
    for label, verdict in {"deny": fail(errno.EPERM), "allow": ALLOW}.items():
        code.label(label)
        code.ret(verdict)
    return code.assemble()


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return the numbers as ascending ranges; both ends are inclusive."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _search(code: Assembler, ranges: Sequence[tuple[int, int]]) -> None:
    """Allow the numbers in ``ranges`` and deny all others, by bisection.

    A short path matters twice: for each call, and when the filter is loaded, because the kernel then evaluates it for
    every system call number to build its allow bitmap.
    """
    if len(ranges) > _MAX_LINEAR_SEARCH_ITEMS:
        middle = len(ranges) // 2
        upper = f"from {ranges[middle][0]}"
        code.jump_at_least(ranges[middle][0], then=upper)
        _search(code, ranges[:middle])
        code.label(upper)
        _search(code, ranges[middle:])
        return
    for low, high in ranges:
        if low == high:
            code.jump_equal(low, then="allow")
        else:
            code.jump_at_least(low, otherwise="deny")
            code.jump_greater(high, otherwise="allow")
    code.ret(fail(errno.EPERM))


def _known(name: str, column: int) -> int:
    number = NUMBERS[name][column]
    assert number is not None, name
    return number


def _conditional(code: Assembler, number: int, name: str, rule: Rule) -> None:
    """Write the decision about one call. If the number differs, the accumulator still holds it at ``past``."""
    code.jump_equal(number, otherwise=f"{name} past")
    for way, conditions in enumerate(rule):
        for nth, where in enumerate(conditions):
            code.load(_ARGUMENTS + 8 * where.argument + 4 * where.upper)
            if where.mask != 0xFFFFFFFF:
                code.mask(where.mask)
            met = f"{name} {way} {nth} met"
            for value in where.values[:-1]:
                code.jump_equal(value, then=met)
            code.jump_equal(where.values[-1], otherwise=f"{name} way {way + 1}")
            code.label(met)
        code.ret(ALLOW)
        code.label(f"{name} way {way + 1}")
    code.ret(fail(errno.ENOSYS if name in _MISSING else errno.EPERM))
    code.label(f"{name} past")
