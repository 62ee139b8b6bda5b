"""Convert short forms of a capability to the capability: what follows its option on the command line, or a list of it.

=============== ==================================================== =============================================
keyword         short form                                           meaning
=============== ==================================================== =============================================
``filesystem``  a path, ``HOST::GUEST``, or several                  read-only, as ``--allow-read``
``network``     a pattern, or several                                connections, as ``--allow-net``
``environment`` ``NAME``, ``NAME=VALUE``, several, or a mapping      as ``--allow-env``
``config``      ``KEY=VALUE``, several, or a mapping                 as ``--config-value``
``keyvalue``    ``BUCKET``, ``BUCKET=STORE``, or several             as ``--allow-keyvalue``
``clock``       a mode, such as ``"system"``                         as ``--allow-clock``
``random``      a mode, such as ``"seed:42"``                        as ``--allow-random``
``logging``     the lowest level, such as ``"info"``                 as ``--allow-logging``
=============== ==================================================== =============================================

Write access is never a short form: it needs ``FilesystemCapability.read_write``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from aegis.policy.capabilities import (
    ClockCapability,
    ConfigCapability,
    EnvironmentCapability,
    LoggingCapability,
    RandomCapability,
)
from aegis.policy.filesystem import FilesystemCapability
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeAlias

    from aegis.policy.keyvalue import KeyValueCapability
    from aegis.policy.network import NetworkCapability

    Files: TypeAlias = "FilesystemCapability | str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"
    Environment: TypeAlias = "EnvironmentCapability | str | Mapping[str, str] | Iterable[str]"
    Configuration: TypeAlias = "ConfigCapability | str | Mapping[str, str] | Iterable[str]"
    Network: TypeAlias = "NetworkCapability | str | Iterable[str] | None"
    KeyValue: TypeAlias = "KeyValueCapability | str | Iterable[str] | None"

__all__ = ["coerced"]


def coerced(name: str, value: Any) -> Any:
    """Return the capability for a short form; any other value unchanged, for the policy to accept or reject.

    Raise :class:`~aegis.errors.PolicyError` for invalid text.
    """
    convert = _CONVERSIONS.get(name)
    if convert is None or not isinstance(value, (str, os.PathLike, Mapping, list, tuple, set, frozenset)):
        return value
    return convert(value)


def _texts(value: Any) -> list[Any]:
    return [value] if isinstance(value, (str, os.PathLike)) else list(value)


def _files(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value
    return FilesystemCapability.read_only(*_texts(value))


def _network(value: Any) -> Any:
    from aegis.policy.network import NetworkCapability

    return value if isinstance(value, Mapping) else NetworkCapability(allow=_texts(value))


def _environment(value: Any) -> Any:
    return _settings(EnvironmentCapability, value)


def _config(value: Any) -> Any:
    return _settings(ConfigCapability, value)


def _settings(kind: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        return kind(set=value)
    made = kind()
    for text in _texts(value):
        made += kind.parse(text)
    return made


def _keyvalue(value: Any) -> Any:
    from aegis.policy.keyvalue import KeyValueCapability

    if isinstance(value, Mapping):
        return KeyValueCapability(buckets=value)
    parts = [KeyValueCapability.parse(text) for text in _texts(value)]
    made = parts[0] if parts else KeyValueCapability()
    for part in parts[1:]:
        made += part
    return made


def _parsed(kind: Any) -> Callable[[Any], Any]:
    return lambda value: kind.parse(value) if isinstance(value, str) else value


_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "filesystem": _files, "network": _network, "environment": _environment, "config": _config, "keyvalue": _keyvalue,
    "clock": _parsed(ClockCapability), "random": _parsed(RandomCapability), "logging": _parsed(LoggingCapability),
}  # fmt: skip
