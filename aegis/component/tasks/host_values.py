"""Streams and futures as Python values: what a host function or the embedder gets and may give."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from aegis.component.tasks.convert import HostElements
from aegis.component.tasks.copies import CopyResult
from aegis.component.tasks.host_ends import ElementSink, HostPump, SinkBuffer, SourceFuture, SourceStream
from aegis.component.tasks.sources import ReadOn, later_of, source_of
from aegis.engine.threads.guest_thread import thread_state
from aegis.errors import CallError
from aegis.values import Promise
from aegis.wit.collected import replaced_ends
from aegis.wit.streams import ByteStreamReader, FutureReader, FutureWriter, StreamReader
from aegis.wit.types import Future, has_ends

__all__ = ["GuestReadableEnd", "host_reader", "host_shared"]


class GuestReadableEnd:
    """The readable end of a guest's stream or future; a :class:`~aegis.wit.streams.GuestEnd`."""

    def __init__(self, shared: Any, typed: HostElements, state: Any) -> None:
        self._shared, self.typed, self.state = shared, typed, state
        self._reading = False
        self._unread: Any = ()
        """Elements that were read for a task that was cancelled before it got them, or for an earlier owner."""

    def take(self, count: int) -> Any:
        """Run the guest until it has written; return up to ``count`` elements, ``None`` at the end."""
        if self._unread:
            return self._taken_again(count)
        call = thread_state.threaded
        if call is not None and call.door is self.state.door:
            self.check_free()
            return call.take(self.state.tasks, lambda done: self.start(count, done))
        return self._work().work(lambda: self._taken(count))

    async def atake(self, count: int) -> Any:
        """Like :meth:`take`, while the event loop runs other tasks. A cancelled task loses no elements."""
        self._live()
        if self._unread:
            return self._taken_again(count)
        self._reading = True
        try:
            return await self._work().perform(lambda done: self._start(self._shared, count, done), self.put_back)
        finally:
            self._reading = False

    def put_back(self, elements: Any) -> None:
        """Have the next read return ``elements``, which were read and not delivered."""
        self._unread = elements + self._unread if self._unread else elements

    def _taken_again(self, count: int) -> Any:
        taken, self._unread = self._unread[:count], self._unread[count:]
        return taken

    def _work(self) -> Any:
        outside = self.state.outside
        if outside is None:
            raise CallError("a stream of a guest cannot be read while the guest is instantiated: read it afterwards")
        return outside

    def _taken(self, count: int) -> Any:
        found: list[Any] = []
        self.state.tasks.catch_up()
        self.start(count, found.append)
        self.state.tasks.run_or_block(lambda: bool(found))
        return found[0]

    def start(self, count: int, done: Callable[[Any], None]) -> Callable[[], None]:
        """Read up to ``count`` elements; pass them to ``done``, or ``None`` at the end. Return a function that cancels.

        Call this on the thread that runs the guest.
        """
        return self._start(self._live(), count, done)

    def _start(self, shared: Any, count: int, done: Callable[[Any], None]) -> Callable[[], None]:
        over = False
        found: list[Any] = []
        if shared is None:  # closed before the read began
            done(None)
            return lambda: None

        def finish(result: CopyResult) -> None:
            nonlocal over
            if over:
                return
            if result is CopyResult.COMPLETED and not found:
                begin()  # a write without elements
                return
            over = True
            done(found[0] if found else None)

        def partly(reclaim: Callable[[], None]) -> None:
            reclaim()
            finish(CopyResult.COMPLETED)

        def begin() -> None:
            shared.read(SinkBuffer(self.typed, count, found.append, self._readable), partly, finish)

        def cancel() -> None:
            nonlocal over
            if not over:
                over = True
                shared.cancel()

        begin()
        return cancel

    def _readable(self, values: Any) -> Any:
        """Return elements of the host with readers for the streams and futures in them, as elements of a guest have."""
        element, state = self.typed.of, self.state
        if element is None or not has_ends(element):
            return values

        def reader(value: Any, of: Any) -> Any:
            plan = state.plan
            typed = plan.host_type(of)
            return host_reader(host_shared(value, of, plan.shape_of(of), typed, state), of, typed, state)

        return [replaced_ends(value, element, reader) for value in values]

    def pump(self, sink: ElementSink, ended: Callable[[], None] = lambda: None) -> HostPump:
        """Pass all elements to ``sink``, as the guest writes them; then call ``ended``."""
        return HostPump(self.release(), sink, self.typed, self.state.tasks, ended)

    def then(self, take: Callable[[Any], None]) -> None:
        """Pass the value of a future to ``take`` when the guest has written it."""
        if self._unread:
            take(self._unread[0])
            return
        self.start(1, lambda values: None if values is None else take(values[0]))

    def check_free(self) -> None:
        """Raise ``CallError`` if the end was passed on or closed, or is being read."""
        self._live()

    def _live(self) -> Any:
        if self._shared is None:
            raise CallError("the stream or future was passed on already, or closed: read it before")
        if self._reading:
            raise CallError("another task reads the stream or future: use it in one task at a time")
        return self._shared

    def release(self) -> Any:
        """Return what both ends share, for another owner of this end."""
        shared, self._shared = self._live(), None
        unread, self._unread = self._unread, ()
        if not unread:
            return shared
        tasks = self.state.tasks
        if shared.is_future:
            made = SourceFuture(shared.element, self.typed, tasks)
            made.set(unread[0])
            return made
        source = ReadOn(unread, GuestReadableEnd(shared, self.typed, self.state), self.state.door.wake)
        return SourceStream(source, shared.element, self.typed, tasks)

    def close(self) -> None:
        """Drop the end, from any thread: the guest learns of it when it runs next."""
        shared, self._shared = self._shared, None
        if shared is not None:
            self.state.tasks.post(shared.drop)


def host_reader(shared: Any, of: Any, typed: HostElements, state: Any) -> Any:
    """Return the object by which the host reads a stream or future of the guest."""
    end = GuestReadableEnd(shared, typed, state)
    if isinstance(of, Future):
        return FutureReader(end)
    return ByteStreamReader(end) if of.element == "u8" else StreamReader(end)


def host_shared(value: Any, of: Any, shape: Hashable, typed: HostElements, state: Any) -> Any:
    """Return what the guest's end of a stream or future shares with the host's ``value``."""
    if isinstance(value, (StreamReader, ByteStreamReader, FutureReader)):
        if isinstance(value, FutureReader) and value.read_ahead():
            made = SourceFuture(shape, typed, state.tasks)
            made.set(value.read_ahead()[0])
            return made
        end = value.end
        if isinstance(end, GuestReadableEnd) and end.state is state:
            end.check_free()
            value.detach()
            return end.release()
    tasks, door = state.tasks, state.door
    if not isinstance(of, Future):
        return SourceStream(source_of(value, of.element, door), shape, typed, tasks)
    awaited = not isinstance(value, (FutureWriter, Promise)) and hasattr(type(value), "__await__")
    later = later_of(door, value, "a future of the host") if awaited else None
    made = SourceFuture(shape, typed, tasks)
    if later is not None:
        made.set_later(later)
    elif isinstance(value, Promise):
        made.promised = True
        value.attach(made.set, tasks.expect)
    elif isinstance(value, FutureWriter):
        value.attach(made.set)
    elif hasattr(value, "interest") and hasattr(value, "result"):  # a Later, as host functions return it
        made.set_later(value)
    else:
        made.set(value)
    return made
