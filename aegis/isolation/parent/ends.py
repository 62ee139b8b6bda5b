"""Streams and futures between the application and a guest in a worker, in the parent.

What the application passes stays here: the worker takes its elements by number, as it calls host functions. Of a
guest's stream or future the parent has a number, and each read is a request to the worker. Elements are validated like
all values of a worker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from aegis.component.conversion.coerce import fit
from aegis.component.tasks.sources import ElementSource, later_of, raised_by, source_of, wrong_element
from aegis.component.tasks.task import CANCELLED
from aegis.engine.threads.guest_thread import thread_state
from aegis.errors import AegisError, CallError
from aegis.isolation.parent.none_yet import NONE_YET
from aegis.isolation.parent.overlapping import RemoteOperation
from aegis.isolation.protocol.channel import ProtocolError
from aegis.isolation.protocol.wit_values import MAX_TAKEN_ELEMENTS, elements_packer, elements_unpacker
from aegis.values import Ended, Interest, Promise
from aegis.wit.streams import ByteStreamReader, FutureReader, FutureWriter, StreamReader
from aegis.wit.types import Future, List, Stream

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.isolation.protocol.wit_values import ValueBudget, WireHandles

    class _EndHandles(WireHandles, Protocol):
        """The handle table of the sandbox, to which the ends belong."""

        dropped_ends: deque[int]
        taken: list[Any]
        next: int

        def count(self) -> None: ...
        def withdraw(self, first: int) -> None: ...


__all__ = ["EndTable", "WorkerEnd"]


class _OfferedStream:
    """A stream of the application that the guest reads."""

    asked = False
    """Whether a request of the guest is pending."""

    def __init__(self, source: ElementSource, pack: Callable[[Any], Any]) -> None:
        self._source, self._pack = source, pack
        self.ready, self.interest = source.ready, source.interest
        self.wakes_door: bool = getattr(source, "wakes_door", False)

    def take(self, count: int) -> Any:
        """Return up to ``count`` elements as plain data, ``None`` at the end, or :data:`NONE_YET`."""
        try:
            values = self._source.take(count)
        except Ended:
            return None
        return NONE_YET if values is None else self._pack(values)

    def close(self) -> None:
        """Release the elements: the guest reads no more."""
        self._source.close()


class _OfferedFuture:
    """A future of the application that the guest reads. An awaitable is awaited at once."""

    asked = False

    def __init__(self, value: Any, pack: Callable[[Any], Any], door: Door) -> None:
        self._value, self._pack, self._door = value, pack, door
        self._written: list[Any] = []
        self._written_later = isinstance(value, (FutureWriter, Promise))
        self._later: Any = None
        if self._written_later:
            value.attach(self._set)
        elif hasattr(type(value), "__await__"):
            # Outside of event loops, the reader of another sandbox runs its guest when this guest reads.
            if not isinstance(value, FutureReader) or thread_state.loop is not None:
                self._later = later_of(door, value, "a future of the host")
        elif hasattr(value, "interest") and hasattr(value, "result"):  # a Later, as host functions return it
            self._later = value

    @property
    def wakes_door(self) -> bool:
        """Whether a new value wakes the door."""
        return self._written_later or getattr(self._later, "wakes_door", False)

    def _set(self, value: Any) -> None:
        self._written.append(value)
        self._door.wake()

    def ready(self) -> bool:
        """Return whether there is a value."""
        return bool(self._written) if self._written_later else self._later is None or self._later.ready()

    def interest(self) -> Interest:
        """Return the events to wait for while there is no value."""
        return Interest() if self._later is None else self._later.interest()

    def take(self, count: int) -> Any:
        """Return the value as plain data, in a list, or :data:`NONE_YET`."""
        if not self.ready():
            return NONE_YET
        if self._written_later:
            value = self._written[0]
        elif self._later is not None:
            value = self._result()
        else:
            value = self._value.result() if isinstance(self._value, FutureReader) else self._value
        return self._pack([value])

    def _result(self) -> Any:
        try:
            return self._later.result()
        except AegisError:
            raise
        except BaseException as error:
            raise raised_by("a future of the host", error) from error

    def close(self) -> None:
        """Cancel what is awaited; another value needs no release."""
        if self._later is not None:
            self._later.cancel()


class WorkerEnd:
    """The readable end of a stream or future of a guest in a worker; a :class:`~aegis.wit.streams.GuestEnd`."""

    def __init__(self, table: EndTable, number: int, unpack: Callable[[Any], Any]) -> None:
        self.table, self.number, self._unpack = table, number, unpack
        self._over = self._reading = False
        self._unread: Any = None
        """Elements that were read and not delivered."""

    def put_back(self, elements: Any) -> None:
        """Have the next read return ``elements``, which were read and not delivered."""
        self._unread = elements + self._unread if self._unread else elements

    def take(self, count: int) -> Any:
        """Run the guest until it has written; return up to ``count`` elements, ``None`` at the end."""
        if self._unread:
            return self._taken_again(count)
        call = thread_state.threaded
        if call is not None and call.door is self.table.door:
            self._check_free()
            return call.take(self.table.work(), lambda done: self.start(count, done, call))
        if self._over:
            return None
        return self.table.turns().work(lambda: self._taken(count))

    def _taken_again(self, count: int) -> Any:
        taken, self._unread = self._unread[:count], self._unread[count:]
        return taken

    def _check_free(self) -> None:
        if self._reading:
            raise CallError("another task reads the stream or future: use it in one task at a time")

    def start(self, count: int, done: Callable[[Any], None], caller: Any = None) -> Callable[[], Any]:
        """Start to read up to ``count`` elements; ``done`` gets them, or ``None`` at the end or after a cancellation.

        ``caller`` is the host function that waits for them on a thread of its own. Return the function that cancels.
        Call this on the thread that runs the guest.
        """
        work = self.table.work()
        if self._over:
            done(None)
            return _nothing
        self.table.drop_closed_now()
        count = min(count, MAX_TAKEN_ELEMENTS)

        def settle(values: Any, error: BaseException | None) -> None:
            if values is None:
                self._end()
            done(None if values is CANCELLED else values)

        operation = RemoteOperation(
            lambda answer: None if answer is None else self._unpacked(answer, count),
            settle,
            background=caller is not None,
        )
        request = None if caller is None else work.request_of(caller) or 0
        return work.begin(operation, "want", self.number, count, request)  # type: ignore[no-any-return]

    def _end(self) -> None:
        self._over = True
        self.table.held.discard(self.number)

    def _taken(self, count: int) -> Any:
        self.table.drop_closed()
        count = min(count, MAX_TAKEN_ELEMENTS)
        answer = self.table.request("take", self.number, count)
        if answer is None:
            self._end()
            return None
        values = self.table.validated(lambda: self._unpacked(answer, count))
        self.table.received()
        return values

    def _unpacked(self, answer: Any, count: int) -> Any:
        values = self._unpack(answer)
        if len(values) > count:
            raise ProtocolError("more elements of a stream than were requested")
        return values

    async def atake(self, count: int) -> Any:
        """Like :meth:`take`, while the event loop runs other tasks. A cancelled task loses no elements."""
        self._check_free()
        if self._unread:
            return self._taken_again(count)
        if self._over:
            return None
        self._reading = True
        try:
            return await self.table.turns().perform(lambda done: self.start(count, done), self.put_back)
        finally:
            self._reading = False

    def pump(self, sink: Any, ended: Callable[[], None] = lambda: None) -> None:
        """Raise ``CallError``: only host functions in the guest's process can pass a stream on."""
        raise CallError("a stream of an isolated guest cannot be passed on: read it, or run the guest in process")

    def then(self, take: Callable[[Any], None]) -> None:
        """Raise ``CallError``: only host functions in the guest's process can wait for a future this way."""
        raise CallError("a future of an isolated guest cannot be passed on: read it, or run the guest in process")

    def close(self) -> None:
        """Drop the end, from any thread: the worker learns of it with the next request."""
        if not self._over:
            self._over = True
            self.table.drop_later(self.number)


