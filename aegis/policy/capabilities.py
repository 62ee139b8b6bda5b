"""The table of capabilities: a row for each kind of authority that a policy can grant.

Every surface derives from this table and from the declarations of its rows: the fields and keywords of
:class:`~aegis.policy.Policy`, the methods of :class:`aegis.Builder`, the policy file, the options of the command line,
the remedies of denials, the parts of a policy that a worker gets, and the tables of the documentation.

The module ``aegis.policy.NAME`` has a function ``declared()``, which returns the
:class:`~aegis.policy.declaration.Declaration`, and the class of the statement, unless the row names another module. The
class has ``describe()`` and ``merged(other, named)``; its default value grants nothing. A declaration is made when it
is first needed: a run without options needs none.
"""

from __future__ import annotations

from functools import cache

from aegis.support.lean import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from aegis.policy.declaration import Declaration

__all__ = ["CAPABILITIES", "PARENT", "WORKER", "CapabilityRow", "capability_class", "declaration", "row_of"]


WORKER, PARENT = "worker", "parent"


class CapabilityRow(NamedTuple):
    """A capability: its name, its class, the command-line options that grant it, and the process that acts on it.

    The name is that of the module, of the field and keyword of the policy, of the table in the policy file, and of the
    capability in ``wit/provided.toml``.
    """

    name: str
    kind: str
    flags: tuple[str, ...]
    place: str = WORKER
    """The process that acts on the statement for an isolated guest. With ``PARENT`` a worker gets nothing of it: the
    parent answers the guest's calls, or passes descriptors that it has opened."""
    optional: bool = False
    """Whether a policy that does not grant it holds ``None``, so that a plain run does not import its class."""
    home: str = ""
    """The module in ``aegis.policy`` that has the class, if it is not the one with the declaration."""


def _row(
    name: str, kind: str, flags: tuple[str, ...], place: str = WORKER, *, optional: bool = False, home: str = ""
) -> CapabilityRow:
    return CapabilityRow._make((name, kind, flags, place, optional, home))  # a constructor would be compiled at start


_SHARED = "statements"
CAPABILITIES: tuple[CapabilityRow, ...] = (
    _row("filesystem", "FilesystemCapability", ("--allow-read", "--allow-write"), PARENT),
    _row("environment", "EnvironmentCapability", ("--allow-env",), PARENT, home=_SHARED),
    _row("clock", "ClockCapability", ("--allow-clock",), home=_SHARED),
    _row("random", "RandomCapability", ("--allow-random",), home=_SHARED),
    _row("logging", "LoggingCapability", ("--allow-logging",), home=_SHARED),
    _row("stdio", "StdioCapability", ("--stdin",), PARENT, home=_SHARED),
    _row("network", "NetworkCapability", ("--allow-net", "--listen", "--deny-net"), optional=True),
    _row("keyvalue", "KeyValueCapability", ("--allow-keyvalue",), PARENT, optional=True),
    _row("config", "ConfigCapability", ("--config-value",), home=_SHARED),
)
"""All capabilities, in the order in which help, documentation and descriptions list them."""


def row_of(name: str) -> CapabilityRow | None:
    """Return the row of a capability, ``None`` if there is none of that name."""
    return next((row for row in CAPABILITIES if row.name == name), None)


@cache
def capability_class(row: CapabilityRow) -> Any:
    """Return the class of a capability, importing its module if necessary."""
    return getattr(_module(row.home or row.name), row.kind)


@cache
def declaration(name: str) -> Declaration:
    """Return the declaration of the capability ``name``, which must be in the table."""
    declared: Declaration = _module(name).declared()
    return declared


def _module(name: str) -> Any:
    return __import__(f"aegis.policy.{name}", fromlist=("",))
