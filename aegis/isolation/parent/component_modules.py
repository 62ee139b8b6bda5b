"""The Python modules that a worker needs for the interfaces of a component."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.bindings import index

if TYPE_CHECKING:
    from aegis.engine.compile.reflect import World

__all__ = ["modules_of"]


def modules_of(world: World) -> tuple[str, ...]:
    """Return the modules that running a component with this world needs; a worker imports them before confinement."""
    wanted = {"aegis.sandbox.component": None, "aegis.component.store": None}
    for name in (*world.imports, *world.exports):  # exports get their types from the same bindings
        row = index.INDEX.find(name)  # of a handler that the guest exports, its bindings
        if row is not None:
            wanted["aegis.host.wasi"] = None
            wanted.update(dict.fromkeys(index.INDEX.modules(row)))
    return tuple(wanted)
