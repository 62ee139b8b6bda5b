"""How the ``result`` of a function appears in Python: the one place that turns one form into the other.

An exported function returns the payload of its good case and raises :class:`~aegis.wit.values.Err` for the other. A
host function may do the same, or return ``Ok`` or ``Err``, which are always its own result: the payload of its good
case is returned in ``Ok`` where it is itself a ``result``. :class:`aegis.Outcome` has a value in that second form.
Inside other values a ``result`` is always ``Ok`` or ``Err``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aegis.wit.types import Result, WitType
from aegis.wit.values import Err, Ok

__all__ = ["as_result", "attempt", "is_declared", "outcome_value", "unwrap"]


def as_result(value: Any) -> Ok[Any] | Err[Any]:
    """Return the whole result that a host function returned, or that an outcome has."""
    return value if isinstance(value, (Ok, Err)) else Ok(value)


def attempt(call: Callable[[], Any]) -> Ok[Any] | Err[Any]:
    """Call an exported function whose type says ``result``; return the whole result."""
    try:
        return Ok(call())
    except Err as declared:
        return declared


def unwrap(result: Ok[Any] | Err[Any]) -> Any:
    """Return the payload of ``Ok``, raise ``Err``: how an exported function ends."""
    if isinstance(result, Err):
        raise result
    return result.value


def outcome_value(of: WitType | None, returned: Any) -> Any:
    """Return what an outcome has for ``returned``: in ``Ok`` where that would pass for the function's own result."""
    return Ok(returned) if isinstance(of, Result) and isinstance(of.ok, Result) else returned


def is_declared(of: WitType | None, value: Any) -> bool:
    """Tell whether the ``value`` of an outcome is the error that a function of result type ``of`` declares."""
    return isinstance(of, Result) and isinstance(value, Err)
