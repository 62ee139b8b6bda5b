"""Who provides what a component imports: the embedder's objects first, then the host's WASI, or nobody.

Everything that nobody provides, and everything that an object lacks or spells otherwise, is told at once.
WASI is linked by name and looked into when a function is first called: a guest imports far more of it than
it uses.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from aegis.bindings import index
from aegis.component.planning.world import ImportedFunction
from aegis.engine.store.missing import MissingFunction
from aegis.errors import LinkError, MissingImport
from aegis.sandbox.host_functions import prepared, takes_deadline
from aegis.text import count, literal, printable, similar_names
from aegis.wit.match import Mismatch, merged, track, unversioned
from aegis.wit.naming import pascal, snake
from aegis.wit.types import Function, Interface, show
from aegis.wit.values import Bound

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.call.door import Door
    from aegis.host.preview2 import Wasi
    from aegis.wit.index import Provided

__all__ = ["Providers", "served", "unprovided_by_host"]

_MOST_CHARACTERS = 200
"""Characters of a name in a remedy; one that was cut would be of another import."""
_TRAP = "--trap-missing (trap_missing=True) has it trap when called"


class _Object(NamedTuple):
    """An object of the embedder's, and the table of the bindings that it was written against, if any."""

    implementation: Any
    table: Interface | None


_Finders = dict[int, "tuple[Provided, str] | Callable[[Callable[[], Wasi]], Callable[..., Any]]"]
"""Each function of the host, by its number: its interface and its name there, or what finds it."""


