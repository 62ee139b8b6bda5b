# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The world ``acme:kv/plugin@1.2.0``.

A plugin that keeps a store of its own on top of ours.

Imports:

- ``acme:kv/store@1.2.0``
- ``wasi:io/streams@0.2.3``
- ``tell``

Exports:

- ``summary``
- ``ping``
- ``acme:kv/store@1.2.0``
- ``wasi:cli/run@0.2.3``
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

from aegis.bindings import wasi_cli_run
from aegis.wit.types import Enum, Function, Interface, List, Result
from aegis.wit.values import Bound, Err

from . import acme_kv_store, acme_kv_store_exports
from .acme_kv_store import ENTRY, Entry

if TYPE_CHECKING:
    from aegis import Sandbox

__all__ = ["ENTRY", "EXPORTS", "IMPORTS", "VERBOSITY", "Entry", "Imports", "Plugin", "Verbosity", "imports"]


class Verbosity(enum.Enum):
    """How much to say."""

    QUIET = "quiet"
    """Nothing."""
    LOUD = "loud"


class Imports(Protocol):
    """The functions that the world imports by themselves, for Python to provide."""

    def tell(self, how: Verbosity, what: str) -> Err[str] | None:
        """Say something."""


_NAME = "acme:kv/plugin@1.2.0"

VERBOSITY = Enum("verbosity", ("quiet", "loud"), python=Verbosity, owner=_NAME)

IMPORTS = Interface(
    "",
    functions={"tell": Function((("how", VERBOSITY), ("what", "string")), Result(None, "string"))},
    types={"entry": ENTRY, "verbosity": VERBOSITY},
)

EXPORTS = Interface(
    "",
    functions={
        "summary": Function((("entries", List(ENTRY)), ("how", VERBOSITY)), Result("string", "string")),
        "ping": Function(),
    },
)


def imports(*, store: acme_kv_store.Host, functions: Imports) -> dict[str, object]:
    """Return what the ``imports`` of a sandbox are; Aegis itself provides the others."""
    return {"acme:kv/store@1.2.0": Bound(acme_kv_store.INTERFACE, store), "tell": Bound(IMPORTS, functions.tell)}


class Plugin:
    """What a guest of the world ``plugin`` exports, in one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.store: acme_kv_store_exports.Exports = sandbox.bind(acme_kv_store_exports.INTERFACE)
        self.run: wasi_cli_run.Exports = sandbox.bind(wasi_cli_run.INTERFACE)
        self._functions = sandbox.bind(EXPORTS)

    def summary(self, entries: list[Entry], how: Verbosity) -> str:
        """Summarise entries.

        Raises ``Err[str]``.
        """
        returned_: str = self._functions.summary(entries, how)
        return returned_

    def ping(self) -> None:
        self._functions.ping()
