"""The error case of a WIT ``result``; in a module of its own, so that core modules import nothing else of WIT."""

from __future__ import annotations

from aegis.support.lean import ClassVar, Generic, TypeVar

__all__ = ["Err"]

T = TypeVar("T")


class Err(Exception, Generic[T]):
    """The error case of a WIT ``result``; ``value`` is its payload, or ``None`` without one.

    Calling an exported function raises this exception when the function returns its error case; a host function may
    raise or return it. It is a declared result and not a failure: the sandbox stays usable. Inside other values it is
    a plain value; two are equal if their payloads are.

    >>> Err("not-found").value
    'not-found'
    """

    __match_args__ = ("value",)
    __wit_case__ = "err"
    """The key in JSON (:func:`aegis.observe.encode.plain`)."""
    case: ClassVar[str] = "err"
    """The name of the case, as every value of a variant has it."""

    def __init__(self, value: T = None) -> None:  # type: ignore[assignment]
        super().__init__(value)
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Err) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash((Err, self.value))

    def __repr__(self) -> str:
        return f"Err({self.value!r})"
