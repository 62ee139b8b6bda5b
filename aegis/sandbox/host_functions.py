"""Host functions as the embedder wrote them, made ready for one sandbox: those that are asynchronous, or ask the time.

A keyword-only parameter named ``deadline`` is given the seconds that remain to the call's deadline, ``None``
without one. A coroutine function is awaited on the event loop that the call was made on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aegis.engine.threads.await_result import await_result
from aegis.support.lean import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from types import CodeType

    from aegis.engine.call.door import Door

__all__ = ["prepared", "takes_deadline"]

_COROUTINE = 0x80  # inspect.CO_COROUTINE; importing inspect would cost every start


def _code(function: Any) -> CodeType | None:
    """Return the code that a call of ``function`` runs, if it is Python's and not a class."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, type):
        return None
    code = getattr(function, "__code__", None) or getattr(vars(type(function)).get("__call__"), "__code__", None)
    return cast("CodeType | None", code)


def takes_deadline(function: Any) -> bool:
    """Tell whether ``function`` has a keyword-only parameter ``deadline`` that nobody gave it yet."""
    if isinstance(function, partial) and "deadline" in function.keywords:
        return False
    code = _code(function)
    if code is None:
        return False
    first = code.co_argcount
    return "deadline" in code.co_varnames[first : first + code.co_kwonlyargcount]


def prepared(function: Callable[..., Any], name: str, door: Door) -> Callable[..., Any]:
    """Return what serves the import ``name`` behind ``door`` by ``function``; mostly that is the function."""
    code = _code(function)
    timed, awaited = takes_deadline(function), code is not None and bool(code.co_flags & _COROUTINE)
    if not (timed or awaited):
        return function

    def host_function(*values: Any) -> Any:
        result = function(*values, deadline=door.remaining()) if timed else function(*values)
        if awaited:
            result = await_result(door, result, name)
        return result

    return host_function
