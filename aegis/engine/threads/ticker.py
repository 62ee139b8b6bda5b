"""The clock behind epoch deadlines: one thread that advances every engine's epoch while calls are in progress.

A store is *armed* for a call with the time of the latest tick, so calls within one tick share one reading of the clock.
After a while without calls, the thread rests and sets ``now`` to NaN, which equals no armed value; the next call wakes
it. In a forked child the thread does not exist; the first call there starts another.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable

from aegis.engine.native.library import lib
from aegis.engine.native.signals import secure_at_tick
from aegis.engine.threads.guest_thread import start_thread

__all__ = ["TICK", "Ticker", "ticker"]

TICK = 0.01
"""Seconds between two ticks; guest code may notice a deadline or a cancellation this much later."""

_REST_AFTER_TICKS = 100
_MAX_EPOCHS_PER_TICK = 1 << 20
"""About three hours: bounds the catching up after the process was stopped."""


class Ticker:
    """The ticking thread and its state. ``now`` is :func:`time.monotonic` at the latest tick, or NaN at rest.

    ``tokens`` maps the id of each store to its token, a list that is empty while the store is in a call.
    """

    def __init__(self) -> None:
        self.at_tick: list[Callable[[], None]] = []
        """Functions called at each tick; they must be quick."""
        self.tokens: dict[int, list[None]] = {}
        self._engines: set[int] = set()
        self._reset()

    def _reset(self) -> None:
        self.now = math.nan
        self._part = 0.0
        self._wake = threading.Event()
        self._lock = threading.RLock()  # reentrant: a Python signal handler may call a sandbox while it is held
        self._thread: threading.Thread | None = None

    def attend(self, engine: int) -> None:
        """Advance the epoch of ``engine`` at each tick from now on."""
        self._engines.add(engine)

    def awake(self) -> float:
        """Return the time of the latest tick, and wake the thread if it rests.

        If the latest tick is overdue, because other threads hold the GIL, tick on the calling thread.
        """
        now = self.now
        if now == now and time.monotonic() - now <= TICK:
            return now
        with self._lock:
            # Wake the thread only if it rests: Event.set takes a lock that a raising signal handler may leave held.
            if self.now != self.now:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="aegis-ticker", daemon=True)
                    start_thread(self._thread)
                self._wake.set()
            return self._tick()

    def advance(self, engine: int, ticks: int) -> None:
        """Advance one engine's epoch by ``ticks`` at once."""
        for _ in range(ticks):
            lib.wasmtime_engine_increment_epoch(engine)

    def _run(self) -> None:
        quiet = 0
        while True:
            self._wake.wait()
            time.sleep(TICK)
            self._tick()
            if self._in_calls():
                secure_at_tick()
            for act in self.at_tick:
                act()
            quiet += 1
            if quiet >= _REST_AFTER_TICKS:
                quiet = 0
                self._rest()

    def _tick(self) -> float:
        """Advance all epochs by the time since the latest tick; return the time."""
        with self._lock:
            before, self.now = self.now, time.monotonic()
            ticks = self._due(self.now - before) if before == before else 0
            for engine in tuple(self._engines):
                self.advance(engine, ticks)
            return self.now

    def _due(self, seconds: float) -> int:
        """Return the number of epochs in ``seconds``; carry the fraction over to the next tick.

        A tick can be late when other threads hold the GIL, and a deadline is a time, not a number of ticks.
        """
        whole, self._part = divmod(self._part + seconds / TICK, 1.0)
        return min(int(whole), _MAX_EPOCHS_PER_TICK)

    def _in_calls(self) -> bool:
        """Return whether any store is in a call."""
        return not all(tuple(self.tokens.values()))

    def _rest(self) -> None:
        # A call takes its token and then reads `now`; this method clears `now` and then reads the tokens. In every
        # interleaving at least one of the two sees the other's write, so no call runs without ticks.
        with self._lock:
            self._wake.clear()
            self.now = math.nan
            if self._in_calls():
                self.now = time.monotonic()
                self._wake.set()


ticker = Ticker()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ticker._reset)
