"""Metrics as a fold over events, so that they can be recomputed from recorded events."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aegis.observe.events import (
        CapabilityChecked,
        Event,
        ExecutionCompleted,
        FuelConsumed,
        HostFunctionCalled,
        MemoryGrew,
    )

__all__ = ["Metrics", "MetricsSubscriber", "fold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Totals over the events of one or more runs. Times are in seconds, sizes in bytes."""

    executions: int = 0
    fuel: int = 0
    seconds: float = 0.0
    """Wall-clock time of completed calls, including host calls."""
    host_seconds: float = 0.0
    peak_memory: int = 0
    """Peak size of all memories of one sandbox; the maximum over the sandboxes."""
    host_calls: int = 0
    denials: int = 0
    bytes_in: int = 0
    """Copied from guest memory to the host."""
    bytes_out: int = 0
    """Copied from the host to guest memory."""
    logs: int = 0
    modules: int = 0
    errors: int = 0
    outcomes: tuple[tuple[str, int], ...] = ()
    """Number of calls by status, sorted by name."""

    @property
    def guest_seconds(self) -> float:
        """Wall-clock time of completed calls outside host calls."""
        return max(0.0, self.seconds - self.host_seconds)

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as JSON data."""
        names = [name for name in self.__slots__ if name != "outcomes"]
        return {
            **{name: getattr(self, name) for name in names},
            "guest_seconds": self.guest_seconds,
            "outcomes": dict(self.outcomes),
        }

    @classmethod
    def of(cls, events: Iterable[Event]) -> Metrics:
        """Return the metrics of ``events``."""
        return reduce(fold, events, cls())


def fold(metrics: Metrics, event: Event) -> Metrics:
    """Return ``metrics`` updated with ``event``; unchanged for a kind that is not counted."""
    step = _STEPS.get(event.kind)
    return metrics if step is None else step(metrics, event)


def _loaded(metrics: Metrics, event: Event) -> Metrics:
    return replace(metrics, modules=metrics.modules + 1)


def _called(metrics: Metrics, event: HostFunctionCalled) -> Metrics:
    return replace(metrics, host_calls=metrics.host_calls + 1, host_seconds=metrics.host_seconds + event.seconds)


def _checked(metrics: Metrics, event: CapabilityChecked) -> Metrics:
    return metrics if event.allowed else replace(metrics, denials=metrics.denials + 1)


def _grew(metrics: Metrics, event: MemoryGrew) -> Metrics:
    return replace(metrics, peak_memory=max(metrics.peak_memory, event.after))


def _burnt(metrics: Metrics, event: FuelConsumed) -> Metrics:
    return replace(metrics, fuel=metrics.fuel + event.fuel)


def _logged(metrics: Metrics, event: Event) -> Metrics:
    return replace(metrics, logs=metrics.logs + 1)


def _failed(metrics: Metrics, event: Event) -> Metrics:
    return replace(metrics, errors=metrics.errors + 1)


def _completed(metrics: Metrics, event: ExecutionCompleted) -> Metrics:
    counts = dict(metrics.outcomes)
    counts[event.status] = counts.get(event.status, 0) + 1
    return replace(
        metrics,
        executions=metrics.executions + 1,
        seconds=metrics.seconds + event.seconds,
        bytes_in=metrics.bytes_in + event.bytes_in,
        bytes_out=metrics.bytes_out + event.bytes_out,
        outcomes=tuple(sorted(counts.items())),
    )


_STEPS: dict[str, Callable[[Metrics, Any], Metrics]] = {
    "module_loaded": _loaded,
    "host_function_called": _called,
    "capability_checked": _checked,
    "memory_grew": _grew,
    "fuel_consumed": _burnt,
    "guest_logged": _logged,
    "error": _failed,
    "execution_completed": _completed,
}


class MetricsSubscriber:
    """A subscriber that computes metrics. One may serve several sandboxes and threads.

    >>> subscriber = MetricsSubscriber()
    >>> subscriber.metrics.executions
    0
    """

    __slots__ = ("_lock", "_metrics")

    def __init__(self) -> None:
        self._metrics = Metrics()
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._metrics = fold(self._metrics, event)

    @property
    def metrics(self) -> Metrics:
        """The metrics of all events received so far."""
        return self._metrics
