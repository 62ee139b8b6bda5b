"""Directories that are mounted a second time, and the directories that contain them in their own file system.

A bind mount shows part of a file system elsewhere. Going up from there by ``..`` does not pass the directories that
contain the same part in the file system itself, and a process that may write one of those can change that part.
``/proc/self/mountinfo`` names the part that a mount shows; proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from aegis.host.files.file_id import Identity, identity
from aegis.support.lean import NamedTuple

__all__ = ["Mounts"]


class _Mount(NamedTuple):
    device: str
    root: str
    """The directory of the file system that the mount shows."""
    point: str


class Mounts:
    """The mounts of this process: directories that contain one mounted elsewhere, and mounts beneath a directory."""

    def __init__(self, mounts: Sequence[_Mount] = ()) -> None:
        self._mounts = mounts
        self._hidden = dict(_hidden(mounts))

    @classmethod
    def read(cls) -> Mounts:
        """Return the present mounts; none on a system without ``/proc/self/mountinfo``."""
        try:
            with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
                mounts = [_parse(line) for line in file]
        except OSError:
            return cls()
        return cls(mounts)

    def above(self, found: Iterable[Identity]) -> frozenset[Identity]:
        """Return ``found`` with all directories that also contain one of them, in another place."""
        found = frozenset(found)
        if not self._hidden:
            return found
        return found.union(*(self._hidden[one] for one in found & self._hidden.keys()))

    def beneath(self, folder: str, among: frozenset[Identity]) -> frozenset[Identity]:
        """Return those of ``among`` that are mounted beneath ``folder``, a path to them that ``..`` does not show.

        Mounts of other file systems are not examined, since a network file system may not answer.
        """
        devices = {f"{os.major(device)}:{os.minor(device)}" for device, _ in among}
        inside = folder.rstrip("/") + "/"
        points = [mount.point for mount in self._mounts if mount.device in devices and mount.point.startswith(inside)]
        return among & {_identity(point) for point in points}


def _parse(line: str) -> _Mount:
    fields = line.split(" ")
    return _Mount(fields[2], _unescaped(fields[3]), _unescaped(fields[4]))


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    import re

    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _hidden(mounts: Sequence[_Mount]) -> Iterator[tuple[Identity, frozenset[Identity]]]:
    for mount in mounts:
        if mount.root == "/":  # a whole file system
            continue
        for other in mounts:
            if mount.device == other.device and mount.root != other.root and _holds(other.root, mount.root):
                chain = _chain(other.point, os.path.relpath(mount.root, other.root))
                if chain and chain[-1] == _identity(mount.point):
                    yield chain[-1], frozenset(chain[:-1])
                    break


def _holds(folder: str, path: str) -> bool:
    return os.path.commonpath((folder, path)) == folder


def _chain(point: str, relative: str) -> list[Identity]:
    """Return the identities from ``point`` down to ``relative``; nothing if that does not exist there."""
    paths = [point]
    for part in relative.split("/"):
        paths.append(os.path.join(paths[-1], part))
    found = [_identity(path) for path in paths]
    return [one for one in found if one is not None] if None not in found else []


def _identity(path: str) -> Identity | None:
    try:
        return identity(os.stat(path, follow_symlinks=False))
    except (OSError, ValueError):
        return None
