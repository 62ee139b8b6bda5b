"""In a worker: stand-ins for what a component has in the parent: the embedder's functions and objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aegis.component.planning.world import ImportedFunction
from aegis.errors import CallError
from aegis.isolation.parent.host_calls import UNFIT
from aegis.isolation.protocol.channel import Broken
from aegis.isolation.protocol.wit_values import Signature
from aegis.isolation.worker.host_calls import Ask
from aegis.sandbox.link_component import Providers
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.wit.types import Function, Resource
from aegis.wit.values import ResourceHandle

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.call.door import Door
    from aegis.engine.compile.reflect import World
    from aegis.host.preview2 import Wasi

__all__ = ["HostObject", "RemoteProviders", "WorkerHandles"]


class HostObject:
    """An object of the embedder's that the guest holds: its number, and its methods as calls to the parent."""

    __slots__ = ("_ask", "number")

    def __init__(self, number: int, ask: Ask) -> None:
        self.number, self._ask = number, ask

    def __drop__(self) -> None:
        self._ask(-1, [self.number])


class WorkerHandles:
    """Handles on the wire, as a worker sees them: the guest's by our number, the embedder's by theirs."""

    def __init__(self, world: World) -> None:
        self.imported = world.imported
        self.classes: dict[int, type[HostObject]] = {}
        self.kept: dict[int, ResourceHandle] = {}
        self.given: list[int] = []
        """Numbers that were used for ``own`` parameters in the call under way."""
        self.ask: Ask = _no_parent
        self._next = 1

    def number(self, value: Any, resource: Resource, *, own: bool) -> int:
        if resource.key < self.imported:
            return int(value.number)
        number, self._next = self._next, self._next + 1
        self.kept[number] = value
        return number

    def meant(self, number: int, resource: Resource, *, own: bool) -> Any:
        if resource.key < self.imported:
            return self.classes.get(resource.key, HostObject)(number, self.ask)
        if own:
            self.given.append(number)
        handle = self.kept.get(number)
        if handle is None:
            raise CallError("the handle was dropped, or was moved into the guest by an earlier call")
        return handle

    def consumed(self) -> list[int]:
        """Return which of the given handles the guest has taken, and forget them."""
        taken = [n for n in self.given if n in self.kept and self.kept[n]._native is None]
        for number in taken:
            del self.kept[number]
        self.given.clear()
        return taken


def _no_parent(number: int, values: list[Any]) -> Any:
    raise Broken("there is no parent to ask yet")


class RemoteProviders(Providers):
    """Who provides a component's imports in a worker: the parent, WASI here, or neither.

    ``served`` names interfaces (with an empty second part) and the world's own functions that the parent serves.
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
        """What tells plans apart: what the parent serves, and whether what is missing traps."""
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
        """Give each of the embedder's resources a class with its methods."""
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

    def call(*values: Any) -> Any:
        answer = handles.ask(number, signature.pack(values))
        try:
            answer = signature.unpack_result(answer)
        except Broken:
            answer = signature.unpack_result(handles.ask(UNFIT, []))
        return answer

    return call
