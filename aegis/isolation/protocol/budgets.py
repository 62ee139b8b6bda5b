"""What a message of a worker may take of the parent's memory, and whether a number is of its type."""

from __future__ import annotations

from struct import Struct

from aegis.limits import Limits

__all__ = ["is_single", "message_budget"]

_PLAIN_FACTOR = 3
"""Plain data takes up to so many times what its value takes: a case of an enum is a reference to an object that is
there already, and an integer here."""
_ENVELOPE_BYTES = 1 << 20
"""What a message may take beside the values of a call: its account, names, an error."""
_UNLIMITED_BYTES = 2 << 30
"""What a message may take where the embedder lifted ``value_bytes``."""
_SINGLE = Struct("<f")


def message_budget(limits: Limits, more: int = 0) -> int:
    """Return how many bytes of the parent's memory one message of a worker may take, ``more`` for what was asked."""
    if limits.value_bytes is None:
        return _UNLIMITED_BYTES + more
    return _PLAIN_FACTOR * limits.value_bytes + _ENVELOPE_BYTES + more


def is_single(value: float) -> bool:
    """Tell whether a float of 64 bits is one of 32 bits."""
    try:
        return value != value or _SINGLE.unpack(_SINGLE.pack(value))[0] == value
    except OverflowError:
        return False
