"""The layers that change the process itself: environment, descriptors, directory, limits, namespaces, privileges.

Each layer is a function that returns one line about its effect, and raises ``OSError`` or :class:`LayerUnavailable` if
it cannot be applied.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable, Iterator

try:
    import resource  # at import time: Landlock prevents later imports
except ImportError:
    resource = None  # type: ignore[assignment]

from aegis.isolation.confine.kernel import Struct, libc, machine, prctl, syscall
from aegis.isolation.confine.model import Confinement, LayerUnavailable, Situation, describe

__all__ = [
    "bound_capabilities",
    "clear_environment",
    "close_descriptors",
    "drop_privileges",
    "enter_empty_directory",
    "enter_namespaces",
    "forbid_dumps",
    "forbid_privileges",
    "leave_directories",
    "limit_resources",
    "private_directory",
    "raise_oom_score",
]

NOBODY = 65534
"""The overflow user and group id, which owns no files; the kernel also shows it for unmapped ids."""


# -- files in /proc/self ------------------------------------------------------------------------------

_GET_DUMPABLE, _SET_DUMPABLE = 3, 4


@contextlib.contextmanager
def _own_files_in_proc() -> Iterator[None]:
    """Make the process dumpable inside the ``with`` block: root owns /proc/self of an undumpable process (proc(5))."""
    before = prctl(_GET_DUMPABLE)
    prctl(_SET_DUMPABLE, 1)
    try:
        yield
    finally:
        prctl(_SET_DUMPABLE, int(before == 1))


def raise_oom_score(wanted: Confinement, here: Situation) -> str:
    """Make this process the first that the kernel kills when memory runs out.

    RLIMIT_DATA does not count shared memory, in particular memfds, which the engine needs.
    """
    with _own_files_in_proc(), open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(b"1000")
    return "killed first when the machine runs out of memory"


# -- environment, descriptors, directory ------------------------------------------------------------


def clear_environment(wanted: Confinement, here: Situation) -> str:
    """Clear the environment of Python and of the C library, and the original bytes that /proc/self/environ shows."""
    os.environ.clear()
    if not hasattr(libc, "clearenv"):
        return "empty"
    libc.clearenv()
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError as error:
        raise LayerUnavailable(f"empty except for the initial bytes: /proc: {describe(error)}") from None
    start, end = int(fields[47]), int(fields[48])  # env_start and env_end, proc_pid_stat(5)
    ctypes.memset(start, 0, end - start)
    return "empty"


def close_descriptors(wanted: Confinement, here: Situation) -> str:
    """Close all descriptors that are not kept; replace standard streams that are not kept by ``/dev/null``."""
    kept = sorted(wanted.kept)
    low = 3
    for descriptor in [d for d in kept if d > 2]:
        _close_range(low, descriptor - 1)
        low = descriptor + 1
    _close_range(low, None)
    for descriptor in {0, 1, 2} - set(kept):
        null = os.open(os.devnull, os.O_RDONLY if descriptor == 0 else os.O_WRONLY)
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)
    return f"{len(kept)} kept, the others closed"


def _close_range(low: int, high: int | None) -> None:
    if high is not None and low > high:
        return
    try:
        syscall("close_range", low, 0xFFFFFFFF if high is None else high, 0)
    except (OSError, LayerUnavailable):
        os.closerange(low, (os.sysconf("SC_OPEN_MAX") if high is None else high + 1))


def private_directory() -> str:
    """Create an empty directory of mode 0700 and return its path; the caller removes it."""
    failure: OSError = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for parent in (os.environ.get("TMPDIR"), "/tmp", "/var/tmp", "/dev/shm"):
        if parent:
            path = os.path.abspath(os.path.join(parent, f"aegis-{os.urandom(8).hex()}"))
            try:
                os.mkdir(path, 0o700)
                return path
            except OSError as error:
                failure = error
    raise failure


def leave_directories(wanted: Confinement, here: Situation) -> str:
    """Make a deleted directory the working directory: it stays empty and needs no cleanup.

    The fork server has entered one for all of its workers. They cannot create files there; and a worker that created a
    directory of its own would leave it behind if it were killed before deleting it.
    """
    if os.stat(".").st_nlink:
        enter_empty_directory()
    return "the working directory is private, empty and deleted"


def enter_empty_directory() -> None:
    """Create a directory, enter it and delete it."""
    path = private_directory()
    try:
        os.chdir(path)
        os.chmod(path, 0o711)  # searchable: after dropping root, the worker makes it its root directory
    finally:
        os.rmdir(path)


# -- limits -------------------------------------------------------------------------------------------

_PROCESS_LIMIT = 64
"""Threads of a worker, if RLIMIT_NPROC counts only this worker."""


def limit_resources(wanted: Confinement, here: Situation) -> str:
    """Lower the soft and hard resource limits (setrlimit(2)); keep a limit that is already lower."""
    if resource is None:
        raise LayerUnavailable(f"{sys.platform} has no resource limits")

    def lower(which: int, soft: int, hard: int) -> None:
        _, ceiling = resource.getrlimit(which)
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(which, (soft, hard))

    lower(resource.RLIMIT_CORE, 0, 0)
    lower(resource.RLIMIT_NOFILE, wanted.open_files, wanted.open_files)
    texts = [f"files {wanted.open_files}", "core 0"]
    largest = wanted.data_bytes if wanted.file_bytes is None else wanted.file_bytes
    if largest is not None:
        lower(resource.RLIMIT_FSIZE, largest, largest)
        texts.append(f"file size {largest}")
    if wanted.cpu_seconds is not None:
        # The hard limit is one second higher, so that the process first gets SIGXCPU, which names the cause.
        lower(resource.RLIMIT_CPU, wanted.cpu_seconds, wanted.cpu_seconds + 1)
        texts.append(f"CPU {wanted.cpu_seconds} s")
    most = _processes(wanted, here)
    if most is not None:
        lower(resource.RLIMIT_NPROC, most, most)
        texts.append(f"processes {most}")
    if wanted.data_bytes is not None:
        lower(resource.RLIMIT_DATA, wanted.data_bytes, wanted.data_bytes)
        texts.append(f"data {wanted.data_bytes}")
    return ", ".join(texts)


def _processes(wanted: Confinement, here: Situation) -> int | None:
    """Return RLIMIT_NPROC, or ``None`` if it would count the user's other processes as well."""
    if not wanted.threads:
        return 0
    return _PROCESS_LIMIT if here.own_users else None  # the kernel counts per user and user namespace


