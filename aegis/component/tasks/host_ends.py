"""The host's ends of streams and futures: sources that a guest reads, and sinks that a guest writes.

A source or sink never blocks. While it is not ready, it is a host operation of the scheduler.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, Protocol, runtime_checkable

from aegis.component.conversion.coerce import fit
from aegis.component.tasks.convert import HostElements
from aegis.component.tasks.copies import CopyBuffer, CopyEnd, CopyResult, CopyState, OnCopy, OnDone
from aegis.component.tasks.sources import ElementSource, raised_by, wrong_element
from aegis.component.traps import trap
from aegis.errors import AegisError, CallError
from aegis.values import Ended, Interest

__all__ = ["ElementSink", "FlushingSink", "HostPump", "SinkBuffer", "SourceFuture", "SourceStream", "take_end"]

_MAX_COPY_ELEMENTS = 1 << 16
"""Elements copied at once between a guest and the host."""


class ElementSink(Protocol):
    """The host's receiver of a stream's elements."""

    def room(self) -> int:
        """Return how many elements it accepts now, 0 for none yet; raise :class:`Ended` if it accepts no more."""

    def give(self, values: Any) -> None:
        """Accept elements, no more than :meth:`room` returned."""

    def ready(self) -> bool:
        """Return whether :meth:`room` would not return 0."""

    def interest(self) -> Interest:
        """Return the events to wait for while it is not ready."""

    def close(self) -> None:
        """Note that no more elements come."""


@runtime_checkable
class FlushingSink(ElementSink, Protocol):
    """A sink that accepts elements before it has passed them on, such as one that writes to a socket."""

    def flushed(self) -> bool:
        """Pass on what is possible now; return whether nothing is left, or it failed. Never block."""


def take_end(instance: Any, handles: Any, index: int, shape: Hashable) -> Any:
    """Take the readable end of a stream or future out of an instance's table; return what both ends share."""
    end: CopyEnd = instance.get_as(index, CopyEnd)
    if not end.readable or end.shared.element != shape:
        raise trap(f"handle index {index} is the {end.kind} of another type")
    if end.state is not CopyState.IDLE:
        raise trap(f"the {end.kind} was given away during a copy, or after its end")
    if end.set is not None:
        raise trap(f"the {end.kind} was given away while it is in a waitable set")
    handles.leave(instance, index)
    return end.shared


class _SourceBuffer(CopyBuffer):
    """Elements of the host on their way to the buffer of a read."""

    __slots__ = ("typed", "values")

    def __init__(self, typed: HostElements, values: Any) -> None:
        super().__init__(None, len(values))
        self.typed, self.values = typed, values

    def take(self, count: int, typed: HostElements) -> Any:
        """Return all elements: the reader has room for them."""
        return self.values


def _pass_on(target: Any, buffer: _SourceBuffer, count: int, before: int | None) -> None:
    """Copy elements of the host to the buffer of a read; ``before``: the number of those that a stream had before."""
    try:
        target.accept(buffer, count)
    except CallError as wrong:
        raise wrong_element(_positioned(wrong, buffer, before), is_future=before is None) from None


def _positioned(wrong: CallError, buffer: _SourceBuffer, before: int | None) -> CallError:
    """Return the error for the first wrong element, with its position in the stream."""
    of = buffer.typed.of
    if of is None:
        return wrong
    for n, value in enumerate(buffer.values, before or 0):
        try:
            fit(of, value, "the value" if before is None else f"element {n}")
        except CallError as found:
            return found
    return wrong


