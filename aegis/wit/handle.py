"""The protocol of resource handles, for generated bindings."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

__all__ = ["Handle"]


class Handle(Protocol):
    """An owned handle of a resource that the guest implements: use it in a ``with`` statement, or drop it.

    :class:`aegis.wit.values.ResourceHandle` implements this protocol.
    """

    def drop(self) -> None:
        """Drop the resource and run its destructor in the guest; further calls do nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
