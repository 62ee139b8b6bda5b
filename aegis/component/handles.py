"""Handle tables: the resources that each component instance holds, and those of the guest that the host holds.

A component instance names a resource by an index into a table of its own (CanonicalABI.md, "Resource State"). An
entry knows its resource type by number, so a guest cannot use a handle as one of another type, after its drop, or
while it is lent. Of a host's resource the representation is the host's object itself; of a guest's it is the integer
that its instance chose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from aegis.component.conversion.coerce import Unfit
from aegis.component.planning.program import CoreExport
from aegis.component.release import drop_object, release
from aegis.component.traps import trap
from aegis.errors import AegisInternalError, CallError, QuotaExceeded
from aegis.limits import exceeded
from aegis.wit.types import WitType
from aegis.wit.values import ResourceHandle

__all__ = ["Entry", "Handles", "Instance"]


_TWICE = "the handle is given away in a call that uses it twice"


class Entry:
    """One handle in a table; ``task`` counts the borrowed handles of the call that a borrowed one belongs to."""

    __slots__ = ("lends", "own", "rep", "resource", "task")

    def __init__(self, resource: int, rep: Any, own: bool, task: list[int] | None = None) -> None:
        self.resource, self.rep, self.own, self.task = resource, rep, own, task
        self.lends = 0


class Instance:
    """The state of one component instance: its handle table, and whether it may be entered and left."""

    __slots__ = ("free", "may_enter", "may_leave", "table")

    leave: CoreExport | None = None
    """The global that says whether it may leave, if adapters know it too (:mod:`aegis.component.shims.adapters`)."""

    def __init__(self) -> None:
        self.table: list[Entry | None] = [None]
        self.free: list[int] = []
        self.may_enter = self.may_leave = True

    def get(self, index: int, resource: int) -> Entry:
        """Return the entry at ``index``; trap for an index without one, and for another resource type."""
        try:
            entry = self.table[index]
        except IndexError:
            entry = None
        if entry is None:
            raise trap(f"unknown handle index {index}")
        if entry.resource != resource:
            raise trap(f"handle index {index} is of another resource type")
        return entry

    def remove(self, index: int, entry: Entry) -> None:
        """Free the index of an entry."""
        self.table[index] = None
        self.free.append(index)


class Handles:
    """All resources of one sandbox. At most ``limit`` handles exist at once: those that the guest's instances hold, and
    those of the guest's resources that the host holds, together.

    ``hosted`` tells of each resource type whether it is the host's, ``homes`` the instance that defines it, ``keys``
    its key in the world. ``classes`` gives the Python class of handles of the guest's resource with a key.
    """

    used = 0
    hosted: Sequence[bool] = ()

    def __init__(self, plan: Any, classes: Callable[[int], Callable[..., Any]]) -> None:
        self.instances = [Instance() for _ in plan.program.parents]
        self._classes = classes
        if plan.hosted:  # without resource types there are no handles
            self._prepare(plan)

    def _prepare(self, plan: Any) -> None:
        self.limit: int | None = plan.limits.handles
        self.hosted = plan.hosted
        self.homes: Sequence[int | None] = plan.homes
        self.keys: Sequence[int] = plan.keys
        self.objects: dict[Entry, None] = {}
        """Owned handles of the host's objects, the oldest first."""
        self.lent: list[Entry] = []
        """Handles that are lent for calls under way."""
        self.undo: list[tuple[Instance, int, Entry]] = []
        """Handles that were put into tables for the values that are being lowered now."""
        self.moved: list[ResourceHandle] = []
        """Handles of the embedder's that move into the guest with the values that are being lowered now."""
        self.shown: list[ResourceHandle] = []
        """Handles of the embedder's that are lent to the guest with them."""
        self.passing: dict[int, Any] = {}
        """The host's objects on their way from one component instance to another, by identity."""
        self.taken: list[Any] = []
        """Objects that the guest gave up in the values that are being lifted now."""

    # -- counting ------------------------------------------------------------------------------

    def count(self) -> None:
        """Refuse one more handle when all that may be held are."""
        if self.limit is not None and self.used >= self.limit:
            raise QuotaExceeded(
                exceeded("handles", self.used, self.limit), limit="handles", used=self.used, allowed=self.limit
            )

    def many(self, number: int) -> None:
        """Refuse a list of more handles than may be held."""
        if self.limit is not None and number > self.limit:
            raise QuotaExceeded(
                exceeded("handles", number, self.limit, after=" by handles passed at once"),
                limit="handles", used=number, allowed=self.limit,
            )  # fmt: skip

    def add(self, instance: Instance, entry: Entry) -> int:
        """Put an entry into an instance's table and return its index."""
        if self.limit is not None and self.used >= self.limit:
            self.count()
        self.used += 1
        if entry.own and self.hosted[entry.resource]:
            self.objects[entry] = None
        if instance.free:
            index = instance.free.pop()
            instance.table[index] = entry
            return index
        instance.table.append(entry)
        return len(instance.table) - 1

    def remove(self, instance: Instance, index: int, entry: Entry) -> None:
        """Take an entry out of an instance's table."""
        instance.remove(index, entry)
        self.used -= 1
        if entry.own:
            self.objects.pop(entry, None)

    # -- lifting: out of an instance's table ----------------------------------------------------

    def take(self, instance: Instance, resource: int, index: int) -> Any:
        """Remove an owned handle and return its representation (``lift_own``)."""
        entry = instance.get(index, resource)
        if entry.lends:
            raise trap("a handle was given away while it is lent")
        if not entry.own:
            raise trap("a borrowed handle was given away")
        self.remove(instance, index, entry)
        return entry.rep

    def lift_own(self, instance: Instance, resource: int, index: int) -> Any:
        """Return the host's object that the guest gave up, or a new handle of the guest's resource."""
        rep = self.take(instance, resource, index)
        if self.hosted[resource]:
            self.taken.append(rep)
            return rep
        self.count()
        self.used += 1
        key = self.keys[resource]
        return self._classes(key)(rep, key, self)

    def lift_borrow(self, instance: Instance, resource: int, index: int) -> Any:
        """Return the representation behind a handle, which is lent until the call ends (``lift_borrow``)."""
        entry = instance.get(index, resource)
        entry.lends += 1
        self.lent.append(entry)
        return entry.rep

    def unlend(self, mark: int) -> None:
        """A call ended: what was lent to it, since ``mark``, is the lender's alone again."""
        lent = self.lent
        while len(lent) > mark:
            lent.pop().lends -= 1

    def release_taken(self) -> None:
        """Drop what the guest gave up and nothing received, because the rest of the values could not be lifted."""
        taken, self.taken = self.taken, []
        for value in taken:
            with suppress(Exception):
                drop_object(value)

    # -- lowering: into an instance's table -----------------------------------------------------

    def lower_own(self, instance: Instance, resource: int, value: Any) -> int:
        """Put a host's object, or a guest's resource that moves back to it, into a table."""
        if self.hosted[resource]:
            rep = _host_object(value)
        else:
            rep = self._checked(value, resource)._native
            if value in self.shown:
                raise CallError(_TWICE)
            self.moved.append(value)
            self.used -= 1
        entry = Entry(resource, rep, True)
        index = self.add(instance, entry)
        self.undo.append((instance, index, entry))
        return index

    def lower_borrow(self, instance: Instance, resource: int, value: Any, task: list[int]) -> int:
        """Put a handle that lives for the call into a table; of its own resource an instance gets the integer."""
        if self.hosted[resource]:
            rep = _host_object(value)
        else:
            rep = self._checked(value, resource)._native
            self.shown.append(value)
            if instance is self.instances[self.homes[resource] or 0]:
                return int(rep)
        return self.put_borrowed(instance, resource, rep, task)

    def put_borrowed(self, instance: Instance, resource: int, rep: Any, task: list[int]) -> int:
        """Put a borrowed handle of ``rep`` into a table."""
        entry = Entry(resource, rep, False, task)
        index = self.add(instance, entry)
        task[0] += 1
        self.undo.append((instance, index, entry))
        return index

    def _checked(self, value: Any, resource: int) -> ResourceHandle:
        if not isinstance(value, ResourceHandle):
            raise CallError(f"expected a handle of the guest's resource, not {type(value).__name__}")
        if value._native is None:
            raise CallError("the handle was dropped, or was moved into the guest by an earlier call")
        if value._owner is not self:
            raise CallError("the handle belongs to another sandbox, or to the guest before its reset")
        if value._type != self.keys[resource]:
            raise CallError("the handle is of another resource type")
        if value in self.moved:
            raise CallError(_TWICE)
        return value

    def lowered(self) -> None:
        """The values reached the guest: their handles are its own now."""
        self.undo.clear()
        self.shown.clear()
        if self.moved:
            for handle in self.moved:
                handle._native = None
            self.moved.clear()

    def take_back(self) -> None:
        """The values did not reach the guest: take their handles out of the tables again."""
        while self.undo:
            instance, index, entry = self.undo.pop()
            self.remove(instance, index, entry)
            if entry.task is not None:
                entry.task[0] -= 1
        self.used += len(self.moved)
        self.moved.clear()
        self.shown.clear()

    def withdraw(self, of: WitType, value: Any, imported: int) -> None:
        """Release a host function's result that did not reach the guest: its handles, and its objects."""
        self.take_back()
        release(of, value, imported)

    # -- dropping ------------------------------------------------------------------------------

    def drop(self, instance: Instance, resource: int, index: int) -> Entry:
        """Remove a handle that its instance drops (``resource.drop``); return it, for the caller to destroy."""
        entry = instance.get(index, resource)
        if entry.lends:
            raise trap("a handle was dropped while it is lent")
        self.remove(instance, index, entry)
        if entry.task is not None:
            entry.task[0] -= 1
        return entry

    def forget(self, handle: ResourceHandle) -> None:
        """A handle of the guest's resource was dropped by the embedder."""
        handle._native = None
        self.used -= 1

    def close(self) -> None:
        """Drop what is left, as the sandbox ends. What objects raise is lost, but for what nobody may catch."""
        grave: BaseException | None = None
        # What refers to the sandbox goes now: otherwise only the collector would free both.
        self._classes = _closed
        if not self.hosted:
            return
        for instance in self.instances:
            instance.table = [None]
        left = [*self.passing.values(), *(entry.rep for entry in self.objects)]
        self.passing.clear()
        self.objects.clear()
        while left:
            try:
                drop_object(left.pop())
            except Exception:
                continue  # there is no call any more that could fail by it
            except BaseException as error:
                grave = grave or error
        if grave is not None:
            raise grave


def _closed(key: int) -> NoReturn:
    raise AegisInternalError(f"a handle of resource {key} came from a guest whose sandbox has ended")


def _host_object(value: Any) -> Any:
    if hasattr(type(value), "__await__"):
        raise Unfit  # it is to be awaited first
    if isinstance(value, ResourceHandle) or value is None:
        raise CallError(f"expected an object of the host for the resource, not {type(value).__name__}")
    return value
