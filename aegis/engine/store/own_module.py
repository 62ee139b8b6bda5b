"""Core modules of Aegis that run in a guest's store."""

from __future__ import annotations

from aegis.engine.compile.code import Artifact
from aegis.limits import Limits
from aegis.support.lean import ClassVar

__all__ = ["OwnModule"]


class OwnModule(Artifact):
    """A core module of Aegis. It is compiled as guests are, because a forked process lacks the engine's threads."""

    kind: ClassVar[str] = "module"

    def __init__(self, data: bytes) -> None:
        super().__init__(data, "", None, Limits())

    def _bound(self) -> None:
        """Skip the complexity limits of guests: Aegis generates the module and bounds its size."""
