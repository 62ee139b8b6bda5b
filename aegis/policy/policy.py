"""The policy: all grants and limits of a sandbox in one immutable value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aegis.errors import PolicyError
from aegis.limits import LIMIT_ALIASES, LIMIT_NAMES, Limits, without_aliases

# [capabilities: imports]
from aegis.policy.capabilities import CAPABILITIES, PARENT, capability_class
from aegis.policy.filesystem import FilesystemCapability
from aegis.policy.statements import (
    ClockCapability,
    ConfigCapability,
    EnvironmentCapability,
    LoggingCapability,
    RandomCapability,
    StdioCapability,
)

# [end]
from aegis.support.keywords import DEFAULT, given
from aegis.support.lean import TYPE_CHECKING, Any, dataclass, field, fields, late, replace
from aegis.text import misspelt

if TYPE_CHECKING:
    from typing import Never

    from aegis.limits import Amount, Duration

    # [capabilities: late imports]
    from aegis.policy.isolation import Isolation
    from aegis.policy.keyvalue import KeyValueCapability
    from aegis.policy.network import NetworkCapability
    from aegis.policy.short_forms import Clock, Configuration, Environment, Files, KeyValue, Logging, Network, Random
    # [end]

_short_forms: Any = late("aegis.policy.short_forms")

__all__ = ["KEYWORDS", "Policy", "checked_providers"]

KEYWORDS = (
    *LIMIT_NAMES,
    *LIMIT_ALIASES,
    "limits",
    *(row.name for row in CAPABILITIES),
    "isolation",
    "imports",
    "proposals",
)
"""The names of all limits and capabilities, which are the keywords of :class:`aegis.Aegis` and :func:`aegis.run`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The grants and limits of a sandbox. ``Policy()`` grants nothing and has every limit at its default.

    Policies are compared by value. Creating a policy opens no file and resolves no name: Aegis acquires the grants when
    it creates a sandbox. Raise :class:`~aegis.errors.PolicyError` for a field of the wrong type.

    >>> policy = Policy(limits=Limits(timeout="5s"), clock=ClockCapability(mode="system"))
    >>> policy.describe()
    ['clock system']
    """

    limits: Limits = field(default_factory=Limits)
    # [capabilities: fields]
    filesystem: FilesystemCapability = field(default_factory=FilesystemCapability)
    environment: EnvironmentCapability = field(default_factory=EnvironmentCapability)
    clock: ClockCapability = field(default_factory=ClockCapability)
    random: RandomCapability = field(default_factory=RandomCapability)
    logging: LoggingCapability = field(default_factory=LoggingCapability)
    stdio: StdioCapability = field(default_factory=StdioCapability)
    network: NetworkCapability | None = None
    keyvalue: KeyValueCapability | None = None
    config: ConfigCapability = field(default_factory=ConfigCapability)
    # [end]
    isolation: Isolation | None = None
    """Options for running guests in worker processes; ``None`` runs them in this process."""
    imports: tuple[tuple[str, str], ...] = ()
    """Pairs of an interface and its provider, a Python object of the embedder named as ``module:name``."""
    proposals: tuple[str, ...] = ()
    """WebAssembly proposals to enable beyond the default (:mod:`aegis.support.proposals`); a policy file calls the list
    ``[engine] proposals``."""
    sources: tuple[str, ...] = field(default=(), compare=False)
    """The files from which the policy was read; Aegis rejects a grant that would let a guest change them."""
    named: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    """The keys that were named, such as ``limits.timeout``: in a merge they count even if the value is the default."""

    def __post_init__(self) -> None:
        if not isinstance(self.limits, Limits):
            raise PolicyError(f"limits: expected Limits, not {type(self.limits).__name__}")
        for row in CAPABILITIES:
            value = getattr(self, row.name)
            if (value is not None or not row.optional) and not isinstance(value, capability_class(row)):
                raise PolicyError(f"{row.name}: expected {row.kind}, not {type(value).__name__}")
        object.__setattr__(self, "imports", checked_providers(self.imports))
        if self.proposals != ():
            from aegis.support.proposals import checked_proposals

            object.__setattr__(self, "proposals", checked_proposals(self.proposals))
        if self.named:
            object.__setattr__(self, "named", frozenset(filter(self._states, self.named)))
        if self.isolation is not None:
            from aegis.policy.isolation import Isolation

            object.__setattr__(self, "isolation", Isolation.of(self.isolation))

    def _states(self, key: str) -> bool:
        """Return whether the policy has the statement whose key was named; without it the name means nothing."""
        return getattr(self, key.partition(".")[0], None) is not None

    def for_workers(self) -> Policy:
        """Return the policy as a worker may know it: without what only the parent needs, host paths above all."""
        kept: dict[str, Any] = {"sources": (), "imports": (), "named": frozenset()}
        for row in CAPABILITIES:
            if getattr(self, row.name) is not None and row.place == PARENT:
                kept[row.name] = None if row.optional else capability_class(row)()
        return replace(self, **kept)

    def merged(self, later: Policy) -> Policy:
        """Return a policy with the statements of this one and of a later one.

        Scalar values of ``later`` override those here if they differ from the defaults or were named
        (:attr:`named`), such as a limit in a policy file. Grants and denials of both hold, and no later policy switches
        off isolation. Raise :class:`~aegis.errors.PolicyError` if the two contradict each other.

        >>> base, more = Policy.from_keywords(timeout="5s", memory="1MiB"), Policy.from_keywords(timeout="30s")
        >>> merged = base.merged(more)
        >>> merged.limits.timeout, merged.limits.memory
        (30.0, 1048576)
        """
        from aegis.policy.merging import merged_policies

        return merged_policies(self, later)  # type: ignore[no-any-return]

    @classmethod
    def from_keywords(
        cls, *,
        limits: Limits = DEFAULT,
        # [capabilities: parameters]
        filesystem: Files = DEFAULT, environment: Environment = DEFAULT, clock: Clock = DEFAULT,
        random: Random = DEFAULT, logging: Logging = DEFAULT, stdio: StdioCapability = DEFAULT,
        network: Network = DEFAULT, keyvalue: KeyValue = DEFAULT, config: Configuration = DEFAULT,
        # [end]
        isolation: Isolation | Mapping[str, Any] | str | bool | None = DEFAULT,
        imports: Mapping[str, str] = DEFAULT, proposals: Sequence[str] = DEFAULT,
        memory: Amount = DEFAULT, fuel: Amount = DEFAULT, timeout: Duration = DEFAULT, stack: int | str = DEFAULT,
        table_elements: Amount = DEFAULT, memories: Amount = DEFAULT, tables: Amount = DEFAULT,
        instances: Amount = DEFAULT, module_size: Amount = DEFAULT, functions: Amount = DEFAULT,
        function_size: Amount = DEFAULT, locals: Amount = DEFAULT, nesting: Amount = DEFAULT,
        complexity: Amount = DEFAULT, stdout: Amount = DEFAULT, stderr: Amount = DEFAULT, handles: Amount = DEFAULT,
        open_files: Amount = DEFAULT, sockets: Amount = DEFAULT, connections: Amount = DEFAULT,
        network_bytes: Amount = DEFAULT, resolver_answers: Amount = DEFAULT, http_requests: Amount = DEFAULT,
        http_fields: Amount = DEFAULT, http_field_bytes: Amount = DEFAULT, disk_written: Amount = DEFAULT,
        host_calls: Amount = DEFAULT, host_bytes: Amount = DEFAULT, value_bytes: Amount = DEFAULT,
        memory_limit: Amount = DEFAULT, fuel_limit: Amount = DEFAULT, stack_limit: int | str = DEFAULT,
        stdout_limit: Amount = DEFAULT, stderr_limit: Amount = DEFAULT,
        **unknown: Never,
    ) -> Policy:  # fmt: skip
        """Return a policy from capabilities and limits by name.

        A limit by name overrides that of ``limits``; it may be text with a unit, such as ``memory="64MiB"``. A
        capability may be the text of its option or a list of such texts (:mod:`aegis.policy.short_forms`). Raise
        :class:`~aegis.errors.PolicyError` for an unknown name, with the nearest known one, and for an invalid value.

        >>> Policy.from_keywords(memory="1MiB", clock=ClockCapability(mode="system")).limits.memory
        1048576
        """
        return cls._from(given(vars(), KEYWORDS))

    @classmethod
    def _from(cls, keywords: dict[str, Any]) -> Policy:
        known = {f.name for f in fields(cls)} - {"named"}
        keywords = without_aliases(keywords)
        limits = {name: value for name, value in keywords.items() if name in LIMIT_NAMES}
        rest = {name: value for name, value in keywords.items() if name not in limits}
        for name in rest:
            if name not in known:
                raise PolicyError(misspelt(name, (*LIMIT_NAMES, *known), "policy keyword"))
        base = rest.pop("limits", None)
        base = Limits() if base is None else base
        if not isinstance(base, Limits):
            raise PolicyError(f"limits: expected Limits, not {type(base).__name__}")
        rest = {name: _short_forms.from_short_form(name, value) for name, value in rest.items()}
        named = frozenset(f"limits.{name}" for name in limits)
        return cls(limits=base.with_(**limits) if limits else base, named=named, **rest)

    def describe(self) -> list[str]:
        """Return one line for each grant and each lifted limit; an empty list means that nothing is granted."""
        lines: list[str] = []
        for row in CAPABILITIES:
            granted = getattr(self, row.name)
            if granted is not None:
                lines += granted.describe()
        lines += [f"import {name} provided by {provider}" for name, provider in self.imports]
        if self.isolation is not None:
            lines += self.isolation.describe()
        lines += [f"no limit on {name}" for name in self.limits.lifted()]
        return lines


def checked_providers(value: object) -> tuple[tuple[str, str], ...]:
    """Return providers as pairs; raise ``PolicyError`` unless each is ``module:name`` or ``module``."""
    items = value.items() if isinstance(value, Mapping) else value
    pairs: list[Any] = list(items) if isinstance(items, Iterable) else [None]
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(p, str) for p in pair):
            raise PolicyError('imports: expected providers by interface, such as {"acme:kv/store": "myapp.kv:Store"}')
        module, mark, name = pair[1].partition(":")
        parts = [*module.split("."), *(name.split(".") if mark else [])]
        if not all(part.isidentifier() for part in parts):
            raise PolicyError(f"imports: {pair[1]!r} is not a provider: write module:name, such as myapp.kv:Store")
    return tuple((interface, provider) for interface, provider in pairs)
