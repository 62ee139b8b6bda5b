"""Turn the system's errors into error codes of a WIT interface; other exceptions propagate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, cast

from aegis.wit.values import Err

__all__ = ["answering_with"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def answering_with(
    code_of: Callable[[OSError], object], others: Mapping[type[Exception], object]
) -> Callable[[_Function], _Function]:
    """Return a decorator that raises ``Err`` with the code of an ``OSError``, or of one of the ``others``."""
    kinds = tuple(others)

    def decorate(function: _Function) -> _Function:
        @wraps(function)
        def answer(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except OSError as error:
                raise Err(code_of(error)) from None
            except kinds as error:
                raise Err(next(code for kind, code in others.items() if isinstance(error, kind))) from None

        return cast(_Function, answer)

    return decorate
