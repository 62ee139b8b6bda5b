"""The door: the call context of one sandbox, with its budgets, its deadline and its failure slot.

The trampoline and the memory read and write these fields on every call between guest and host, so they are plain
attributes. An exception of a host function is kept here, never in a global (F8): it belongs to one sandbox from the
moment it is raised.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from aegis.engine.native.signals import NEAR
from aegis.errors import AegisError, CallError, Cancelled, DeadlineExceeded, QuotaExceeded
from aegis.limits import Limits, exceeded
from aegis.support.descriptors import standard_reserved
from aegis.support.lean import Any
from aegis.values import AnswerStep, Decision, Interest

__all__ = ["Budgets", "Door", "budgets_of"]

_UNLIMITED = 1 << 62
_DEADLINE_CHECK_BYTES = 1 << 17
"""Bytes that may be copied between two checks of the deadline; converting them takes some hundred microseconds."""
_PROMPT_SECONDS = 0.1
"""A wait that ends this soon after the deadline has ended at it: the difference is the scheduling of its thread."""
_MEMORY_BYTES = 1 << 32
"""Bytes of the largest possible linear memory."""
_waking = threading.Lock()
"""Held while a wake-up pipe is created, written or closed: the kernel reuses the number of a closed descriptor."""


def _renew() -> None:
    """After fork, in the child: replace the lock, which a thread that does not exist there may hold."""
    global _waking
    _waking = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


Budgets = tuple[int, int, int, int, int]
"""The initial budgets of a door: host calls, bytes that may be copied, bytes of one value, bytes of the guest's memory,
and the number of bytes left below which copying checks the deadline."""


def budgets_of(limits: Limits) -> Budgets:
    """Return the initial budgets of a door under ``limits``."""
    wanted = limits.host_calls, limits.host_bytes, limits.value_bytes
    calls, copied, value = (_UNLIMITED if most is None else most for most in wanted)
    memory = _MEMORY_BYTES if limits.memory is None else limits.memory
    return calls, copied, value, memory, max(copied - _DEADLINE_CHECK_BYTES, 0)


MAX_KEPT_DENIALS = 16
"""Denials of one call that its outcome lists; all are counted, and reported to subscribers."""


class Door:
    """The call context of one sandbox. It implements :class:`aegis.values.CallScope`.

    Two budgets are in bytes. ``host_bytes`` applies to one call by the embedder: :meth:`begin` resets it, the calls
    nested inside share it, and :meth:`charge` consumes it. ``value_bytes`` applies to one value (the arguments of one
    call together, or its result): ``door.value_left = door.value_limit`` resets it, and :meth:`hold` consumes it.
    """

    # The class attributes are the state of a new door, so that creating one stores only the differences.
    bytes_in = bytes_out = 0
    """Bytes copied out of and into the guest, in all calls: :class:`aegis.observe.outcome.Usage` reports them."""
    denials = 0
    """Denied requests, in all calls."""
    deadline = math.inf
    """Time at which the current call must end (``time.monotonic``). Stores set it in ``arm()``; epochs stop guest code
    at it, trampolines check it around every host call, and :meth:`remaining` and :meth:`wait` bound the waits of host
    functions."""
    ready_by = 0.0
    """Time until which a worker may prepare the call, before the call's own time starts (``time.monotonic``)."""
    entered_at = 0.0
    """Time at which the latest call by the embedder began (``time.monotonic``)."""
    returned_at = 0.0
    """Time at which the guest last returned to its caller (``time.monotonic``), or a call failed."""
    near = NEAR
    """Seconds; after a longer host call, the engine's signal handlers are checked: :data:`~.signals.OWN_CODE` for a
    sandbox whose host functions run no code of the application."""
    stop: AegisError | None = None
    failure: BaseException | None = None
    serving: object = None
    """The host function that is being answered, converted to text when a message names it; ``None`` while the guest
    runs, also while it runs inside a host function. After a failed answer, the function that failed."""
    host_seconds = 0.0
    """Seconds that host calls took, in all calls; measured only for observed stores."""
    listens = False
    """Whether a subscriber is attached; see :class:`aegis.values.CallScope`."""
    first_denials: tuple[Decision, ...] = ()
    """The first denials of the current call, at most ``MAX_KEPT_DENIALS``."""
    explain: Callable[[Decision], Decision] | None = None
    """Adds the text that users see to a decision; ``None`` in a worker, because the parent does this."""
    on_decision: Callable[[Decision], None] | None = None
    on_log: Callable[[str, str], None] | None = None
    observe_call: Callable[[str, str, float, BaseException | None], None] | None = None
    answer: AnswerStep | None = None
    """Answers each host call in place of the host function; ``None``: the host function itself answers."""
    caller: int | None = None
    """The engine's ``wasmtime_caller_t`` while a start function calls the host: the only access to the memory until the
    instance exists. The engine owns it, and it is valid only until the host function returns."""
    keep: Callable[[memoryview], Any] = bytes
    """Copies the bytes of a list in an exported function's result; in a worker, to memory shared with its parent."""
    handles: Any = None
    """The handle tables of a component's store; set by the store."""
    clocks: Any = None
    """The clocks of the sandbox, for waits until an instant; set by the host."""
    hears: Any = None
    """In a worker, the messages that its parent sends unprompted, as an operation of the scheduler: it is waited for
    beside those of the guest, and completes them. ``None`` elsewhere."""
    wakes = 0
    """Changes with each :meth:`wake`."""
    _woken = False
    _wake_up: threading.Event | None = None
    """Set to end the wait of a host function that waits for no descriptor; ``None`` while none does."""
    _wake_pipe: tuple[int, int] | None = None
    """Pipe whose reading end every wait for descriptors includes; a byte in it ends the wait."""
    _close_pipe: Callable[[], object]
    """Finalizer that closes the pipe."""

    def __init__(self, limits: Limits, budgets: Budgets | None = None) -> None:
        """Create the door of a new sandbox; pass ``budgets`` if those of ``limits`` were computed before."""
        self.limits = limits
        self.calls_left, copied, value, memory, check = budgets or budgets_of(limits)
        self.bytes_limit = self.bytes_left = copied
        self.first_check = self.check_below = check
        """Copying checks the deadline as soon as ``bytes_left`` is below ``check_below``."""
        self.guest_bytes_left = self.guest_bytes_limit = memory
        """Bytes that the value being lowered may still occupy in the guest's memory."""
        self.value_left = self.value_limit = value
        """Bytes of host memory that the value being converted may still occupy."""

    def begin(self) -> None:
        """Reset the byte budgets for a call by the embedder; a call inside a host function shares the outer budgets.

        A guest without host functions copies nothing, so its calls skip this.
        """
        self.bytes_left = self.bytes_limit
        self.check_below = self.first_check
        self.value_left = self.value_limit

    # -- ending a call -------------------------------------------------------------------------

    def cancel(self) -> None:
        """Stop the current call at its next tick, host call or wait.

        A call whose deadline has already passed, without a check since, ends with ``DeadlineExceeded`` instead.
        """
        if self.stop_reason() is None:
            self.stop = Cancelled("the run was cancelled")
        event = self._wake_up
        if event is not None:
            event.set()
        with _waking:
            if self._wake_pipe is not None:
                with suppress(BlockingIOError):  # the pipe is full, so its reader is awake already
                    os.write(self._wake_pipe[1], b"x")

    def expire(self) -> None:
        """Stop the current call with ``DeadlineExceeded``: its caller has waited too long, even if it started late."""
        if self.stop is None:
            self.stop = self.timeout()

    def stop_reason(self) -> AegisError | None:
        """Return the error with which the current call must end now, or ``None``."""
        if self.stop is None and time.monotonic() >= self.deadline:
            self.stop = self.timeout()
        return self.stop

    def late(self, name: str) -> AegisError:
        """Return the error for a host function ``name`` that returned after the deadline; its result is discarded."""
        if self.stop is None:
            before, self.serving = self.serving, name
            self.stop = self.timeout(prompt=0.0)
            self.serving = before
        return self.stop

    def timeout(self, prompt: float = _PROMPT_SECONDS) -> DeadlineExceeded:
        """Return the error for an exceeded deadline, naming the host function that is running.

        The guest's code and waits end at the deadline. A host function that ends later than ``prompt`` seconds after
        it has used more than the limit.
        """
        used = allowed = self.limits.timeout or 0.0
        inside = ""
        if self.serving:
            inside = f" in the host call {self.serving}"
            taken = time.monotonic() - self.entered_at
            used = taken if taken > allowed + prompt else allowed
        message = exceeded("timeout", used, allowed, after=inside)
        return DeadlineExceeded(message, limit="timeout", used=used, allowed=allowed)

    def refused_call(self) -> AegisError:
        """Return the error for a host call that is not allowed: the stop reason, or the host-call limit."""
        reason = self.stop_reason()
        return reason if reason is not None else self._quota("host_calls", self.limits.host_calls or 0)

    def _quota(self, name: str, used: int) -> QuotaExceeded:
        allowed: int | None = getattr(self.limits, name)
        return QuotaExceeded(exceeded(name, used, allowed), limit=name, used=used, allowed=allowed)

    def charge(self, count: int) -> None:
        """Take ``count`` bytes from the budget of this call; check the deadline from time to time."""
        self.bytes_left = left = self.bytes_left - count
        if left < self.check_below:
            self.check()

    def charge_lifted(self, count: int) -> None:
        """Take ``count`` bytes that are copied out of the guest from the budget of this call, and count them."""
        self.bytes_in += count
        self.charge(count)

    def charge_lowered(self, count: int) -> None:
        """Take ``count`` bytes that are copied into the guest from the budget of this call, and count them."""
        self.bytes_out += count
        self.charge(count)

    def check(self) -> None:
        """Raise if the byte budget is exceeded or the deadline has passed: epochs do not interrupt Python code."""
        if self.bytes_left < 0:
            raise self.overdrawn()
        self.check_below = max(self.bytes_left - _DEADLINE_CHECK_BYTES, 0)
        self.check_time()

    def reserve_guest_bytes(self, count: int) -> None:
        """Take ``count`` bytes of guest memory for a value, before allocating them.

        Raise ``CallError`` if the value is larger than the guest's memory may become.
        """
        self.guest_bytes_left = left = self.guest_bytes_left - count
        if left < 0:
            used, allowed = self.guest_bytes_limit - left, self.guest_bytes_limit
            raise CallError(
                f"the value is larger than the guest's memory may be ({used:,}/{allowed:,} bytes): "
                "raise the limit with memory or --memory-limit"
            )

    def check_time(self) -> None:
        """Raise if the call must end now. Conversion calls this because epochs do not interrupt Python code."""
        reason = self.stop_reason()
        if reason is not None:
            raise reason

    def overdrawn(self) -> QuotaExceeded:
        """Return the error for an exceeded byte budget, and set the budget to 0: the last copy did not take place."""
        used = self.bytes_limit - self.bytes_left
        self.bytes_left = 0
        return self._quota("host_bytes", used)

    def hold(self, count: int) -> None:
        """Take ``count`` bytes from the ``value_bytes`` budget of the value being converted, before allocating them.

        Raise ``QuotaExceeded`` if the value would exceed the budget.
        """
        self.value_left = left = self.value_left - count
        if left < 0:
            raise self._quota("value_bytes", self.value_limit - left)

    # -- CallScope ------------------------------------------------------------------------------

    def remaining(self) -> float | None:
        self.check_time()
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
            if time.monotonic() >= end or self._woken:
                self._woken = False
                self.remaining()
                return [], []

    def wait_for(self, interests: Iterable[Interest]) -> Sequence[int]:
        """Wait until one of ``interests`` may be met, or :meth:`wake` was called; raise as :meth:`wait` does.

        Return descriptors that are readable, if it waited for them.
        """
        reads: list[int] = []
        writes: list[int] = []
        soonest: int | None = None
        again = math.inf
        for interest in interests:
            reads += interest.read
            writes += interest.write
            if interest.instant is not None:
                soonest = interest.instant if soonest is None else min(soonest, interest.instant)
            if interest.host_time is not None:
                again = min(again, interest.host_time)
        left = None if again == math.inf else max(0.0, again - time.monotonic())
        if soonest is None:
            return self.wait(left, read=reads, write=writes)[0]
        span = max(0, soonest - self.clocks.monotonic())
        if self.clocks.real:
            return self.wait(span / 1e9 if left is None else min(left, span / 1e9), read=reads, write=writes)[0]
        # A stand-in clock does not advance while the host waits; it advances when nothing else is ready.
        ready = self.wait(0, read=reads, write=writes) if reads or writes else ()
        if not any(ready):
            self.clocks.sleep(span, self)
        return ready[0] if ready else ()

    def wake(self) -> None:
        """Have a wait return, from any thread: an operation of the host is complete."""
        self.wakes += 1  # two threads may count one wake-up, but what both announce is there before either counts
        self._woken = True
        event = self._wake_up
        if event is not None:
            event.set()
        with _waking:
            if self._wake_pipe is not None:
                with suppress(BlockingIOError):
                    os.write(self._wake_pipe[1], b"x")

    def _sleep(self, span: float) -> None:
        event = self._wake_up = threading.Event()
        if self.stop is None and not self._woken:
            event.wait(None if span == math.inf else min(span, threading.TIMEOUT_MAX))
        self._wake_up = None

    def wait_until(self, done: Callable[[], bool], news: threading.Event) -> None:
        """Wait until ``done()``; another thread sets ``news`` when to check again. Raise as :meth:`wait` does."""
        self._wake_up = news
        try:
            while not done():
                left = self.remaining()
                news.wait(None if left is None else min(left, threading.TIMEOUT_MAX))
                news.clear()
        finally:
            self._wake_up = None

    def _poll(self, span: float, read: Sequence[int], write: Sequence[int]) -> tuple[list[int], list[int]]:
        import select

        pipe = self._wake_pipe or self._new_pipe()
        if self.stop is not None:
            return [], []  # cancelled before the pipe existed
        if self._woken:
            span = 0.0  # likewise
        poller = select.poll()
        for descriptor in {*read, *write}:
            events = (select.POLLIN if descriptor in read else 0) | (select.POLLOUT if descriptor in write else 0)
            poller.register(descriptor, events)
        poller.register(pipe[0], select.POLLIN)
        # poll() takes milliseconds as a 31-bit integer; for a longer time the loop in wait() polls again.
        hits = dict(poller.poll(min(math.ceil(span * 1000) if span != math.inf else 1 << 30, 1 << 30)))
        # A hang-up or an error makes a descriptor ready for reading as well as for writing.
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
        self._close_pipe = weakref.finalize(self, _close_all, made)  # the sandbox may be collected without being closed
        with _waking:
            self._wake_pipe = made
        return made

    def decided(self, decision: Decision) -> None:
        kept = not decision.allowed and len(self.first_denials) < MAX_KEPT_DENIALS
        self.denials += not decision.allowed
        if self.explain is not None and (kept or self.on_decision is not None):
            decision = self.explain(decision)
        if kept:
            self.first_denials += (decision,)
        if self.on_decision is not None:
            self.on_decision(decision)

    def logged(self, level: str, message: str) -> None:
        if self.on_log is not None:
            self.on_log(level, message)

    def close(self) -> None:
        """Close the wake-up pipe. No thread waits on this door any more."""
        if self._wake_pipe is None:
            return
        with _waking:
            self._wake_pipe = None
            self._close_pipe()


def _close_all(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
