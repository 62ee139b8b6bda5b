"""The budget of parent memory for one message of a worker, and a check of f32 values."""

from __future__ import annotations

from struct import Struct

from aegis.limits import Limits

__all__ = ["is_single", "message_budget"]

_PLAIN_FACTOR = 3
"""Maximum size of plain data relative to its WIT value. A case of an enum is a reference to a shared object as a value,
but an integer object as plain data."""
_ENVELOPE_BYTES = 1 << 20
"""Bytes for everything in a message except values: counters, names, an error."""
_UNLIMITED_BYTES = 2 << 30
"""The budget of a message if ``value_bytes`` is unlimited."""
_SINGLE = Struct("<f")


def message_budget(limits: Limits, more: int = 0) -> int:
    """Return the bytes of parent memory that one message of a worker may take; ``more`` allows for requested data."""
    if limits.value_bytes is None:
        return _UNLIMITED_BYTES + more
    return _PLAIN_FACTOR * limits.value_bytes + _ENVELOPE_BYTES + more


def is_single(value: float) -> bool:
    """Return whether a float can be represented exactly as f32."""
    try:
        return value != value or _SINGLE.unpack(_SINGLE.pack(value))[0] == value
    except OverflowError:
        return False
