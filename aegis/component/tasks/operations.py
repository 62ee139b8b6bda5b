"""Host operations: calls of host functions, and copies from and to the host, that are not complete yet."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Operation"]


class Operation(Protocol):
    """An operation of the host that a scheduler completes when it is ready."""

    def ready(self) -> bool:
        """Return whether :meth:`complete` would not block."""

    def complete(self) -> None:
        """Complete the operation: hand its result to the guest."""

    def cancel(self) -> None:
        """Give the operation up, and release what it holds."""
