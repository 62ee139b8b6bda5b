"""The parent's handle table: objects of the embedder that a guest in a worker holds, and handles of the guest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakValueDictionary

from aegis.component.release import drop_object, release
from aegis.errors import CallError, QuotaExceeded
from aegis.isolation.protocol.channel import ProtocolError
from aegis.isolation.protocol.wit_values import WORKER_NUMBERS
from aegis.limits import exceeded
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.wit.types import Future, Resource, Stream, WitType
from aegis.wit.values import ResourceHandle

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.isolation.parent.ends import EndTable

__all__ = ["ParentHandles", "WorkerResource"]


_END = -1
"""Stands for the type of a resource, among the keys of numbers, if the number is that of a stream or future."""


class WorkerResource:
    """A resource, stream or future of a host function in a worker, as an answer step sees it: its number and the key
    of its type."""

    __slots__ = ("__weakref__", "key", "number", "owner")

    def __init__(self, number: int, key: int, owner: ParentHandles) -> None:
        self.number, self.key, self.owner = number, key, owner


class ParentHandles:
    """The parent's handle table: the worker numbers the guest's handles, the parent the embedder's objects."""

    def __init__(
        self, imported: int, limit: int | None, classes: Callable[[int], Callable[..., ResourceHandle]],
        *, answered: bool = False,
    ) -> None:  # fmt: skip
        self._imported, self._limit, self._classes = imported, limit, classes
        self.objects: dict[int, Any] = {}
        self.held: dict[int, ResourceHandle] = {}
        self._keys: dict[int, int] = {}
        """The key of the resource type of each object, by the object's number."""
        self._lent: dict[int, None] = {}
        """Numbers of objects that running calls lend as ``borrow``, in order."""
        self.taken: list[Any] = []
        """Objects that the guest passed as ``own`` in the message that is being decoded."""
        self._prepare: Callable[[EndTable], None] = lambda ends: None
        self.next = 1
        """The number of the next object that the guest receives."""
        self._ends: EndTable | None = None
        self.dropped_ends: deque[int] = deque()
        """The guest's streams that the application has closed, and of which the worker does not know yet."""
        self.in_worker: WeakValueDictionary[int, WorkerResource] | None = WeakValueDictionary() if answered else None
        """Resources of host functions in the worker, by number, if the sandbox has an answer step."""

    def number(self, value: Any, resource: Resource, *, own: bool) -> int:
        if resource.key >= self._imported:
            return self._checked(value, resource.key)
        if isinstance(value, WorkerResource):
            if value.owner is not self or value.key != resource.key:
                raise CallError("the resource belongs to another sandbox, or is of another type")
            return value.number
        if isinstance(value, ResourceHandle) or value is None:
            raise CallError(f"expected an object of the host for the resource, not {type(value).__name__}")
        self.count()
        number, self.next = self.next, self.next + 1
        self.objects[number], self._keys[number] = value, resource.key
        if not own:
            self._lent[number] = None
        return number

    @property
    def ends(self) -> EndTable:
        """The streams and futures of the sandbox, created at their first use."""
        if self._ends is None:
            from aegis.isolation.parent.ends import EndTable  # few sandboxes have any

            self._ends = EndTable(self)
            self._prepare(self._ends)
        return self._ends

    def prepare_ends(self, prepare: Callable[[EndTable], None]) -> None:
        """Have ``prepare`` give the table of streams what it needs of the sandbox, now or when it is created."""
        self._prepare = prepare
        if self._ends is not None:
            prepare(self._ends)

    def end_number(self, value: Any, of: Stream | Future) -> int:
        if isinstance(value, WorkerResource):
            if value.owner is not self or value.key != _END:
                raise CallError("the stream or future belongs to another sandbox, or is a resource")
            return value.number
        number = self.next
        self.ends.offer(value, of, number)
        self.next, self._keys[number] = number + 1, _END
        return number

    def find_end(self, number: int, of: Stream | Future) -> Any:
        if number >= WORKER_NUMBERS and self.in_worker is not None:
            return self._worker_resource(self.in_worker, number, _END)
        return self.ends.find(number, of)

    def take_elements(self, number: Any, count: Any, *, again: bool = False) -> Any:
        """Return elements of a stream or future of the application, which the guest reads; ``None`` at its end.

        Return :data:`~aegis.isolation.parent.none_yet.NONE_YET` if there are none yet; the request is then
        served ``again``.
        """
        values = self.ends.take(number, count, again=again)
        if not self.ends.offers(number):
            self._keys.pop(number, None)
        return values

    def drop_end(self, number: Any) -> None:
        """Close a stream of the application, because the guest reads no more."""
        self.ends.drop(number)
        self._keys.pop(number, None)

    def count(self) -> None:
        """Raise ``QuotaExceeded`` if there is no room for one more object, handle, stream or future."""
        used = len(self.objects) + len(self.held) + (0 if self._ends is None else self._ends.used)
        if self._limit is not None and used >= self._limit:
            message = exceeded("handles", used, self._limit)
            raise QuotaExceeded(message, limit="handles", used=used, allowed=self._limit)

    def _checked(self, value: Any, key: int) -> int:
        if not isinstance(value, ResourceHandle):
            raise CallError(f"expected a handle of the guest's resource, not {type(value).__name__}")
        if value._native is None:
            raise CallError("the handle was dropped, or was moved into the guest by an earlier call")
        if value._owner is not self:
            raise CallError("the handle belongs to another sandbox, or to the guest before its reset")
        if value._type != key:
            raise CallError("the handle is of another resource type")
        return int(value._native)

    def find(self, number: int, resource: Resource, *, own: bool) -> Any:
        if resource.key >= self._imported:
            if number in self.held:
                raise ProtocolError("duplicate handle number")
            self.count()
            made = self.held[number] = self._classes(resource.key)(number, resource.key, self)
            return made
        if number >= WORKER_NUMBERS and self.in_worker is not None:
            return self._worker_resource(self.in_worker, number, resource.key)
        if self._keys.get(number) != resource.key or (own and number in self._lent):
            raise ProtocolError("the guest does not hold this object")
        if not own:
            return self.objects[number]
        value = self._pop(number)
        self.taken.append(value)
        return value

    def _worker_resource(self, known: WeakValueDictionary[int, WorkerResource], number: int, key: int) -> Any:
        """Return the object that stands for a resource in the worker: the same one as long as it is referred to."""
        value = known.get(number)
        if value is None or value.key != key:
            value = known[number] = WorkerResource(number, key, self)
        return value

    def _pop(self, number: int) -> Any:
        if self._keys.pop(number) == _END:
            self.ends.withdraw(number)
            return None
        return self.objects.pop(number)

    def withdraw(self, first: int, end: int | None = None) -> None:
        """Remove the objects numbered from ``first`` on: they were not sent, or the worker rejected the message.

        ``end`` is the number after the last one, if others were numbered since.
        """
        end = self.next if end is None else end
        for number in range(first, end):
            if number not in self._keys:
                raise ProtocolError("rejection of a message whose objects were used")
            self._lent.pop(number, None)
            self._pop(number)
        if end == self.next:
            self.next = first

    def release_loans(self, taken: Any, mark: int) -> None:
        """Update the table after a call: the guest took back the handles ``taken``, and loans since ``mark`` end."""
        self.take_back(taken)
        while len(self._lent) > mark:
            self._pop(self._lent.popitem()[0])

    def take_back(self, taken: Any) -> None:
        """Remove the handles that the guest took back."""
        for number in taken:
            handle = self.held.pop(number, None) if type(number) is int else None
            if handle is not None:
                handle._native = None

    def lent_since(self, mark: int) -> tuple[int, ...]:
        """Return the numbers of the objects that were lent since there were ``mark`` of them."""
        return tuple(self._lent)[mark:] if len(self._lent) > mark else ()

    def end_loans(self, numbers: tuple[int, ...]) -> None:
        """End the loans of one call."""
        for number in numbers:
            if number in self._lent:
                del self._lent[number]
                self._pop(number)

    @property
    def lent(self) -> int:
        """The number of objects that running calls lend."""
        return len(self._lent)

    def drop_object(self, number: Any, door: Door | None = None) -> None:
        """Drop an object of the embedder for the guest; call its ``__drop__`` method if it has one."""
        if type(number) is not int or self._keys.get(number, _END) == _END or number in self._lent:
            raise ProtocolError("drop of an object that the guest does not hold")
        drop_object(self._pop(number), door)

    def discard(self, first: int, of: WitType | None, value: Any) -> None:
        """Release a host function's result that did not reach the guest, and its objects numbered from ``first`` on."""
        self.withdraw(first)
        release(of, value, self._imported)

    def forget(self, handle: ResourceHandle) -> None:
        """Remove a handle of the guest that was dropped."""
        number, handle._native = handle._native, None
        self.held.pop(number, None)

    def close(self) -> list[BaseException]:
        """Drop all objects that the guest still holds, when the sandbox ends; return the errors that they raised."""
        failures: list[BaseException] = []
        self._lent.clear()
        if self._ends is not None:
            failures += self._ends.close()
        for value in self.taken:
            with suppress(Exception):
                drop_object(value)
        while self.objects:
            try:
                self.drop_object(next(reversed(self.objects)))
            except Exception as error:
                failures.append(error)
        return failures
