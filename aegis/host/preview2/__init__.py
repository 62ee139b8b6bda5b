"""WASI 0.2, implemented on the grants of one sandbox, written against our own generated bindings.

An interface is implemented by an object of its own, made when a guest first calls into it; the index of bindings
(:mod:`aegis.bindings.index`) says in which module. Whatever
can wait, waits through the sandbox's scope, so the deadline and a cancellation reach it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from aegis.limits import Limits
from aegis.values import CallScope

if TYPE_CHECKING:
    from aegis.host.grants import Grants
    from aegis.wit.index import Provided

__all__ = ["Wasi"]


class Wasi:
    """One sandbox's WASI 0.2."""

    def __init__(self, grants: Grants, scope: CallScope, limits: Limits) -> None:
        self.grants, self.scope, self.limits = grants, scope, limits
        self._made: dict[str, object] = {}
        grants.on_close(self._made.clear)  # they refer to this, and only the collector would free both

    def implementation(self, row: Provided) -> object:
        """Return the object that implements an interface in the version of an index row."""
        made = self._made.get(row.name)
        if made is None:
            made = self._made[row.name] = _maker(row.implementation)(row.interface, self)
        return made


@cache
def _maker(module: str) -> Callable[[str, Wasi], object]:
    """Return the function of an implementing module that makes the object of an interface."""
    made: Callable[[str, Wasi], object] = import_module(module).implementation
    return made
