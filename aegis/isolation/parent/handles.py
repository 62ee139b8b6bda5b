"""In the parent: the embedder's objects that a guest in a worker holds, and the guest's that the embedder holds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from aegis.component.release import drop_object, release
from aegis.errors import CallError, QuotaExceeded
from aegis.isolation.protocol.channel import Broken
from aegis.limits import exceeded
from aegis.support.lean import Any
from aegis.wit.types import Resource, WitType
from aegis.wit.values import ResourceHandle

__all__ = ["ParentHandles"]


class ParentHandles:
    """Handles on the wire, as a parent sees them: the guest's by the worker's number, the embedder's by ours."""

    def __init__(
        self, imported: int, limit: int | None, classes: Callable[[int], Callable[..., ResourceHandle]]
    ) -> None:
        self._imported, self._limit, self._classes = imported, limit, classes
        self.objects: dict[int, Any] = {}
        self.held: dict[int, ResourceHandle] = {}
        self._keys: dict[int, int] = {}
        """Which resource each object was given for."""
        self._lent: dict[int, None] = {}
        self.taken: list[Any] = []
        """Objects that the guest gave up in the message that is being read now."""
        self.next = 1
        """The number of the next object that is handed out."""

    def number(self, value: Any, resource: Resource, *, own: bool) -> int:
        if resource.key >= self._imported:
            return self._checked(value, resource.key)
        if isinstance(value, ResourceHandle) or value is None:
            raise CallError(f"expected an object of the host for the resource, not {type(value).__name__}")
        self._count()
        number, self.next = self.next, self.next + 1
        self.objects[number], self._keys[number] = value, resource.key
        if not own:
            self._lent[number] = None
        return number

    def _count(self) -> None:
        used = len(self.objects) + len(self.held)
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

    def meant(self, number: int, resource: Resource, *, own: bool) -> Any:
        if resource.key >= self._imported:
            if number in self.held:
                raise Broken("a handle that was given out before")
            self._count()
            made = self.held[number] = self._classes(resource.key)(number, resource.key, self)
            return made
        if self._keys.get(number) != resource.key or (own and number in self._lent):
            raise Broken("an object that the guest does not hold")
        if not own:
            return self.objects[number]
        value = self._pop(number)
        self.taken.append(value)
        return value

    def _pop(self, number: int) -> Any:
        del self._keys[number]
        return self.objects.pop(number)

    def withdraw(self, first: int) -> None:
        """Take back what was handed out from ``first`` on: it never arrived, or was no use."""
        for number in range(first, self.next):
            if number not in self._keys:
                raise Broken("an object that was used, and then not wanted")
            self._lent.pop(number, None)
            self._pop(number)
        self.next = first

    def release_loans(self, taken: Any, mark: int) -> None:
        """A call ended: the guest took these handles of its own, and what was lent since ``mark`` came back."""
        for number in taken:
            handle = self.held.pop(number, None) if type(number) is int else None
            if handle is not None:
                handle._native = None
        while len(self._lent) > mark:
            self._pop(self._lent.popitem()[0])

    @property
    def lent(self) -> int:
        """How many objects are lent for calls under way."""
        return len(self._lent)

    def drop_object(self, number: Any) -> None:
        """The guest dropped an object: tell it, if it wants to know."""
        if type(number) is not int or number not in self._keys or number in self._lent:
            raise Broken("an object dropped that the guest does not hold")
        drop_object(self._pop(number))

    def discard(self, first: int, of: WitType | None, value: Any) -> None:
        """Release a host function's result that did not reach the guest, with its numbers from ``first`` on."""
        self.withdraw(first)
        release(of, value, self._imported)

    def forget(self, handle: ResourceHandle) -> None:
        """A handle of the guest's resource was dropped."""
        number, handle._native = handle._native, None
        self.held.pop(number, None)

    def close(self) -> list[BaseException]:
        """Drop what the guest still held, as the sandbox ends; return what objects raised at that."""
        failures: list[BaseException] = []
        self._lent.clear()
        for value in self.taken:
            with suppress(Exception):
                drop_object(value)
        while self.objects:
            try:
                self.drop_object(next(reversed(self.objects)))
            except Exception as error:
                failures.append(error)
        return failures
