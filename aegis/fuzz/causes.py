"""The cause of a finding: the trap code and the functions nearest to the trap, without the machinery of panics.

Findings of several exports with one cause are one group of the report. The *key* of a finding is its cause without
addresses and function numbers, so that it stays the same when the guest is compiled again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aegis.errors import Frame, GuestTrap, LimitExceeded
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.fuzz.case import StepResult

__all__ = ["RANDOM_ADDRESSES", "cause_of", "grouped", "key_of", "signature_of", "telling_frames"]

RANDOM_ADDRESSES = "random-addresses"
"""The signature and the key of the one finding of calls whose addresses are random."""
_MACHINERY = re.compile(
    r"panic|abort|assert|unwind|unwrap_failed|expect_failed|handle_alloc_error|rust_oom|__rg_oom|capacity_overflow"
    r"|_fail(?:_rt|_ct)?(?:::h|$)|handle_error|__cxa_|std::terminate|runtime\.(?:trap|_panic)|^_?_?(?:Exit|exit)$"
)
"""Functions that a language calls to report a failure. They are the innermost frames of unrelated faults."""
_HASH = re.compile(r"::h[0-9a-f]{16}$")
"""The suffix that Rust's compiler gives a function; it changes with each compilation."""
_MAX_FRAMES = 3


def telling_frames(frames: Sequence[Frame], most: int = _MAX_FRAMES) -> list[Frame]:
    """Return the innermost frames that tell faults apart: without the machinery of panics and without repetitions."""
    found: list[Frame] = []
    for frame in frames:
        if frame.name is not None and _MACHINERY.search(frame.name):
            continue
        if all(frame.function_index != other.function_index for other in found):  # recursion has any depth
            found.append(frame)
            if len(found) == most:
                break
    return found or list(frames[:most])


def name_of(frame: Frame) -> str:
    """Return the name of a frame's function, or its number."""
    return f"function {frame.function_index}" if frame.name is None else _HASH.sub("", frame.name)


def signature_of(result: StepResult) -> str:
    """Return the signature of an ending: its kind, the trap code or the limit, and the telling frames.

    ``unreachable`` is how assertions end, of which a function may have several: there the address counts too.
    """
    error = result.error
    if error is None:
        return result.status
    parts: list[str] = [result.status]
    if isinstance(error, GuestTrap):
        frames = telling_frames(error.frames)
        parts.append(str(error.code))
        parts += [frame.name or str(frame.function_index) for frame in frames]
        if error.code == "unreachable" and frames:
            parts.append(f"{frames[0].module_offset:#x}")
    elif isinstance(error, LimitExceeded):
        parts.append(error.limit)
    return "/".join(parts)


def cause_of(function: str, result: StepResult | None) -> str:
    """Return the cause of a call's ending, as a phrase. Without frames, or for a limit, the export is part of it."""
    error = None if result is None else result.error
    if isinstance(error, GuestTrap):
        frames = telling_frames(error.frames)
        inner = [name_of(frame) for frame in (frames[:-1] if _reaches_export(frames, error.frames) else frames)]
        if error.code == "unreachable" and inner:
            inner[0] += f" at {frames[0].module_offset:#x}"
        return f"{error.code} in {printable(', called by '.join(inner) or function)}"
    if isinstance(error, LimitExceeded):
        return f"{error.limit} limit in {printable(function)}"
    return ""


def _reaches_export(telling: Sequence[Frame], frames: Sequence[Frame]) -> bool:
    """Return whether the last of several frames is that of the export, which is not part of a common cause."""
    return len(telling) > 1 and telling[-1].function_index == frames[-1].function_index


def key_of(oracle: str, function: str, result: StepResult | None) -> str:
    """Return a key that stays the same when the guest is compiled again: names only, without numbers and addresses."""
    error = None if result is None else result.error
    parts = [oracle, function]
    if isinstance(error, GuestTrap):
        parts.append(str(error.code))
        parts += [name_of(frame) for frame in telling_frames(error.frames) if frame.name is not None]
    elif isinstance(error, LimitExceeded):
        parts.append(error.limit)
    return " / ".join(map(printable, parts))


def grouped(findings: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return findings, as plain data, grouped by oracle and cause; the simplest case comes first in each group.

    Findings of calls with random addresses come last.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for finding in findings:
        cause = finding.get("cause") or finding["signature"]
        groups.setdefault((finding["oracle"], cause), []).append(finding)
    ranked = sorted(groups.values(), key=lambda some: some[0]["signature"] == RANDOM_ADDRESSES)
    return [sorted(some, key=_weight) for some in ranked]


def _weight(finding: Mapping[str, Any]) -> tuple[int, int, str]:
    text = repr(finding["steps"])
    return len(finding["steps"]), len(text), text
