"""In the parent: what calling into a guest needs to know, without its code."""

from __future__ import annotations

from collections.abc import Sequence

from aegis.engine.compile.config import EngineConfig
from aegis.engine.store.plan import callable_export
from aegis.limits import Limits
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.values import FuncType, Rows

if TYPE_CHECKING:
    from aegis.engine.compile.artifact import Module

__all__ = ["ModuleOutline", "check_count", "in_the_worker"]


class ModuleOutline:
    """A module's exports and limits, and the kind of engine that its worker is to have."""

    calls_python = False
    """Whether Python runs during calls here: in the worker it may."""

    def __init__(self, module: Module, limits: Limits, config: EngineConfig) -> None:
        self.artifact, self.limits, self.config = module, limits, config

    def entry(self, name: Any) -> FuncType:
        """Return the type of an export; raise ``CallError`` when it cannot be called."""
        return callable_export(self.artifact, name.function if isinstance(name, Rows) else name)


def check_count(values: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Raise ``TypeError`` for more or fewer arguments than parameters."""
    if len(values) != len(wanted):
        raise TypeError(f"{len(wanted)} arguments, not {len(values)}")


def in_the_worker(*_: Any) -> Any:
    """Stand for a function of the host's own, which the worker has."""
