"""Published security advisories that the installed engine has no fix for, and whether a guest can reach them in Aegis.

The identifiers, dates and fixed versions in :data:`ADVISORIES` were copied by hand on :data:`TABLE_DATE` from the
release notes of wasmtime 50.0.1, 50.0.2 and 50.0.3 (``github.com/bytecodealliance/wasmtime``, *Releases*). The titles
are summaries. ``needs`` lists the features that must be in use for a guest to reach the defect; it is this project's
judgement, based on the titles in the release notes, because the full advisories were not available. It is evaluated
against an engine's configuration: enabling a proposal makes the advisories about it reachable.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aegis.engine.compile.config import ADMITTED
from aegis.engine.native.library import MAJOR, built_version, lib, library_version
from aegis.errors import PolicyError

__all__ = [
    "ADVISORIES", "TABLE_DATE", "Advisory", "AdvisoryFinding", "EngineFacts", "engine_facts",
    "reject_reachable_advisories",
]  # fmt: skip

TABLE_DATE = "2026-11-29"


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisory:
    """A published defect. A guest can reach it if every feature in ``needs`` is in use."""

    id: str
    title: str
    published: str
    fixed_in: str
    needs: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisoryFinding:
    """An advisory that the engine has no fix for, evaluated for one configuration."""

    advisory: Advisory
    reachable: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON data."""
        one = self.advisory
        return {
            "id": one.id, "title": one.title, "published": one.published, "fixed_in": one.fixed_in,
            "reachable": self.reachable, "reason": self.reason,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """The engine's exact versions, and the advisories that apply to it.

    ``version`` is the version of the native library, which may differ from ``package``, the version of the Python
    package that contains it. It is ``None`` if it cannot be determined; every advisory of the series then applies.
    """

    version: str | None
    package: str
    findings: tuple[AdvisoryFinding, ...]

    @property
    def reachable(self) -> tuple[AdvisoryFinding, ...]:
        """The advisories that a guest can reach."""
        return tuple(finding for finding in self.findings if finding.reachable)

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON data."""
        return {
            "name": "wasmtime", "version": self.version, "package": f"wasmtime-py {self.package}",
            "advisories_as_of": TABLE_DATE, "advisories": [finding.to_dict() for finding in self.findings],
        }  # fmt: skip

    def __str__(self) -> str:
        shown = self.version or f"{MAJOR}, exact version unknown"
        return f"wasmtime {shown} (wasmtime-py {self.package})"


_WASI, _HTTP, _WINDOWS = "native-wasi", "native-http", "windows"
_GC, _GC_HEAP, _GC_RESERVATION = "gc", "gc-heap", "gc-heap-reservation"
_ASYNC, _LENDING, _TYPES = "component-model-async", "lists-lent-between-components", "host-made-types"
_LOOKUP, _NO_GC, _NO_THREADS = "module-export-lookup", "build-without-gc", "build-without-threads"

_NOT_USED = {
    _WASI: "Aegis implements WASI itself and never links the engine's implementation",
    _HTTP: "Aegis implements wasi:http itself and never links the engine's implementation",
    _WINDOWS: "this system is not Windows",
    _GC: "the proposals that introduce garbage-collected types are disabled",
    _GC_HEAP: "garbage-collected types, including externref, are disabled, so no store has a heap for them",
    _GC_RESERVATION: "Aegis does not change the size of the garbage-collected heap's reservation",
    _ASYNC: "the engine validates components but never runs them",
    _LENDING: "Aegis implements the canonical ABI itself and counts every handle",
    _TYPES: "Aegis does not create struct types through the engine's API",
    _LOOKUP: "the engine's C API, the only one that Aegis calls, does not contain this function",
    _NO_GC: "the installed library was built with garbage collection",
    _NO_THREADS: "the installed library was built with threads",
}


def _advisory(id: str, title: str, published: str, fixed_in: str, *needs: str) -> Advisory:
    return Advisory(id=id, title=title, published=published, fixed_in=fixed_in, needs=frozenset(needs))


_FIRST, _SECOND, _THIRD = ("2026-10-29", "50.0.1"), ("2026-11-16", "50.0.2"), ("2026-11-19", "50.0.3")

ADVISORIES: tuple[Advisory, ...] = (
    _advisory("GHSA-hmmr-87qq-258j", "UDP connect to an address denied for sending", *_FIRST, _WASI),
    _advisory("GHSA-qw58-7h65-crq2", "type confusion between engines by host-made struct types", *_FIRST, _GC, _TYPES),
    _advisory("GHSA-3982-jqvv-277m", "panic in typed functions with i31 or null references", *_FIRST, _GC),
    _advisory("GHSA-6fr9-xmw9-5352", "unbounded memory for borrows passed between components", *_FIRST, _LENDING),
    _advisory("GHSA-h4wp-g4x3-7398", "content-length that is invalid or not the body's", *_FIRST, _HTTP),
    _advisory("GHSA-5m8g-xhq4-4h93", "unbounded memory by empty writes to a WASI stream", *_SECOND, _WASI),
    _advisory("GHSA-43j2-gcp4-m22g", "abort by a stale base of the garbage-collected heap", *_SECOND, _GC_HEAP),
    _advisory("GHSA-xrvr-8678-5wp8", "panic when a stream is cancelled on the wrong end", *_SECOND, _ASYNC),
    _advisory("GHSA-hj27-mpw9-ff4c", "panic in Caller::get_module_export", *_SECOND, _LOOKUP),
    _advisory("GHSA-wvgq-g5hf-6gm6", "abort by a reservation of partial pages", *_SECOND, _GC_HEAP, _GC_RESERVATION),
    _advisory("GHSA-rc4p-x33f-vpr2", "abort in builds without garbage collection", *_SECOND, _NO_GC),
    _advisory("GHSA-2674-w29h-wqvj", "abort in builds without threads", *_SECOND, _NO_THREADS),
    _advisory("GHSA-f8mm-ggr3-89wh", "unbounded memory by empty writes to an HTTP/2 body", *_SECOND, _HTTP),
    _advisory("GHSA-f2pq-268w-886c", "filesystem escape by drive-prefixed paths", *_THIRD, _WASI, _WINDOWS),
)  # fmt: skip

_GC_PROPOSALS = frozenset({"gc", "function_references", "exceptions", "stack_switching"})


def in_use(proposals: Sequence[str] = ()) -> frozenset[str]:
    """Return the features from ``Advisory.needs`` in use on this system, with these proposals beyond the default."""
    found = set()
    proposals = [name.replace("-", "_") for name in (*ADMITTED, *proposals)]
    if _GC_PROPOSALS & set(proposals):
        found |= {_GC, _GC_HEAP}
    if "component_model_async" in proposals:
        found |= {_ASYNC}
    if sys.platform == "win32":
        found |= {_WINDOWS}
    # The library exports these functions only if it was built with the feature.
    for need, function in ((_NO_GC, "wasmtime_config_wasm_gc_set"), (_NO_THREADS, "wasmtime_config_wasm_threads_set")):
        if not hasattr(lib, function):
            found |= {need}
    return frozenset(found)


def engine_facts(
    proposals: Sequence[str] = (), *, table: Sequence[Advisory] | None = None, version: str | None = None
) -> EngineFacts:
    """Return the engine's versions and the advisories that apply to it, with ``proposals`` beyond the default enabled.

    ``table`` and ``version`` override :data:`ADVISORIES` and the version of the installed library.
    """
    version = version or built_version()
    used = in_use(proposals)
    advisories = ADVISORIES if table is None else table
    findings = tuple(_judge(one, used) for one in advisories if _lacks(version, one.fixed_in))
    return EngineFacts(version=version, package=library_version(), findings=findings)


def _judge(advisory: Advisory, used: frozenset[str]) -> AdvisoryFinding:
    missing = sorted(advisory.needs - used)
    if missing:
        return AdvisoryFinding(advisory=advisory, reachable=False, reason=f"no, because {_NOT_USED[missing[0]]}")
    used_features = ", ".join(sorted(advisory.needs))
    return AdvisoryFinding(advisory=advisory, reachable=True, reason=f"yes, because {used_features} is in use")


def _lacks(version: str | None, fixed_in: str) -> bool:
    return version is None or _numbers(version) < _numbers(fixed_in)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def reject_reachable_advisories(proposals: Sequence[str] = ()) -> None:
    """Raise :class:`~aegis.errors.PolicyError` if a guest can reach a published defect; strict isolation calls this."""
    facts = engine_facts(proposals)
    if facts.reachable:
        shown = "; ".join(
            f"{f.advisory.id} ({f.advisory.title}), fixed in {f.advisory.fixed_in}" for f in facts.reachable
        )
        raise PolicyError(
            f"isolation: strict rejects {facts}, because a guest can reach published defects in it: {shown}; "
            "install a fixed version, or run with --isolate"
        )
