"""The fuzz harness: calls a guest's exports, answers its imports, and tells what it should not have done.

``aegis fuzz`` is its command. From Python: :func:`replay` for a finding, :class:`~aegis.fuzz.campaign.Campaign` for
whole campaigns, and for tests of one's own :mod:`~aegis.fuzz.strategies`, :mod:`~aegis.fuzz.machines` and the plugin.

    values                                  of types: made, changed, made simpler
    case, target, hostile, portable         what is done to a guest, what its host answers, both as text
    oracles, pairs                          what a guest should never do
    search, shrink                          cases, from what behaved in a new way; and smaller ones
    plan, work, campaign, result, corpus    chunks in other processes, merged, kept
    report, reproduce, rerun                what is told, and run again
    strategies, machines, members, script, aim       for hypothesis
    plugin, guests                          for pytest
    attack                                  turned round, against Aegis itself: ``aegis fuzz --host``
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
