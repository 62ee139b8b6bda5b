"""Host operations: calls of host functions, and copies from and to the host, that are not complete yet."""

from __future__ import annotations

from typing import Protocol

from aegis.values import Interest

__all__ = ["Operation"]


class Operation(Protocol):
    """An operation of the host that a scheduler completes when it is ready."""

    def ready(self) -> bool:
        """Return whether :meth:`complete` would not block."""

    def interest(self) -> Interest:
        """Return the events to wait for while it is not ready."""

    def complete(self) -> None:
        """Continue the operation, and hand what it has to the guest; start another wait if it is not complete."""

    def cancel(self) -> None:
        """Give the operation up, and release what it holds."""
