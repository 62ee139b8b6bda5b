"""Which limits bound what reaches the compiler: apart from :mod:`aegis.wasm.admission`, which code from the cache does
not need."""

from __future__ import annotations

from aegis.limits import Limits

__all__ = ["LIMITS", "bounds"]

LIMITS = ("functions", "function_size", "locals", "nesting", "complexity")
"""The limits that :func:`aegis.wasm.admission.bound` keeps."""


def bounds(limits: Limits) -> str:
    """Return these limits for the name of code in the cache: under others the artifact is walked anew."""
    return " ".join(f"{name}={getattr(limits, name)}" for name in LIMITS)
