"""Calls of the embedder's functions in the parent, on behalf of a guest in a worker."""

from __future__ import annotations

import time
from collections.abc import Sequence

from aegis.engine.call.trampoline import fit_result
from aegis.errors import AegisError, HostError, PolicyError
from aegis.isolation.protocol.budgets import is_single
from aegis.isolation.protocol.channel import ProtocolError
from aegis.isolation.protocol.errors import to_plain
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.values import HostFunction

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.isolation.parent.handles import ParentHandles

__all__ = ["DROP", "RESULT_REJECTED", "TOO_DEEP", "HostFunctions", "ModuleFunctions", "are_of"]

DROP, RESULT_REJECTED, TOO_DEEP = -1, -2, -3
"""Numbers for purposes other than functions: the guest dropped an object; the worker rejected the last result; and,
never sent by a worker, a call that is nested too deep."""


class HostFunctions:
    """The functions that a worker may call, by number. ``any``: whether there are any."""

    handles: ParentHandles | None = None
    any = False

    def call(self, door: Door, number: Any, values: Any) -> tuple[bool, Any]:
        """Call a function; return whether it failed, and its encoded result or error. The door stores the exception."""
        if type(number) is not int or type(values) is not list:
            raise ProtocolError("malformed host call")
        if number >= 0:
            door.calls_left -= 1
            if door.calls_left < 0:
                raise ProtocolError("host-call limit exceeded")
        try:
            answer = self.serve_host_function(door, number, values)
            if door.stop is not None or time.monotonic() >= door.deadline:
                raise door.late(self.label(number))
            return False, answer
        except ProtocolError:
            raise
        except BaseException as error:
            if door.failure is None:
                door.failure = error
                if not isinstance(error, HostError) and number != TOO_DEEP:
                    door.serving = self.label(number)
            # The message of a PolicyError contains host paths, which a worker must not learn; the door has the error.
            if isinstance(error, AegisError) and not isinstance(error, PolicyError):
                return True, to_plain(error)
            return True, to_plain(HostError("a host function raised"))

    def serve_host_function(self, door: Door, number: int, values: list[Any]) -> Any:
        """Return the function's encoded result.

        The supervisor reads the local variable ``label`` of this frame to name a host function that hangs.
        """
        if number == TOO_DEEP:
            raise RecursionError("calls between guest and host functions are nested too deep")
        label = self.label(number)
        answer = self.answer(door, number, values)
        del label
        return answer

    def answer(self, door: Door, number: int, values: list[Any]) -> Any:
        """Call the function and return its encoded result."""
        raise ProtocolError("host call by a sandbox without host functions")

    def label(self, number: int) -> str:
        """Return the function's name for errors."""
        return "?"


class ModuleFunctions(HostFunctions):
    """The embedder's functions for a core module, by the index of their import."""

    def __init__(self, functions: Sequence[HostFunction | None]) -> None:
        self._functions = functions
        self.any = any(function is not None for function in functions)

    def _function(self, number: int) -> HostFunction:
        function = self._functions[number] if 0 <= number < len(self._functions) else None
        if function is None:
            raise ProtocolError("unknown host function")
        return function

    def answer(self, door: Door, number: int, values: list[Any]) -> Any:
        function = self._function(number)
        kinds = function.type.params
        if not are_of(kinds, values):
            raise ProtocolError("arguments of other types than the import's")
        door.serving = self.label(number)
        result = function.call(*values)
        door.serving = None
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