class Providers:
    """The providers of one component's imports, for any number of its sandboxes.

    ``imports`` maps interface names to objects and names of the world's own functions to callables; an
    interface without a version serves every version, one with a version those that its track serves.
    ``named`` are providers that a policy names; they serve what ``imports`` does not. Raise
    :class:`~aegis.errors.LinkError` for what does not fit together.
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
        self._objects: dict[str, _Object] = {}
        self._free: dict[str, _Object] = {}
        self._finders: _Finders = {}
        faults: list[str] = []
        missing: list[MissingImport] = []
        by_policy = dict(named)
        for name, item in component.world.imports.items():
            key, named_key = _provider(imports, name), _provider(by_policy, name)
            if key is not None:
                self._take(name, item, imports[key], faults)
            elif named_key is not None:
                self._take(name, item, _load(named_key, by_policy[named_key]), faults)
            elif isinstance(item, Interface) and (served(name) or not item.functions):
                continue
            elif _place(name)[0] == "method":
                continue  # its objects come from a function, and are called as they are
            elif not trap_missing:
                missing.append(MissingImport(printable(name), "", _shape(item), _remedy(name, item)))
        faults += _unknown(component, imports)
        if missing or faults:
            raise _unlinked(missing, faults)

    @property
    def key(self) -> tuple[tuple[str, int], ...]:
        """What tells plans apart: what is provided, of which bindings, and whether what is missing traps."""
        made = [*self._objects.items(), *self._free.items()]
        provided = sorted((name, 0 if one.table is None else id(one.table)) for name, one in made)
        return (*provided, ("", int(self._trap_missing)))

    def serves(self, name: str) -> bool:
        """Tell whether the embedder provides an imported interface, or a function of the world's own."""
        return name in self._objects or name in self._free

    def typed(self, interface: str, name: str, function: Function) -> Function:
        """Return a function of ``interface`` with the Python classes of its bindings."""
        if self.lacks(interface, name, function):
            return self._component.with_python_types(function)
        return self._typed(interface, name, function)

    def lacks(self, interface: str, name: str, function: Function) -> bool:
        """Tell whether a function is to trap: nothing provides it, and that is what the embedder asked for."""
        if not self._trap_missing or interface in self._objects or (not interface and name in self._free):
            return False
        if not interface or served(interface) is None:
            return _place(name)[0] != "method" or bool(interface)
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
            raise LinkError(f"nothing provides {interface}#{name}: {table.name}, which serves it, has no such function")
        try:
            return merged(function, stated)
        except Mismatch as odd:
            raise LinkError(f"{interface}#{name} is not the function that {table.name} has: {odd}") from None

    def _table(self, interface: str) -> Interface | None:
        if interface in self._objects:
            return self._objects[interface].table
        row = served(interface)
        return None if row is None else import_module(row.bindings).INTERFACE

    def functions(
        self, wanted: Sequence[ImportedFunction], wasi: Callable[[], Wasi], door: Door
    ) -> Sequence[Callable[..., Any]] | Mapping[int, Callable[..., Any]]:
        """Return a callable for each of ``wanted``, behind one sandbox's ``door``.

        ``wasi`` gives that sandbox's WASI when it is needed.
        """
        if self.deferred and not self._objects and not self._free:
            return _Deferred(self._finders, wanted, wasi)
        made: list[Callable[..., Any]] = []
        for n, function in enumerate(wanted):
            own = self._own(function)
            made.append(prepared(own, str(function), door) if own else self._offered(made, n, function, wasi))
        return made

    def _own(self, function: ImportedFunction) -> Callable[..., Any] | None:
        """Return the embedder's callable for ``function``, if one was given."""
        if not function.interface:
            free = self._free.get(function.name)
            return None if free is None else free.implementation
        provided = self._objects.get(function.interface)
        return None if provided is None else _found(provided.implementation, function.name)

    def _offered(
        self, made: list[Callable[..., Any]], n: int, function: ImportedFunction, wasi: Callable[[], Wasi]
    ) -> Callable[..., Any]:
        row = None if function.missing else served(function.interface)
        if row is None:
            return MissingFunction(str(function))

        def first(*values: Any) -> Any:
            made[n] = found = _found(wasi().implementation(row), function.name)
            return found(*values)

        return first

    deferred: ClassVar[bool] = True
    """Whether functions of the host are looked up when the guest calls them, where the embedder provides nothing."""

    # -- the embedder's objects ----------------------------------------------------------------

    def _take(self, name: str, item: Interface | Function, given: Any, faults: list[str]) -> None:
        if isinstance(item, Function):
            table = given.interface if isinstance(given, Bound) else None
            given = given.implementation if isinstance(given, Bound) else given
            kind, _, own = _place(name)
            called = getattr(given, snake(own), None) if kind in ("method", "static") else given
            if kind == "method" and not isinstance(given, type):
                self._free[name] = _Object(_on_the_object, table)
            elif not callable(called):
                what = (
                    f"no {snake(own)} for it"
                    if kind and called is None
                    else f"a {type(called).__name__}, not a function"
                )
                faults.append(f"{printable(name)} is {what}" if not kind else f"{printable(name)}: {what}")
            elif (fault := _arity(called, len(item.params), timed=kind != "method")) is not None:
                faults.append(f"{printable(name)}{show(item).removeprefix('func')}: {fault}")
            else:
                self._free[name] = _Object(_on_the_object if kind == "method" else called, table)
                faults += self._mismatches("", Interface("", {name: item}))
            return
        made = (
            _Object(given.implementation, given.interface)
            if isinstance(given, Bound)
            else _Object(given, _stated(given, name))
        )
        if made.table is not None and unversioned(made.table.name) != unversioned(name):
            faults.append(f"{printable(name)}: the bindings given for it are of {made.table.name}")
            return
        self._objects[name] = made
        faults += [f"{printable(name)}: {fault}" for fault in _lacks(made.implementation, item)]
        faults += self._mismatches(name, item)

    def _mismatches(self, name: str, item: Interface) -> list[str]:
        found = []
        for member, function in item.functions.items():
            try:
                self._typed(name, member, function)
            except LinkError as error:
                found.append(str(error))
        return found


