"""Placeholders for imports without a provider, in runtimes that permit them: a call of one traps."""

from __future__ import annotations

from aegis.errors import GuestTrap
from aegis.support.lean import Any, NoReturn
from aegis.text import printable

__all__ = ["MissingFunction"]


class MissingFunction:
    """The placeholder for the import ``name``."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *_: Any) -> NoReturn:
        raise GuestTrap(f"the guest called {printable(self.name, 160)}, which nothing provides", code="missing-import")
