"""The oracle about the host: a test case leaves files, descriptors, threads and memory of the host unchanged."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, ClassVar

from aegis.fuzz.case import Finding, Trace
from aegis.fuzz.oracles.base import Stateless
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.fuzz.target import Target

__all__ = ["HostUntouched", "clear_canaries"]

_CONFIRMING_RUNS = 3
"""Runs in each of which a difference must appear: other threads of this process open and close descriptors too."""
_MAX_LISTED_FILES = 1000
_MAX_GROWTH_BYTES = 256 << 20
_DESCRIPTORS = "/proc/self/fd"
_STATM = "/proc/self/statm"


class HostUntouched(Stateless):
    """Reports changes to the host: canary files, files granted read-only, descriptors, threads, memory.

    The canaries are a directory tree that no policy grants. The memory of the process may grow by 256 MiB, because the
    corpus and the pools of a campaign grow too.
    """

    name: ClassVar[str] = "host-untouched"
    sentence: ClassVar[str] = "A test case leaves the host's files, descriptors, threads and memory unchanged."
    every: ClassVar[int] = 64
    cost: ClassVar[int] = 2

    def __init__(self) -> None:
        self._canaries = Path(tempfile.mkdtemp(prefix=_prefix(os.getpid())))
        weakref.finalize(self, rmtree, self._canaries, ignore_errors=True)
        for name in ("secret.txt", "bin/tool", "empty/nothing"):
            path = self._canaries / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("canary")
        (self._canaries / "link").symlink_to("secret.txt")
        self._memory: int | None = None
        self._chunk = -1

    def begin(self, chunk: int) -> None:
        """Forget the memory of the process at the beginning of a campaign: what it did before is not the guest's."""
        if chunk <= self._chunk:
            self._memory = None
        self._chunk = chunk

    def judge(self, target: Target, trace: Trace) -> Finding | None:
        case = trace.reached()
        change = ""
        for _ in range(_CONFIRMING_RUNS):
            before = self._state(target)
            target.run(case)
            change = _changed(before, self._state(target))
            if not change:
                break
        change = change or self._memory_grown()
        if not change:
            return None
        kind = change.partition(" ")[0]
        step = trace.step(trace.last)
        return Finding(self.name, f"{self.name} {kind}", f"{printable(step)}: {change}", case, trace.results[-1])

    def _state(self, target: Target) -> dict[str, object]:
        roots = [str(self._canaries), *(str(g.host) for g in target.runtime.policy.filesystem.paths if not g.write)]
        return {
            "files": {path: found for root in roots for path, found in _tree(root)},
            "descriptors": len(os.listdir(_DESCRIPTORS)) if os.path.isdir(_DESCRIPTORS) else 0,
            "threads": threading.active_count(),
        }

    def _memory_grown(self) -> str:
        """Return a message if the process's resident memory has grown too much since the campaign's first check."""
        if not os.path.exists(_STATM):
            return ""
        now = int(Path(_STATM).read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if self._memory is None:
            self._memory = now
        if now - self._memory < _MAX_GROWTH_BYTES:
            return ""
        grown, self._memory = now - self._memory, now
        return f"memory of the host grew by {grown:,} bytes"


def clear_canaries(process: int) -> None:
    """Remove the canary files of a worker process that was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_prefix(process)}*"):
        rmtree(folder, ignore_errors=True)


def _prefix(process: int) -> str:
    return f"aegis-canary-{process}-"


def _tree(root: str) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield the paths below a directory with their mode, size, modification time and link count."""
    below = sorted(os.path.join(folder, name) for folder, *names in os.walk(root) for name in chain(*names))
    for path in (root, *below[:_MAX_LISTED_FILES]):
        try:
            found = os.lstat(path)
        except OSError:
            continue
        yield path, (found.st_mode, found.st_size, found.st_mtime_ns, found.st_nlink)


def _changed(before: dict[str, object], after: dict[str, object]) -> str:
    for kind, then in before.items():
        now = after[kind]
        if isinstance(then, dict) and isinstance(now, dict):
            odd = sorted(path for path in {*then, *now} if then.get(path) != now.get(path))
            if odd:
                return f"{kind} of the host changed: {printable(', '.join(odd[:3]), 200)}"
        elif isinstance(then, int) and isinstance(now, int) and now > then:
            return f"{kind} of the host increased from {then} to {now}"
    return ""
