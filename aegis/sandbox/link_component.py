"""The functions that serve the imports of a component: the embedder's objects first, then WASI as Aegis serves it.

One :class:`~aegis.errors.LinkError` lists all imports without a provider and all faults of the objects: missing
functions, wrong types and wrong numbers of parameters. Functions of WASI are looked up at their first call, because a
guest imports far more of them than it uses.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

from aegis.bindings import index
from aegis.component.planning.world import ImportedFunction
from aegis.engine.store.missing import MissingFunction
from aegis.errors import LinkError, MissingImport
from aegis.sandbox.host_function_adapters import adapted, takes_deadline
from aegis.sandbox.missing_imports import missing_text
from aegis.text import count, literal, printable, similar_names
from aegis.wit.match import Mismatch, merged, track, unversioned
from aegis.wit.naming import pascal, snake
from aegis.wit.types import Function, Interface, has_ends, show
from aegis.wit.values import Bound

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.call.door import Door
    from aegis.host.wasi import Wasi
    from aegis.wit.index import Provided

__all__ = ["Providers", "served", "unprovided_by_host"]

_MAX_NAME_CHARACTERS = 200
"""Characters of the longest name that a remedy quotes. A truncated name would be that of another import."""
_MAX_KNOWN_ENTRIES = 64
"""Pairs of an imported interface and a table of bindings that one component remembers to match."""
_MAX_ARITY_ENTRIES = 8
"""Numbers of parameters that are remembered for one method of an embedder: guests choose them."""
_TRAP = "--trap-missing (trap_missing=True) makes it trap when called"


class _EmbedderObject(NamedTuple):
    """An object or function of the embedder, with the table of the bindings it was written against, if any."""

    implementation: Any
    table: Interface | None


_HostLookups = dict[int, "tuple[Provided, str] | Callable[[Callable[[], Wasi]], Callable[..., Any]]"]
"""How to find each function of the host, by its number: index row and attribute, or a function that finds it."""


class Providers:
    """Providers of one component's imports, for any number of its sandboxes.

    ``imports`` maps names of interfaces to objects, and names of functions of the world to callables. A name without a
    version provides every version, one with a version those of its track. ``named`` has the providers that the policy
    names; they provide interfaces that ``imports`` does not. Raise :class:`~aegis.errors.LinkError` for imports without
    a provider, unless ``trap_missing``, and for providers that do not match the component's types.
    """

    def __init__(
        self,
        component: Component,
        imports: Mapping[str, Any],
        named: Sequence[tuple[str, str]] = (),
        *,
        trap_missing: bool = False,
    ) -> None:
        self._component = component
        self._trap_missing = trap_missing
        self._objects: dict[str, _EmbedderObject] = {}
        self._free: dict[str, _EmbedderObject] = {}
        self._lookups: _HostLookups = {}
        faults: list[str] = []
        missing: list[MissingImport] = []
        by_policy = dict(named)
        for name, item in component.world.imports.items():
            key, named_key = _provider_key(imports, name), _provider_key(by_policy, name)
            if key is not None:
                self._add_provider(name, item, imports[key], faults)
            elif named_key is not None:
                self._add_provider(name, item, _load_provider(named_key, by_policy[named_key]), faults)
            elif isinstance(item, Interface) and (served(name) or not item.functions):
                continue
            elif _split_function_name(name)[0] == "method":
                continue  # a function returns the objects, and the method is looked up on each
            elif not trap_missing:
                missing.append(MissingImport(printable(name), "", _type_text(item), _remedy(name, item)))
        faults += _unknown_imports(component, imports)
        if missing or faults:
            raise _link_error(missing, faults)

    @property
    def key(self) -> tuple[tuple[str, int], ...]:
        """The key of a plan: the provided names, the identity of their bindings, and whether missing functions trap."""
        provided = [*self._objects.items(), *self._free.items()]
        tables = sorted((name, 0 if given.table is None else id(given.table)) for name, given in provided)
        return (*tables, ("", int(self._trap_missing)))

    def serves(self, name: str) -> bool:
        """Return whether the embedder provides an imported interface, or a function that the world itself imports."""
        return name in self._objects or name in self._free

    def typed(self, interface: str, name: str, function: Function) -> Function:
        """Return the type of a function with the Python classes of its bindings."""
        if self.lacks(interface, name, function):
            return self._component.with_python_types(function)
        return self._typed(interface, name, function)

    def lacks(self, interface: str, name: str, function: Function) -> bool:
        """Return whether a call of a function traps: nothing provides it, and the embedder set ``trap_missing``."""
        if not self._trap_missing or interface in self._objects or (not interface and name in self._free):
            return False
        if not interface or served(interface) is None:
            return _split_function_name(name)[0] != "method" or bool(interface)
        try:
            self._typed(interface, name, function)
        except LinkError:
            return True
        return False

    def _typed(self, interface: str, name: str, function: Function) -> Function:
        table = self._table(interface) if interface else self._free[name].table if name in self._free else None
        if table is None:
            return self._component.with_python_types(function)
        stated = table.functions.get(name)
        if stated is None:
            raise LinkError(f"nothing provides {interface}#{name}: {table.name}, which serves the interface, lacks it")
        try:
            return merged(function, stated)
        except Mismatch as mismatch:
            raise LinkError(f"{interface}#{name} differs from the function in {table.name}: {mismatch}") from None

    def _table(self, interface: str) -> Interface | None:
        if interface in self._objects:
            return self._objects[interface].table
        row = served(interface)
        return None if row is None else import_module(row.bindings).INTERFACE

    def functions(
        self, wanted: Sequence[ImportedFunction], wasi: Callable[[], Wasi], door: Door
    ) -> Sequence[Callable[..., Any]] | Mapping[int, Callable[..., Any]]:
        """Return a callable for each of ``wanted``, by position, for the sandbox of ``door``.

        ``wasi`` returns the WASI of that sandbox. It is called when the guest first calls a function of WASI.
        """
        if self.deferred and not self._objects and not self._free:
            return _DeferredFunctions(self._lookups, wanted, wasi)
        callables: list[Callable[..., Any]] = []
        for n, function in enumerate(wanted):
            own = self._own(function)
            callables.append(
                adapted(own, str(function), door, overlaps=function.type.is_async, reads=_takes_ends(function.type))
                if own
                else self._offered(callables, n, function, wasi)
            )
        return callables

    def _own(self, function: ImportedFunction) -> Callable[..., Any] | None:
        """Return the embedder's callable for ``function``, ``None`` if the embedder does not provide it."""
        if not function.interface:
            free = self._free.get(function.name)
            return None if free is None else free.implementation
        provided = self._objects.get(function.interface)
        return None if provided is None else _callable_of(provided.implementation, function.name)

    def _offered(
        self, made: list[Callable[..., Any]], n: int, function: ImportedFunction, wasi: Callable[[], Wasi]
    ) -> Callable[..., Any]:
        """Return a callable that looks up the host's function at its first call, and replaces itself in ``made``."""
        row = None if function.missing else served(function.interface)
        if row is None:
            return MissingFunction(str(function))

        def first(*values: Any) -> Any:
            made[n] = target = _callable_of(wasi().implementation(row), function.name)
            return target(*values)

        return first

    deferred: ClassVar[bool] = True
    """Whether :meth:`functions` may return a mapping that looks up each function of the host at its first call."""

    # -- the embedder's objects ----------------------------------------------------------------

    def _add_provider(self, name: str, item: Interface | Function, given: Any, faults: list[str]) -> None:
        """Provide the import ``name`` by ``given``, and add what is wrong with it to ``faults``."""
        if isinstance(item, Function):
            table = given.interface if isinstance(given, Bound) else None
            given = given.implementation if isinstance(given, Bound) else given
            kind, _, own = _split_function_name(name)
            called = getattr(given, snake(own), None) if kind in ("method", "static") else given
            if kind == "method" and not isinstance(given, type):
                self._free[name] = _EmbedderObject(_called_on_object, table)
            elif not callable(called):
                mistake = f"a {type(called).__name__}, not a function"
                if kind and called is None:
                    mistake = f"no {snake(own)} for it"
                faults.append(f"{printable(name)}: {mistake}" if kind else f"{printable(name)} is {mistake}")
            elif (fault := _arity_fault(called, len(item.params), timed=kind != "method")) is not None:
                faults.append(f"{printable(name)}{show(item).removeprefix('func')}: {fault}")
            else:
                self._free[name] = _EmbedderObject(_called_on_object if kind == "method" else called, table)
                faults += self._mismatches("", Interface("", {name: item}))
            return
        made = (
            _EmbedderObject(given.implementation, given.interface)
            if isinstance(given, Bound)
            else _EmbedderObject(given, _bindings_table(given, name))
        )
        if made.table is not None and unversioned(made.table.name) != unversioned(name):
            faults.append(f"{printable(name)}: its provider was written for {made.table.name}")
            return
        self._objects[name] = made
        faults += [f"{printable(name)}: {fault}" for fault in _implementation_faults(made.implementation, item)]
        faults += self._mismatches(name, item)

    def _mismatches(self, name: str, item: Interface) -> list[str]:
        """Return a fault for each function of an interface whose type does not match the provider's bindings."""
        table = self._objects[name].table if name in self._objects else None
        matches = self._component.matching_tables
        seen = None if table is None else matches.get((name, id(table)))
        if seen is not None and seen[0] is table and seen[1] is item:
            return []
        found = []
        for member, function in item.functions.items():
            try:
                self._typed(name, member, function)
            except LinkError as error:
                found.append(str(error))
        if table is not None and not found and len(matches) < _MAX_KNOWN_ENTRIES:
            matches[name, id(table)] = table, item  # both are kept, so that nothing else gets the table's id
        return found


