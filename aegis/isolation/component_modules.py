"""Which modules a worker needs for the interfaces of a component."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.errors import AegisInternalError
from aegis.names import printable
from aegis.providers import wasi_binding

if TYPE_CHECKING:
    from aegis.engine.reflect import World

__all__ = ["host_modules", "modules_of"]


def modules_of(world: World) -> tuple[str, ...]:
    """Return the modules that running a component of this world needs."""
    wanted = {"aegis.guest": None, "aegis.component.store": None}
    for name in (*world.imports, *world.exports):  # exports get their types from the same bindings
        if name.startswith("wasi:"):
            wanted["aegis.host.wasi"] = None  # knows which interfaces have bindings
        binding = wasi_binding(name)
        if binding is not None:
            wanted[binding] = None
            wanted.update(dict.fromkeys(host_modules(name)))
    return tuple(wanted)


_HOST_MODULES = {
    "io": ("aegis.host.wasi.io",),
    "clocks": ("aegis.host.wasi.clocks", "aegis.host.clocks"),
    "random": ("aegis.host.wasi.random", "aegis.host.entropy"),
    "cli": ("aegis.host.wasi.cli",),
    "filesystem": ("aegis.host.wasi.filesystem",),
    "sockets": ("aegis.host.wasi.sockets", "aegis.host.network"),
    "http": (
        "aegis.host.wasi.http", "aegis.host.wasi.http_outgoing", "aegis.host.network", "aegis.host.http.exchange",
        "aegis.host.http.http1", "aegis.host.http.http2",
    ),
    "logging": ("aegis.host.wasi.small",),
    "config": ("aegis.host.wasi.small",),
}  # fmt: skip
"""What serves the interfaces of each WASI package."""


def host_modules(interface: str) -> tuple[str, ...]:
    """Return the modules that serve a WASI interface."""
    package = interface.partition("/")[0].partition(":")[2]
    found = _HOST_MODULES.get(package)
    if found is None:
        raise AegisInternalError(f"no module is known to serve {printable(interface)} in a worker")
    return found
