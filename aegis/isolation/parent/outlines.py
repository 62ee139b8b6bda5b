"""Plans for calls into a module in a worker: the part of a plan that needs no compiled code."""

from __future__ import annotations

from collections.abc import Sequence

from aegis.engine.compile.config import EngineConfig
from aegis.engine.store.plan import callable_export
from aegis.limits import Limits
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.values import FuncType, Rows

if TYPE_CHECKING:
    from aegis.engine.compile.artifact import Module

__all__ = ["ModuleOutline", "check_count", "provided_by_worker"]


class ModuleOutline:
    """The exports and limits of a module, and the engine configuration of its worker."""

    calls_python = False
    """Whether Python code runs inside an engine call of this process; in a worker it may."""
    is_async = False

    def __init__(self, module: Module, limits: Limits, config: EngineConfig) -> None:
        self.artifact, self.limits, self.config = module, limits, config

    def entry(self, name: Any) -> FuncType:
        """Return the type of an export; raise ``CallError`` if it is not callable."""
        return callable_export(self.artifact, name.function if isinstance(name, Rows) else name)


def check_count(values: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Raise ``TypeError`` if the numbers of arguments and of parameters differ."""
    if len(values) != len(wanted):
        raise TypeError(f"{len(wanted)} arguments, not {len(values)}")


def provided_by_worker(*_: Any) -> Any:
    """Represent a host function of Aegis that the worker provides; never called in the parent."""