def _finder(function: ImportedFunction) -> tuple[Provided, str] | Callable[[Callable[[], Wasi]], Callable[..., Any]]:
    """Return the index row and the attribute of a host function, or a function that finds it in a sandbox's WASI."""
    row = None if function.missing else served(function.interface)
    if row is None:
        return lambda wasi: MissingFunction(str(function))
    kind, _, own = _place(function.name)
    if kind:
        return lambda wasi: _found(wasi().implementation(row), function.name)
    return row, snake(own)


class _Deferred(dict[int, Callable[..., Any]]):
    """Functions of the host by number, looked up when the guest calls them: it imports far more than it uses."""

    __slots__ = ("_finders", "_implementation", "_wanted", "_wasi")

    def __init__(self, finders: _Finders, wanted: Sequence[ImportedFunction], wasi: Callable[[], Wasi]) -> None:
        self._finders, self._wanted, self._wasi = finders, wanted, wasi
        self._implementation: Callable[[Provided], object] | None = None

    def __bool__(self) -> bool:
        """Tell that there are functions, though none was looked up yet."""
        return bool(self._wanted)

    def __missing__(self, number: int) -> Callable[..., Any]:
        find = self._finders.get(number)
        if find is None:
            find = self._finders[number] = _finder(self._wanted[number])
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
    """Return the imports that Aegis does not serve by itself, each with its remedy; functions are looked into."""
    missing = []
    empty = Providers(component, {}, trap_missing=True)
    for name, item in component.world.imports.items():
        if isinstance(item, Function) or (served(name) is None and item.functions):
            missing.append(MissingImport(printable(name), "", _shape(item), _remedy(name, item)))
        else:
            faults = empty._mismatches(name, item)
            missing += [MissingImport(printable(name), "", _shape(item), fault) for fault in faults]
    return missing


@lru_cache(256)
def served(interface: str) -> Provided | None:
    """Return the row by which Aegis serves an imported ``interface`` itself, ``None`` if it does not."""
    return index.INDEX.served(interface)


def _load(interface: str, provider: str) -> Any:
    """Import what a policy names as a provider; a class is called without arguments, for one object a sandbox."""
    module, _, name = provider.partition(":")
    try:
        found: Any = import_module(module)
        for part in filter(None, name.split(".")):
            found = getattr(found, part)
        return found() if isinstance(found, type) else found
    except Exception as error:
        reason = f"{type(error).__name__}: {printable(str(error), 120)}"
        raise LinkError(f"{printable(interface)}: its provider {provider} cannot be had: {reason}") from error


def _provider(imports: Mapping[str, Any], name: str) -> str | None:
    """Return the key under which ``imports`` provides ``name``: exactly, by track, or for every version.

    A resource of the world's own is provided, with all its functions, as a class under its name.
    """
    name = _place(name)[1] or name
    if name in imports:
        return name
    for key in imports:
        if key == unversioned(name) or (isinstance(key, str) and "@" in key and track(key) == track(name)):
            return key
    return None


def _unknown(component: Component, imports: Mapping[str, Any]) -> list[str]:
    names = list(component.world.imports)
    wanted = {key for name in names if (key := _provider(imports, name)) is not None}
    faults = []
    for key in imports:
        if key not in wanted:
            alike = similar_names(str(key), names, 1)
            hint = f"; did you mean {printable(alike[0])}?" if alike else ""
            faults.append(f"the component does not import {printable(str(key))!r}{hint}")
    return faults


def _stated(implementation: Any, name: str) -> Interface | None:
    """Return the table of the bindings that an object's class inherits its protocol from."""
    for base in (implementation if isinstance(implementation, type) else type(implementation)).__mro__:
        table = getattr(sys.modules.get(base.__module__), "INTERFACE", None)
        if isinstance(table, Interface) and unversioned(table.name) == unversioned(name):
            return table
    return None


def _place(name: str) -> tuple[str, str, str]:
    """Split a function's name: its kind (``method``, ``static``, ``constructor`` or none), resource and own name."""
    kind, mark, rest = name.partition("]")
    if not mark:
        return "", "", name
    resource, _, own = rest.partition(".")
    return kind[1:], resource, own


