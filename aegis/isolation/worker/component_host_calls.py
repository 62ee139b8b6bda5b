"""Stand-ins in a worker for the embedder's functions and objects that a component imports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aegis.component.planning.world import ImportedFunction
from aegis.component.release import release
from aegis.errors import CallError, HostError
from aegis.isolation.parent.host_calls import DROP, RESULT_REJECTED
from aegis.isolation.protocol.channel import ProtocolError
from aegis.isolation.protocol.wit_values import WORKER_NUMBERS, Signature
from aegis.isolation.worker.ends import WorkerEnds
from aegis.isolation.worker.host_calls import Ask
from aegis.isolation.worker.late_answers import AskLater, LateAnswer
from aegis.sandbox.link_component import Providers
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.wit.types import Function, Future, Resource, Stream
from aegis.wit.values import ResourceHandle

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.call.door import Door
    from aegis.engine.compile.reflect import World
    from aegis.host.wasi import Wasi

__all__ = ["HostObject", "RemoteProviders", "WorkerHandles"]


_KEPT_RESOURCES = 1024
"""Resources that may be numbered before those that the guest has dropped are forgotten."""


class HostObject:
    """An object of the embedder that the guest holds: its number, and methods that call the parent."""

    __slots__ = ("_ask", "number")

    def __init__(self, number: int, ask: Ask) -> None:
        self.number, self._ask = number, ask

    def __drop__(self) -> None:
        self._ask(DROP, [self.number])


class WorkerHandles:
    """The worker's handle table: the worker numbers the guest's handles, the parent the embedder's objects."""

    def __init__(self, world: World) -> None:
        self.imported = world.imported
        self.classes: dict[int, type[HostObject]] = {}
        """The class of each resource of the embedder, by its key."""
        self.kept: dict[int, ResourceHandle] = {}
        """Handles of the guest that the parent holds, by number."""
        self.owned: list[int] = []
        """Numbers that the running call received for ``own`` parameters."""
        self.ask: Ask = _no_parent
        self.ask_later: AskLater = _no_parent
        self.numbers: dict[tuple[str, str], int] = {}
        """The number of each imported function, by interface and name."""
        self._own: _OwnResources | None = None
        self._next = 1
        self._ends: WorkerEnds | None = None
        self.budget: Callable[[], Any] = _no_budget

    @property
    def ends(self) -> WorkerEnds:
        """The streams and futures of the sandbox."""
        if self._ends is None:
            self._ends = WorkerEnds(self, lambda: self.budget())
            self._ends.ask, self._ends.ask_later = self.ask, self.ask_later
        return self._ends

    def end(self) -> None:
        """Ask the parent nothing more about streams: it has closed them with the sandbox."""
        if self._ends is not None:
            self._ends.ask = self._ends.ask_later = _ended

    def end_number(self, value: Any, of: Stream | Future) -> int:
        number, self._next = self._next, self._next + 1
        self.ends.keep(value, of, number)
        return number

    def find_end(self, number: int, of: Stream | Future) -> Any:
        return self.ends.find(number, of)

    def keep_own(self, door: Callable[[], Door]) -> None:
        """Number the resources of host functions in this process as well, for the answer step in the parent."""
        self._own = _OwnResources(door)

    def number(self, value: Any, resource: Resource, *, own: bool) -> int:
        if resource.key < self.imported:
            if self._own is not None and not isinstance(value, HostObject):
                return self._own.number(value)
            return int(value.number)
        number, self._next = self._next, self._next + 1
        self.kept[number] = value
        return number

    def find(self, number: int, resource: Resource, *, own: bool) -> Any:
        if resource.key < self.imported:
            if self._own is not None and number >= WORKER_NUMBERS:
                return self._own.find(number)
            return self.classes.get(resource.key, HostObject)(number, self.ask)
        if own:
            self.owned.append(number)
        handle = self.kept.get(number)
        if handle is None:
            raise CallError("the handle was dropped, or was moved into the guest by an earlier call")
        return handle

    def consumed(self) -> list[int]:
        """Return the numbers of ``own`` parameters that the guest has taken, and remove them from the table."""
        return self.taken_of(self.take_owned())

    def take_owned(self) -> list[int]:
        """Return the numbers that were received for ``own`` parameters since the last call of this method."""
        owned, self.owned = self.owned, []
        return owned

    def taken_of(self, owned: Sequence[int]) -> list[int]:
        """Return the numbers among ``owned`` that the guest has taken, and remove them from the table."""
        taken = [n for n in owned if n in self.kept and self.kept[n]._native is None]
        for number in taken:
            del self.kept[number]
        return taken


