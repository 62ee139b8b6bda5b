"""Adapters for host functions of the embedder that are coroutine functions or have a parameter ``deadline``.

A keyword-only parameter ``deadline`` gets the seconds until the deadline of the call, ``None`` if it has none. A
coroutine function is awaited on the event loop from which the call was made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aegis.engine.threads.await_result import await_result
from aegis.support.lean import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from types import CodeType

    from aegis.engine.call.door import Door

__all__ = ["BlockingFunction", "adapted", "on_threads", "takes_deadline"]

_COROUTINE = 0x80  # inspect.CO_COROUTINE; importing inspect would slow down every start


def _code_of(function: Any) -> CodeType | None:
    """Return the Python code object that a call of ``function`` runs; ``None`` for a class or a function in C."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, type):
        return None
    code = getattr(function, "__code__", None) or getattr(vars(type(function)).get("__call__"), "__code__", None)
    return cast("CodeType | None", code)


def takes_deadline(function: Any) -> bool:
    """Return whether ``function`` has a keyword-only parameter ``deadline`` that no ``partial`` has set."""
    if isinstance(function, partial) and "deadline" in function.keywords:
        return False
    code = _code_of(function)
    if code is None:
        return False
    first = code.co_argcount
    return "deadline" in code.co_varnames[first : first + code.co_kwonlyargcount]


class BlockingFunction:
    """A plain function of the embedder that serves an async import with streams or futures among its parameters.

    Its reads block. A backend whose guest could not write meanwhile calls it on a thread of its own.
    """

    __slots__ = ("function", "name")

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function, self.name = function, name

    def __call__(self, *values: Any) -> Any:
        return self.function(*values)


def adapted(
    function: Callable[..., Any], name: str, door: Door, *, overlaps: bool = False, reads: bool = False
) -> Callable[..., Any]:
    """Return a callable that serves the import ``name``: ``function`` itself unless it needs an adapter.

    ``overlaps``: the import is an async function of WIT, so its caller awaits the result while the guest goes on;
    ``reads``: it has streams or futures among its parameters.
    """
    code = _code_of(function)
    timed, coroutine = takes_deadline(function), code is not None and bool(code.co_flags & _COROUTINE)
    awaited = coroutine and not overlaps

    def host_function(*values: Any) -> Any:
        result = function(*values, deadline=door.remaining()) if timed else function(*values)
        if awaited:
            result = await_result(door, result, name)
        return result

    made = host_function if timed or awaited else function
    return BlockingFunction(made, name) if overlaps and reads and not coroutine else made


def on_threads(functions: Any, door: Door) -> Any:
    """Return ``functions`` with others for those that block while they read streams, so that the guest can write."""
    if not isinstance(functions, list) or not any(isinstance(function, BlockingFunction) for function in functions):
        return functions
    from aegis.component.tasks.threaded_calls import threaded

    return [threaded(f.function, f.name, door) if isinstance(f, BlockingFunction) else f for f in functions]
