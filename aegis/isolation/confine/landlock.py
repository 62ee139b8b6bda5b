"""Landlock: which files the process may still reach, and no one beyond itself. landlock(7).

A rule names an open descriptor, never a path that could meanwhile mean something else. What is open
already stays usable; every later open is looked at, and every connect or bind of TCP refused.
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
from aegis.isolation.confine.model import Confinement, Situation, Unavailable, describe

__all__ = ["FILE_RIGHTS", "READ", "WRITE", "abi", "handled", "restrict_files", "restrict_net"]

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_DIR, MAKE_REG, MAKE_SYM = 1 << 7, 1 << 8, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | REFER
"""No device, FIFO or socket is ever made, and nothing executed."""
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""The rights that make sense for a file; the kernel refuses others on one."""

_LAST_BIT = {1: 12, 2: 13, 3: 14, 4: 14}  # the greatest access right of each ABI, and of all later ones:
_LAST_BIT_NOW = 15
_NET_SINCE, _SCOPE_SINCE = 4, 6
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL = 1, 2
_VERSION, _PATH_BENEATH = 1, 1


def abi() -> int:
    """Return the version of Landlock that the kernel has; raise :class:`Unavailable` if it has none."""
    try:
        return syscall("landlock_create_ruleset", 0, 0, _VERSION)
    except OSError as error:
        reason = {
            errno.ENOSYS: "the kernel has no Landlock (Linux 5.13 has), or a filter around this process hides it",
            errno.EOPNOTSUPP: "Landlock is not switched on (kernel parameter lsm=landlock,…)",
        }.get(error.errno or 0, "")
        raise Unavailable(f"{describe(error)}{'; ' if reason else ''}{reason}") from None


def handled(version: int) -> int:
    """Return all rights over files that ABI ``version`` knows: those that no rule gives are denied."""
    return (1 << _LAST_BIT.get(version, _LAST_BIT_NOW) + 1) - 1


def restrict_files(wanted: Confinement, here: Situation) -> str:
    """Leave the granted descriptors and what lies beneath them."""
    version = abi()
    with _ruleset(handled(version), 0, 0, version) as ruleset:
        rules = 0
        for access, descriptors in ((READ, wanted.read_fds), (WRITE, wanted.write_fds)):
            for descriptor in descriptors:
                _beneath(ruleset, descriptor, access & handled(version))
                rules += 1
        _restrict(ruleset)
    here.alone("are not restricted")
    return f"ABI {version}: of files and directories {rules} granted, the rest cannot be opened"


def restrict_net(wanted: Confinement, here: Situation) -> str:
    """Leave no TCP port to connect to or to bind, no abstract socket and no process outside.

    What a network is granted for is connected by the parent, which judges addresses; a port rule could not.
    """
    version = abi()
    if version < _NET_SINCE:
        raise Unavailable(f"the kernel's Landlock is ABI {version}; ports need 4 (Linux 6.7)")
    scope = _SCOPE_ABSTRACT_UNIX | _SCOPE_SIGNAL if version >= _SCOPE_SINCE else 0
    # A ruleset that says nothing of REFER denies it: moving between granted directories needs it from each.
    with _ruleset(REFER, _CONNECT_TCP | _BIND_TCP, scope, version) as ruleset:
        for descriptor in wanted.write_fds:
            _beneath(ruleset, descriptor, REFER)
        _restrict(ruleset)
    here.alone("are not restricted")
    scoped = "signals and abstract sockets stay inside" if scope else "signals and abstract sockets need ABI 6"
    return f"ABI {version}: no TCP port may be connected to or bound; {scoped}"


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