def _host_lookup(
    function: ImportedFunction,
) -> tuple[Provided, str] | Callable[[Callable[[], Wasi]], Callable[..., Any]]:
    """Return the index row and the attribute of a host function, or a function that finds it in a sandbox's WASI.

    The result holds no sandbox, so all sandboxes of a component share it.
    """
    row = None if function.missing else served(function.interface)
    if row is None:
        return lambda wasi: MissingFunction(str(function))
    kind, _, own = _split_function_name(function.name)
    if kind:
        return lambda wasi: _callable_of(wasi().implementation(row), function.name)
    return row, snake(own)


class _DeferredFunctions(dict[int, Callable[..., Any]]):
    """Functions of the host by number, each looked up at its first call."""

    __slots__ = ("_implementation", "_lookups", "_wanted", "_wasi")

    def __init__(self, lookups: _HostLookups, wanted: Sequence[ImportedFunction], wasi: Callable[[], Wasi]) -> None:
        self._lookups, self._wanted, self._wasi = lookups, wanted, wasi
        self._implementation: Callable[[Provided], object] | None = None

    def __bool__(self) -> bool:
        """Return whether there are functions, also before the first is looked up."""
        return bool(self._wanted)

    def __missing__(self, number: int) -> Callable[..., Any]:
        find = self._lookups.get(number)
        if find is None:
            find = self._lookups[number] = _host_lookup(self._wanted[number])
        made: Callable[..., Any]
        if isinstance(find, tuple):
            implementation = self._implementation
            if implementation is None:
                implementation = self._implementation = self._wasi().implementation
            made = getattr(implementation(find[0]), find[1])
        else:
            made = find(self._wasi)
        self[number] = made
        return made


