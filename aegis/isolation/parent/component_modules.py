"""Which modules a worker needs for the interfaces of a component."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.errors import AegisInternalError
from aegis.sandbox.link_component import wasi_binding
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.engine.compile.reflect import World

__all__ = ["host_modules", "modules_of"]


def modules_of(world: World) -> tuple[str, ...]:
    """Return the modules that running a component of this world needs."""
    wanted = {"aegis.sandbox.component": None, "aegis.component.store": None}
    for name in (*world.imports, *world.exports):  # exports get their types from the same bindings
        if name.startswith("wasi:"):
            wanted["aegis.host.preview2"] = None  # knows which interfaces have bindings
        binding = wasi_binding(name)
        if binding is not None:
            wanted[binding] = None
            wanted.update(dict.fromkeys(host_modules(name)))
    return tuple(wanted)


_HOST_MODULES = {
    "io": ("aegis.host.preview2.io",),
    "clocks": ("aegis.host.preview2.clocks", "aegis.host.clocks"),
    "random": ("aegis.host.preview2.random", "aegis.host.entropy"),
    "cli": ("aegis.host.preview2.cli",),
    "filesystem": ("aegis.host.preview2.filesystem",),
    "sockets": ("aegis.host.preview2.sockets", "aegis.host.net.network"),
    "http": (
        "aegis.host.preview2.http", "aegis.host.preview2.http_outgoing", "aegis.host.net.network",
        "aegis.host.net.http.exchange",
        "aegis.host.net.http.http1", "aegis.host.net.http.http2",
    ),
    "logging": ("aegis.host.preview2.small",),
    "config": ("aegis.host.preview2.small",),
}  # fmt: skip
"""What serves the interfaces of each WASI package."""


def host_modules(interface: str) -> tuple[str, ...]:
    """Return the modules that serve a WASI interface."""
    package = interface.partition("/")[0].partition(":")[2]
    found = _HOST_MODULES.get(package)
    if found is None:
        raise AegisInternalError(f"no module is known to serve {printable(interface)} in a worker")
    return found
