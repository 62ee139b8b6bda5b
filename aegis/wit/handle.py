"""What every handle of a guest's resource has, for generated bindings to state."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

__all__ = ["Handle"]


class Handle(Protocol):
    """An owned handle of a resource that the guest implements: use it in ``with``, or drop it.

    :class:`aegis.wit.values.ResourceHandle` is what implements it.
    """

    def drop(self) -> None:
        """Drop the resource in its guest, running its destructor; a second time does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
