"""The directory trees that the guests in ``guests/hostile`` expect, as described in their READMEs.

Each function creates a tree below an empty directory, and returns the directory to grant; the targets that the attack
must not reach are beside it.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["SECRET", "contents", "plain", "swapping", "two", "with_fifo", "with_links", "with_swap"]

SECRET = b"SECRET: nobody may read this\n"


def plain(base: Path) -> Path:
    """A secret and a victim outside; ``inside.txt`` and ``sub`` inside. Used for most of the escapes."""
    inside = base / "inside"
    (inside / "sub").mkdir(parents=True)
    (base / "victim").mkdir()
    (base / "secret.txt").write_bytes(SECRET)
    (inside / "inside.txt").write_bytes(b"harmless\n")
    return inside


def with_links(base: Path) -> Path:
    """``plain``, with the links of ``escape-symlink``."""
    inside = plain(base)
    for name, target in {
        "link-absolute": str(base / "secret.txt"),
        "link-relative": "../secret.txt",
        "link-directory": "..",
        "link-chain": "link-relative",
        "link-magic": "/proc/self/root/etc/passwd",
        "link-loop": "link-loop",
        "link-dangling": "../planted",
    }.items():
        (inside / name).symlink_to(target)
    return inside


def with_swap(base: Path) -> Path:
    """For ``escape-symlink-swap``: ``swap`` and ``other``, a directory and a link to ``..``, to be exchanged."""
    inside = base / "inside"
    (inside / "swap").mkdir(parents=True)
    (inside / "swap" / "secret.txt").write_bytes(b"harmless\n")
    (inside / "other").symlink_to("..")
    (base / "secret.txt").write_bytes(SECRET)
    return inside


@contextmanager
def swapping(inside: Path) -> Iterator[None]:
    """Exchange ``swap`` and ``other`` repeatedly until the block ends."""
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            os.rename(inside / "swap", inside / "aside")
            os.rename(inside / "other", inside / "swap")
            os.rename(inside / "aside", inside / "other")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def two(base: Path) -> tuple[Path, Path]:
    """For ``escape-hardlink`` and ``escape-rename``: the directories to grant as ``/ro`` and as ``/rw``."""
    folders = base / "ro", base / "rw"
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "file.txt").write_bytes(folder.name.encode())
    return folders


def with_fifo(base: Path) -> Path:
    """For ``fifo``: a FIFO, a socket, and a device node if this user may create one."""
    inside = base / "inside"
    inside.mkdir(parents=True)
    os.mkfifo(inside / "fifo")
    with suppress(OSError):
        os.mknod(inside / "device", 0o20666, os.makedev(1, 5))  # /dev/zero on Linux
    with suppress(OSError), socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(inside / "socket"))
    return inside


def contents(base: Path) -> dict[str, bytes | str | None]:
    """Return all paths below ``base``: a file's bytes, a link's target, ``None`` for anything else."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(base.rglob("*")):
        name = path.relative_to(base).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found