class _OwnResources:
    """The resources of host functions in this process that were shown to the parent, by number."""

    def __init__(self, door: Callable[[], Door]) -> None:
        self._door = door
        self._objects: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        """The number of each object by its identity; ``_objects`` keeps the object alive."""
        self._next = WORKER_NUMBERS
        self._most = _KEPT_RESOURCES

    def number(self, value: Any) -> int:
        """Return the number of a resource, the same one each time."""
        number = self._numbers.get(id(value))
        if number is None:
            if len(self._objects) >= self._most:
                self._forget_dropped()
            number = self._numbers[id(value)] = self._next
            self._objects[number] = value
            self._next += 1
        return number

    def find(self, number: int) -> Any:
        """Return the resource with a number."""
        try:
            return self._objects[number]
        except KeyError:
            raise HostError("the answer to a host call contains a resource that the guest has dropped") from None

    def _forget_dropped(self) -> None:
        """Remove the resources that the guest no longer holds."""
        held = {id(entry.rep) for entry in self._door().handles.objects}
        self._objects = {n: value for n, value in self._objects.items() if id(value) in held}
        self._numbers = {id(value): n for n, value in self._objects.items()}
        self._most = max(_KEPT_RESOURCES, 2 * len(self._objects))


def _no_budget() -> Any:
    raise ProtocolError("stream before the session began")


def _no_parent(number: int, values: list[Any]) -> Any:
    raise ProtocolError("request to the parent before the session began")


def _ended(number: int, values: list[Any]) -> None:
    """Take the place of requests about streams of a sandbox that has ended."""


class RemoteProviders(Providers):
    """Providers of a component's imports in a worker: the parent, or WASI in this process.

    ``served`` lists the imports that the parent serves: an interface and an empty name, or an empty interface and the
    name of a function of the world.
    """

    def __init__(
        self, component: Component, served: Sequence[tuple[str, str]], handles: WorkerHandles, *, trap_missing: bool
    ) -> None:
        self._component, self._trap_missing = component, trap_missing
        self._objects, self._free = {}, {}
        self._served = frozenset(served)
        self._handles = handles

    @property
    def key(self) -> tuple[tuple[str, int], ...]:
        """The part of a plan's cache key that depends on the providers."""
        return (*((f"{interface}#{name}", 0) for interface, name in sorted(self._served)), *super().key)

    def typed(self, interface: str, name: str, function: Function) -> Function:
        if ((interface, "") if interface else ("", name)) in self._served:
            return self._component.with_python_types(function)
        return super().typed(interface, name, function)

    def lacks(self, interface: str, name: str, function: Function) -> bool:
        if ((interface, "") if interface else ("", name)) in self._served:
            return False
        return super().lacks(interface, name, function)

    def functions(
        self, wanted: Sequence[ImportedFunction], wasi: Callable[[], Wasi], door: Door
    ) -> Sequence[Callable[..., Any]] | Mapping[int, Callable[..., Any]]:
        self._door = door
        self._handles.numbers = {(f.interface, f.name): n for n, f in enumerate(wanted)}
        self._methods(wanted)
        return super().functions(wanted, wasi, door)

    deferred = False

    def _own(self, function: ImportedFunction) -> Callable[..., Any] | None:
        return None

    def _offered(
        self, made: list[Callable[..., Any]], n: int, function: ImportedFunction, wasi: Callable[[], Wasi]
    ) -> Callable[..., Any]:
        if self._is_served(function):
            return _component_function(function, n, self._handles, self._door)
        return super()._offered(made, n, function, wasi)

    def _is_served(self, function: ImportedFunction) -> bool:
        return ((function.interface, "") if function.interface else ("", function.name)) in self._served

    def _methods(self, wanted: Sequence[ImportedFunction]) -> None:
        """Create a class with its methods for each resource of the embedder."""
        bodies: dict[int, dict[str, Any]] = {}
        for n, function in enumerate(wanted):
            if function.method and self._is_served(function):
                resource = function.type.params[0][1]
                key = resource.resource.key  # type: ignore[union-attr]
                bodies.setdefault(key, {"__slots__": ()})[function.method] = _component_function(
                    function, n, self._handles, self._door
                )
        for key, body in bodies.items():
            self._handles.classes[key] = type("HostObject", (HostObject,), body)


def _component_function(
    function: ImportedFunction, number: int, handles: WorkerHandles, door: Door
) -> Callable[..., Any]:
    signature = Signature(function.type, handles, door)
    is_async = function.type.is_async

    def call(*values: Any) -> Any:
        if is_async:
            answer = handles.ask_later(number, signature.pack(values))
            if answer.__class__ is LateAnswer:
                answer.unpack, answer.lost = signature.unpack_result, lost
                return answer
        else:
            answer = handles.ask(number, signature.pack(values))
        try:
            answer = signature.unpack_result(answer)
        except ProtocolError:
            answer = signature.unpack_result(handles.ask(RESULT_REJECTED, []))
        return answer

    def lost(answer: Any) -> None:
        release(function.type.result, signature.unpack_result(answer), handles.imported)

    return call