class _SourceEnd(ABC):
    """The writable end of a stream or future that is the host's, as the guest's readable end sees it."""

    is_future = False

    def __init__(self, element: Hashable, typed: HostElements, tasks: Any) -> None:
        self.element, self.plain = element, True
        self.pending: Any = None
        self._typed, self._tasks = typed, tasks
        self._done: OnDone | None = None
        self._closed = False

    def read(self, target: Any, partly: OnCopy, done: OnDone) -> None:
        """Copy what the host has, or complete the read when it has something."""
        self.pending, self._done = target, done
        if not self._advance():
            self._tasks.expect(self)

    def complete(self) -> None:
        """Continue a read that had to wait."""
        if self.pending is not None and not self._advance():
            self._tasks.expect(self)

    @abstractmethod
    def _advance(self) -> bool:
        """Continue the pending read; return whether it ended."""

    @abstractmethod
    def ready(self) -> bool:
        """Return whether a read that waits can continue."""

    @abstractmethod
    def interest(self) -> Interest:
        """Return the events that the host waits for."""

    def _end(self, result: CopyResult) -> bool:
        done, self._done, self.pending = self._done, None, None
        assert done is not None
        done(result)
        return True

    def cancel(self) -> None:
        """Give the buffer back to its reader."""
        self._tasks.forget(self)
        if self.pending is not None:
            self._end(CopyResult.CANCELLED)

    def abandon(self) -> None:
        """Close the source, because the store is closed."""
        self.pending = None
        self.drop()

    def drop(self) -> None:
        """Close the source, because it has ended or its reader dropped the readable end; end a pending read."""
        self._tasks.forget(self)
        if not self._closed:
            self._closed = True
            self._close()
        if self.pending is not None:
            self._end(CopyResult.DROPPED)

    @abstractmethod
    def _close(self) -> None:
        """Release the elements."""


class SourceStream(_SourceEnd):
    """A stream whose elements come from a :class:`Source`."""

    def __init__(self, source: ElementSource, element: Hashable, typed: HostElements, tasks: Any) -> None:
        super().__init__(element, typed, tasks)
        self._source, self._passed = source, 0
        tasks.keep(self)

    def _advance(self) -> bool:
        target = self.pending
        try:
            if self._closed:
                raise Ended
            if not target.remain():
                return self._end(CopyResult.COMPLETED) if self._source.ready() else False
            values = self._source.take(min(target.remain(), _MAX_COPY_ELEMENTS))
        except Ended:
            self.drop()
            return True
        if values is None:
            return False
        _pass_on(target, _SourceBuffer(self._typed, values), len(values), self._passed)
        self._passed += len(values)
        return self._end(CopyResult.COMPLETED)

    def ready(self) -> bool:
        """Return whether the source is ready."""
        return self._source.ready()

    def interest(self) -> Interest:
        """Return the events that the source waits for."""
        return self._source.interest()

    def _close(self) -> None:
        self._tasks.release(self)
        self._source.close()


class SourceFuture(_SourceEnd):
    """A future whose value the host provides by :meth:`set`, at once or later."""

    is_future = True

    def __init__(self, element: Hashable, typed: HostElements, tasks: Any) -> None:
        super().__init__(element, typed, tasks)
        self._values: tuple[Any, ...] = ()
        self._later: Any = None
        tasks.keep(self)
        self.promised = False
        """Whether only other operations of the host lead to the value: waiting for it alone is then a deadlock."""

    def read(self, target: Any, partly: OnCopy, done: OnDone) -> None:
        """Copy the value, or complete the read when the host has it."""
        super().read(target, partly, done)
        if self.promised:
            self._tasks.forget(self)

    def set(self, value: Any) -> None:
        """Provide the value, from any thread unless it was ``promised``."""
        self._values = (value,)
        if self.promised and self.pending is not None:
            self._tasks.expect(self)
        self._tasks.door.wake()

    def set_later(self, later: Any) -> None:
        """Take the value from an operation of the host, when that is complete."""
        self._later = later
        self._tasks.keep(self)

    def ready(self) -> bool:
        """Return whether there is a value, or the operation that returns it is complete."""
        return bool(self._values) or (self._later is not None and self._later.ready())

    def interest(self) -> Interest:
        """Return the events that the operation waits for."""
        return Interest() if self._later is None else self._later.interest()

    def _advance(self) -> bool:
        if not self._values:
            if self._later is None or not self._later.ready():
                return False
            later, self._later = self._later, None
            try:
                self._values = (later.result(),)
            except AegisError:
                raise
            except BaseException as error:
                raise raised_by("a future of the host", error) from error
        _pass_on(self.pending, _SourceBuffer(self._typed, self._values), 1, None)
        self._tasks.release(self)
        return self._end(CopyResult.COMPLETED)

    def _close(self) -> None:
        self._tasks.release(self)
        self._values = ()
        if self._later is not None:
            self._later.cancel()


