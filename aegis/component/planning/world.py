"""Names and types of a component's imports and exports: which function a name means, and of which Python classes.

It asks the world alone, so it serves the parent of an isolated sandbox too, which has no code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis.errors import ExportNotFound, LinkError
from aegis.text import printable, similar_names
from aegis.wit.match import Mismatch, merged, unversioned
from aegis.wit.naming import snake
from aegis.wit.types import Function, Interface

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component

__all__ = [
    "ImportedFunction", "Lacking", "Typing", "check_export", "find_export", "imported_functions", "interface_named",
    "no_such_function", "nothing_lacks", "typed_export",
]  # fmt: skip

Typing = Callable[[str, str, Function], Function]
"""Gives a function of an interface (first name) its Python classes."""
Lacking = Callable[[str, str, Function], bool]
"""Tells whether a function of an interface is to trap, for nothing provides it."""


def nothing_lacks(interface: str, name: str, function: Function) -> bool:
    """Tell that everything is provided."""
    return False


class ImportedFunction(NamedTuple):
    """A function that a component imports: its interface (empty for the world's own), name and type.

    ``missing`` tells that nothing provides it, and that it is to trap when it is called.
    """

    interface: str
    name: str
    type: Function
    missing: bool = False

    @property
    def method(self) -> str | None:
        """The Python name of the method, if it is one that an object has: it is called on the object itself."""
        if self.missing or not self.name.startswith("[method]"):
            return None
        return snake(self.name.partition(".")[2])

    def __str__(self) -> str:
        return f"{self.interface}#{self.name}" if self.interface else self.name


def imported_functions(component: Component, typed: Typing, lacking: Lacking = nothing_lacks) -> list[ImportedFunction]:
    """Return the functions that a component imports, in its order, with the Python classes that ``typed`` gives."""
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
        raise LinkError(f"{printable(str(name), 160)} is not the function that the bindings have: {odd}") from None


def typed_export(component: Component, name: Any, typed: Typing) -> tuple[str, str, Function]:
    """Return what an export's name means, as :func:`find_export`, with the Python classes of its values."""
    table = getattr(name, "table", None)
    interface, function, of = find_export(component.world.exports, str(name))
    if table is not None:
        return interface, function, _stated(of, name, table)
    try:
        return interface, function, typed(interface, function, of)
    except LinkError:  # the guest's own interface, though a known one has its name
        return interface, function, component.with_python_types(of)


def check_export(component: Component, interface: str, function: str, table: Interface) -> None:
    """Raise ``LinkError`` unless an exported function is of the type that bindings say."""
    name = f"{interface}#{function}" if interface else function
    _stated(find_export(component.world.exports, name)[2], name, table, function)


def find_export(exports: Mapping[str, Interface | Function], name: str) -> tuple[str, str, Function]:
    """Return what ``name`` means: an interface (empty for the world), a function and its type.

    A function of an interface may be named alone where only one has it. Raise ``ExportNotFound``.
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
    """Return the full name of the interface that ``name`` means: exactly, or the only one but for its version."""
    if isinstance(items.get(name), Interface):
        return name
    alike = [n for n, item in items.items() if isinstance(item, Interface) and unversioned(n) == name]
    return alike[0] if len(alike) == 1 else None


def _not_found(exports: Mapping[str, Interface | Function], name: object) -> ExportNotFound:
    known = []
    for owner, item in exports.items():
        known += [owner] if isinstance(item, Function) else [f"{owner}#{member}" for member in item.functions]
    return no_such_function(known, str(name))


def no_such_function(known: Sequence[str], shown: str) -> ExportNotFound:
    """Return the error for the function ``shown`` of a component that exports those in ``known``."""
    alike = similar_names(shown, known)
    if not alike:
        members = similar_names(shown.rpartition("#")[2], dict.fromkeys(k.rpartition("#")[2] for k in known))
        alike = [k for k in known if k.rpartition("#")[2] in members][:3]
    if alike:
        hint = f"; did you mean {' or '.join(printable(a, 120) for a in alike)}?"
    else:
        listed = ", ".join(printable(k, 80) for k in known[:8])
        hint = f"; it exports {listed}{' and more' if len(known) > 8 else ''}" if known else "; it exports no functions"
    return ExportNotFound(f"the component exports no function {printable(shown)!r}{hint}", name=shown, near=alike)
