"""Host calls that the parent answers, on behalf of a guest in a worker: those of the embedder's functions.

If the sandbox has an answer step, the parent answers those of the worker's own functions too: its step decides, and
the function that it may call runs in the worker (:mod:`.worker_functions`). The step, like every function here, gets
only values that were checked against the types of the import.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from aegis.engine.call.answer import answered
from aegis.engine.call.classify import trap_of
from aegis.engine.call.trampoline import fit_result
from aegis.errors import AegisError, HostError, PolicyError
from aegis.isolation.parent.worker_functions import worker_function
from aegis.isolation.protocol.budgets import is_single
from aegis.isolation.protocol.channel import ProtocolError
from aegis.isolation.protocol.errors import to_plain
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.values import HostFunction, MemoryFault

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.isolation.parent.calling_store import CallingStore
    from aegis.isolation.parent.handles import ParentHandles

__all__ = [
    "DROP",
    "RESULT_REJECTED",
    "STREAM_DROP",
    "STREAM_TAKE",
    "TOO_DEEP",
    "HostFunctions",
    "ModuleFunctions",
    "are_of",
]

DROP, RESULT_REJECTED, TOO_DEEP, STREAM_TAKE, STREAM_DROP = -1, -2, -3, -4, -5
"""Numbers for purposes other than functions: the guest dropped an object; the worker rejected the last result; never
sent by a worker, a call that is nested too deep; the guest reads elements of a stream, or reads it no more."""


class HostFunctions:
    """The functions that a worker may call, by number. ``any``: whether there are any."""

    handles: ParentHandles | None = None
    any = False
    store: Callable[[], CallingStore | None]
    """A weak reference to the store of the worker; the store refers to this object."""

    def call(self, door: Door, number: Any, values: Any, *, later: bool = False) -> tuple[bool, Any]:
        """Call a function; return whether it failed, and its encoded result or error. The door stores the exception.

        ``later``: the answer may be a :class:`~aegis.isolation.parent.overlapping.PendingAnswer` instead.
        """
        if type(number) is not int or type(values) is not list:
            raise ProtocolError("malformed host call")
        if number >= 0:
            door.calls_left -= 1
            if door.calls_left < 0:
                raise ProtocolError("host-call limit exceeded")
        answer = self.answer_later if later else self.answer
        return self.outcome(door, number, lambda: answer(door, number, values))

    def outcome(self, door: Door, number: int, produce: Callable[[], Any]) -> tuple[bool, Any]:
        """Return whether ``produce`` failed, and the encoded result that it returns or its error."""
        failed = None if door.failure is None else door.serving
        try:
            if number == TOO_DEEP:
                raise RecursionError("calls between guest and host functions are nested too deep")
            door.serving = self.label(number)
            answer = produce()
            door.serving = failed
            if door.stop is not None or time.monotonic() >= door.deadline:
                if hasattr(answer, "finish"):
                    answer.cancel()  # the event loop has only a weak reference to its task
                raise door.late(self.label(number))
            return False, answer
        except ProtocolError:
            raise
        except BaseException as error:
            if door.failure is None:
                door.failure = error
                if not isinstance(error, HostError) and number != TOO_DEEP:
                    door.serving = self.label(number)
            elif failed is not None:
                door.serving = failed  # the guest ends with the first failure: others came before the worker knew
            if isinstance(error, MemoryFault):
                error = trap_of(error, door.serving)
            # The message of a PolicyError contains host paths, that of a HostError may quote an exception or a value of
            # the application: a worker must not learn them; the door has the error.
            if isinstance(error, AegisError) and not isinstance(error, (HostError, PolicyError)):
                return True, to_plain(error)
            return True, to_plain(HostError("a host function raised"))

    def answer(self, door: Door, number: int, values: list[Any]) -> Any:
        """Call the function and return its encoded result."""
        raise ProtocolError("host call by a sandbox without host functions")

    def answer_later(self, door: Door, number: int, values: list[Any]) -> Any:
        """Call the function and return its encoded result, or an answer that comes later."""
        raise ProtocolError("a host call whose answer may not come later")

    def in_worker(self, unpack: Callable[[Any], Any]) -> Callable[..., Any]:
        """Return the host function in the worker whose call the worker waits for; see :func:`worker_function`."""
        store = self.store()
        assert store is not None  # it serves the call
        return worker_function(store, unpack)

    def label(self, number: int) -> str:
        """Return the function's name for errors."""
        return "?"


class ModuleFunctions(HostFunctions):
    """The functions for a core module, by the index of their import.

    ``own`` are the indices of the embedder's functions; the worker has the others, which an answer step needs as well.
    """

    def __init__(self, functions: Sequence[HostFunction], own: frozenset[int], *, all_answered: bool) -> None:
        self._functions, self._own, self._all_answered = functions, own, all_answered
        self.any = bool(functions) if all_answered else bool(own)

    def _function(self, number: int) -> HostFunction:
        if not 0 <= number < len(self._functions) or not (self._all_answered or number in self._own):
            raise ProtocolError("unknown host function")
        return self._functions[number]

    def answer(self, door: Door, number: int, values: list[Any]) -> Any:
        function = self._function(number)
        kinds, results = function.type.params, function.type.results
        if not are_of(kinds, values):
            raise ProtocolError("arguments of other types than the import's")

        def unpack(value: Any) -> Any:
            if not are_of(results, [value] if len(results) == 1 else [] if value is None else value):
                raise ProtocolError("a result of another type than the import's")
            return tuple(value) if isinstance(value, list) else value

        call = function.call if number in self._own else self.in_worker(unpack)
        result = answered(door, function.module, function.name, function.type, call, tuple(values))
        return fit_result(function, result, door)

    def label(self, number: int) -> str:
        function = self._function(number)
        return f"{function.module}.{function.name}"


def are_of(kinds: Sequence[str], values: Any) -> bool:
    """Return whether a value from a worker is a list of core values with these types."""
    return type(values) is list and len(values) == len(kinds) and all(map(_is_of, kinds, values))


def _is_of(kind: str, value: Any) -> bool:
    if kind[0] == "f":
        return type(value) is float and (kind == "f64" or is_single(value))
    bits = int(kind[1:])
    return type(value) is int and -(1 << (bits - 1)) <= value < 1 << (bits - 1)
