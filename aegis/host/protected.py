"""Host files that no guest may reach by a grant, because a later run reads, obeys or executes them.

Paths prove nothing here, for links and bind mounts give one directory many of them. Directories are compared by
device and inode: those that hold the grant, those on the way to the protected path, those mounted beneath the grant.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from aegis.errors import PolicyError
from aegis.host.beneath import Identity, identity
from aegis.host.mounts import mounted_beneath
from aegis.policy import PathGrant

__all__ = ["Protected", "refuse_reachable"]

_MAX_DEPTH = 1024
_MAX_LINKS = 40  # path_resolution(7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protected:
    """A host file or directory that guests must not change. It need not exist yet.

    ``reason`` completes "…, which is". Unless it is ``readable``, grants that only read are refused too. ``inside``
    also refuses a grant that lies within a protected directory. ``remedy`` says what to grant instead. What is
    ``fixed`` stays where it is while this process runs, so it is looked up once.
    """

    path: str
    reason: str
    readable: bool = True
    inside: bool = True
    fixed: bool = False
    remedy: str = "grant a directory that has nothing to do with it"


class _Traced(NamedTuple):
    """Every directory that decides where a protected path leads, and which file it is, if it exists."""

    crossed: frozenset[Identity]
    identity: Identity | None


def refuse_reachable(grant: PathGrant, parent: int, name: str | None, protected: Sequence[Protected]) -> None:
    """Raise :class:`~aegis.errors.PolicyError` if a grant lets a guest change, or reach, what is protected.

    ``parent`` is the granted directory, open, or the one that holds the granted file ``name``.
    """
    asked = [one for one in protected if grant.write or not one.readable]
    if not asked:
        return
    above = set(_ancestors(parent))
    own = identity(os.stat(name or ".", dir_fd=parent, follow_symlinks=False))
    traced = [_traced_once(one.path) if one.fixed else _traced(one.path) for one in asked]
    devices = {device for trace in traced for device, _ in trace.crossed}
    mounted = set(mounted_beneath(parent, devices)) if name is None else set()
    for one, trace in zip(asked, traced, strict=True):
        if own in trace.crossed:
            raise _refused(grant, one, "is" if own == trace.identity else "holds")
        if mounted & trace.crossed:
            raise _refused(grant, one, "has a mount that leads to")
        if one.inside and trace.identity in above:
            raise _refused(grant, one, "lies in")


def _refused(grant: PathGrant, one: Protected, how: str) -> PolicyError:
    verb = "writing" if grant.write else "reading"
    return PolicyError(
        f"filesystem: {grant.host!r}, granted for {verb}, {how} {one.path!r}, which is {one.reason}; {one.remedy}"
    )


def _ancestors(descriptor: int) -> Iterator[Identity]:
    """Yield the open directory and each one above it, up to the root directory."""
    before = None
    for steps in range(_MAX_DEPTH):
        found = identity(os.stat("../" * steps or ".", dir_fd=descriptor))
        if found == before:
            return
        before = found
        yield found


@cache
def _traced_once(path: str) -> _Traced:
    return _traced(path)


def _traced(path: str) -> _Traced:
    """Follow the absolute ``path`` and the links on its way; stop where it does not exist."""
    here, todo, links = "/", [part for part in reversed(path.split("/")) if part], 0
    status = os.stat(here)
    crossed = {identity(status)}
    while todo:
        part = todo.pop()
        below = os.path.dirname(here) if part == ".." else os.path.join(here, part)
        try:
            status = os.stat(below, follow_symlinks=False)
            target = os.readlink(below) if stat.S_ISLNK(status.st_mode) else None
        except OSError:
            return _Traced(frozenset(crossed), None)
        if target is None:
            here = below
            crossed.add(identity(status))
            continue
        links += 1
        if links > _MAX_LINKS:
            return _Traced(frozenset(crossed), None)
        here = "/" if target.startswith("/") else here
        todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
    return _Traced(frozenset(crossed), identity(status))
