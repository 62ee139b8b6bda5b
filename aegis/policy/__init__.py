"""Grants and limits as pure data: nothing in this package opens a file, reads a clock or resolves a name."""

from __future__ import annotations

from aegis.policy.capabilities import CAPABILITIES
from aegis.policy.policy import Policy as Policy
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # [capabilities: exports]
    from aegis.policy.file import load_policy as load_policy
    from aegis.policy.file import parse_policy as parse_policy
    from aegis.policy.file_writer import dump_policy as dump_policy
    from aegis.policy.filesystem import FilesystemCapability as FilesystemCapability
    from aegis.policy.filesystem import PathGrant as PathGrant
    from aegis.policy.isolation import Isolation as Isolation
    from aegis.policy.keyvalue import KeyValueCapability as KeyValueCapability
    from aegis.policy.keyvalue import KeyValueEntries as KeyValueEntries
    from aegis.policy.keyvalue import KeyValueStore as KeyValueStore
    from aegis.policy.network import NetworkCapability as NetworkCapability
    from aegis.policy.network import NetworkPattern as NetworkPattern
    from aegis.policy.network import NetworkVerdict as NetworkVerdict
    from aegis.policy.statements import LOG_LEVELS as LOG_LEVELS
    from aegis.policy.statements import ClockCapability as ClockCapability
    from aegis.policy.statements import ConfigCapability as ConfigCapability
    from aegis.policy.statements import EnvironmentCapability as EnvironmentCapability
    from aegis.policy.statements import LoggingCapability as LoggingCapability
    from aegis.policy.statements import RandomCapability as RandomCapability
    from aegis.policy.statements import StdioCapability as StdioCapability
    # [end]

__all__ = [
    # [capabilities: name lines]
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
    "dump_policy",
    "load_policy",
    "parse_policy",
    # [end]
]


def __dir__() -> list[str]:
    return sorted(__all__)


_HOMES = {
    "Isolation": "isolation",
    "KeyValueEntries": "keyvalue",
    "KeyValueStore": "keyvalue",
    "LOG_LEVELS": "statements",
    "NetworkPattern": "network",
    "NetworkVerdict": "network",
    "PathGrant": "filesystem",
    "dump_policy": "file_writer",
    "load_policy": "file",
    "parse_policy": "file",
    **{row.kind: row.home or row.name for row in CAPABILITIES},
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use: few runs need network rules or the policy file."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(__import__(f"{__name__}.{home}", fromlist=("",)), name)
    return value
