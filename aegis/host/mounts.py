"""What is mounted beneath a directory: a bind mount is a way into another directory that no path shows."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

from aegis.host.beneath import Identity, identity

__all__ = ["mounted_beneath"]

_MOUNTS = "/proc/self/mountinfo"
_DEVICE, _POINT = 2, 4  # the fields of proc_pid_mountinfo(5), from 0


def mounted_beneath(descriptor: int, devices: Collection[int]) -> Iterator[Identity]:
    """Yield each directory or file that is mounted beneath an open directory, of file systems among ``devices``.

    Others are not looked at, for a network file system may not answer. Where there is no list of mounts, as on
    macOS, which has no bind mounts, nothing is found.
    """
    try:
        here = os.readlink(f"/proc/self/fd/{descriptor}")
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
            mounts = [line.split(" ") for line in file]
    except OSError:
        return
    inside = here.rstrip("/") + "/"
    for fields in mounts:
        point = _plain(fields[_POINT])
        major, _, minor = fields[_DEVICE].partition(":")
        if point.startswith(inside) and os.makedev(int(major), int(minor)) in devices:
            try:
                yield identity(os.stat(point, follow_symlinks=False))
            except OSError:  # unmounted meanwhile, or hidden by another mount
                continue


def _plain(escaped: str) -> str:
    """Return a mount point as it is: the kernel writes space, tab, newline and backslash as octal numbers."""
    for octal, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        escaped = escaped.replace(octal, character)
    return escaped
