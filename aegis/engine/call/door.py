"""The state of the one door between a guest and its host: budgets, deadline, and the failure slot.

The trampoline and the memory read and write these fields at every crossing, so they are plain
attributes. A host's exception is kept here, never in a global (F8): an exception belongs to one
sandbox from the moment it is raised.
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress

from aegis.errors import AegisError, CallError, Cancelled, DeadlineExceeded, QuotaExceeded
from aegis.limits import Limits, exceeded
from aegis.support.descriptors import standard_reserved
from aegis.support.lean import Any
from aegis.values import Decision

__all__ = ["Budgets", "Door", "budgets_of"]

_UNLIMITED = 1 << 62
_DEADLINE_CHECK_BYTES = 1 << 17
"""Bytes that may be copied between two checks of the deadline: some hundred microseconds of converting."""
_MEMORY_BYTES = 1 << 32
"""Bytes of the largest linear memory."""
_waking = threading.Lock()
"""Held while a wake-up pipe is made, written or closed: a descriptor that was closed may be somebody else's."""


def _renew() -> None:
    """In a forked child: nobody is left to release what another thread held."""
    global _waking
    _waking = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


Budgets = tuple[int, int, int, int, int]
"""A door begins with: host calls, bytes that may be copied, bytes of one value, bytes of the guest's memory, and the
bytes below which copying checks the deadline."""


def budgets_of(limits: Limits) -> Budgets:
    """Return the budgets of doors under ``limits``."""
    wanted = limits.host_calls, limits.host_bytes, limits.value_bytes
    calls, copied, value = (_UNLIMITED if most is None else most for most in wanted)
    memory = _MEMORY_BYTES if limits.memory is None else limits.memory
    return calls, copied, value, memory, max(copied - _DEADLINE_CHECK_BYTES, 0)


MOST_REFUSED = 16
"""Denials of one call that are kept for its outcome; all are counted, and told to whoever listens."""


