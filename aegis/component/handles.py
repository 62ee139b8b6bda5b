"""Handle tables: handles held by component instances, and handles to guest resources held by the embedder.

A component instance refers to a resource by an index into its own table (CanonicalABI.md, "Resource State"). An entry
records its resource type, so a guest cannot use a handle with the wrong type, after it was dropped, or give it away
while it is lent. The representation (rep) of a host resource is the host object itself; the rep of a guest resource is
an integer chosen by the instance that defines it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from aegis.component.conversion.coerce import ConversionError
from aegis.component.planning.program import CoreExport
from aegis.component.release import drop_object, release
from aegis.component.traps import trap
from aegis.errors import AegisInternalError, CallError, QuotaExceeded
from aegis.limits import exceeded
from aegis.wit.types import WitType
from aegis.wit.values import ResourceHandle

__all__ = ["HandleEntry", "Handles", "InstanceState"]


_T = TypeVar("_T")
_KIND_NAMES = {"CopyEnd": "stream or future", "WaitableSet": "waitable set", "Subtask": "subtask"}
_TWICE = "the handle is given away in a call that uses it twice"


class HandleEntry:
    """One handle in a table: ``own`` or borrow, its rep, and its lend count ``lends``.

    For a borrow, ``task`` is the borrow count of its call, which must be 0 when the call returns.
    """

    __slots__ = ("lends", "own", "rep", "resource", "task")

    def __init__(self, resource: int, rep: Any, own: bool, task: list[int] | None = None) -> None:
        self.resource, self.rep, self.own, self.task = resource, rep, own, task
        self.lends = 0


class InstanceState:
    """The state of one component instance: its handle table, may-enter flag and may-leave flag."""

    __slots__ = ("free", "may_enter", "may_leave", "table")

    leave: CoreExport | None = None
    """The global that holds the may-leave flag, if adapters share it (:mod:`aegis.component.shims.adapters`)."""

    def __init__(self) -> None:
        self.table: list[HandleEntry | None] = [None]
        self.free: list[int] = []
        self.may_enter = self.may_leave = True

    def get(self, index: int, resource: int) -> HandleEntry:
        """Return the entry at ``index``; trap if there is none or it has another resource type."""
        try:
            entry = self.table[index]
        except IndexError:
            entry = None
        if entry is None:
            raise trap(f"unknown handle index {index}")
        if entry.resource != resource:
            raise trap(f"handle index {index} is of another resource type")
        return entry

    def get_as(self, index: int, kind: type[_T]) -> _T:
        """Return the entry at ``index``; trap if there is none or it is not a ``kind``."""
        entry: Any = self.table[index] if index < len(self.table) else None
        if entry is None:
            raise trap(f"unknown handle index {index}")
        if not isinstance(entry, kind):
            raise trap(f"handle index {index} is not a {_KIND_NAMES.get(kind.__name__, kind.__name__)}")
        return entry

    def remove(self, index: int, entry: HandleEntry) -> None:
        """Remove the entry at ``index`` and free the index."""
        self.table[index] = None
        self.free.append(index)


class AsyncInstanceState(InstanceState):
    """The state of an instance of an asynchronous component: it also decides which tasks may run in the instance."""

    __slots__ = ("backpressure", "blocked", "entering", "exclusive")

    def __init__(self) -> None:
        super().__init__()
        self.backpressure = 0
        """The number of times that the instance asked to admit no tasks, less those that it took back."""
        self.exclusive: Any = None
        """The task whose code runs, or is suspended on the native stack, of those of which at most one may be."""
        self.entering: list[Any] = []
        """Tasks that wait to start in this instance."""
        self.blocked: list[Any] = []
        """Tasks that could continue, but for another task in this instance."""

    def release(self, task: Any) -> None:
        """Let other tasks into the instance, if ``task`` kept them out."""
        if self.exclusive is task:
            self.exclusive = None
            self.admit()

    def admit(self) -> None:
        """Have the scheduler check the tasks that wait to enter or to continue, in order."""
        for task in (*self.entering, *self.blocked):
            task.wake()
        self.blocked.clear()


class Handles:
    """All handles of one sandbox.

    At most ``limit`` handles exist at once: those in the tables of the guest's instances plus the embedder's handles to
    guest resources.

    By number of the resource type: ``hosted`` is whether the host defines it, ``homes`` the instance that defines it,
    ``keys`` its key in the world. ``classes`` returns the Python class of handles to the guest resource with a key.
    """

    used = 0
    hosted: Sequence[bool] = ()

    def __init__(self, plan: Any, classes: Callable[[int], Callable[..., Any]]) -> None:
        make = AsyncInstanceState if plan.is_async else InstanceState
        self.instances: list[Any] = [make() for _ in plan.program.parents]
        self._classes = classes
        if plan.hosted or plan.is_async:  # otherwise there are no handles
            self._prepare(plan)

    def _prepare(self, plan: Any) -> None:
        self.limit: int | None = plan.limits.handles
        self.hosted = plan.hosted
        self.homes: Sequence[int | None] = plan.homes
        self.keys: Sequence[int] = plan.keys
        self.objects: dict[HandleEntry, None] = {}
        """Owned handles to host objects, oldest first: closing the sandbox drops them in reverse order."""
        self.lent: list[HandleEntry] = []
        """Entries lent to calls in progress, innermost call last; an entry appears once for each loan."""
        self.undo: list[tuple[InstanceState, int, Any]] = []
        """Entries added to tables while lowering the current values; removed again if lowering fails."""
        self.moved: list[ResourceHandle] = []
        """Embedder handles whose ownership the current values move into the guest, once lowering succeeds."""
        self.shown: list[ResourceHandle] = []
        """Embedder handles that the current values lend to the guest."""
        self.passing: dict[int, Any] = {}
        """Host objects in transit from one component instance to another, by identity."""
        self.taken: list[Any] = []
        """Host objects whose ownership the guest gave up in the values being lifted."""

    # -- counting ------------------------------------------------------------------------------

    def count(self) -> None:
        """Raise ``QuotaExceeded`` if the handle limit is reached."""
        if self.limit is not None and self.used >= self.limit:
            raise QuotaExceeded(
                exceeded("handles", self.used, self.limit), limit="handles", used=self.used, allowed=self.limit
            )

    def many(self, number: int) -> None:
        """Raise ``QuotaExceeded`` for a list of more handles than the limit, before converting any of them."""
        if self.limit is not None and number > self.limit:
            raise QuotaExceeded(
                exceeded("handles", number, self.limit, after=" by handles passed at once"),
                limit="handles", used=number, allowed=self.limit,
            )  # fmt: skip

    def add(self, instance: InstanceState, entry: HandleEntry) -> int:
        """Add an entry to an instance's table and return its index; raise ``QuotaExceeded`` at the limit."""
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

    def enter(self, instance: InstanceState, item: Any) -> int:
        """Add a waitable or a waitable set to an instance's table; return its index."""
        if self.limit is not None and self.used >= self.limit:
            self.count()
        self.used += 1
        if instance.free:
            index = instance.free.pop()
            instance.table[index] = item
            return index
        instance.table.append(item)
        return len(instance.table) - 1

    def leave(self, instance: InstanceState, index: int) -> None:
        """Remove a waitable or a waitable set from an instance's table."""
        instance.table[index] = None
        instance.free.append(index)
        self.used -= 1

    def remove(self, instance: InstanceState, index: int, entry: HandleEntry) -> None:
        """Remove an entry from an instance's table."""
        instance.remove(index, entry)
        self.used -= 1
        if entry.own:
            self.objects.pop(entry, None)

    # -- lifting: out of an instance's table ----------------------------------------------------

    def take(self, instance: InstanceState, resource: int, index: int) -> Any:
        """Remove an owned handle from a table and return its rep; trap if it is lent or borrowed (``lift_own``)."""
        entry = instance.get(index, resource)
        if entry.lends:
            raise trap("a handle was given away while it is lent")
        if not entry.own:
            raise trap("a borrowed handle was given away")
        self.remove(instance, index, entry)
        return entry.rep

    def lift_own(self, instance: InstanceState, resource: int, index: int) -> Any:
        """Lift an ``own`` for the host: return the host object, or a new embedder handle to the guest resource."""
        rep = self.take(instance, resource, index)
        if self.hosted[resource]:
            self.taken.append(rep)
            return rep
        self.count()
        self.used += 1
        key = self.keys[resource]
        return self._classes(key)(rep, key, self)

    def lift_borrow(self, instance: InstanceState, resource: int, index: int) -> Any:
        """Return the rep of a handle and lend it until the call ends (``lift_borrow``)."""
        entry = instance.get(index, resource)
        entry.lends += 1
        self.lent.append(entry)
        return entry.rep

    def unlend(self, mark: int) -> None:
        """End the loans made since ``lent`` had the length ``mark``, when the call they were made for returns."""
        lent = self.lent
        while len(lent) > mark:
            lent.pop().lends -= 1

    def release_taken(self) -> None:
        """Drop the host objects that the guest gave up in values whose lifting failed: no host function got them."""
        taken, self.taken = self.taken, []
        for value in taken:
            with suppress(Exception):
                drop_object(value)

    # -- lowering: into an instance's table -----------------------------------------------------

    def lower_own(self, instance: InstanceState, resource: int, value: Any) -> int:
        """Add an ``own`` handle to a table: of a host object, or of a guest resource that the embedder gives back."""
        if self.hosted[resource]:
            rep = _host_object(value)
        else:
            rep = self._checked(value, resource)._native
            if value in self.shown:
                raise CallError(_TWICE)
            self.moved.append(value)
            self.used -= 1
        entry = HandleEntry(resource, rep, True)
        index = self.add(instance, entry)
        self.undo.append((instance, index, entry))
        return index

    def lower_borrow(self, instance: InstanceState, resource: int, value: Any, task: list[int]) -> int:
        """Add a ``borrow`` handle for the duration of a call to a table (``lower_borrow``).

        The instance that defines the resource receives the rep itself.
        """
        if self.hosted[resource]:
            rep = _host_object(value)
        else:
            rep = self._checked(value, resource)._native
            self.shown.append(value)
            if instance is self.instances[self.homes[resource] or 0]:
                return int(rep)
        return self.put_borrowed(instance, resource, rep, task)

    def put_borrowed(self, instance: InstanceState, resource: int, rep: Any, task: list[int]) -> int:
        """Add a borrow of ``rep`` to a table and count it for its call."""
        entry = HandleEntry(resource, rep, False, task)
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
        """Commit: the values reached the guest, which now holds their handles; invalidate moved embedder handles."""
        self.undo.clear()
        self.shown.clear()
        if self.moved:
            for handle in self.moved:
                handle._native = None
            self.moved.clear()

    def take_back(self) -> None:
        """Roll back: lowering failed; remove the values' handles from the tables. The embedder keeps moved handles."""
        while self.undo:
            instance, index, entry = self.undo.pop()
            if not isinstance(entry, HandleEntry):  # the end of a stream or future
                self.leave(instance, index)
                entry.shared.drop()
                continue
            self.remove(instance, index, entry)
            if entry.task is not None:
                entry.task[0] -= 1
        self.used += len(self.moved)
        self.moved.clear()
        self.shown.clear()

    def withdraw(self, of: WitType, value: Any, imported: int) -> None:
        """Roll back the lowering of a host function's result, and drop the host objects in it."""
        self.take_back()
        release(of, value, imported)

    # -- dropping ------------------------------------------------------------------------------

    def drop(self, instance: InstanceState, resource: int, index: int) -> HandleEntry:
        """Remove a handle (``canon resource.drop``) and return its entry; the caller runs the destructor."""
        entry = instance.get(index, resource)
        if entry.lends:
            raise trap("a handle was dropped while it is lent")
        self.remove(instance, index, entry)
        if entry.task is not None:
            entry.task[0] -= 1
        return entry

    def forget(self, handle: ResourceHandle) -> None:
        """Invalidate an embedder handle that the embedder dropped."""
        handle._native = None
        self.used -= 1

    def close(self) -> None:
        """Drop the remaining host objects when the sandbox closes.

        Exceptions of their ``__drop__`` are ignored, except ``BaseException`` such as ``KeyboardInterrupt``: after all
        objects are dropped, the first of those is raised.
        """
        grave: BaseException | None = None
        # Break the reference cycle with the sandbox, so that reference counting frees both.
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
                continue  # no call is in progress that could report it
            except BaseException as error:
                grave = grave or error
        if grave is not None:
            raise grave


def _closed(key: int) -> NoReturn:
    raise AegisInternalError(f"a handle of resource {key} was lifted after its sandbox was closed")


def _host_object(value: Any) -> Any:
    if hasattr(type(value), "__await__"):
        raise ConversionError  # an awaitable must be awaited first
    if isinstance(value, ResourceHandle) or value is None:
        raise CallError(f"expected an object of the host for the resource, not {type(value).__name__}")
    return value