class SinkBuffer(CopyBuffer):
    """The room of a sink for elements that a guest writes.

    ``readable`` makes readers of the streams and futures in elements that a source of the host gives without a guest
    between them.
    """

    __slots__ = ("give", "readable", "typed")

    def __init__(
        self, typed: HostElements, length: int, give: Callable[[Any], None],
        readable: Callable[[Any], Any] = lambda values: values,
    ) -> None:  # fmt: skip
        super().__init__(None, length)
        self.typed, self.give, self.readable = typed, give, readable

    def accept(self, source: Any, count: int) -> None:
        """Pass ``count`` elements from the buffer of a write to the sink."""
        values = source.take(count, self.typed)
        self.progress += count
        self.give(self.readable(self.typed.fitted(values)) if source.owner is None else values)


class HostPump:
    """Reads a guest's stream into a :class:`Sink` until either ends; then calls ``ended``."""

    def __init__(
        self, shared: Any, sink: ElementSink, typed: HostElements, tasks: Any, ended: Callable[[], None]
    ) -> None:
        self._shared, self._sink, self._typed, self._tasks, self._ended = shared, sink, typed, tasks, ended
        self._over = self._closed = self._reading = self._again = False
        self._flushing = sink if isinstance(sink, FlushingSink) else None
        tasks.keep(self)
        self._begin()

    def _begin(self) -> None:
        """Read until the stream or the sink is not ready.

        A read that completes at once calls :meth:`_done` before it returns. That starts no read inside this one: the
        pieces of a long stream would not fit on the stack.
        """
        self._again = True
        if self._reading:
            return
        self._reading = True
        while self._again and not self._over:
            self._again = False
            self._read()
        self._reading = False

    def _read(self) -> None:
        self._tasks.door.check_time()
        try:
            room = self._sink.room()
        except Ended:
            self._finish()
            return
        if room:
            buffer = SinkBuffer(self._typed, min(room, _MAX_COPY_ELEMENTS), self._sink.give)
            self._shared.read(buffer, self._partly, self._done)
        else:
            self._tasks.expect(self)

    def _partly(self, reclaim: Callable[[], None]) -> None:
        reclaim()
        self._begin()

    def _done(self, result: CopyResult) -> None:
        if result is CopyResult.COMPLETED:
            self._begin()
        else:
            self._finish()

    def ready(self) -> bool:
        """Return whether the sink has room; after the end of the stream, whether it is flushed."""
        if self._over and self._flushing is not None:
            return self._flushing.flushed()
        return self._sink.ready()

    def interest(self) -> Interest:
        """Return the events that the sink waits for."""
        return self._sink.interest()

    def complete(self) -> None:
        """Read again, since the sink has room, or end after the last elements."""
        if self._over:
            self._flush()
        else:
            self._begin()

    def cancel(self) -> None:
        """Wait for no more room: :meth:`abandon` follows."""

    def abandon(self) -> None:
        """Close the sink, because the store is closed."""
        self._over = True
        if not self._closed:
            self._closed = True
            self._sink.close()

    def stop(self) -> None:
        """Read no more, because the sink has failed: the guest learns of it at once."""
        self._finish()

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._shared.drop()
            self._flush()

    def _flush(self) -> None:
        """Close the sink, once it has passed on what it accepted."""
        if self._flushing is not None and not self._flushing.flushed():
            self._tasks.expect(self)
        elif not self._closed:
            self._closed = True
            self._tasks.release(self)
            self._sink.close()
            self._ended()