def unprovided_by_host(component: Component) -> list[MissingImport]:
    """Return the imports that Aegis does not serve itself, function by function, each with its remedy."""
    missing = []
    empty = Providers(component, {}, trap_missing=True)
    for name, item in component.world.imports.items():
        if isinstance(item, Function) or (served(name) is None and item.functions):
            missing.append(MissingImport(printable(name), "", _type_text(item), _remedy(name, item)))
        else:
            faults = empty._mismatches(name, item)
            missing += [MissingImport(printable(name), "", _type_text(item), fault) for fault in faults]
    return missing


@lru_cache(256)
def served(interface: str) -> Provided | None:
    """Return the index row by which Aegis serves an imported ``interface``, ``None`` if Aegis does not serve it."""
    return index.INDEX.served(interface)


def _load_provider(interface: str, provider: str) -> Any:
    """Import the provider that a policy names, and create its object if it is a class (without arguments)."""
    module, _, name = provider.partition(":")
    try:
        found: Any = import_module(module)
        for part in filter(None, name.split(".")):
            found = getattr(found, part)
        return found() if isinstance(found, type) else found
    except Exception as error:
        reason = f"{type(error).__name__}: {printable(str(error), 120)}"
        raise LinkError(f"{printable(interface)}: its provider {provider} cannot be loaded: {reason}") from error