# -- namespaces ---------------------------------------------------------------------------------------

_NAME = b"worker"
_NEWUTS, _NEWIPC, _NEWUSER, _NEWNET = 0x04000000, 0x08000000, 0x10000000, 0x40000000


def enter_namespaces(wanted: Confinement, here: Situation) -> str:
    """Enter new network, IPC and UTS namespaces. Sockets that the parent passes stay in its network namespace."""
    flags = _NEWIPC | _NEWUTS | _NEWNET
    try:
        _unshare(flags)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        here.require_single_thread("only a process with a single thread can enter a user namespace")
        if os.geteuid() == 0 and (wanted.read_fds or wanted.write_fds):
            raise LayerUnavailable(
                f"{describe(error)}; in a user namespace, root could not open granted files of other users"
            ) from None
        _enter_users(flags, here)
    for rename in (libc.sethostname, libc.setdomainname):  # a new UTS namespace starts with the machine's names
        rename(_NAME, len(_NAME))
    return f"own net, ipc, uts{', user' if here.own_users else ''}"


def _enter_users(flags: int, here: Situation) -> None:
    user, group = os.getuid(), os.getgid()
    _unshare(flags | _NEWUSER)
    here.own_users = True
    _map_user(user, group)


def _unshare(flags: int) -> None:
    if not hasattr(libc, "unshare"):
        raise LayerUnavailable(f"{sys.platform} has no namespaces: use Linux")
    if libc.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _map_user(user: int, group: int) -> None:
    """Map the user and group id to themselves. Without a mapping the process has the overflow ids, and still works."""
    with contextlib.suppress(OSError), _own_files_in_proc():
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "wb", buffering=0) as file:
                file.write(text.encode())


# -- privileges ---------------------------------------------------------------------------------------

_NO_NEW_PRIVS, _GET_PDEATHSIG, _SET_PDEATHSIG, _CAPBSET_DROP, _AMBIENT, _SET_KEEPCAPS = 38, 2, 1, 24, 47, 8
_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER, _SYS_CHROOT = 1, 2, 3, 18
_CAPABILITIES = 64


def drop_privileges(wanted: Confinement, here: Situation) -> str:
    """Drop all capabilities, and root's identity if no files are granted.

    Files beneath a granted directory are opened with the worker's own identity. With the overflow user id, it could not
    open files that the policy grants and root can open. With file grants, a root worker therefore stays root and keeps
    only the capabilities over files; Landlock restricts these to the granted files. Otherwise it takes the overflow
    user id, and enters its own user namespace if permitted, so that RLIMIT_NPROC counts only this worker's threads.
    """
    machine()
    keeps = _kept(wanted, here)
    became = ""
    if os.geteuid() == 0 and not wanted.read_fds and not wanted.write_fds and not here.own_users:
        became = _preserving_death(lambda: _become_nobody(here))
    # chroot comes after entering the user namespace, which the kernel denies to a process in a chroot, and before
    # dropping the capabilities that it needs.
    root = _own_root(wanted, here)
    if not here.bounded:
        _bound(keeps)
    _preserving_death(lambda: _capabilities(keeps))
    prctl(_SET_KEEPCAPS, 0)
    here.require_single_thread("keep their capabilities")
    kept = f"only capabilities over files ({len(keeps)})" if keeps else "no capabilities"
    return f"{became or f'user {os.geteuid()}'}, {kept}{root}"


