"""The policy: everything that one sandbox is granted and limited to, as one immutable value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aegis.errors import PolicyError
from aegis.limits import LIMIT_NAMES, Limits
from aegis.policy.capabilities import (
    ClockCapability,
    ConfigCapability,
    EnvironmentCapability,
    LoggingCapability,
    RandomCapability,
    StdioCapability,
)
from aegis.policy.filesystem import FilesystemCapability
from aegis.support.lean import TYPE_CHECKING, Any, dataclass, field, fields, replace
from aegis.text import near

if TYPE_CHECKING:
    from aegis.policy.isolation import Isolation
    from aegis.policy.keyvalue import KeyValueCapability
    from aegis.policy.network import NetworkCapability

__all__ = ["Policy", "checked_providers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What one sandbox may reach and use. ``Policy()`` grants nothing and has every limit on.

    Two policies are equal when they grant the same. Making one opens nothing: a grant is acquired
    when a sandbox is made.
    """

    limits: Limits = field(default_factory=Limits)
    filesystem: FilesystemCapability = field(default_factory=FilesystemCapability)
    environment: EnvironmentCapability = field(default_factory=EnvironmentCapability)
    clock: ClockCapability = field(default_factory=ClockCapability)
    random: RandomCapability = field(default_factory=RandomCapability)
    logging: LoggingCapability = field(default_factory=LoggingCapability)
    network: NetworkCapability | None = None
    stdio: StdioCapability = field(default_factory=StdioCapability)
    config: ConfigCapability = field(default_factory=ConfigCapability)
    keyvalue: KeyValueCapability | None = None
    """The buckets of key-value stores; ``None``: none."""
    isolation: Isolation | None = None
    """How guests are kept in processes of their own; ``None``: they run in this one."""
    imports: tuple[tuple[str, str], ...] = ()
    """Providers by the interface that they implement: ``module:name`` of Python, of the embedder's own."""
    sources: tuple[str, ...] = field(default=(), compare=False)
    """The files that the policy was read from, which no grant may let a guest change."""

    def __post_init__(self) -> None:
        for name, expected in _TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, expected):
                raise PolicyError(f"{name}: expected {expected.__name__}, not {type(value).__name__}")
        object.__setattr__(self, "imports", checked_providers(self.imports))
        if self.isolation is not None:
            from aegis.policy.isolation import Isolation

            object.__setattr__(self, "isolation", Isolation.of(self.isolation))
        for name, (home, kind) in _LATE.items():
            value = getattr(self, name)
            if value is not None:
                found = getattr(__import__(home, fromlist=("",)), kind)
                if not isinstance(value, found):
                    raise PolicyError(f"{name}: expected {kind}, not {type(value).__name__}")

    def for_workers(self) -> Policy:
        """Return the policy as a worker may know it: without what only the parent needs, host paths above all."""
        return replace(self, **_PARENTS)

    @classmethod
    def from_keywords(cls, **keywords: Any) -> Policy:
        """Return a policy of limits by name (``memory="64MiB"``) and capabilities by name.

        A limit may be text with a unit. A misspelt name is a :class:`~aegis.errors.PolicyError` that
        shows the nearest one.
        """
        known = {f.name for f in fields(cls)}
        limits = {name: value for name, value in keywords.items() if name in LIMIT_NAMES}
        rest = {name: value for name, value in keywords.items() if name not in limits}
        for name in rest:
            if name not in known:
                raise PolicyError(unknown(name, (*LIMIT_NAMES, *known), "policy keyword"))
        base = rest.pop("limits", None)
        base = Limits() if base is None else base
        if not isinstance(base, Limits):
            raise PolicyError(f"limits: expected Limits, not {type(base).__name__}")
        return cls(limits=base.with_(**limits) if limits else base, **rest)

    def describe(self) -> list[str]:
        """Return one line for each grant and each lifted limit; an empty list grants nothing."""
        lines = [f"{'read-write' if g.write else 'read-only'} {g.host} as {g.guest}" for g in self.filesystem.paths]
        lines += [f"environment {name} set" for name, _ in self.environment.set]
        lines += [f"environment {name} passed on" for name in self.environment.pass_]
        if self.clock.mode != "virtual":
            lines.append(f"clock {self.clock.mode}")
        if self.random != RandomCapability():
            lines.append(f"random {self.random.mode}")
        if self.logging.enabled:
            lines.append(f"logging from {self.logging.min_level}")
        if self.stdio.stdin != "empty":
            lines.append("standard input")
        if self.network is not None:
            lines += self.network.describe()
        if self.keyvalue is not None:
            lines += self.keyvalue.describe()
        lines += [f"config {name}" for name, _ in self.config.set]
        lines += [f"import {name} provided by {provider}" for name, provider in self.imports]
        if self.isolation is not None:
            lines += self.isolation.describe()
        lines += [f"no limit on {name}" for name in self.limits.lifted()]
        return lines


_TYPES: Mapping[str, type] = {
    "limits": Limits,
    "filesystem": FilesystemCapability,
    "environment": EnvironmentCapability,
    "clock": ClockCapability,
    "random": RandomCapability,
    "logging": LoggingCapability,
    "stdio": StdioCapability,
    "config": ConfigCapability,
}
_LATE = {
    "network": ("aegis.policy.network", "NetworkCapability"),
    "keyvalue": ("aegis.policy.keyvalue", "KeyValueCapability"),
}
"""Capabilities that most policies lack: their modules are imported for a policy that has one."""
_PARENTS: Mapping[str, Any] = {
    "sources": (), "filesystem": FilesystemCapability(), "environment": EnvironmentCapability(), "imports": (),
    "stdio": StdioCapability(), "keyvalue": None,
}  # fmt: skip
"""What no worker is told, for the parent serves it or hands over what it opened."""


def checked_providers(value: object) -> tuple[tuple[str, str], ...]:
    """Check providers: each is ``module:name``, or ``module`` alone, both of Python identifiers."""
    items = value.items() if isinstance(value, Mapping) else value
    pairs: list[Any] = list(items) if isinstance(items, Iterable) else [None]
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(p, str) for p in pair):
            raise PolicyError('imports: expected interfaces with their providers, {"acme:kv/store": "myapp.kv:Store"}')
        module, mark, name = pair[1].partition(":")
        parts = [*module.split("."), *(name.split(".") if mark else [])]
        if not all(part.isidentifier() for part in parts):
            raise PolicyError(f"imports: {pair[1]!r} is not a provider; write module:name, such as myapp.kv:Store")
    return tuple((interface, provider) for interface, provider in pairs)


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """Return the message for a name that is not one of ``known``."""
    alike = near(name, known, 1)
    hint = f"did you mean {alike[0]!r}?" if alike else f"known: {', '.join(sorted(known))}"
    return f"{name!r} is not a {what}; {hint}"
