"""Core modules of Aegis itself, which run beside a guest's in its store."""

from __future__ import annotations

from aegis.engine.compile.code import Artifact
from aegis.limits import Limits
from aegis.support.lean import ClassVar

__all__ = ["OwnModule"]


class OwnModule(Artifact):
    """A core module of Aegis, compiled as guests are: a forked process, for one, cannot use the engine's threads."""

    kind: ClassVar[str] = "module"

    def __init__(self, data: bytes) -> None:
        super().__init__(data, "", None, Limits())

    def _bound(self) -> None:
        """Compiling it takes no longer than it should."""
