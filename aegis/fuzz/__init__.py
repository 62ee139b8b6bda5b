"""The fuzz harness: calls a guest's exports, answers its imports, and reports what a guest should not do.

``aegis fuzz`` is its command. From Python: :func:`replay` for a finding, :class:`~aegis.fuzz.campaign.Campaign` for
whole campaigns; :mod:`aegis.testing` has strategies and the pytest plugin.

    values                                  values of types: generated, mutated, simplified
    case, target, stubs, portable           calls to a guest, answers to its imports, and both as text
    oracles, pairs                          rules that a guest must not break
    search, shrink                          cases from new behaviour; and smaller ones
    plan, work, campaign, result, corpus    chunks in other processes, merged, kept
    report, reproduce, rerun                findings as reports and commands, and their replay
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.fuzz.rerun import replay as replay

__all__ = ["replay"]


def __getattr__(name: str) -> Any:
    """Load what costs something at its first use: the pytest plugin is part of every run of pytest."""
    if name != "replay":
        raise AttributeError(f"module 'aegis.fuzz' has no attribute {name!r}")
    from aegis.fuzz.rerun import replay

    return replay
