"""The limits that :mod:`aegis.wasm.admission` checks; a run from the cache imports only this module."""

from __future__ import annotations

from aegis.limits import Limits

__all__ = ["LIMITS", "cache_key_part"]

LIMITS = ("functions", "function_size", "locals", "nesting", "complexity")
"""The limits that :func:`aegis.wasm.admission.check_compile_cost` checks."""


def cache_key_part(limits: Limits) -> str:
    """Return these limits as text for the cache key, so that changed limits cause a new check."""
    return " ".join(f"{name}={getattr(limits, name)}" for name in LIMITS)
