"""Landlock rulesets: restrict the files that a worker can open, and its access to TCP ports and other processes.

Rules refer to open descriptors, never to paths, which could be replaced between check and use. Descriptors that are
already open stay usable; Landlock checks every later open, and denies every TCP bind and connect. See landlock(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterator

from aegis.isolation.confine.kernel import Struct, syscall
from aegis.isolation.confine.model import Confinement, LayerUnavailable, Situation, describe

__all__ = ["FILE_RIGHTS", "READ", "WRITE", "abi", "handled", "restrict_files", "restrict_net"]

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_DIR, MAKE_REG, MAKE_SYM = 1 << 7, 1 << 8, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | REFER
"""Does not include creating devices, FIFOs and sockets, or executing files."""
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""Access rights that apply to files; the kernel rejects a rule for a file with any other right."""

_LAST_BIT = {1: 12, 2: 13, 3: 14, 4: 14}
"""The highest file access right of each ABI version, as a bit number."""
_LATEST_LAST_BIT = 15  # ABI 5 and later
_NET_SINCE, _SCOPE_SINCE = 4, 6
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL = 1, 2
_VERSION, _PATH_BENEATH = 1, 1


def abi() -> int:
    """Return the kernel's Landlock ABI version; raise :class:`LayerUnavailable` if Landlock is missing or disabled."""
    try:
        return syscall("landlock_create_ruleset", 0, 0, _VERSION)
    except OSError as error:
        reason = {
            errno.ENOSYS: "the kernel has no Landlock (Linux 5.13 or later has), or a seccomp filter hides it",
            errno.EOPNOTSUPP: "Landlock is disabled: enable it with the kernel parameter lsm=landlock,…",
        }.get(error.errno or 0, "")
        raise LayerUnavailable(f"{describe(error)}{'; ' if reason else ''}{reason}") from None


def handled(version: int) -> int:
    """Return all file access rights of ABI ``version``. A ruleset that handles a right denies it except by rule."""
    return (1 << _LAST_BIT.get(version, _LATEST_LAST_BIT) + 1) - 1


def restrict_files(wanted: Confinement, here: Situation) -> str:
    """Restrict opening files to the granted files and directories and everything beneath them."""
    version = abi()
    with _ruleset(handled(version), 0, 0, version) as ruleset:
        rules = 0
        for access, descriptors in ((READ, wanted.read_fds), (WRITE, wanted.write_fds)):
            for descriptor in descriptors:
                _beneath(ruleset, descriptor, access & handled(version))
                rules += 1
        _restrict(ruleset)
    here.require_single_thread("are not restricted")
    return f"ABI {version}: {rules} files and directories granted, no others can be opened"


def restrict_net(wanted: Confinement, here: Situation) -> str:
    """Deny TCP bind and connect, abstract Unix sockets, and signals to processes outside.

    Even with a network grant: the parent connects sockets, because it checks addresses, and Landlock only knows ports.
    """
    version = abi()
    if version < _NET_SINCE:
        raise LayerUnavailable(f"the kernel's Landlock is ABI {version}; restricting ports needs ABI 4 (Linux 6.7)")
    scope = _SCOPE_ABSTRACT_UNIX | _SCOPE_SIGNAL if version >= _SCOPE_SINCE else 0
    # Every ruleset implicitly denies REFER unless it handles and grants it, and all rulesets of a process must agree:
    # grant it here as well, so that files can be moved between granted directories.
    with _ruleset(REFER, _CONNECT_TCP | _BIND_TCP, scope, version) as ruleset:
        for descriptor in wanted.write_fds:
            _beneath(ruleset, descriptor, REFER)
        _restrict(ruleset)
    here.require_single_thread("are not restricted")
    scoped = "no signals to and abstract sockets of others" if scope else "restricting signals needs ABI 6"
    return f"ABI {version}: no TCP bind or connect; {scoped}"


@contextlib.contextmanager
def _ruleset(files: int, net: int, scope: int, version: int) -> Iterator[int]:
    size = 24 if version >= _SCOPE_SINCE else 16 if version >= _NET_SINCE else 8
    attributes = Struct(struct.pack("=QQQ", files, net, scope), 24)
    ruleset = syscall("landlock_create_ruleset", ctypes.byref(attributes), ctypes.c_size_t(size), 0)
    try:
        yield ruleset
    finally:
        os.close(ruleset)


def _beneath(ruleset: int, descriptor: int, access: int) -> None:
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        access &= FILE_RIGHTS
    if access:
        rule = Struct(struct.pack("=Qi", access, descriptor), 12)
        syscall("landlock_add_rule", ruleset, _PATH_BENEATH, rule, 0)


def _restrict(ruleset: int) -> None:
    syscall("landlock_restrict_self", ruleset, 0)
