"""``poll_oneoff``: wait for clocks and descriptors, no longer than until the deadline."""

from __future__ import annotations

from struct import Struct

from aegis.host.preview1 import abi
from aegis.host.preview1.abi import Errno, Refused, Rights
from aegis.host.preview1.context import Preview1Context
from aegis.host.preview1.table import DirectoryDescriptor, FileDescriptor, StreamDescriptor
from aegis.support.lean import NamedTuple

__all__ = ["PollOneoff"]

_HEAD = Struct("<QB7x")
_CLOCK = Struct("<I4xQQH6x")
_DESCRIPTOR = Struct("<I28x")
_SUBSCRIPTION_BYTES = 48
_MAX_SUBSCRIPTIONS = 65536
_ABSOLUTE = 1
CLOCK, FD_READ, FD_WRITE = 0, 1, 2


class _ClockSubscription(NamedTuple):
    userdata: int
    span: int


class _Waiter(NamedTuple):
    userdata: int
    kind: int
    descriptor: int


class PollOneoff(Preview1Context):
    """``poll_oneoff``, the one function that waits."""

    def poll_oneoff(self, subscriptions: int, events: int, count: int, out: int) -> None:
        if not 0 < count <= _MAX_SUBSCRIPTIONS:
            raise Refused(Errno.INVAL)
        raw = self.memory.read(subscriptions, _SUBSCRIPTION_BYTES * count)
        timers: list[_ClockSubscription] = []
        waiters: list[_Waiter] = []
        ready: list[bytes] = []
        for at in range(0, len(raw), _SUBSCRIPTION_BYTES):
            userdata, tag = _HEAD.unpack_from(raw, at)
            if tag == CLOCK:
                timers.append(_ClockSubscription(userdata, self._span(*_CLOCK.unpack_from(raw, at + 16))))
            elif tag in (FD_READ, FD_WRITE):
                self._descriptor(userdata, tag, _DESCRIPTOR.unpack_from(raw, at + 16)[0], waiters, ready)
            else:
                raise Refused(Errno.INVAL)
        ready += self._wait(timers, waiters, at_once=bool(ready))
        self.memory.write(events, b"".join(ready))
        self.put_u32(out, len(ready))

    def _span(self, clock: int, timeout: int, precision: int, flags: int) -> int:
        """Return in how many nanoseconds a clock subscription is due."""
        if clock > 1:
            raise Refused(Errno.INVAL)
        if not flags & _ABSOLUTE:
            return timeout
        clocks = self.grants.clocks
        return max(0, timeout - (clocks.realtime() if clock == 0 else clocks.monotonic()))

    def _descriptor(self, userdata: int, kind: int, fd: int, waiters: list[_Waiter], ready: list[bytes]) -> None:
        try:
            entry = self.table.get(fd)
        except Refused as refusal:
            ready.append(_event(userdata, kind, error=refusal.number))
            return
        right = Rights.FD_READ if kind == FD_READ else Rights.FD_WRITE
        if isinstance(entry, DirectoryDescriptor) or not entry.rights & right:
            ready.append(_event(userdata, kind, error=Errno.BADF))
        elif isinstance(entry, FileDescriptor):
            ready.append(_event(userdata, kind, count=1))
        else:
            self._stream(userdata, kind, entry, waiters, ready)

    @staticmethod
    def _stream(userdata: int, kind: int, entry: StreamDescriptor, waiters: list[_Waiter], ready: list[bytes]) -> None:
        descriptor = entry.source.awaited()
        if descriptor is None:
            ready.append(_event(userdata, kind, count=1))
        else:
            waiters.append(_Waiter(userdata, kind, descriptor))

    def _wait(self, timers: list[_ClockSubscription], waiters: list[_Waiter], *, at_once: bool) -> list[bytes]:
        soonest = min((timer.span for timer in timers), default=None)
        if not waiters:
            if at_once or soonest is None:
                return []
            self.grants.clocks.sleep(soonest, self.scope)
            return _due(timers, soonest)
        hits = self._ready(waiters, soonest, at_once=at_once)
        if hits or at_once or soonest is None:
            return hits
        if not self.grants.clocks.real:
            self.grants.clocks.sleep(soonest, self.scope)
        return _due(timers, soonest)

    def _ready(self, waiters: list[_Waiter], soonest: int | None, *, at_once: bool) -> list[bytes]:
        """Return the events of ready descriptors, after waiting for them.

        With a virtual clock and a timer there is no wait: that clock does not advance while the host waits.
        """
        seconds: float | None = None
        if at_once or (soonest is not None and not self.grants.clocks.real):
            seconds = 0.0
        elif soonest is not None:
            seconds = soonest / 1e9
        reads = [w.descriptor for w in waiters if w.kind == FD_READ]
        writes = [w.descriptor for w in waiters if w.kind == FD_WRITE]
        readable, writable = self.scope.wait(seconds, read=reads, write=writes)
        return [
            _event(w.userdata, w.kind, count=1)
            for w in waiters
            if w.descriptor in (readable if w.kind == FD_READ else writable)
        ]


def _due(timers: list[_ClockSubscription], now: int) -> list[bytes]:
    return [_event(timer.userdata, CLOCK) for timer in timers if timer.span <= now]


def _event(userdata: int, kind: int, *, error: int = 0, count: int = 0) -> bytes:
    return abi.EVENT.pack(userdata, error, kind, count, 0)
