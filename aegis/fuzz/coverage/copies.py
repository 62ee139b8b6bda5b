"""The instrumented copies of a target, and where their counters are in the guest's code."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from aegis.errors import AegisError
from aegis.fuzz.coverage.instrumented import InstrumentedTarget, size_of
from aegis.fuzz.coverage.lcov import to_lcov
from aegis.fuzz.coverage.recorded import Recorded
from aegis.wasm.binary import ADDED_MEMORY, PAGE, Malformed
from aegis.wasm.comparisons import Comparing, Operands, read_operands, record_comparisons
from aegis.wasm.edges import Counted, count_edges
from aegis.wasm.embedded import with_modules

if TYPE_CHECKING:
    from aegis.fuzz.case import Case
    from aegis.fuzz.plan import CampaignPlan
    from aegis.fuzz.target import Target
    from aegis.limits import Limits

__all__ = ["Copies", "CoverageUnavailable", "make_copies"]

_GROWN = ("module_size", "functions", "function_size", "locals", "nesting", "complexity")
_GROWTH = 8
"""The factor by which limits on code are larger for instrumented code, which is two to three times as large."""
_MAX_CALCULATED_BYTES = 1 << 20
"""Largest guest whose operations are recorded: that code takes longer to compile than all other copies."""


class CoverageUnavailable(Exception):
    """The target cannot be instrumented; the message says why."""


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies of one target. ``modules`` has the module with counters of each added memory.

    ``numbers`` are the numbers of these modules among all core modules of the artifact.
    """

    original: Target
    counting: InstrumentedTarget
    modules: tuple[Counted, ...]
    numbers: tuple[int, ...]
    comparing: InstrumentedTarget | None
    compared: tuple[Comparing, ...]
    recorded: Recorded | None
    """The comparisons of test cases in the copy that records them."""
    seconds: float
    """The time that it took to instrument and compile."""
    calculating: Callable[[], tuple[InstrumentedTarget, tuple[Comparing, ...]] | None] = lambda: None
    """Returns the copy that also records integer operations, made by the first call; ``None`` if it cannot be made."""

    @property
    def size(self) -> int:
        """The number of counters."""
        return sum(self.counting.sizes)

    def tracefile(self, bits: bytes, proposals: Collection[str] = ()) -> str:
        """Return the coverage of source lines for lcov; empty if the guest has no debugging information."""
        parts, at = [], 0
        originals = self.original.lines.modules
        for number, counted in zip(self.numbers, self.modules, strict=True):
            parts.append((originals[number], counted, bits[at : at + counted.counters]))
            at += counted.counters
        return to_lcov(parts, proposals)

    def operations(self, case: Case) -> list[Operands]:
        """Run a test case; return the operands of comparisons and operations of its last call, empty without it."""
        copy = self.calculating()
        if copy is None:
            return []
        target, modules = copy
        target.run(case)
        return list(_operands(modules, target.written[-1])) if len(target.written) == len(case.steps) else []


def make_copies(plan: CampaignPlan, target: Target) -> Copies:
    """Instrument and compile the artifact of a plan. Raise :class:`CoverageUnavailable` if that is not possible."""
    if plan.policy.isolation is not None:
        raise CoverageUnavailable("the counters of an isolated guest cannot be read: leave out --isolate")
    began, proposals = time.monotonic(), plan.policy.proposals
    try:
        counting, modules, numbers = _copy(plan, target, lambda data: count_edges(data, proposals))
    except (AegisError, Malformed) as error:
        raise CoverageUnavailable(str(error)) from None
    try:
        comparing, compared, _ = _copy(plan, target, lambda data: record_comparisons(data, proposals))
    except (AegisError, Malformed, CoverageUnavailable):
        comparing, compared = None, ()
    recorded = None if comparing is None else Recorded(comparing, lambda written: _operands(compared, written))

    @cache
    def calculating() -> tuple[InstrumentedTarget, tuple[Any, ...]] | None:
        if len(plan.data) > _MAX_CALCULATED_BYTES:
            return None
        try:
            return _copy(plan, target, lambda data: record_comparisons(data, proposals, arithmetic=True))[:2]
        except (AegisError, Malformed, CoverageUnavailable):
            return None

    seconds = time.monotonic() - began
    return Copies(target, counting, modules, numbers, comparing, compared, recorded, seconds, calculating)


def _operands(compared: Sequence[Comparing], written: bytes) -> Iterator[Operands]:
    """Yield the operands that a copy with these modules wrote in one step."""
    at = 0
    for module in compared:
        yield from read_operands(written[at : at + module.size] if len(compared) > 1 else written, module.sites)
        at += module.size


def _copy(
    plan: CampaignPlan, target: Target, instrument: Callable[[bytes], Any]
) -> tuple[InstrumentedTarget, tuple[Any, ...], tuple[int, ...]]:
    """Return an instrumented copy, the instrumented module of each added memory, and the number of that module.

    Modules without an instruction to probe, such as tables of trampolines, stay as they are.
    """
    from aegis.runtime import Aegis

    made: list[Any] = []
    known: dict[bytes, Any] = {}

    def change(data: bytes) -> bytes:
        one = known.get(data)
        if one is None:
            one = known[data] = instrument(data)
        made.append(one)
        return one.data if _probed(one) else data

    data = with_modules(plan.data, change)
    numbers = tuple(number for number in _instances(target.artifact) if _probed(made[number]))
    if not numbers:
        raise CoverageUnavailable("the code has no branches")
    modules = tuple(made[number] for number in numbers)
    pages = [max(1, -(-size_of(module) // PAGE)) for module in modules]
    policy = replace(plan.policy, limits=_limits(plan.policy.limits, len(pages), sum(pages) * PAGE))
    runtime = Aegis(policy)
    artifact = runtime.load(data, plan.name)
    if _added(artifact) != len(numbers):
        raise Malformed("the instrumented artifact has other instances than the original")
    copy = InstrumentedTarget(target, runtime, artifact, modules, hostile=plan.hostile)
    return copy, modules, numbers


def _probed(module: Any) -> bool:
    """Return whether an instrumented module has probes that matter: a module without branches has none."""
    if isinstance(module, Counted):
        return any(site.kind != "entry" for site in module.sites)
    return bool(module.sites)


def _instances(artifact: Any) -> Sequence[int]:
    """Return the number of the core module of each core instance, in the order of their instantiation."""
    return [0] if artifact.kind == "module" else [step.module for step in artifact.program.steps]


def _added(artifact: Any) -> int:
    if artifact.kind == "module":
        return sum(name == ADDED_MEMORY for name, _ in artifact.memory_exports)
    return sum(item.name == ADDED_MEMORY for item in artifact.memory_exports)


def _limits(limits: Limits, memories: int, size: int) -> Limits:
    """Return limits under which the instrumented guest may do what the original may."""
    changes = {name: getattr(limits, name) * _GROWTH for name in _GROWN if getattr(limits, name) is not None}
    if limits.memories is not None:
        changes["memories"] = limits.memories + memories
    if limits.memory is not None:
        changes["memory"] = limits.memory + size
    return limits.with_(**changes)
