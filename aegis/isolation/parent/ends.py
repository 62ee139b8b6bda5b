"""Streams and futures between the application and a guest in a worker, in the parent.

What the application passes stays here: the worker takes its elements by number, as it calls host functions. Of a
guest's stream or future the parent has a number, and each read is a request to the worker. Elements are validated like
all values of a worker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Protocol

from aegis.component.conversion.coerce import fit
from aegis.component.tasks.sources import ElementSource, source_of, wrong_element
from aegis.engine.threads.await_result import await_result
from aegis.errors import CallError, SandboxStateError
from aegis.isolation.protocol.channel import ProtocolError
from aegis.isolation.protocol.wit_values import MAX_TAKEN_ELEMENTS, elements_packer, elements_unpacker
from aegis.values import Ended, Promise
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

    def __init__(self, source: ElementSource, pack: Callable[[Any], Any], door: Door) -> None:
        self._source, self._pack, self._door = source, pack, door

    def take(self, count: int) -> Any:
        """Wait for up to ``count`` elements; return them as plain data, ``None`` at the end."""
        while True:
            try:
                values = self._source.take(count)
            except Ended:
                return None
            if values is not None:
                return self._pack(values)
            if self._source.ready():
                self._door.check_time()
            else:
                self._door.wait_for([self._source.interest()])

    def close(self) -> None:
        """Release the elements: the guest reads no more."""
        self._source.close()


class _OfferedFuture:
    """A future of the application that the guest reads."""

    def __init__(self, value: Any, pack: Callable[[Any], Any], door: Door) -> None:
        self._value, self._pack, self._door = value, pack, door
        self._written: list[Any] = []
        if isinstance(value, (FutureWriter, Promise)):
            value.attach(self._set)

    def _set(self, value: Any) -> None:
        self._written.append(value)
        self._door.wake()

    def take(self, count: int) -> Any:
        """Wait for the value; return it as plain data, in a list."""
        value = self._value
        if isinstance(value, (FutureWriter, Promise)):
            while not self._written:
                self._door.wait()
            value = self._written[0]
        elif isinstance(value, FutureReader):
            value = value.result()
        else:
            value = await_result(self._door, value, "a future of the host")
        return self._pack([value])

    def close(self) -> None:
        """Close a coroutine, which nothing awaits any more; another value needs no release."""
        if isinstance(self._value, CoroutineType):
            self._value.close()


class WorkerEnd:
    """The readable end of a stream or future of a guest in a worker; a :class:`~aegis.wit.streams.GuestEnd`."""

    def __init__(self, table: EndTable, number: int, unpack: Callable[[Any], Any]) -> None:
        self.table, self.number, self._unpack = table, number, unpack
        self._over = False
        self._unread: Any = None
        """Elements that were read and not delivered."""

    def put_back(self, elements: Any) -> None:
        """Have the next read return ``elements``, which were read and not delivered."""
        self._unread = elements + self._unread if self._unread else elements

    def take(self, count: int) -> Any:
        """Run the guest until it has written; return up to ``count`` elements, ``None`` at the end."""
        if self._unread:
            taken, self._unread = self._unread[:count], self._unread[count:]
            return taken
        if self._over:
            return None
        return self.table.turns().work(lambda: self._taken(count))

    def _taken(self, count: int) -> Any:
        self.table.drop_closed()
        count = min(count, MAX_TAKEN_ELEMENTS)
        answer = self.table.request("take", self.number, count)
        if answer is None:
            self._over = True
            self.table.held.discard(self.number)
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
        """Like :meth:`take`, while the event loop runs other tasks."""
        try:
            return await self.table.turns().work_on_loop(lambda: self.take(count))
        except SandboxStateError as error:
            if error.state != "busy":
                raise
            raise SandboxStateError(
                "a stream of an isolated guest cannot be read while another call or read of the guest is under way: "
                "read it before or afterwards, or run the guest in process",
                state="busy",
            ) from None

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
        if isinstance(value, (StreamReader, ByteStreamReader, FutureReader)):
            end = value.end
            if isinstance(end, WorkerEnd) and end.table is self:
                raise CallError("a stream of an isolated guest cannot be passed back: read it, and pass the elements")
        if isinstance(of, Future):
            self._offered[number] = _OfferedFuture(value, pack, self.door)
        else:
            self._offered[number] = _OfferedStream(source_of(value, of.element, self.door), pack, self.door)

    def withdraw(self, number: int) -> None:
        """Close an end that was not sent."""
        offered = self._offered.pop(number, None)
        if offered is not None:
            offered.close()

    def take(self, number: Any, count: Any) -> Any:
        """Serve the worker's request for elements."""
        if type(number) is not int or type(count) is not int or not 0 < count <= MAX_TAKEN_ELEMENTS:
            raise ProtocolError("malformed request for elements of a stream")
        offered = self._offered.get(number)
        if offered is None:
            raise ProtocolError("request for elements of a stream that the guest does not have")
        if isinstance(offered, _OfferedFuture):
            del self._offered[number]  # its value may own resources, which the guest gets once
            return offered.take(count)
        values = offered.take(count)
        if values is None:
            self.drop(number)
        return values

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
        """Have the worker drop a guest's end with the next request."""
        self.held.discard(number)
        self._handles.dropped_ends.append(number)

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


def _no_turns(*arguments: Any) -> Any:
    raise CallError("a stream of a guest cannot be read while the guest is instantiated: read it afterwards")