def _found(implementation: Any, name: str) -> Callable[..., Any]:
    """Return the callable that serves the function ``name`` of an interface; methods are called on objects."""
    kind, resource, own = _place(name)
    if not kind:
        return getattr(implementation, snake(own))  # type: ignore[no-any-return]
    if kind == "method":
        return _on_the_object
    owner = getattr(implementation, pascal(resource))
    return owner if kind == "constructor" else getattr(owner, snake(own))  # type: ignore[no-any-return]


def _on_the_object(*_: Any) -> Any:
    raise LinkError("a method is called on its object")


def _lacks(implementation: Any, item: Interface) -> list[str]:
    """Return what an implementation lacks of an interface, and which of its functions take the wrong number."""
    faults = []
    for name, function in item.functions.items():
        kind, resource, own = _place(name)
        owner = getattr(implementation, pascal(resource), None) if kind else implementation
        if kind == "method" and owner is None:
            continue  # its objects come from a function, and are called as they are
        if kind and owner is None:
            faults.append(f"no {pascal(resource)} for the resource {resource} ({name})")
            continue
        called = owner if kind == "constructor" else getattr(owner, snake(own), None)
        label = f"{pascal(resource)}.{snake(own)}" if own and kind else pascal(resource) if kind else snake(own)
        if called is None or _only_stated(owner, snake(own)):
            faults.append(f"no {label} for {printable(name)}: {show(function)}")
        elif (kind != "method" or isinstance(owner, type)) and (
            fault := _arity(called, len(function.params), timed=kind != "method")
        ):
            faults.append(f"{label}: {fault}")
    return list(dict.fromkeys(faults))


def _only_stated(owner: Any, name: str) -> bool:
    """Tell whether a member is inherited from a protocol, which states what there is to do and does nothing."""
    for base in (owner if isinstance(owner, type) else type(owner)).__mro__:
        if name in vars(base):
            return bool(getattr(base, "_is_protocol", False))
    return False


def _arity(function: Any, wanted: int, *, timed: bool) -> str | None:
    """Return what is wrong with calling ``function`` with so many values by position.

    ``timed``: it is given a ``deadline`` besides if it takes one; a method, which belongs to no sandbox, is not.
    """
    from inspect import signature

    if not callable(function):
        return f"it is a {type(function).__name__}, not a function"
    try:
        shape = signature(function)
    except (TypeError, ValueError):
        return None
    try:
        shape.bind(*[None] * wanted, **{"deadline": None} if timed and takes_deadline(function) else {})
    except TypeError:
        return f"the component gives it {count(wanted, 'value')}, and it takes {shape}"
    return None


def _shape(item: Interface | Function) -> str:
    return show(item) if isinstance(item, Function) else f"interface of {count(len(item.functions), 'function')}"


def _remedy(name: str, item: Interface | Function) -> str:
    if name.startswith("wasi:") and "@0.3" in name:
        return "this is WASI 0.3, which Aegis does not run; build the component for WASI 0.2"
    given = "function" if isinstance(item, Function) else "implementation"
    shown = f"{{{literal(name)}: {given}}}" if len(name) <= _MOST_CHARACTERS else ""
    return f"provide it from Python: imports={shown}; or {_TRAP}"


def _unlinked(missing: list[MissingImport], faults: list[str]) -> LinkError:
    parts = []
    if missing:
        shown = [f"{m.module} ({m.type}): {m.remedy}" for m in missing[:20]]
        more = f"; and {len(missing) - 20} more" if len(missing) > 20 else ""
        parts.append(f"nothing provides {count(len(missing), 'import')}: {'; '.join(shown)}{more}")
    if faults:
        more = f"; and {len(faults) - 20} more" if len(faults) > 20 else ""
        parts.append(f"what is provided does not fit: {'; '.join(faults[:20])}{more}")
    return LinkError("; ".join(parts), missing=missing)
