"""The table of WebAssembly proposals: which are on, which are off, and which a policy can enable, with the reasons.

:mod:`aegis.engine.compile.config` holds the engine's settings for the proposals that are on or can be enabled. The
documentation and ``aegis doctor`` show this table. A proposal that only the embedding in JavaScript defines is absent.
"""

from __future__ import annotations

from collections.abc import Iterable

from aegis.errors import PolicyError
from aegis.support.lean import NamedTuple
from aegis.text import similar_names

__all__ = [
    "IN_PROCESS", "ISOLATED", "ISOLATED_ONLY", "OFF", "ON", "OPTIONAL", "PROPOSALS", "Proposal", "checked_proposals",
    "needs", "require_isolation",
]  # fmt: skip

ON, OFF, OPTIONAL = "on", "off", "can be enabled"
IN_PROCESS, ISOLATED = "in process and isolated", "isolated only"


class Proposal(NamedTuple):
    """One proposal: its state, where a guest that uses it may run if it can be enabled, and the reason for both."""

    name: str
    state: str
    reason: str
    place: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the row as JSON data."""
        return {"name": self.name, "state": self.state, "place": self.place, "reason": self.reason}


PROPOSALS = (
    Proposal("bulk-memory", ON, "part of WebAssembly 2.0; fuel counts each byte and element"),
    Proposal(
        "component-model-async", ON, "Aegis implements it on core modules for WASI 0.3; the engine only validates it",
    ),
    Proposal("extended-const", ON, "part of WebAssembly 3.0; constant expressions have at most 1,000 instructions"),
    Proposal("multi-memory", ON, "part of WebAssembly 3.0; the memory limit counts all memories together"),
    Proposal("multi-value", ON, "part of WebAssembly 2.0; no new authority and no new memory"),
    Proposal("mutable-globals", ON, "part of WebAssembly 1.1; no new authority and no new memory"),
    Proposal("nontrapping-float-to-int", ON, "part of WebAssembly 2.0; arithmetic with one result on every machine"),
    Proposal("reference-types", ON, "part of WebAssembly 2.0; without externref, which needs a garbage-collected heap"),
    Proposal("sign-extension", ON, "part of WebAssembly 2.0; arithmetic with one result on every machine"),
    Proposal("simd", ON, "part of WebAssembly 2.0; arithmetic with one result on every machine"),
    Proposal("tail-call", ON, "part of WebAssembly 3.0; the stack limit holds, and an epoch check stops the loops"),
    Proposal("component-model-implements", ON, "names of imports and exports only"),
    Proposal(
        "exceptions", OPTIONAL,
        "exception objects live on a garbage-collected heap, whose published defects end the process; the memory limit "
        "counts the heap, and the worker's data limit bounds it a second time; the engine's upstream fuzzes it",
        ISOLATED,
    ),
    Proposal(
        "relaxed-simd", OPTIONAL,
        "arithmetic without new memory; off because a result may depend on the machine, so that runs are not "
        "reproducible; the engine's upstream fuzzes it", IN_PROCESS,
    ),
    Proposal(
        "wide-arithmetic", OPTIONAL,
        "arithmetic on 128 bits without new memory, with one result on every machine; off because it is young; the "
        "engine's upstream fuzzes it", IN_PROCESS,
    ),
    Proposal("legacy-exceptions", OFF, "the engine implements only the standard form, with try_table and exnref"),
    Proposal(
        "custom-page-sizes", OFF, "off in the engine's defaults; the memory limit counts pages of 64 KiB",
    ),
    Proposal(
        "function-references", OFF, "the reader of types does not know typed references, and a published defect of the "
        "engine is about them",
    ),
    Proposal(
        "gc", OFF, "structs and arrays live on a garbage-collected heap, casts between their types are the youngest "
        "checks of the engine's compiler, and the reader of types does not know them",
    ),
    Proposal(
        "memory64", OFF, "the memory accounting and the host functions assume addresses of 32 bits; one instruction "
        "can fill more than a deadline can bound",
    ),
    Proposal("shared-everything-threads", OFF, "the engine does not implement it completely"),
    Proposal("stack-switching", OFF, "the engine does not implement it completely, and its upstream does not fuzz it"),
    Proposal(
        "threads", OFF, "a shared memory escapes the memory limit, and a wait on it does not end at the deadline",
    ),
)  # fmt: skip
"""All proposals, those that are on first."""

ISOLATED_ONLY = frozenset(row.name for row in PROPOSALS if row.place == ISOLATED)
"""The proposals that only guests in worker processes may use."""

_BY_NAME = {row.name: row for row in PROPOSALS}


def checked_proposals(names: object) -> tuple[str, ...]:
    """Return the names of proposals to enable, sorted; omit those that are on for every guest.

    Raise :class:`~aegis.errors.PolicyError` for an unknown name, and for a proposal that cannot be enabled.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise PolicyError(f'proposals: expected a list of names, such as ["exceptions"], not {names!r}')
    found = set()
    for name in names:
        row = _BY_NAME.get(name.replace("_", "-")) if isinstance(name, str) else None
        if row is None:
            raise PolicyError(f"proposals: {name!r} is not a WebAssembly proposal{_hint(name)}")
        if row.state == OFF:
            raise PolicyError(f"proposals: {row.name} cannot be enabled: {row.reason}; {_choices()}")
        if row.state == OPTIONAL:
            found.add(row.name)
    return tuple(sorted(found))


def _hint(name: object) -> str:
    alike = similar_names(name[:80], _BY_NAME, 1) if isinstance(name, str) else []
    return f": did you mean {alike[0]!r}?" if alike else f": {_choices()}"


def _choices() -> str:
    return f"enable one of {', '.join(row.name for row in PROPOSALS if row.state == OPTIONAL)}"


def require_isolation(names: Iterable[str]) -> None:
    """Raise :class:`~aegis.errors.PolicyError` if a proposal in ``names`` is only for guests in worker processes."""
    found = sorted(ISOLATED_ONLY.intersection(names))
    if found:
        raise PolicyError(
            f"proposals: {found[0]} is only for isolated guests, because a defect in the engine's heap of such objects "
            "would end this process: run with --isolate or isolation=True"
        )


def needs(names: Iterable[str]) -> str:
    """Return the reason why an artifact that needs the proposals ``names`` is rejected, with the remedy."""
    wanted = sorted(names)
    optional = [name for name in wanted if name in _BY_NAME and _BY_NAME[name].state == OPTIONAL]
    if len(optional) < len(wanted):
        name = next(name for name in wanted if name not in optional)
        return f"the module uses the WebAssembly proposal {name!r}, which Aegis does not support: build it without"
    flags = " ".join(f"--enable {name}" for name in optional)
    flags += " --isolate" if not ISOLATED_ONLY.isdisjoint(optional) else ""
    return f"it needs {' and '.join(optional)}: enable {'it' if len(optional) == 1 else 'them'} with {flags}"