def _provider_key(imports: Mapping[str, Any], name: str) -> str | None:
    """Return the key under which ``imports`` provides ``name``: the same name, one of its track, or without a version.

    A class under the name of a resource that the world itself imports provides all functions of that resource.
    """
    name = _split_function_name(name)[1] or name
    if name in imports:
        return name
    for key in imports:
        if key == unversioned(name) or (isinstance(key, str) and "@" in key and track(key) == track(name)):
            return key
    return None


def _unknown_imports(component: Component, imports: Mapping[str, Any]) -> list[str]:
    """Return a fault for each key of ``imports`` that the component does not import.

    A compatible version of an imported interface is no fault: tools that make components merge the versions that a
    world imports into the newest, and the world's bindings provide each of them. A function of a resource is provided
    by the class under the name of the resource, not by itself.
    """
    names = list(component.world.imports)
    wanted = {key for name in names if (key := _provider_key(imports, name)) is not None}
    tracks = {track(name) for name in names if "@" in name}
    faults = []
    for key in imports:
        if key not in wanted and not (isinstance(key, str) and "@" in key and track(key) in tracks):
            if key in names:
                resource = _split_function_name(key)[1]
                remedy = f"provide the class, imports={{{literal(resource)}: {pascal(resource)}}}"
                faults.append(f"{printable(key)} is a function of the resource {printable(resource)}: {remedy}")
                continue
            alike = similar_names(str(key), names, 1)
            hint = f": did you mean {printable(alike[0])}?" if alike else ""
            faults.append(f"the component does not import {printable(str(key))!r}{hint}")
    return faults


def _bindings_table(implementation: Any, name: str) -> Interface | None:
    """Return the table of the generated bindings whose protocol an object's class inherits, ``None`` without one."""
    for base in (implementation if isinstance(implementation, type) else type(implementation)).__mro__:
        table = getattr(sys.modules.get(base.__module__), "INTERFACE", None)
        if isinstance(table, Interface) and unversioned(table.name) == unversioned(name):
            return table
    return None


def _takes_ends(function: Function) -> bool:
    """Return whether an async function has streams or futures among its parameters."""
    return function.is_async and any(has_ends(of) for _, of in function.params)


def _split_function_name(name: str) -> tuple[str, str, str]:
    """Return kind (``method``, ``static``, ``constructor`` or empty), resource and own name of a function."""
    kind, mark, rest = name.partition("]")
    if not mark:
        return "", "", name
    resource, _, own = rest.partition(".")
    return kind[1:], resource, own


def _callable_of(implementation: Any, name: str) -> Callable[..., Any]:
    """Return the callable that serves the function ``name`` of an interface.

    For a method it is a placeholder: the conversion of the call looks the method up on the object itself.
    """
    kind, resource, own = _split_function_name(name)
    if not kind:
        return getattr(implementation, snake(own))  # type: ignore[no-any-return]
    if kind == "method":
        return _called_on_object
    owner = getattr(implementation, pascal(resource))
    return owner if kind == "constructor" else getattr(owner, snake(own))  # type: ignore[no-any-return]


def _called_on_object(*_: Any) -> Any:
    raise LinkError("a method is called on its object")


