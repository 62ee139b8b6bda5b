"""What a trial may not leave behind: descriptors, threads, processes, memory; and nothing outside what was granted."""

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

__all__ = ["Granted", "Watch", "counted"]

_AGAIN = 6
"""How often an input is run again that seems to leave something behind: it has to do so nearly each time."""
_FIRST = 12
"""Trials before anything is held against one: pools fill, modules are imported."""
_HEAVY = 4 << 20
"""Bytes that one trial may keep before they are looked into."""
_LOOSE = {"descriptors": 12, "threads": 4, "processes": 4, "memory": _HEAVY}
"""How much more there may be than ever before until it is looked into: pools of workers breathe."""
_GROWN = 384 << 20
"""Bytes that the process may grow by over all its trials."""
_SETTLES = 2.0


def counted() -> dict[str, int]:
    """Return what this process has: descriptors, threads, child processes, bytes of memory."""
    return {"descriptors": len(os.listdir("/proc/self/fd")), "threads": threading.active_count(),
            "processes": _children(), "memory": _memory()}  # fmt: skip


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _children() -> int:
    """Return how many processes this one and its children started that are still there."""
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


class Watch:
    """Compares what there is after a trial with the most there was before."""

    def __init__(self, count: Callable[[], dict[str, int]] = counted) -> None:
        self.trials = 0
        self.most: dict[str, int] = {}
        self.began = 0
        self._count = count

    def left_behind(self, again: Callable[[], object]) -> Fault | None:
        """Tell what the latest trial left behind; ``again`` runs it once more."""
        if not os.path.isdir("/proc/self/fd"):
            return None
        self.trials += 1
        now = self._count()
        if self.trials <= _FIRST:
            self.most = {name: max(number, self.most.get(name, 0)) for name, number in now.items()}
            self.began = now["memory"]
            return None
        grown = {name for name, number in now.items() if number > self.most[name] + _LOOSE[name]}
        found = self._each_time(again) if grown else None
        if found is None and now["memory"] - self.began > _GROWN:
            text = f"memory of the process grew by {now['memory'] - self.began:,} bytes in {self.trials} trials"
            found, self.began = _fault("memory, slowly", text), now["memory"]
        return found

    def _each_time(self, again: Callable[[], object]) -> Fault | None:
        """Run it again some times, and tell of what each of them added."""
        before = _settled(self._count)
        for _ in range(_AGAIN):
            again()
        after = _settled(self._count)
        self.most = {name: max(number, self.most[name]) for name, number in after.items()}
        for name, number in after.items():
            more = number - before[name]
            if more >= (_AGAIN * _HEAVY // 2 if name == "memory" else _AGAIN - 1):
                return _fault(name, f"{name} were {before[name]:,}, and {number:,} after {_AGAIN} more runs")
        return None


def _fault(what: str, text: str) -> Fault:
    return Fault(phase="after", kind="left-behind", type=what, place="", text=text)


def _settled(count: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Return what there is once it does not get less any more: workers need a moment to be gone."""
    gc.collect()
    until, found = time.monotonic() + _SETTLES, count()
    while time.monotonic() < until:
        time.sleep(0.02)
        now = count()
        if all(now[name] >= found[name] for name in ("descriptors", "threads", "processes")):
            return now
        found = now
    return found


class Granted:
    """A folder that is granted to guests, in one that is not."""

    def __init__(self) -> None:
        self.outside = Path(tempfile.mkdtemp(prefix="granted-", dir=scratch()))
        self.path = self.outside / "work"
        self.before: dict[str, object] = {}
        self.renew()

    def renew(self) -> None:
        """Make it as it was at first."""
        rmtree(self.outside, ignore_errors=True)
        (self.path / "folder").mkdir(parents=True)
        (self.outside / "secret").write_text("canary")
        for name in ("hello", "folder/inner", "secret"):
            (self.path / name).write_text("hello")
        (self.path / "out").symlink_to("../secret")
        self.before = self._outside()

    def escaped(self) -> str:
        """Tell what changed outside."""
        now = self._outside()
        odd = sorted(name for name in {*now, *self.before} if now.get(name) != self.before.get(name))
        return f"a guest changed what was not granted: {', '.join(odd)}" if odd else ""

    def _outside(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for path in self.outside.iterdir():
            told = path.lstat()
            found[path.name] = told.st_mode if path == self.path else (told.st_mode, told.st_size, told.st_mtime_ns)
        return found
