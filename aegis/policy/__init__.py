"""What may be granted: pure data. Nothing here opens a file, reads a clock or resolves a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aegis.policy.capabilities import LOG_LEVELS as LOG_LEVELS
from aegis.policy.capabilities import ClockCapability as ClockCapability
from aegis.policy.capabilities import EnvironmentCapability as EnvironmentCapability
from aegis.policy.capabilities import LoggingCapability as LoggingCapability
from aegis.policy.capabilities import RandomCapability as RandomCapability
from aegis.policy.capabilities import StdioCapability as StdioCapability
from aegis.policy.file import load_policy as load_policy
from aegis.policy.file import parse_policy as parse_policy
from aegis.policy.filesystem import FilesystemCapability as FilesystemCapability
from aegis.policy.filesystem import PathGrant as PathGrant
from aegis.policy.policy import Policy as Policy

if TYPE_CHECKING:
    from aegis.policy.network import NetworkCapability as NetworkCapability
    from aegis.policy.network import NetworkPattern as NetworkPattern
    from aegis.policy.network import NetworkVerdict as NetworkVerdict

__all__ = [
    "LOG_LEVELS",
    "ClockCapability",
    "EnvironmentCapability",
    "FilesystemCapability",
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

_NETWORK = ("NetworkCapability", "NetworkPattern", "NetworkVerdict")


def __getattr__(name: str) -> Any:
    """Load the network part at its first use: it needs address arithmetic that most runs do not."""
    if name not in _NETWORK:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aegis.policy import network

    return getattr(network, name)
