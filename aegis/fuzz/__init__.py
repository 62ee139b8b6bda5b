"""The fuzzer for guests: it calls a guest's exports, stubs its imports, and checks every call with oracles.

``aegis fuzz`` is the command. From Python, call :func:`replay` to reproduce a finding and use
:class:`~aegis.fuzz.campaign.Campaign` to run a campaign. :mod:`aegis.testing` has hypothesis strategies and the pytest
plugin.

    values                              generate, mutate and shrink values of a type
    case, target, stubs, portable       test cases, the guest under test, stubs for its imports, cases as text
    oracles, inverse_pairs              the properties that every call must satisfy
    search, shrink                      the search, and the minimisation of a finding
    case_maker, dictionary, examples    sequences of calls, words for arguments, and the user's examples
    coverage, source_lines              edges and operands of instrumented guests, and source lines from DWARF
    plan, worker, campaign, corpus      campaigns: chunks of work in other processes, merged results, the saved corpus
    report, reproduce                   reports, reproducers and the replay of a finding
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.fuzz.reproduce import replay as replay

__all__ = ["replay"]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Import :func:`replay` on first use: the pytest plugin imports this package in every pytest run."""
    if name != "replay":
        raise AttributeError(f"module 'aegis.fuzz' has no attribute {name!r}")
    from aegis.fuzz.reproduce import replay

    return replay
