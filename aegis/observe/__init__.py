"""Observe runs: outcomes, events, metrics and reports.

Everything here is data, except for one small dispatcher; nothing here can change a run. A subscriber is any callable
that takes an event; subscribe it with ``Aegis(subscribers=[…])`` or ``runtime.sandbox(…, subscribers=[…])``. Names are
imported at first use, so that a run without subscribers does not load the event classes.
"""

from __future__ import annotations

from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.observe.bus import EventBus as EventBus
    from aegis.observe.bus import Failure as Failure
    from aegis.observe.bus import Subscriber as Subscriber
    from aegis.observe.bus import SubscriberWarning as SubscriberWarning
    from aegis.observe.events import EVENTS as EVENTS
    from aegis.observe.events import CapabilityChecked as CapabilityChecked
    from aegis.observe.events import Custom as Custom
    from aegis.observe.events import ErrorRaised as ErrorRaised
    from aegis.observe.events import Event as Event
    from aegis.observe.events import ExecutionCompleted as ExecutionCompleted
    from aegis.observe.events import ExecutionStarted as ExecutionStarted
    from aegis.observe.events import FuelConsumed as FuelConsumed
    from aegis.observe.events import GuestLogged as GuestLogged
    from aegis.observe.events import HostFunctionCalled as HostFunctionCalled
    from aegis.observe.events import MemoryGrew as MemoryGrew
    from aegis.observe.events import ModuleLoaded as ModuleLoaded
    from aegis.observe.events import RunEnded as RunEnded
    from aegis.observe.events import RunStarted as RunStarted
    from aegis.observe.metrics import Metrics as Metrics
    from aegis.observe.metrics import MetricsSubscriber as MetricsSubscriber
    from aegis.observe.metrics import fold as fold
    from aegis.observe.outcome import Outcome as Outcome
    from aegis.observe.outcome import Usage as Usage
    from aegis.observe.report import ExecutionReport as ExecutionReport
    from aegis.observe.subscribers import CollectingSubscriber as CollectingSubscriber
    from aegis.observe.subscribers import JsonLinesWriter as JsonLinesWriter

_HOMES = {
    "EVENTS": "events",
    "CapabilityChecked": "events",
    "CollectingSubscriber": "subscribers",
    "Custom": "events",
    "ErrorRaised": "events",
    "Event": "events",
    "EventBus": "bus",
    "ExecutionCompleted": "events",
    "ExecutionReport": "report",
    "ExecutionStarted": "events",
    "Failure": "bus",
    "FuelConsumed": "events",
    "GuestLogged": "events",
    "HostFunctionCalled": "events",
    "JsonLinesWriter": "subscribers",
    "MemoryGrew": "events",
    "Metrics": "metrics",
    "MetricsSubscriber": "metrics",
    "ModuleLoaded": "events",
    "Outcome": "outcome",
    "RunEnded": "events",
    "RunStarted": "events",
    "Subscriber": "bus",
    "SubscriberWarning": "bus",
    "Usage": "outcome",
    "fold": "metrics",
}

__all__ = [
    "EVENTS",
    "CapabilityChecked",
    "CollectingSubscriber",
    "Custom",
    "ErrorRaised",
    "Event",
    "EventBus",
    "ExecutionCompleted",
    "ExecutionReport",
    "ExecutionStarted",
    "Failure",
    "FuelConsumed",
    "GuestLogged",
    "HostFunctionCalled",
    "JsonLinesWriter",
    "MemoryGrew",
    "Metrics",
    "MetricsSubscriber",
    "ModuleLoaded",
    "Outcome",
    "RunEnded",
    "RunStarted",
    "Subscriber",
    "SubscriberWarning",
    "Usage",
    "fold",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