class EndTable:
    """The ends of one sandbox. ``turns`` and ``request`` are set when the worker has instantiated the guest."""

    def __init__(self, handles: _EndHandles) -> None:
        self._handles = handles
        self._offered: dict[int, _OfferedStream | _OfferedFuture] = {}
        self.held: set[int] = set()
        """The guest's ends that the application has, by number."""
        self.door: Any = None
        self.turns: Callable[[], Any] = _no_turns
        self.work: Callable[[], Any] = _nothing
        """Returns the overlapping work of the sandbox; ``None`` if the sandbox is gone, or still begins."""
        self.request: Callable[..., Any] = _no_turns
        self.validated: Callable[[Callable[[], Any]], Any] = _no_turns

    @property
    def used(self) -> int:
        """The number of ends, which count as handles."""
        return len(self._offered) + len(self.held)

    def offer(self, value: Any, of: Stream | Future, number: int) -> None:
        """Keep what the application passes for a stream or future, under ``number``."""
        self._handles.count()
        pack = _element_packer(of, self._handles, self.door)
        if isinstance(value, FutureReader) and value.read_ahead():
            value = value.read_ahead()[0]
        if isinstance(value, (StreamReader, ByteStreamReader, FutureReader)):
            end = value.end
            if isinstance(end, WorkerEnd) and end.table is self:
                raise CallError("a stream of an isolated guest cannot be passed back: read it, and pass the elements")
        if isinstance(of, Future):
            self._offered[number] = _OfferedFuture(value, pack, self.door)
        else:
            self._offered[number] = _OfferedStream(source_of(value, of.element, self.door), pack)

    def withdraw(self, number: int) -> None:
        """Close an end that was not sent."""
        offered = self._offered.pop(number, None)
        if offered is not None:
            offered.close()

    def take(self, number: Any, count: Any, *, again: bool = False) -> Any:
        """Serve the worker's request for elements, or serve it ``again`` when there may be some."""
        if type(number) is not int or type(count) is not int or not 0 < count <= MAX_TAKEN_ELEMENTS:
            raise ProtocolError("malformed request for elements of a stream")
        offered = self._offered.get(number)
        if offered is None:
            raise ProtocolError("request for elements of a stream that the guest does not have")
        if offered.asked and not again:
            raise ProtocolError("request for elements of a stream that the guest already waits for")
        values = offered.take(count)
        offered.asked = values is NONE_YET
        if isinstance(offered, _OfferedFuture):
            if values is not NONE_YET:
                del self._offered[number]  # its value may own resources, which the guest gets once
        elif values is None:
            self.drop(number)
        return values

    def offered(self, number: int) -> Any:
        """Return an end that has no elements yet, to wait for it."""
        return self._offered[number]

    def offers(self, number: int) -> bool:
        """Return whether the guest may still ask for elements of this end."""
        return number in self._offered

    def drop(self, number: Any) -> None:
        """Close an end of the application, because the guest reads no more."""
        offered = self._offered.pop(number, None) if type(number) is int else None
        if offered is None:
            raise ProtocolError("drop of a stream that the guest does not have")
        offered.close()

    def find(self, number: int, of: Stream | Future) -> Any:
        """Return the reader of an end that the worker numbered."""
        if number in self.held:
            raise ProtocolError("duplicate number of a stream")
        self._handles.count()
        self.held.add(number)
        end = WorkerEnd(self, number, elements_unpacker(of.element, self._handles, self.door))
        if isinstance(of, Future):
            return FutureReader(end)
        return ByteStreamReader(end) if of.element == "u8" else StreamReader(end)

    def received(self) -> None:
        """Note that the application has the elements of a message, and so owns the objects among them."""
        self._handles.taken.clear()

    def drop_later(self, number: int) -> None:
        """Have the worker drop a guest's end with the next request, or now if a turn is under way; for any thread."""
        self.held.discard(number)
        self._handles.dropped_ends.append(number)
        work = self.work()
        if work is not None and work.in_turn:
            work.post(self.drop_closed_now)

    def drop_closed_now(self) -> None:
        """Have the worker drop the guest's streams that the application has closed, without waiting."""
        dropped = self._handles.dropped_ends
        while dropped:
            self.work().send(["close-end", dropped.popleft()])

    def drop_closed(self) -> None:
        """Have the worker drop the guest's streams that the application has closed."""
        dropped = self._handles.dropped_ends
        while dropped:
            self.request("untake", dropped.popleft())

    def close(self) -> list[BaseException]:
        """Close all ends of the application, when the sandbox ends; return the errors of its iterators."""
        failures: list[BaseException] = []
        while self._offered:
            _, offered = self._offered.popitem()
            try:
                offered.close()
            except Exception as error:
                failures.append(error)
        return failures


