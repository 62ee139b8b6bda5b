"""The error that WIT declares: in a module of its own, for core modules pay for nothing else of WIT."""

from __future__ import annotations

from aegis.support.lean import Generic, TypeVar

__all__ = ["Err"]

T = TypeVar("T")


class Err(Exception, Generic[T]):
    """The bad case of a ``result``; ``value`` is its payload, ``None`` where it has none.

    An exported function whose result is a ``result`` raises it, and a host function may raise or return it.
    It is what the WIT declares, not a failure: the sandbox stays usable. Within other values it is a plain
    value, equal to an ``Err`` of an equal payload.
    """

    __match_args__ = ("value",)
    __wit_case__ = "err"
    """Its name in JSON (:func:`aegis.observe.encode.plain`)."""

    def __init__(self, value: T = None) -> None:  # type: ignore[assignment]
        super().__init__(value)
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Err) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash((Err, self.value))

    def __repr__(self) -> str:
        return f"Err({self.value!r})"
