"""The exports of a component as Python objects: functions, interfaces as namespaces, resources as classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from aegis.component.planning.world import interface_named
from aegis.errors import CallError, ExportNotFound
from aegis.text import count, printable, similar_names
from aegis.wit.naming import pascal, snake
from aegis.wit.types import Function, Interface
from aegis.wit.values import ResourceHandle

if TYPE_CHECKING:
    from aegis.sandbox.backend import Run

__all__ = [
    "BoundName", "Exports", "Namespace", "arguments_error", "functions_by_resource", "namespace", "no_constructor",
]  # fmt: skip


class BoundName(NamedTuple):
    """A function of an exported interface, whose values have the classes of generated bindings.

    It is the key of a prepared call. Tables compare by identity: hashing one would cost more than the call.
    """

    interface: str
    function: str
    table: Any

    def __hash__(self) -> int:
        return hash((self.interface, self.function, id(self.table)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoundName) and self[:2] == other[:2] and self.table is other.table

    def __str__(self) -> str:
        return f"{self.interface}#{self.function}" if self.interface else self.function


class Exports(Mapping[str, Any]):
    """The exports of a component by name. The version of an interface may be omitted if only one version is exported.

    Raise :class:`~aegis.errors.ExportNotFound` for other names, with the nearest one.
    """

    def __init__(self, run: Run, items: Mapping[str, Interface | Function], namespaces: dict[str, Any]) -> None:
        self._run, self._items, self._namespaces = run, items, namespaces

    def __getitem__(self, name: str) -> Any:
        if name in self._namespaces:
            return self._namespaces[name]
        item = self._items.get(name)
        if isinstance(item, Function):
            return _export_caller(self._run, name)
        full = interface_named(self._items, name)
        if full is None:
            alike = similar_names(str(name), self._items)
            hint = f": did you mean {printable(alike[0], 120)}?" if alike else ""
            raise ExportNotFound(
                f"the component exports nothing called {printable(str(name))!r}{hint}", name=str(name), near=alike
            )
        found = self._items[full]
        assert isinstance(found, Interface)
        self._namespaces[full] = members = namespace(self._run, full, found)
        return members

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


class Namespace:
    """An exported interface: its functions as attributes in snake_case, its resources in PascalCase."""

    def __init__(self, name: str, members: Mapping[str, Any], interface: str = "") -> None:
        self.__name__, self.__interface__ = name, interface
        self.__dict__.update(members)

    def __getattr__(self, name: str) -> Any:
        members = [n for n in vars(self) if not n.startswith("__")]
        alike = similar_names(name, members, 1)
        hint = f": did you mean {alike[0]}?" if alike else f"; it has {', '.join(members[:12])}"
        raise AttributeError(f"{printable(self.__name__)} has no {name}{hint}")

    def __repr__(self) -> str:
        return f"<exports of {printable(self.__name__)}>"


def _export_caller(run: Run, name: Any) -> Callable[..., Any]:
    """Return a function that calls the export ``name``, under its Python name."""

    def call(*args: Any) -> Any:
        return run.call(name, *args)

    call.__name__ = call.__qualname__ = snake(str(name).rpartition("#")[2].rpartition(".")[2] or "call")
    return call


def namespace(run: Run, full: str, item: Interface, table: Interface | None = None) -> Namespace:
    """Return an exported interface as an object. With ``table``, its values have the classes of these bindings."""

    def named(function: str) -> Any:
        return BoundName(full, function, table) if table is not None else f"{full}#{function}" if full else function

    members: dict[str, Any] = {}
    for name in item.functions:
        if not name.startswith("["):
            members[snake(name)] = _export_caller(run, named(name))
    for resource, functions in functions_by_resource(item).items():
        members[pascal(resource)] = _handle_class(run, resource, functions, named)
    return Namespace(full or "the world", members, full)


def functions_by_resource(item: Interface) -> dict[str, list[str]]:
    """Return the names of the functions of each resource, in one pass: the guest chooses how many there are."""
    found: dict[str, list[str]] = {}
    for name in item.functions:
        if name.startswith("["):
            found.setdefault(name.partition("]")[2].partition(".")[0], []).append(name)
    return found


def _handle_class(
    run: Run, resource: str, functions: Sequence[str], named: Callable[[str], Any]
) -> type[ResourceHandle]:
    """Return the class of a resource's handles in one sandbox, with its constructor, static functions and methods."""
    body: dict[str, Any] = {"__slots__": (), "_run": run, "__doc__": f"A handle of the resource {resource} of a guest."}
    constructor = f"[constructor]{resource}"
    if constructor in functions:
        make = named(constructor)
        body["__new__"] = lambda cls, *args: _new_handle(cls, args) if _is_from_engine(args) else run.call(make, *args)
    else:
        body["__new__"] = lambda cls, *args: (
            _new_handle(cls, args) if _is_from_engine(args) else no_constructor(resource)
        )
    for name in functions:
        kind, _, rest = name.partition("]")
        own = rest.partition(".")[2]
        if own:
            call = _export_caller(run, named(name))
            body[snake(own)] = staticmethod(call) if kind == "[static" else call
    body["__init__"] = lambda self, *args: None
    return type(pascal(resource), (ResourceHandle,), body)


class _HandleParts(NamedTuple):
    """The one argument of a handle class when the engine creates a handle; an embedder's call runs the constructor."""

    native: Any
    key: int
    owner: Any


def _is_from_engine(args: tuple[Any, ...]) -> bool:
    return len(args) == 1 and isinstance(args[0], _HandleParts)


def _new_handle(cls: type[ResourceHandle], args: tuple[Any, ...]) -> ResourceHandle:
    handle = object.__new__(cls)
    ResourceHandle.__init__(handle, *args[0])
    return handle


def handle_maker(cls: type[ResourceHandle]) -> Callable[[Any, int, Any], ResourceHandle]:
    """Return a function that creates a handle of ``cls`` from the engine's handle, its resource and its owner."""
    return lambda native, key, owner: cls(_HandleParts(native, key, owner))  # type: ignore[call-arg]


def no_constructor(resource: str) -> NoReturn:
    """Raise the error for a resource that the guest alone creates."""
    raise TypeError(
        f"the resource {printable(resource)} has no constructor: call a function of the guest that returns one"
    )


def arguments_error(signature: str, wanted: int, args: Sequence[Any], error: Exception) -> CallError:
    """Return the error for arguments that do not match ``signature``, which has ``wanted`` parameters."""
    if len(args) != wanted:
        spread = ": write call(name, *arguments)" if len(args) == 1 and isinstance(args[0], tuple) else ""
        return CallError(f"{signature} takes {count(wanted, 'argument')}, not {len(args)}{spread}")
    message = str(error)  # a message from a worker has the signature already
    return CallError(message if message.startswith(f"{signature}: ") else f"{signature}: {message}")
