"""The layers that change the process itself: environment, descriptors, directory, limits, identity."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable, Iterator

try:
    import resource  # now: nothing can be imported behind Landlock
except ImportError:
    resource = None  # type: ignore[assignment]

from aegis.isolation.confine.kernel import Struct, libc, machine, prctl, syscall
from aegis.isolation.confine.model import Confinement, Situation, Unavailable, describe

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
    "volunteer_for_killing",
]

NOBODY = 65534
"""The user and group that owns nothing; also what the kernel shows for one without a mapping."""


# -- the kernel's files about this process ------------------------------------------------------------

_GET_DUMPABLE, _SET_DUMPABLE = 3, 4


@contextlib.contextmanager
def _own_files_in_proc() -> Iterator[None]:
    """Make the files of this process in /proc its own: those of one that is not dumpable are root's."""
    before = prctl(_GET_DUMPABLE)
    prctl(_SET_DUMPABLE, 1)
    try:
        yield
    finally:
        prctl(_SET_DUMPABLE, int(before == 1))


def volunteer_for_killing(wanted: Confinement, here: Situation) -> str:
    """Have the kernel, when memory runs out, kill this process before others.

    The limit on data does not count memory that can be shared, memfds above all, which the engine needs.
    """
    with _own_files_in_proc(), open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(b"1000")
    return "killed first when the machine runs out of memory"


# -- environment, descriptors, directory ------------------------------------------------------------


def clear_environment(wanted: Confinement, here: Situation) -> str:
    """Empty the environment: Python's, C's, and the bytes that /proc/self/environ shows."""
    os.environ.clear()
    if not hasattr(libc, "clearenv"):
        return "empty"
    libc.clearenv()
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError as error:
        raise Unavailable(f"empty, but for the bytes it started with: /proc: {describe(error)}") from None
    start, end = int(fields[47]), int(fields[48])  # env_start and env_end, proc_pid_stat(5)
    ctypes.memset(start, 0, end - start)
    return "empty"


def close_descriptors(wanted: Confinement, here: Situation) -> str:
    """Close what is not kept; standard streams not kept become ``/dev/null``."""
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
    except (OSError, Unavailable):
        os.closerange(low, (os.sysconf("SC_OPEN_MAX") if high is None else high + 1))


def private_directory() -> str:
    """Make an empty directory that only this user may enter, and return its path. The caller removes it."""
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
    """Work in a directory that is deleted already: empty for ever, nothing to clean up.

    A fork server entered one for all its workers. None of them can put anything there, and one that made a directory of
    its own would leave it behind if it was killed just then.
    """
    if os.stat(".").st_nlink:
        enter_empty_directory()
    return "the working directory is private, empty and deleted"


def enter_empty_directory() -> None:
    """Make a directory, enter and delete it."""
    path = private_directory()
    try:
        os.chdir(path)
        os.chmod(path, 0o711)  # another user may come to make it its root
    finally:
        os.rmdir(path)


# -- limits -------------------------------------------------------------------------------------------

_THREADS_AT_MOST = 64


def limit_resources(wanted: Confinement, here: Situation) -> str:
    """Set the limits for good: soft and hard alike, never above what is in force."""
    if resource is None:
        raise Unavailable(f"{sys.platform} has no resource limits")

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
        # Unequal, so that the signal tells: SIGXCPU for time, SIGKILL for a process that ignores it.
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
    """Return a limit for processes and threads where it would count this worker's alone."""
    if not wanted.threads:
        return 0
    return _THREADS_AT_MOST if here.own_users else None  # else it counts all that the user runs


# -- namespaces ---------------------------------------------------------------------------------------

_NAME = b"worker"
_NEWUTS, _NEWIPC, _NEWUSER, _NEWNET = 0x04000000, 0x08000000, 0x10000000, 0x40000000


def enter_namespaces(wanted: Confinement, here: Situation) -> str:
    """Leave the machine's network, its System V IPC and its host name. Sockets that are handed over stay outside."""
    flags = _NEWIPC | _NEWUTS | _NEWNET
    try:
        _unshare(flags)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        here.alone("a user namespace is for one alone")
        if os.geteuid() == 0 and (wanted.read_fds or wanted.write_fds):
            raise Unavailable(f"{describe(error)}; in a user namespace root would lose files of others") from None
        _enter_users(flags, here)
    for rename in (libc.sethostname, libc.setdomainname):  # the namespace began with the machine's names
        rename(_NAME, len(_NAME))
    return f"own net, ipc, uts{', user' if here.own_users else ''}"


def _enter_users(flags: int, here: Situation) -> None:
    user, group = os.getuid(), os.getgid()
    _unshare(flags | _NEWUSER)
    here.own_users = True
    _map_user(user, group)