def _own_root(wanted: Confinement, here: Situation) -> str:
    """Change the root to a directory without ungranted files, if there is one; return a phrase that names it.

    Landlock cannot deny stat(2), readlink(2) and ``O_PATH``, which chroot(2) can. Without file grants the new root is
    the working directory, which is empty and deleted; with a single granted directory it is that directory. With
    several grants chroot would be no barrier, because ``..`` leads from an open directory outside the root to the real
    root. A granted file is reopened through ``/proc``, so the root stays the real one in that case too.
    """
    granted = (*wanted.read_fds, *wanted.write_fds)
    try:
        if len(granted) > 1 or (not granted and os.stat(".").st_nlink):
            return ""  # a working directory that was not deleted may contain files
        if granted:
            os.fchdir(granted[0])  # fails for a file
        elif not here.own_users:
            _capabilities((_SYS_CHROOT,))
        os.chroot(".")
    except OSError:
        return ""
    return ", the granted directory as its root" if granted else ", an empty directory as its root"


def bound_capabilities(wanted: Confinement, here: Situation) -> None:
    """Reduce the bounding set early, before :func:`drop_privileges`; the process keeps its current capabilities."""
    _bound(_kept(wanted, here))
    here.bounded = True


def _kept(wanted: Confinement, here: Situation) -> tuple[int, ...]:
    return _file_capabilities(wanted) if os.geteuid() == 0 and not here.own_users else ()


def _file_capabilities(wanted: Confinement) -> tuple[int, ...]:
    if wanted.write_fds:
        return (_DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER)
    return (_DAC_READ_SEARCH,) if wanted.read_fds else ()


def _become_nobody(here: Situation) -> str:
    try:
        prctl(_SET_KEEPCAPS, 1)  # keep CAP_SYS_CHROOT for _own_root, if no user namespace will provide it
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as error:
        return f"user {os.geteuid()} still ({describe(error)})"
    with contextlib.suppress(OSError):
        _enter_users(0, here)
    return f"user {NOBODY}"


def _bound(keeps: tuple[int, ...]) -> None:
    """Reduce the bounding and ambient sets to ``keeps``. Failure is harmless: no-new-privs has the same effect."""
    with contextlib.suppress(OSError):
        prctl(_AMBIENT, _AMBIENT_CLEAR_ALL)
        for capability in range(_CAPABILITIES):
            if capability not in keeps:
                prctl(_CAPBSET_DROP, capability)


def _capabilities(keeps: tuple[int, ...]) -> str:
    """Set the effective and permitted sets to those of ``keeps`` that are permitted, and clear the inheritable set."""
    header = Struct(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
    held = Struct(24)
    syscall("capget", header, held)
    _, permitted, _, _, _, _ = struct.unpack("=6I", held.raw)
    low = sum(1 << capability for capability in keeps) & permitted
    syscall("capset", header, Struct(struct.pack("=6I", low, low, 0, 0, 0, 0), 24))
    return ""


def _preserving_death(change: Callable[[], str]) -> str:
    """Call ``change`` and restore the parent-death signal, which the kernel clears on a change of credentials.

    Source: PR_SET_PDEATHSIG in prctl(2).
    """
    parent, signal = os.getppid(), ctypes.c_int()
    prctl(_GET_PDEATHSIG, ctypes.byref(signal))
    result = change()
    if signal.value:
        prctl(_SET_PDEATHSIG, signal.value)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.value)  # the parent died while the signal was cleared
    return result


def forbid_dumps(wanted: Confinement, here: Situation) -> str:
    """Make the process undumpable: no core dumps, and no ptrace by other processes of the same user."""
    prctl(_SET_DUMPABLE, 0)
    return "no core dumps, and no tracing by other processes of the same user"


def forbid_privileges(wanted: Confinement, here: Situation) -> str:
    """Set no_new_privs: execve grants no privileges. Unprivileged use of Landlock and seccomp requires it."""
    prctl(_NO_NEW_PRIVS, 1)
    return "execve grants no privileges"
