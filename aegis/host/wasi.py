"""WASI for components, on the grants of one sandbox: version 0.2 in ``preview2``, 0.3 in ``preview3``.

Each interface has an object, created when the guest first calls one of its functions. The index of interfaces
(:mod:`aegis.bindings.index`) has the module that implements it. A guest may import interfaces of several versions; all
of them use the same grants and count towards the same limits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from aegis.limits import Limits
from aegis.values import CallScope

if TYPE_CHECKING:
    from aegis.host.blocking import DiskSync
    from aegis.host.files.open_file import OpenFileCount
    from aegis.host.grants import Grants
    from aegis.wit.index import Provided

__all__ = ["Wasi"]


class Wasi:
    """WASI of one sandbox, in each version that its guest imports."""

    def __init__(self, grants: Grants, scope: CallScope, limits: Limits) -> None:
        self.grants, self.scope, self.limits = grants, scope, limits
        self._made: dict[str, object] = {}
        self._files: OpenFileCount | None = None
        self.disk_syncs: list[DiskSync] = []
        """Waits for the disk whose threads have not ended."""
        grants.on_close(self._made.clear)  # the objects refer to this one: break the cycle

    def implementation(self, row: Provided) -> object:
        """Return the object that implements the interface of an index row, in its version."""
        made = self._made.get(row.name)
        if made is None:
            made = self._made[row.name] = _maker(row.implementation)(row.interface, self)
        return made

    @property
    def open_files(self) -> OpenFileCount:
        """The number of files and directories that the guest has open."""
        if self._files is None:
            from aegis.host.files.open_file import OpenFileCount

            self._files = OpenFileCount(self.limits.open_files)
        return self._files


@cache
def _maker(module: str) -> Callable[[str, Wasi], object]:
    """Return the function ``implementation`` of a module, which creates the object of an interface."""
    made: Callable[[str, Wasi], object] = import_module(module).implementation
    return made
