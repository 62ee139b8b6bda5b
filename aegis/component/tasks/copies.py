"""Streams and futures: copies between the buffers of a read end and a write end (CanonicalABI.md, "Stream State").

Either end belongs to a guest or to the host. A side that begins a copy while the other has none pending leaves its
buffer; the other side then copies at once, and the first one gets an event. No element is ever stored in between.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum, IntEnum, auto
from typing import Any, TypeAlias

from aegis.component.tasks.waitables import Waitable
from aegis.component.traps import trap

__all__ = [
    "MAX_BUFFER_ELEMENTS", "CopyBuffer", "CopyEnd", "CopyResult", "CopyState", "OnCopy", "OnDone", "Reclaim",
    "SharedFuture", "SharedStream",
]  # fmt: skip

MAX_BUFFER_ELEMENTS = (1 << 28) - 1


class CopyResult(IntEnum):
    """The reason for which a copy ended."""

    COMPLETED = 0
    DROPPED = 1
    CANCELLED = 2


class CopyState(Enum):
    """The state of an end."""

    IDLE = auto()
    COPYING = auto()
    CANCELLING = auto()
    DONE = auto()


Reclaim: TypeAlias = Callable[[], None]
"""Takes the buffer of a partial copy back when the guest learns of it."""
OnCopy: TypeAlias = Callable[[Reclaim], None]
OnDone: TypeAlias = Callable[[CopyResult], None]


class CopyBuffer:
    """One side of a copy: the number of its elements, and of those that were copied.

    ``owner`` is the component instance that it belongs to, ``None`` for the host. The buffer of a write has a method
    ``move_to(target, count)``, which copies elements to the buffer of a read.
    """

    __slots__ = ("length", "owner", "progress")

    def __init__(self, owner: Any, length: int) -> None:
        self.owner, self.length, self.progress = owner, length, 0

    def remain(self) -> int:
        """Return the number of elements that can still be copied."""
        return self.length - self.progress

    def empty(self) -> bool:
        """Return whether the copy began with a length of zero, which only waits for the other end."""
        return not self.length


class SharedStream:
    """The state that both ends of a stream share (``SharedStreamImpl``). ``element`` identifies the element type."""

    __slots__ = ("_done", "_partly", "dropped", "element", "pending", "plain")

    is_future = False

    def __init__(self, element: Hashable, plain: bool) -> None:
        self.element, self.plain = element, plain
        """``plain``: elements are numbers or have no value, so one instance may have both ends."""
        self.dropped = False
        self.pending: Any = None
        self._partly: OnCopy | None = None
        self._done: OnDone | None = None

    def _leave(self, buffer: Any, partly: OnCopy, done: OnDone) -> None:
        self.pending, self._partly, self._done = buffer, partly, done

    def _reclaim(self) -> None:
        self.pending = self._partly = self._done = None

    def _end(self, result: CopyResult) -> None:
        done = self._done
        self._reclaim()
        assert done is not None
        done(result)

    def cancel(self) -> None:
        """End the pending copy without an element."""
        self._end(CopyResult.CANCELLED)

    def drop(self) -> None:
        """Note that one end is gone, and end the pending copy of the other."""
        if not self.dropped:
            self.dropped = True
            if self.pending is not None:
                self._end(CopyResult.DROPPED)

    def _check_owners(self, buffer: Any) -> None:
        if not self.plain and buffer.owner is not None and buffer.owner is self.pending.owner:
            raise trap(
                "a component instance read what it wrote, which only elements without pointers and handles may be"
            )

    def read(self, target: Any, partly: OnCopy, done: OnDone) -> None:
        """Copy from the pending write, or leave ``target`` for the next one."""
        if self.dropped:
            done(CopyResult.DROPPED)
        elif self.pending is None:
            self._leave(target, partly, done)
        else:
            self._check_owners(target)
            source = self.pending
            if source.remain():
                if target.remain():
                    source.move_to(target, min(source.remain(), target.remain()))
                    assert self._partly is not None
                    self._partly(self._reclaim)
                done(CopyResult.COMPLETED)
            else:
                self._end(CopyResult.COMPLETED)
                self._leave(target, partly, done)

    def write(self, source: Any, partly: OnCopy, done: OnDone) -> None:
        """Copy to the pending read, or leave ``source`` for the next one."""
        if self.dropped:
            done(CopyResult.DROPPED)
        elif self.pending is None:
            self._leave(source, partly, done)
        else:
            self._check_owners(source)
            target = self.pending
            if target.remain():
                if source.remain():
                    source.move_to(target, min(source.remain(), target.remain()))
                    assert self._partly is not None
                    self._partly(self._reclaim)
                done(CopyResult.COMPLETED)
            elif source.empty() and target.empty():
                done(CopyResult.COMPLETED)
            else:
                self._end(CopyResult.COMPLETED)
                self._leave(source, partly, done)


class SharedFuture:
    """The state that both ends of a future share (``SharedFutureImpl``)."""

    __slots__ = ("_done", "dropped", "element", "pending", "plain")

    is_future = True

    def __init__(self, element: Hashable, plain: bool) -> None:
        self.element, self.plain = element, plain
        self.dropped = False
        self.pending: Any = None
        self._done: OnDone | None = None

    def _end(self, result: CopyResult) -> None:
        done, self._done, self.pending = self._done, None, None
        assert done is not None
        done(result)

    def cancel(self) -> None:
        """End the pending copy without a value."""
        self._end(CopyResult.CANCELLED)

    def drop(self) -> None:
        """Note that one end is gone, and end the pending write."""
        if not self.dropped:
            self.dropped = True
            if self.pending is not None:
                self._end(CopyResult.DROPPED)

    def read(self, target: Any, partly: OnCopy, done: OnDone) -> None:
        """Copy from the pending write, or leave ``target`` for it."""
        if self.pending is None:
            self.pending, self._done = target, done
            return
        self._copy(self.pending, target)
        self._end(CopyResult.COMPLETED)
        done(CopyResult.COMPLETED)

    def write(self, source: Any, partly: OnCopy, done: OnDone) -> None:
        """Copy to the pending read, or leave ``source`` for it."""
        if self.dropped:
            done(CopyResult.DROPPED)
        elif self.pending is None:
            self.pending, self._done = source, done
        else:
            self._copy(source, self.pending)
            self._end(CopyResult.COMPLETED)
            done(CopyResult.COMPLETED)

    def _copy(self, source: Any, target: Any) -> None:
        if not self.plain and source.owner is not None and source.owner is target.owner:
            raise trap(
                "a component instance read what it wrote, which only elements without pointers and handles may be"
            )
        source.move_to(target, 1)


class CopyEnd(Waitable):
    """One end of a stream or future in a handle table."""

    __slots__ = ("buffer", "readable", "shared", "state")

    def __init__(self, shared: Any, readable: bool) -> None:
        super().__init__()
        self.shared, self.readable = shared, readable
        self.state = CopyState.IDLE
        self.buffer: Any = None
        """The buffer of the latest copy."""

    def copying(self) -> bool:
        """Return whether a copy is under way."""
        return self.state in (CopyState.COPYING, CopyState.CANCELLING)

    def close(self) -> None:
        """Drop the end; trap if the guest may not."""
        if self.copying():
            raise trap(f"a {self.kind} was dropped during a copy")
        if self.shared.is_future and not self.readable and self.state is not CopyState.DONE:
            raise trap("the writable end of a future was dropped before a value was written")
        self.shared.drop()
        super().close()

    @property
    def kind(self) -> str:
        """The name of the end, for messages."""
        return (
            f"{'readable' if self.readable else 'writable'} end of a {'future' if self.shared.is_future else 'stream'}"
        )