class Door:
    """One sandbox's side of every host call. It implements :class:`aegis.values.CallScope`.

    Two budgets are in bytes. ``host_bytes`` is for one call of the embedder's: :meth:`begin` starts it anew, the calls
    inside it share it, and :meth:`charge` takes from it. ``value_bytes`` is for one value, the arguments of one call
    together or its result: ``door.value_left = door.value_limit`` starts it anew, and :meth:`hold` takes from it.
    """

    # Class attributes are the state of a new door: making one stores only what differs.
    bytes_in = bytes_out = denials = 0
    deadline = math.inf
    ready_by = 0.0
    """Until when a worker may get ready before the call's own time begins (``time.monotonic``)."""
    left = 0.0
    """When the guest last returned to its caller (``time.monotonic``)."""
    stop: AegisError | None = None
    failure: BaseException | None = None
    serving: str | None = None
    host_seconds = 0.0
    listens = False
    refused: tuple[Decision, ...] = ()
    """The first denials of the call under way."""
    explain: Callable[[Decision], Decision] | None = None
    """Makes a decision fit to be shown; ``None`` in a worker, whose parent does that."""
    on_decision: Callable[[Decision], None] | None = None
    on_log: Callable[[str, str], None] | None = None
    observe_call: Callable[[str, str, float, BaseException | None], None] | None = None
    faults: Callable[[str, str, Any, Callable[[], Any]], Any] | None = None
    """Asked instead of each host function, which it may call or not: a test's way to have the host fail."""
    caller: int | None = None
    """The engine's view of the instance that makes a host call, noted while there is no other way to its memory."""
    keep: Callable[[memoryview], Any] = bytes
    """Copies the bytes of a list in an exported function's result; a worker copies them to where its parent reads."""
    handles: Any = None
    """The resources of a component's store; set by the store."""
    _wake_up: threading.Event | None = None
    _wake_pipe: tuple[int, int] | None = None
    _forgotten: Callable[[], object]
    """Closes the pipe."""

    def __init__(self, limits: Limits, budgets: Budgets | None = None) -> None:
        """Make the door of a new sandbox; ``budgets`` are those of ``limits``, where they are known already."""
        self.limits = limits
        self.calls_left, copied, value, memory, check = budgets or budgets_of(limits)
        self.bytes_limit = self.bytes_left = copied
        self.first_check = self.check_below = check
        """Bytes that may still be copied in this call; the deadline is checked once fewer than the latter are left."""
        self.lower_left = self.lower_limit = memory
        """Bytes that the value being lowered may still take in the guest's memory."""
        self.value_left = self.value_limit = value
        """Bytes that the value being converted may still make the host hold."""

    def begin(self) -> None:
        """Start the budget of a call that the embedder makes; a call inside a host function shares it.

        A guest without host functions copies nothing, and its calls need not do this.
        """
        self.bytes_left = self.bytes_limit
        self.check_below = self.first_check
        self.value_left = self.value_limit

    # -- what ends a call ----------------------------------------------------------------------

    def cancel(self) -> None:
        """Stop the call under way as soon as it notices: at a tick, a host call or in a wait.

        One that is past its deadline already, and had no occasion to notice, has reached its deadline.
        """
        if self.overdue() is None:
            self.stop = Cancelled("the run was cancelled")
        event = self._wake_up
        if event is not None:
            event.set()
        with _waking:
            if self._wake_pipe is not None:
                with suppress(BlockingIOError):  # full: whoever reads it is woken already
                    os.write(self._wake_pipe[1], b"x")

    def expire(self) -> None:
        """End the call under way as past its deadline: its caller has waited so long, and it may have begun late."""
        if self.stop is None:
            self.stop = self.timeout()

    def overdue(self) -> AegisError | None:
        """Return why the call must end now, or ``None``."""
        if self.stop is None and time.monotonic() >= self.deadline:
            self.stop = self.timeout()
        return self.stop

    def late(self, name: str) -> AegisError:
        """Return why the call ends although its host function ``name`` returned: in time is part of the answer."""
        before, self.serving = self.serving, name
        reason = self.overdue() or self.timeout()
        self.serving = before
        return reason

    def timeout(self) -> DeadlineExceeded:
        allowed = self.limits.timeout or 0.0
        inside = f" in the host call {self.serving}" if self.serving else ""
        message = exceeded("timeout", allowed, allowed, after=inside)
        return DeadlineExceeded(message, limit="timeout", used=allowed, allowed=allowed)

    def refused_call(self) -> AegisError:
        """Return why this host call may not happen."""
        reason = self.overdue()
        return reason if reason is not None else self._quota("host_calls", self.limits.host_calls or 0)

    def _quota(self, name: str, used: int) -> QuotaExceeded:
        allowed: int | None = getattr(self.limits, name)
        return QuotaExceeded(exceeded(name, used, allowed), limit=name, used=used, allowed=allowed)

    def charge(self, count: int) -> None:
        """Take ``count`` bytes from what may be copied in this call; now and then check the deadline."""
        self.bytes_left = left = self.bytes_left - count
        if left < self.check_below:
            self.check()

    def check(self) -> None:
        """Copying much takes long, and no epoch stops it."""
        if self.bytes_left < 0:
            raise self.overdrawn()
        self.check_below = max(self.bytes_left - _DEADLINE_CHECK_BYTES, 0)
        reason = self.overdue()
        if reason is not None:
            raise reason

    def lower(self, count: int) -> None:
        """Reject an argument or result of more bytes than the guest's memory may have; nothing is allocated for it."""
        self.lower_left = left = self.lower_left - count
        if left < 0:
            used, allowed = self.lower_limit - left, self.lower_limit
            raise CallError(
                f"the value is larger than the guest's memory may be ({used:,}/{allowed:,} bytes): "
                "raise it with memory or --memory-limit"
            )

    def check_time(self) -> None:
        """Raise if the call must end now: converting much takes long, and no epoch stops it."""
        reason = self.overdue()
        if reason is not None:
            raise reason

    def overdrawn(self) -> QuotaExceeded:
        """Return why no more bytes may be copied; what the last copy wanted is given back."""
        used = self.bytes_limit - self.bytes_left
        self.bytes_left = 0
        return self._quota("host_bytes", used)

    def hold(self, count: int) -> None:
        """Take ``count`` bytes from what the value being converted may make the host hold; before they are allocated.

        Raise ``QuotaExceeded`` when that is more than ``value_bytes`` with what it holds already.
        """
        self.value_left = left = self.value_left - count
        if left < 0:
            raise self._quota("value_bytes", self.value_limit - left)

    # -- CallScope ------------------------------------------------------------------------------

    def remaining(self) -> float | None:
        reason = self.overdue()
        if reason is not None:
            raise reason
        return None if self.deadline == math.inf else max(0.0, self.deadline - time.monotonic())

    def wait(
        self, seconds: float | None = None, *, read: Sequence[int] = (), write: Sequence[int] = ()
    ) -> tuple[list[int], list[int]]:
        end = math.inf if seconds is None else time.monotonic() + seconds
        while True:
            left = self.remaining()
            span = min(end - time.monotonic(), math.inf if left is None else left)
            if read or write:
                ready = self._poll(max(0.0, span), read, write)
                if ready[0] or ready[1]:
                    return ready
            elif span > 0:
                self._sleep(span)
            if time.monotonic() >= end:
                self.remaining()
                return [], []

    def _sleep(self, span: float) -> None:
        event = self._wake_up = threading.Event()
        if self.stop is None:
            event.wait(None if span == math.inf else min(span, threading.TIMEOUT_MAX))
        self._wake_up = None

    def wait_until(self, done: Callable[[], bool], news: threading.Event) -> None:
        """Wait until ``done``, of which ``news`` tells from another thread; raise as :meth:`wait` does."""
        self._wake_up = news
        try:
            while not done():
                left = self.remaining()
                news.wait(None if left is None else min(left, threading.TIMEOUT_MAX))
                news.clear()
        finally:
            self._wake_up = None

    def _poll(self, span: float, read: Sequence[int], write: Sequence[int]) -> tuple[list[int], list[int]]:
        pipe = self._wake_pipe or self._new_pipe()
        if self.stop is not None:
            return [], []  # a cancellation that came before the pipe was there
        poller = select.poll()
        for descriptor in {*read, *write}:
            events = (select.POLLIN if descriptor in read else 0) | (select.POLLOUT if descriptor in write else 0)
            poller.register(descriptor, events)
        poller.register(pipe[0], select.POLLIN)
        # The system's call takes whole milliseconds in 31 bits; the loop above asks again.
        hits = dict(poller.poll(min(math.ceil(span * 1000) if span != math.inf else 1 << 30, 1 << 30)))
        # A hang-up or an error on either side is news for whoever reads or writes.
        broken = select.POLLHUP | select.POLLERR | select.POLLNVAL
        if hits.get(pipe[0]):
            os.read(pipe[0], 64)
        return (
            [d for d in read if hits.get(d, 0) & (select.POLLIN | broken)],
            [d for d in write if hits.get(d, 0) & (select.POLLOUT | broken)],
        )

    def _new_pipe(self) -> tuple[int, int]:
        with standard_reserved():
            made = os.pipe()
        os.set_blocking(made[1], False)
        self._forgotten = weakref.finalize(self, _close_all, made)  # a sandbox may be dropped without being closed
        with _waking:
            self._wake_pipe = made
        return made

    def decided(self, decision: Decision) -> None:
        kept = not decision.allowed and len(self.refused) < MOST_REFUSED
        self.denials += not decision.allowed
        if self.explain is not None and (kept or self.on_decision is not None):
            decision = self.explain(decision)
        if kept:
            self.refused += (decision,)
        if self.on_decision is not None:
            self.on_decision(decision)

    def logged(self, level: str, message: str) -> None:
        if self.on_log is not None:
            self.on_log(level, message)

    def close(self) -> None:
        """Let go of what waiting needed; nobody waits any more."""
        if self._wake_pipe is None:
            return
        with _waking:
            self._wake_pipe = None
            self._forgotten()


def _close_all(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
