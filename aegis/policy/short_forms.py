"""Convert short forms of a capability to the capability: the text of its option on the command line, or a list of it.

=============== ==================================================== =============================================
keyword         short form                                           meaning
=============== ==================================================== =============================================
``filesystem``  a path, ``HOST::GUEST``, or several                  read-only, as ``--allow-read``
``network``     a pattern, or several                                connections, as ``--allow-net``
``environment`` ``NAME``, ``NAME=VALUE``, several, or a mapping      as ``--allow-env``
``config``      ``KEY=VALUE``, several, or a mapping                 as ``--config-value``
``keyvalue``    ``BUCKET``, ``BUCKET=STORE``, several, or a mapping  as ``--allow-keyvalue``
``clock``       a mode, such as ``"system"``                         as ``--allow-clock``
``random``      a mode, such as ``"seed:42"``                        as ``--allow-random``
``logging``     the lowest level, such as ``"info"``                 as ``--allow-logging``
=============== ==================================================== =============================================

Write access is never a short form: it needs ``FilesystemCapability.read_write``. The declaration of a capability has
the function that converts its short forms, and the name of their type, which is one of the aliases here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from aegis.policy.capabilities import declaration, row_of
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from aegis.policy.filesystem import FilesystemCapability
    from aegis.policy.keyvalue import KeyValueCapability
    from aegis.policy.network import NetworkCapability
    from aegis.policy.statements import (
        ClockCapability,
        ConfigCapability,
        EnvironmentCapability,
        LoggingCapability,
        RandomCapability,
    )

    Files: TypeAlias = "FilesystemCapability | str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"
    Environment: TypeAlias = "EnvironmentCapability | str | Mapping[str, str] | Iterable[str]"
    Configuration: TypeAlias = "ConfigCapability | str | Mapping[str, str] | Iterable[str]"
    Network: TypeAlias = "NetworkCapability | str | Iterable[str] | None"
    KeyValue: TypeAlias = "KeyValueCapability | str | Mapping[str, str] | Iterable[str] | None"
    Clock: TypeAlias = "ClockCapability | str"
    Random: TypeAlias = "RandomCapability | str"
    Logging: TypeAlias = "LoggingCapability | str"

__all__ = ["from_short_form"]


def from_short_form(name: str, value: Any) -> Any:
    """Return the capability for a short form; any other value unchanged, for the policy to accept or reject.

    Raise :class:`~aegis.errors.PolicyError` for invalid text.
    """
    if not isinstance(value, (str, os.PathLike, Mapping, list, tuple, set, frozenset)) or row_of(name) is None:
        return value
    convert = declaration(name).short
    return value if convert is None else convert(value)
