"""Grants and limits as pure data: nothing in this package opens a file, reads a clock or resolves a name."""

from __future__ import annotations

from aegis.policy.capabilities import LOG_LEVELS as LOG_LEVELS
from aegis.policy.capabilities import ClockCapability as ClockCapability
from aegis.policy.capabilities import ConfigCapability as ConfigCapability
from aegis.policy.capabilities import EnvironmentCapability as EnvironmentCapability
from aegis.policy.capabilities import LoggingCapability as LoggingCapability
from aegis.policy.capabilities import RandomCapability as RandomCapability
from aegis.policy.capabilities import StdioCapability as StdioCapability
from aegis.policy.filesystem import FilesystemCapability as FilesystemCapability
from aegis.policy.filesystem import PathGrant as PathGrant
from aegis.policy.policy import Policy as Policy
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.policy.file import load_policy as load_policy
    from aegis.policy.file import parse_policy as parse_policy
    from aegis.policy.isolation import Isolation as Isolation
    from aegis.policy.keyvalue import KeyValueCapability as KeyValueCapability
    from aegis.policy.keyvalue import KeyValueEntries as KeyValueEntries
    from aegis.policy.keyvalue import KeyValueStore as KeyValueStore
    from aegis.policy.network import NetworkCapability as NetworkCapability
    from aegis.policy.network import NetworkPattern as NetworkPattern
    from aegis.policy.network import NetworkVerdict as NetworkVerdict

__all__ = [
    "LOG_LEVELS",
    "ClockCapability",
    "ConfigCapability",
    "EnvironmentCapability",
    "FilesystemCapability",
    "Isolation",
    "KeyValueCapability",
    "KeyValueEntries",
    "KeyValueStore",
    "LoggingCapability",
    "NetworkCapability",
    "NetworkPattern",
    "NetworkVerdict",
    "PathGrant",
    "Policy",
    "RandomCapability",
    "StdioCapability",
    "load_policy",
    "parse_policy",
]


def __dir__() -> list[str]:
    return sorted(__all__)


_HOMES = {
    "Isolation": "isolation",
    "KeyValueCapability": "keyvalue",
    "KeyValueEntries": "keyvalue",
    "KeyValueStore": "keyvalue",
    "NetworkCapability": "network",
    "NetworkPattern": "network",
    "NetworkVerdict": "network",
    "load_policy": "file",
    "parse_policy": "file",
}


def __getattr__(name: str) -> Any:
    """Import at first use the modules that most runs do not need: network rules and the policy file."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{home}"), name)
