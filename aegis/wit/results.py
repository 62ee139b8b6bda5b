"""Convert between the two Python forms of a function's ``result``.

Calling an exported function returns the payload of ``ok`` and raises :class:`~aegis.wit.values.Err` for ``err``. A host
function may do the same, or return ``Ok`` or ``Err``. An ``Ok`` or ``Err`` that a host function returns is always its
own result, so a payload that is itself a ``result`` must be wrapped in ``Ok``. The value of :class:`aegis.Outcome` has
that second form. Inside other values a ``result`` is always ``Ok`` or ``Err``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aegis.wit.types import Result, WitType
from aegis.wit.values import Err, Ok

__all__ = ["as_result", "attempt", "is_declared", "outcome_value", "unwrap"]


def as_result(value: Any) -> Ok[Any] | Err[Any]:
    """Return the result as ``Ok`` or ``Err``, from the value that a host function returned or an outcome has."""
    return value if isinstance(value, (Ok, Err)) else Ok(value)


def attempt(call: Callable[[], Any]) -> Ok[Any] | Err[Any]:
    """Call an exported function of a ``result`` type; return ``Ok`` or ``Err``."""
    try:
        return Ok(call())
    except Err as declared:
        return declared


def unwrap(result: Ok[Any] | Err[Any]) -> Any:
    """Return the payload of ``Ok``, or raise ``Err``."""
    if isinstance(result, Err):
        raise result
    return result.value


def outcome_value(of: WitType | None, returned: Any) -> Any:
    """Return the outcome's value for ``returned``, wrapped in ``Ok`` if the payload is itself a ``result``."""
    return Ok(returned) if isinstance(of, Result) and isinstance(of.ok, Result) else returned


def is_declared(of: WitType | None, value: Any) -> bool:
    """Return whether the ``value`` of an outcome is the error case of a function with the result type ``of``."""
    return isinstance(of, Result) and isinstance(value, Err)
