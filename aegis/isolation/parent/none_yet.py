"""The answer to a read of the application's stream or future that has no elements yet."""

from __future__ import annotations

__all__ = ["NONE_YET"]


class _NoneYet:
    """The type of :data:`NONE_YET`."""


NONE_YET = _NoneYet()
"""Returned by a read instead of elements, or of ``None`` at the end."""
