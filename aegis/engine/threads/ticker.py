"""The clock that ends guests: one thread that advances every engine's epoch while a call is under way.

A store is *armed* for a call with the time of the latest tick, so two calls within one tick share one
reading of the clock. With no call for a while the thread rests and ``now`` is not a number, which no
armed value equals; the next call wakes it.
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
"""Seconds between two ticks: how late an epoch deadline or a cancellation may be noticed."""

_REST_AFTER = 100
_MOST = 1 << 20
"""Epochs at one tick: about three hours, for a process that was stopped."""


class Ticker:
    """See the module's text. ``now`` is :func:`time.monotonic` at the latest tick, or NaN at rest.

    ``tokens`` holds each store's token, a list that is empty while the store is in a call, by its id.
    """

    def __init__(self) -> None:
        self.at_tick: list[Callable[[], None]] = []
        """What else is to be done at each tick; it must be quick."""
        self.tokens: dict[int, list[None]] = {}
        self._engines: set[int] = set()
        self._reset()

    def _reset(self) -> None:
        self.now = math.nan
        self._part = 0.0
        self._wake = threading.Event()
        self._lock = threading.RLock()  # a signal's handler may make calls
        self._thread: threading.Thread | None = None

    def attend(self, engine: int) -> None:
        """Advance the epoch of ``engine`` from now on."""
        self._engines.add(engine)

    def awake(self) -> float:
        """Return the time of the latest tick, and see to it that there will be a next one.

        The clock's thread waits for code that keeps the interpreter busy, longer than a tick takes: then this ticks.
        """
        now = self.now
        if now == now and time.monotonic() - now <= TICK:
            return now
        with self._lock:
            # Otherwise there is a thread, or none is wanted: setting the event takes a lock besides, which a signal's
            # handler that raises may leave held.
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
            if quiet >= _REST_AFTER:
                quiet = 0
                self._rest()

    def _tick(self) -> float:
        """Return the time, and advance the epochs by what passed since the latest tick."""
        with self._lock:
            before, self.now = self.now, time.monotonic()
            ticks = self._due(self.now - before) if before == before else 0
            for engine in tuple(self._engines):
                self.advance(engine, ticks)
            return self.now

    def _due(self, seconds: float) -> int:
        """Return how many epochs have passed in so many seconds, and carry the rest over.

        Other threads that keep the interpreter busy have this one wake up late, and a deadline is a time, not a
        number of wake-ups.
        """
        whole, self._part = divmod(self._part + seconds / TICK, 1.0)
        return min(int(whole), _MOST)

    def _in_calls(self) -> bool:
        """Tell whether a store is in a call."""
        return not all(tuple(self.tokens.values()))

    def _rest(self) -> None:
        # A call takes its token and then reads `now`; here `now` goes first and the tokens are read
        # after. Whichever comes first, one of the two sees the other.
        with self._lock:
            self._wake.clear()
            self.now = math.nan
            if self._in_calls():
                self.now = time.monotonic()
                self._wake.set()


ticker = Ticker()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ticker._reset)