def _implementation_faults(implementation: Any, item: Interface) -> list[str]:
    """Return a fault for each function that an implementation lacks, or that takes the wrong number of parameters."""
    faults = []
    for name, function in item.functions.items():
        kind, resource, own = _split_function_name(name)
        owner = getattr(implementation, pascal(resource), None) if kind else implementation
        if kind == "method" and owner is None:
            continue  # a function returns the objects, and the method is looked up on each
        if kind and owner is None:
            faults.append(f"no {pascal(resource)} for the resource {resource} ({name})")
            continue
        called = owner if kind == "constructor" else getattr(owner, snake(own), None)
        label = f"{pascal(resource)}.{snake(own)}" if own and kind else pascal(resource) if kind else snake(own)
        if called is None or _is_protocol_stub(owner, snake(own)):
            faults.append(f"no {label} for {printable(name)}: {show(function)}")
        elif (kind != "method" or isinstance(owner, type)) and (
            fault := _arity_fault(called, len(function.params), timed=kind != "method")
        ):
            faults.append(f"{label}: {fault}")
    return list(dict.fromkeys(faults))


def _is_protocol_stub(owner: Any, name: str) -> bool:
    """Return whether a member is inherited from a ``Protocol``, whose methods have no body: it is not implemented."""
    for base in (owner if isinstance(owner, type) else type(owner)).__mro__:
        if name in vars(base):
            return bool(getattr(base, "_is_protocol", False))
    return False


def _arity_fault(function: Any, wanted: int, *, timed: bool) -> str | None:
    """Return the fault of a function that does not take ``wanted`` positional values, otherwise ``None``.

    ``timed``: Aegis also passes ``deadline`` if the function takes it. A method never gets it, because an object may
    serve several sandboxes.
    """
    if not callable(function):
        return f"it is a {type(function).__name__}, not a function"
    if isinstance(function, MethodType) and isinstance(function.__func__, FunctionType):
        known = _ARITIES.setdefault(function.__func__, {})
        if (wanted, timed) in known:
            return known[wanted, timed]
        fault = _shape_fault(function, wanted, timed)
        if len(known) < _MAX_ARITY_ENTRIES:
            known[wanted, timed] = fault
        return fault
    return _shape_fault(function, wanted, timed)


_ARITIES: WeakKeyDictionary[FunctionType, dict[tuple[int, bool], str | None]] = WeakKeyDictionary()
"""The faults of methods, which are the same for all objects of a class."""


def _shape_fault(function: Any, wanted: int, timed: bool) -> str | None:
    from inspect import signature

    try:
        shape = signature(function)
    except (TypeError, ValueError):
        return None
    try:
        shape.bind(*[None] * wanted, **{"deadline": None} if timed and takes_deadline(function) else {})
    except TypeError:
        return f"the component passes {count(wanted, 'value')}, but it takes {shape}"
    return None


def _type_text(item: Interface | Function) -> str:
    return show(item) if isinstance(item, Function) else f"interface of {count(len(item.functions), 'function')}"


def _remedy(name: str, item: Interface | Function) -> str:
    if name.startswith("wasi:") and "@0.3" in name:
        return f"Aegis does not provide this interface of WASI 0.3: build the component for WASI 0.2, or {_TRAP}"
    resource = _split_function_name(name)[1]
    given = pascal(resource) if resource else "function" if isinstance(item, Function) else "implementation"
    shown = f"{{{literal(resource or name)}: {given}}}" if len(name) <= _MAX_NAME_CHARACTERS else ""
    if resource:
        return f"provide its class from Python: imports={shown}; or {_TRAP}"
    return f"provide it from Python: imports={shown}; or {_TRAP}"


def _link_error(missing: list[MissingImport], faults: list[str]) -> LinkError:
    parts = []
    if missing:
        parts.append(missing_text(missing))
    if faults:
        more = f"; and {len(faults) - 20} more" if len(faults) > 20 else ""
        parts.append(f"a provider does not match its import: {'; '.join(faults[:20])}{more}")
    return LinkError("; ".join(parts), missing=missing)