def _element_packer(of: Stream | Future, handles: _EndHandles, budget: ValueBudget) -> Callable[[Any], Any]:
    """Return the function that checks, coerces and encodes elements of the application.

    What a failed attempt has numbered for the guest is withdrawn.
    """
    element = of.element
    if element is None:
        return len
    pack, flat = elements_packer(element, handles, budget), element == "u8" and isinstance(of, Stream)
    passed = 0

    def fitted(values: Any) -> Any:
        try:
            return fit(List(element), values, "the elements")
        except CallError as error:
            wrong = error
        for n, value in enumerate(values, passed):
            try:
                fit(element, value, "the value" if isinstance(of, Future) else f"element {n}")
            except CallError as found:
                wrong = found
                break
        raise wrong_element(wrong, is_future=isinstance(of, Future))

    def packed(values: Any) -> Any:
        nonlocal passed
        checked = values if flat else fitted(values)  # the pieces of a stream of bytes are bytes already
        first = handles.next
        try:
            made = pack(checked)
        except BaseException as error:
            handles.withdraw(first)
            if isinstance(error, CallError):  # an object that is not of the application
                raise wrong_element(error, is_future=isinstance(of, Future)) from None
            raise
        passed += len(values)
        return made

    return packed


def _nothing() -> None:
    pass


def _no_turns(*arguments: Any) -> Any:
    raise CallError("a stream of a guest cannot be read while the guest is instantiated: read it afterwards")
