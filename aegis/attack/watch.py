"""Detect leaks of a trial (descriptors, threads, processes, memory) and changes outside the granted directory."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree

from aegis.attack.tools import scratch
from aegis.attack.triage import Fault

__all__ = ["GrantedFolder", "ResourceWatch", "count_resources"]

_CONFIRMING_RUNS = 6
"""Further runs of an input that seems to leak. It counts as a leak only if nearly every run leaks."""
_WARM_UP_TRIALS = 12
"""Trials before leaks are checked: pools fill up, and modules are imported."""
_MAX_TRIAL_BYTES = 4 << 20
"""Memory that one trial may retain without further checks."""
_TOLERANCE = {"descriptors": 12, "threads": 4, "processes": 4, "memory": _MAX_TRIAL_BYTES}
"""Excess over the previous maximum that is not checked further: the size of worker pools varies."""
_MAX_GROWTH_BYTES = 384 << 20
"""Growth of the process over all its trials that counts as a slow leak."""
_SETTLE_SECONDS = 2.0


def count_resources() -> dict[str, int]:
    """Return the number of descriptors, threads and child processes of this process, and its memory in bytes."""
    return {"descriptors": len(os.listdir("/proc/self/fd")), "threads": threading.active_count(),
            "processes": _children(), "memory": _memory()}  # fmt: skip


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _children() -> int:
    """Return the number of live descendant processes."""
    open_, number = [os.getpid()], 0
    while open_:
        pid = open_.pop()
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                open_ += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        except OSError:
            continue
        number += 1
    return number - 1


class ResourceWatch:
    """Detects leaks, by comparing the resources after a trial with their maximum over earlier trials."""

    def __init__(self, count: Callable[[], dict[str, int]] = count_resources) -> None:
        self.trials = 0
        self.most: dict[str, int] = {}
        self.began = 0
        self._count = count

    def left_behind(self, again: Callable[[], object]) -> Fault | None:
        """Return a fault if the latest trial leaked; ``again`` repeats the trial."""
        if not os.path.isdir("/proc/self/fd"):
            return None
        self.trials += 1
        now = self._count()
        if self.trials <= _WARM_UP_TRIALS:
            self.most = {name: max(number, self.most.get(name, 0)) for name, number in now.items()}
            self.began = now["memory"]
            return None
        grown = {name for name, number in now.items() if number > self.most[name] + _TOLERANCE[name]}
        found = self._confirmed(again) if grown else None
        if found is None and now["memory"] - self.began > _MAX_GROWTH_BYTES:
            text = f"memory of the process grew by {now['memory'] - self.began:,} bytes in {self.trials} trials"
            found, self.began = _fault("memory, slowly", text), now["memory"]
        return found

    def _confirmed(self, again: Callable[[], object]) -> Fault | None:
        """Repeat the trial, and return a fault if nearly every run added to a resource."""
        before = _settled(self._count)
        for _ in range(_CONFIRMING_RUNS):
            again()
        after = _settled(self._count)
        self.most = {name: max(number, self.most[name]) for name, number in after.items()}
        for name, number in after.items():
            more = number - before[name]
            if more >= (_CONFIRMING_RUNS * _MAX_TRIAL_BYTES // 2 if name == "memory" else _CONFIRMING_RUNS - 1):
                return _fault(name, f"{name} grew from {before[name]:,} to {number:,} in {_CONFIRMING_RUNS} more runs")
        return None


def _fault(resource: str, text: str) -> Fault:
    return Fault(phase="after", kind="left-behind", type=resource, place="", text=text)


def _settled(count: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Return the resources once they have stopped decreasing: worker processes take a moment to exit."""
    gc.collect()
    until, found = time.monotonic() + _SETTLE_SECONDS, count()
    while time.monotonic() < until:
        time.sleep(0.02)
        now = count()
        if all(now[name] >= found[name] for name in ("descriptors", "threads", "processes")):
            return now
        found = now
    return found


class GrantedFolder:
    """A directory that is granted to guests, inside a directory that is not."""

    def __init__(self) -> None:
        self.outside = Path(tempfile.mkdtemp(prefix="granted-", dir=scratch()))
        self.path = self.outside / "work"
        self.before: dict[str, object] = {}
        self.renew()

    def renew(self) -> None:
        """Restore the initial contents."""
        rmtree(self.outside, ignore_errors=True)
        (self.path / "folder").mkdir(parents=True)
        (self.outside / "secret").write_text("canary")
        for name in ("hello", "folder/inner", "secret"):
            (self.path / name).write_text("hello")
        (self.path / "out").symlink_to("../secret")
        self.before = self._outside()

    def escaped(self) -> str:
        """Return a message if the outer directory changed, else an empty string."""
        now = self._outside()
        odd = sorted(name for name in {*now, *self.before} if now.get(name) != self.before.get(name))
        return f"a guest changed files outside its grant: {', '.join(odd)}" if odd else ""

    def _outside(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for path in self.outside.iterdir():
            stat = path.lstat()
            found[path.name] = stat.st_mode if path == self.path else (stat.st_mode, stat.st_size, stat.st_mtime_ns)
        return found
