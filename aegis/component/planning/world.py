"""Resolves names in a component's world: which function a name refers to, and which Python classes its types use.

These functions need only the world, not the code, so the parent of an isolated sandbox uses them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis.errors import ExportNotFound, LinkError
from aegis.text import printable, similar_names
from aegis.wit.match import Mismatch, merged, track, unversioned
from aegis.wit.naming import snake
from aegis.wit.types import Function, Interface

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component

__all__ = [
    "ImportedFunction", "Lacking", "Typing", "check_export", "compatible_interface", "find_export",
    "imported_functions", "interface_named", "no_such_function", "nothing_lacks", "typed_export",
]  # fmt: skip

Typing = Callable[[str, str, Function], Function]
"""Adds Python classes to the type of a function; arguments are the interface's name, the function's name, its type."""
Lacking = Callable[[str, str, Function], bool]
"""Decides whether an import has no provider and traps when it is called; arguments as for :data:`Typing`."""


def nothing_lacks(interface: str, name: str, function: Function) -> bool:
    """Return ``False``: every import has a provider."""
    return False


class ImportedFunction(NamedTuple):
    """A function that a component imports: its interface (empty if the world imports it directly), name and type.

    ``missing``: no provider exists, and calling it traps.
    """

    interface: str
    name: str
    type: Function
    missing: bool = False

    @property
    def method(self) -> str | None:
        """The Python name if this is a resource method: Aegis then calls the method of the host object itself."""
        if self.missing or not self.name.startswith("[method]"):
            return None
        return snake(self.name.partition(".")[2])

    def __str__(self) -> str:
        return f"{self.interface}#{self.name}" if self.interface else self.name


def imported_functions(component: Component, typed: Typing, lacking: Lacking = nothing_lacks) -> list[ImportedFunction]:
    """Return the functions that a component imports, in declaration order, typed by ``typed``."""
    found = []
    for name, item in component.world.imports.items():
        interface, functions = ("", {name: item}) if isinstance(item, Function) else (name, item.functions)
        for member, function in functions.items():
            missing = lacking(interface, member, function)
            found.append(ImportedFunction(interface, member, typed(interface, member, function), missing))
    return found


def _stated(found: Function, name: Any, table: Interface, function: str = "") -> Function:
    stated = table.functions[function or name.function]
    try:
        return merged(found, stated)
    except Mismatch as odd:
        raise LinkError(
            f"{printable(str(name), 160)} has another type than in the bindings: {odd}: regenerate the bindings"
        ) from None


def typed_export(component: Component, name: Any, typed: Typing) -> tuple[str, str, Function]:
    """Find an export as :func:`find_export` does; return it with Python classes in its type.

    A ``name`` from generated bindings carries their interface table, whose classes are used. Raise ``ExportNotFound``,
    or ``LinkError`` if the export's type differs from the bindings.
    """
    table = getattr(name, "table", None)
    interface, function, of = find_export(component.world.exports, str(name))
    if table is not None:
        return interface, function, _stated(of, name, table)
    try:
        return interface, function, typed(interface, function, of)
    except LinkError:  # the guest defines another interface under the name of a known one
        return interface, function, component.with_python_types(of)


def check_export(component: Component, interface: str, function: str, table: Interface) -> None:
    """Raise ``LinkError`` unless an exported function has the type stated in ``table``, the generated bindings."""
    name = f"{interface}#{function}" if interface else function
    _stated(find_export(component.world.exports, name)[2], name, table, function)


def find_export(exports: Mapping[str, Interface | Function], name: str) -> tuple[str, str, Function]:
    """Resolve ``name`` to an interface (empty for a direct export of the world), a function name and its type.

    ``name`` is ``interface#function``, or ``function`` if only one interface has it. Raise ``ExportNotFound``.
    """
    owner, mark, member = name.rpartition("#")
    if mark:
        full = interface_named(exports, owner)
        item = exports[full] if full is not None else None
        if full is not None and isinstance(item, Interface) and member in item.functions:
            return full, member, item.functions[member]
        raise _not_found(exports, name)
    item = exports.get(name)
    if isinstance(item, Function):
        return "", name, item
    having = [(owner, i) for owner, i in exports.items() if isinstance(i, Interface) and name in i.functions]
    if len(having) == 1:
        return having[0][0], name, having[0][1].functions[name]
    raise _not_found(exports, name)


def interface_named(items: Mapping[str, Interface | Function], name: str) -> str | None:
    """Return the full name of the interface ``name``; the version may be omitted if only one version exists."""
    if isinstance(items.get(name), Interface):
        return name
    alike = [n for n, item in items.items() if isinstance(item, Interface) and unversioned(n) == name]
    return alike[0] if len(alike) == 1 else None


def compatible_interface(items: Mapping[str, Interface | Function], name: str) -> str | None:
    """Return the full name of the interface that serves ``name``: the same, one of its track, or the only version."""
    exact = interface_named(items, name)
    if exact is not None or "@" not in name:
        return exact
    alike = [n for n, item in items.items() if isinstance(item, Interface) and track(n) == track(name)]
    return alike[0] if len(alike) == 1 else interface_named(items, unversioned(name))


def _not_found(exports: Mapping[str, Interface | Function], name: object) -> ExportNotFound:
    known = []
    for owner, item in exports.items():
        known += [owner] if isinstance(item, Function) else [f"{owner}#{member}" for member in item.functions]
    return no_such_function(known, str(name))


def no_such_function(known: Sequence[str], shown: str) -> ExportNotFound:
    """Return the error for a missing export ``shown``, with suggestions from ``known``."""
    alike = similar_names(shown, known)
    if not alike:
        members = similar_names(shown.rpartition("#")[2], dict.fromkeys(k.rpartition("#")[2] for k in known))
        alike = [k for k in known if k.rpartition("#")[2] in members][:3]
    if alike:
        hint = f": did you mean {' or '.join(printable(a, 120) for a in alike)}?"
    else:
        listed = ", ".join(printable(k, 80) for k in known[:8])
        hint = f"; it exports {listed}{' and more' if len(known) > 8 else ''}" if known else "; it exports no functions"
    return ExportNotFound(f"the component exports no function {printable(shown)!r}{hint}", name=shown, near=alike)
