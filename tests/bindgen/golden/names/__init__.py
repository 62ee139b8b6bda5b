# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The world ``odd:names/world``.

Imports:

- ``odd:names/words``
- ``interface``
- ``import``

Exports:

- ``class``
- ``functions``
- ``odd:names/int``
- ``words``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aegis.wit.types import Function, Interface, List
from aegis.wit.values import Bound

from . import interface, odd_names_int, odd_names_words, words

if TYPE_CHECKING:
    from aegis import Sandbox

__all__ = ["EXPORTS", "IMPORTS", "Imports", "World", "imports"]


class Imports(Protocol):
    """The functions that the world imports by themselves, for Python to provide."""

    def import_(self, import_: int) -> None: ...


IMPORTS = Interface("", functions={"import": Function((("import", "u8"),))})

EXPORTS = Interface(
    "",
    functions={
        "class": Function((("class", "string"), ("returned", "u8")), "string"),
        "functions": Function((("functions", List("u8")),)),
    },
)


def imports(*, words: odd_names_words.Host, interface_: interface.Host, functions: Imports) -> dict[str, object]:
    """Return what the ``imports`` of a sandbox are; Aegis itself provides the others."""
    return {
        "odd:names/words": Bound(odd_names_words.INTERFACE, words),
        "interface": Bound(interface.INTERFACE, interface_),
        "import": Bound(IMPORTS, functions.import_),
    }


class World:
    """What a guest of the world ``world`` exports, in one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.int_: odd_names_int.Exports = sandbox.bind(odd_names_int.INTERFACE)
        self.words: words.Exports = sandbox.bind(words.INTERFACE)
        self._functions = sandbox.bind(EXPORTS)

    def class_(self, class_: str, returned: int) -> str:
        returned_: str = self._functions.class_(class_, returned)
        return returned_

    def functions(self, functions: bytes) -> None:
        self._functions.functions(functions)
