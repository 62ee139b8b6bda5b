"""Merge two policies: the later one overrides scalar values, and adds grants and denials.

A policy file that leaves a key out must not reset it, and one that names the default must. So policies record the keys
that were named (``Policy.named``). A key counts as stated if it was named, or if its value is not the default.

Merging is associative, the empty policy changes nothing, and no rule of ``deny`` is lost.
"""

from __future__ import annotations

from collections.abc import Collection

from aegis.limits import LIMIT_NAMES
from aegis.policy.capabilities import CAPABILITIES
from aegis.support.lean import TYPE_CHECKING, Any, replace

if TYPE_CHECKING:
    from aegis.policy.isolation import Isolation

__all__ = ["merged_policies", "named_below", "stated"]


def stated(later: Any, named: Collection[str], *keys: str) -> dict[str, Any]:
    """Return the values of those ``keys`` that ``later`` states: it names them, or they are not the default."""
    default = type(later)()
    values = {key: getattr(later, key) for key in keys}
    return {key: value for key, value in values.items() if key in named or value != getattr(default, key)}


def merged_policies(earlier: Any, later: Any) -> Any:
    """Return a policy with the statements of both.

    Raise :class:`~aegis.errors.PolicyError` if they contradict each other, such as two host paths for one guest path.
    """
    granted: dict[str, Any] = {}
    for row in CAPABILITIES:
        before, after = getattr(earlier, row.name), getattr(later, row.name)
        if before is not None and after is not None:
            granted[row.name] = before.merged(after, named_below(row.name, later.named))
        else:
            granted[row.name] = after if before is None else before
    return replace(
        earlier,
        limits=replace(earlier.limits, **stated(later.limits, named_below("limits", later.named), *LIMIT_NAMES)),
        isolation=_isolation(earlier.isolation, later.isolation, named_below("isolation", later.named)),
        imports=tuple({**dict(earlier.imports), **dict(later.imports)}.items()),
        proposals=(*earlier.proposals, *later.proposals),
        sources=tuple(dict.fromkeys((*earlier.sources, *later.sources))),
        named=earlier.named | later.named,
        **granted,
    )


def _isolation(earlier: Isolation | None, later: Isolation | None, named: Collection[str]) -> Isolation | None:
    """Merge the options of isolation. No later policy switches off isolation or ``strict``, which confine the guest."""
    if earlier is None or later is None:
        return later if earlier is None else earlier
    from aegis.policy.isolation import FIELDS

    scalars = [name for name in FIELDS if name not in ("strict", "without")]
    without = tuple(dict.fromkeys((*earlier.without, *later.without)))
    strict = earlier.strict or later.strict
    return replace(earlier, strict=strict, without=without, **stated(later, named, *scalars))


def named_below(name: str, named: Collection[str]) -> frozenset[str]:
    """Return the keys of one table among the dotted names of all tables."""
    start = f"{name}."
    return frozenset(key[len(start) :] for key in named if key.startswith(start))