def _unshare(flags: int) -> None:
    if not hasattr(libc, "unshare"):
        raise Unavailable(f"{sys.platform} has no namespaces; Linux has")
    if libc.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _map_user(user: int, group: int) -> None:
    """Stay who we were, in name too. Where that is refused, the process shows as nobody and works as well."""
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
    """Give up every capability, and root's identity where no files are granted.

    Beneath a granted directory names are opened with the worker's own identity. As nobody it would lose
    files that the policy grants and root can open; so with grants root stays root, without capabilities
    but those over files, which reach no further than Landlock's rules do. Nobody moves to a user namespace
    of its own, where that is permitted, so that a limit on threads counts this worker's alone.
    """
    machine()
    keeps = _kept(wanted, here)
    became = ""
    if os.geteuid() == 0 and not wanted.read_fds and not wanted.write_fds and not here.own_users:
        became = _preserving_death(lambda: _become_nobody(here))
    # After the user namespace, which a process with a root of its own may not make, and before the capabilities go.
    root = _own_root(wanted, here)
    if not here.bounded:
        _bound(keeps)
    _preserving_death(lambda: _capabilities(keeps))
    prctl(_SET_KEEPCAPS, 0)
    here.alone("keep their capabilities")
    kept = f"capabilities over files only ({len(keeps)})" if keeps else "no capabilities"
    return f"{became or f'user {os.geteuid()}'}, {kept}{root}"


def _own_root(wanted: Confinement, here: Situation) -> str:
    """Make a directory the root, beneath which there is nothing that was not granted; say which one it is.

    Landlock has no right for looking at a path (stat(2), readlink(2), ``O_PATH``). Without files the root is the
    working directory, empty and deleted; with one granted directory it is that one. With several it would be no
    barrier: from a directory that is open outside the root, ``..`` leads up to the real one. A file granted alone is
    opened anew through ``/proc``, so there it stays the real one too.
    """
    granted = (*wanted.read_fds, *wanted.write_fds)
    try:
        if len(granted) > 1 or (not granted and os.stat(".").st_nlink):
            return ""  # a working directory that was not deleted may have something beneath it
        if granted:
            os.fchdir(granted[0])  # fails for a file
        elif not here.own_users:
            _capabilities((_SYS_CHROOT,))
        os.chroot(".")
    except OSError:
        return ""
    return ", the granted directory as its root" if granted else ", an empty directory as its root"


def bound_capabilities(wanted: Confinement, here: Situation) -> None:
    """Do beforehand what :func:`drop_privileges` would: no capability is lost by it that the process has."""
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
        prctl(_SET_KEEPCAPS, 1)  # for the change of the root, where there is no user namespace that gives the right
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as error:
        return f"user {os.geteuid()} still ({describe(error)})"
    with contextlib.suppress(OSError):
        _enter_users(0, here)
    return f"user {NOBODY}"


def _bound(keeps: tuple[int, ...]) -> None:
    """Empty the bounding and ambient sets, as far as the kernel lets us: no-new-privs closes the same door."""
    with contextlib.suppress(OSError):
        prctl(_AMBIENT, _AMBIENT_CLEAR_ALL)
        for capability in range(_CAPABILITIES):
            if capability not in keeps:
                prctl(_CAPBSET_DROP, capability)


def _capabilities(keeps: tuple[int, ...]) -> str:
    """Make the effective, permitted and inheritable sets ``keeps``, or what is left of it."""
    header = Struct(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
    held = Struct(24)
    syscall("capget", header, held)
    _, permitted, _, _, _, _ = struct.unpack("=6I", held.raw)
    low = sum(1 << capability for capability in keeps) & permitted
    syscall("capset", header, Struct(struct.pack("=6I", low, low, 0, 0, 0, 0), 24))
    return ""


def _preserving_death(change: Callable[[], str]) -> str:
    """Run ``change``, which makes the kernel forget the signal that the parent's death sends; set it again."""
    parent, signal = os.getppid(), ctypes.c_int()
    prctl(_GET_PDEATHSIG, ctypes.byref(signal))
    result = change()
    if signal.value:
        prctl(_SET_PDEATHSIG, signal.value)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.value)  # the parent died in between
    return result


def forbid_dumps(wanted: Confinement, here: Situation) -> str:
    """Make the process one that others of its user can neither trace nor dump."""
    prctl(_SET_DUMPABLE, 0)
    return "no core dumps, and no tracing by others of the same user"


def forbid_privileges(wanted: Confinement, here: Situation) -> str:
    """Make sure that nothing executed gains privileges; Landlock and seccomp ask for it."""
    prctl(_NO_NEW_PRIVS, 1)
    return "nothing gains privileges"
