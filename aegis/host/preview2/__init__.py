"""WASI 0.2, implemented on the grants of one sandbox, written against our own generated bindings.

An interface is implemented by an object of its own, made when a guest first calls into it. Whatever
can wait, waits through the sandbox's scope, so the deadline and a cancellation reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from aegis.limits import Limits
from aegis.values import CallScope

if TYPE_CHECKING:
    from aegis.host.grants import Grants

__all__ = ["INTERFACES", "Wasi"]

_MODULES = {
    "aegis.host.preview2.io": ("wasi:io/error", "wasi:io/poll", "wasi:io/streams"),
    "aegis.host.preview2.clocks": ("wasi:clocks/monotonic-clock", "wasi:clocks/wall-clock"),
    "aegis.host.preview2.random": ("wasi:random/random", "wasi:random/insecure", "wasi:random/insecure-seed"),
    "aegis.host.preview2.cli": (
        "wasi:cli/environment", "wasi:cli/exit", "wasi:cli/stdin", "wasi:cli/stdout", "wasi:cli/stderr",
        "wasi:cli/terminal-input", "wasi:cli/terminal-output", "wasi:cli/terminal-stdin", "wasi:cli/terminal-stdout",
        "wasi:cli/terminal-stderr",
    ),
    "aegis.host.preview2.filesystem": ("wasi:filesystem/types", "wasi:filesystem/preopens"),
    "aegis.host.preview2.sockets": (
        "wasi:sockets/network", "wasi:sockets/instance-network", "wasi:sockets/ip-name-lookup", "wasi:sockets/tcp",
        "wasi:sockets/tcp-create-socket", "wasi:sockets/udp", "wasi:sockets/udp-create-socket",
    ),
    "aegis.host.preview2.http": ("wasi:http/types", "wasi:http/outgoing-handler"),
    "aegis.host.preview2.small": ("wasi:logging/logging", "wasi:config/store"),
}  # fmt: skip
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def _binding(interface: str) -> str:
    return "aegis.bindings." + interface.replace(":", "_").replace("/", "_").replace("-", "_")


INTERFACES: Mapping[str, str] = {name: _binding(name) for name in _HOMES}
"""What is served, by name without version: the module of its bindings."""


class Wasi:
    """One sandbox's WASI 0.2."""

    def __init__(self, grants: Grants, scope: CallScope, limits: Limits) -> None:
        self.grants, self.scope, self.limits = grants, scope, limits
        self._made: dict[str, object] = {}
        grants.on_close(self._made.clear)  # they refer to this, and only the collector would free both

    def implementation(self, interface: str) -> object:
        """Return the object that implements ``interface``, a name without its version."""
        made = self._made.get(interface)
        if made is None:
            made = self._made[interface] = _maker(interface)(interface, self)
        return made


@cache
def _maker(interface: str) -> Callable[[str, Wasi], object]:
    """Return the function that makes the implementation of an interface."""
    made: Callable[[str, Wasi], object] = import_module(_HOMES[interface]).implementation
    return made
