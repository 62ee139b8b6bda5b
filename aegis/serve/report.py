"""The report of a request that was answered, for the embedder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aegis.observe.outcome import Outcome

__all__ = ["OnRequest", "ServedRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRequest:
    """A request that has ended. ``method`` and ``target`` are the client's words: escape them before showing them."""

    method: str
    target: str
    status: int | None
    """The status that was sent; ``None`` if the client was gone before."""
    complete: bool
    """Whether the whole response was passed to the server; otherwise it was cut off, or the client was gone."""
    seconds: float
    """Wall-clock time from the arrival of the head, including the creation of the sandbox."""
    outcome: Outcome | None
    """The outcome of the guest's call; ``None`` if no guest ran, or the client was gone before the guest returned."""
    reason: str
    """Why the guest's own response was not sent, or not wholly; empty if it was."""


OnRequest = Callable[[ServedRequest], None]
