"""The *answer* step of the door: one place where a host call is answered, in this process and for a worker.

By default the host function itself answers; trampolines then call it directly, so the seam costs nothing. A door with
an :class:`~aegis.values.AnswerStep` passes it each call instead: a plan of faults, a recorder, a replayer.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident

from aegis.engine.call.door import Door
from aegis.engine.threads.await_result import await_result
from aegis.errors import SandboxStateError
from aegis.support.lean import TYPE_CHECKING, Any, late
from aegis.values import FuncType, HostCall

if TYPE_CHECKING:
    from aegis.wit import types, values
else:  # needed only for components
    types, values = late("aegis.wit.types"), late("aegis.wit.values")

__all__ = ["answered"]


def answered(
    door: Door, interface: str, name: str, of: Any, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    """Return the answer to a host call: that of the door's step, without one that of ``function``."""
    step = door.answer
    if step is None:
        return function(*arguments)
    thread, serving = get_ident(), door.serving
    over = False

    def answer() -> Any:
        if over or get_ident() != thread:
            raise SandboxStateError(
                f"the call of {serving} is over, or belongs to another thread: use answer() inside the step, on its "
                "thread",
                state="busy",
            )
        return _undeclared(of, await_result(door, function(*arguments), str(serving)))

    try:
        return step(HostCall(interface, name, of, arguments, answer))
    finally:
        over = True


def _undeclared(of: Any, value: Any) -> Any:
    """Return a host function's result in one form if its type is a ``result``: the payload of ``ok``, or raise ``Err``.

    ``Ok`` remains around a payload that is itself a ``result``, as in the result of a host function.
    """
    if isinstance(of, FuncType) or not isinstance(of.result, types.Result):
        return value
    if isinstance(value, values.Err):
        raise value
    wrapped = isinstance(value, values.Ok) and not isinstance(of.result.ok, types.Result)
    return value.value if wrapped else value
