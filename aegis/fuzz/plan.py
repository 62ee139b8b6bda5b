"""The inputs and results of a campaign, as plain data that is sent to every worker process."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from aegis.policy import Policy

__all__ = ["FUEL", "MAX_ARGUMENT_ITEMS", "CampaignPlan", "CampaignResult", "Progress", "with_fuel"]

FUEL = 1_000_000_000
"""Fuel limit of one call if the policy sets none. Fuel is deterministic, so a finding is the same on every run."""


MAX_ARGUMENT_ITEMS = 1 << 17
"""Largest size of an argument if the plan sets none: twice the limit of 16-bit lengths."""


def with_fuel(policy: Policy) -> Policy:
    """Return the policy with a fuel limit: a deadline alone would stop the same call at a different point each time."""
    if policy.limits.fuel is not None:
        return policy
    return replace(policy, limits=policy.limits.with_(fuel=FUEL))


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignPlan:
    """The configuration of a campaign: the artifact, the policy, the oracles and the seed."""

    data: bytes
    name: str
    policy: Policy
    """The policy. If it has no fuel limit, the limit becomes :data:`FUEL`."""
    functions: tuple[str, ...] = ()
    """The exports to call; empty for all of them except those of the toolchain."""
    oracles: tuple[str, ...] = ()
    """Oracle names, also ``round-trip:A,B``, ``differential:FILE`` and ``module:function``; empty for the defaults."""
    hostile: bool = False
    """Whether the host's own functions may fail or return extreme values, as chosen by the answer plan."""
    goal: str = ""
    """``slow``, ``big`` or ``chatty``: the resource whose use the search maximises; empty for none."""
    seed: int = 0
    buffers: bool = True
    """Whether a core function's address and length parameters are generated as one buffer, allocated in the guest."""
    programs: tuple[tuple[str, ...], ...] = ()
    """Command lines for programs, in which ``@@`` stands for generated text; empty to generate all words."""
    config: tuple[str, ...] = ()
    """The policy file of the command line; repeated in the commands that reproduce a finding."""
    flags: tuple[str, ...] = ()
    """The policy flags of the command line; repeated in the commands that reproduce a finding."""
    others: tuple[tuple[str, bytes], ...] = ()
    """Names and contents of the files that ``differential`` oracles refer to."""

    dictionary: tuple[bytes, ...] = ()
    """Entries of the user's dictionary, besides those that the guest's constants give."""
    examples: tuple[tuple[str, ...], ...] = ()
    """Sequences of calls, written as in a finding, from which the search starts."""
    max_size: int = MAX_ARGUMENT_ITEMS
    """Largest size of a generated argument, in characters, bytes or elements."""
    skip: tuple[str, ...] = ()
    """Names, or patterns such as ``debug_*``, of exports that are not called."""
    allocator: str = ""
    """The core module's allocator: ``NAME`` or ``NAME,FREE``; empty: it is found by name and signature."""
    signatures: tuple[str, ...] = ()
    """Signatures of core functions, such as ``render(cstr, out u32)``."""
    coverage: bool = True
    """Whether the search is guided by the edges of the guest's code. It is not with a ``goal``, or with isolation."""
    own_fuel: bool = False
    """Whether the fuel limit is :data:`FUEL`, which other commands do not set by default."""

    def __post_init__(self) -> None:
        if self.policy.limits.fuel is None:
            object.__setattr__(self, "policy", with_fuel(self.policy))
            object.__setattr__(self, "own_fuel", True)


@dataclass(frozen=True, slots=True)
class Progress:
    """A progress report: counts so far, and seconds since the start."""

    cases: int
    seconds: float
    findings: int
    behaviours: int


@dataclass(slots=True, kw_only=True)
class CampaignResult:
    """The result of a campaign, as plain data."""

    plan: CampaignPlan
    cases: int = 0
    """Generated calls. Those of the corpus, of oracles and of minimisation come on top."""
    replayed: int = 0
    """Calls of test cases of the corpus."""
    seconds: float = 0.0
    chunks: list[int] = field(default_factory=list)
    calls: dict[str, dict[str, int]] = field(default_factory=dict)
    """For each export, the number of its calls by status."""
    errors: dict[str, str] = field(default_factory=dict)
    """For each export, an error that it declared."""
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    behaviours: dict[str, list[Any]] = field(default_factory=dict)
    points: list[tuple[str, int, int]] = field(default_factory=list)
    line: list[tuple[float, int, int]] = field(default_factory=list)
    """Seconds, calls and behaviours after each chunk, in the order of their numbers, for the plot over time."""
    edges: list[tuple[float, int]] = field(default_factory=list)
    """Seconds and covered edges after each round; empty without coverage."""
    coverage: bytes = b""
    """The edges that test cases reached, as in :mod:`aegis.fuzz.coverage.edge_map`; empty without coverage."""
    usual: dict[str, None] = field(default_factory=dict)
    """What instrumented calls used, and how they trapped: a call that is unlike all of them runs in the original."""
    work: float = 0.0
    """Seconds that chunks took, in all processes together."""
    cost: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """What coverage cost, see :attr:`aegis.fuzz.coverage.guided.GuidedSearch.cost`."""
    words: dict[tuple[str, Any], None] = field(default_factory=dict)
    """What the guest returned and compared, for the dictionary of later rounds, the oldest first."""
    interrupted: bool = False
    lost: list[str] = field(default_factory=list)
    """Failures of the campaign itself, as opposed to findings."""

    @property
    def statuses(self) -> dict[str, int]:
        """The number of calls by status."""
        found: dict[str, int] = {}
        for counts in self.calls.values():
            for status, number in counts.items():
                found[status] = found.get(status, 0) + number
        return found
