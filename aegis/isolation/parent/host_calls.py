"""In the parent: the embedder's functions, called for a guest in a worker."""

from __future__ import annotations

import time
from collections.abc import Sequence

from aegis.engine.call.trampoline import fit_result
from aegis.errors import AegisError, HostError, PolicyError
from aegis.isolation.protocol.budgets import is_single
from aegis.isolation.protocol.channel import Broken
from aegis.isolation.protocol.errors import to_plain
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.values import HostFunction

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.isolation.parent.handles import ParentHandles

__all__ = ["DEEP", "DROP", "UNFIT", "HostFunctions", "ModuleFunctions", "are_of"]

DROP, UNFIT, DEEP = -1, -2, -3
"""Numbers that are no function: a guest dropped an object; the last answer was not of its type; and our own
for a call that is too deep inside others."""


class HostFunctions:
    """What a worker may have called here, by number. ``any`` tells whether there is something."""

    handles: ParentHandles | None = None
    any = False

    def call(self, door: Door, number: Any, values: Any) -> tuple[bool, Any]:
        """Call one; return whether it failed, and its answer or its error. A failure is kept at the door."""
        if type(number) is not int or type(values) is not list:
            raise Broken("a host call that cannot be read")
        if number >= 0:
            door.calls_left -= 1
            if door.calls_left < 0:
                raise Broken("more host calls than it may make")
        try:
            answer = self.serve_host_function(door, number, values)
            if door.stop is not None or time.monotonic() >= door.deadline:
                raise door.late(self.label(number))
            return False, answer
        except Broken:
            raise
        except BaseException as error:
            if door.failure is None:
                door.failure = error
                if not isinstance(error, HostError) and number != DEEP:
                    door.serving = self.label(number)
            # A policy's error names host paths, which a worker is not to learn; the door has the error itself.
            if isinstance(error, AegisError) and not isinstance(error, PolicyError):
                return True, to_plain(error)
            return True, to_plain(HostError("a host function raised"))

    def serve_host_function(self, door: Door, number: int, values: list[Any]) -> Any:
        """Return what the function answers; who waits for it in vain finds ``label`` on the stack."""
        if number == DEEP:
            raise RecursionError("guest and host functions call one another too deep")
        label = self.label(number)
        answer = self.answer(door, number, values)
        del label
        return answer

    def answer(self, door: Door, number: int, values: list[Any]) -> Any:
        """Return what the function answers, for the wire."""
        raise Broken("a host function where there is none")

    def label(self, number: int) -> str:
        """Return the function's name for errors."""
        return "?"


class ModuleFunctions(HostFunctions):
    """The embedder's functions for a core module, by the number of their import."""

    def __init__(self, functions: Sequence[HostFunction | None]) -> None:
        self._functions = functions
        self.any = any(function is not None for function in functions)

    def _function(self, number: int) -> HostFunction:
        function = self._functions[number] if 0 <= number < len(self._functions) else None
        if function is None:
            raise Broken("a host function that nobody offered")
        return function

    def answer(self, door: Door, number: int, values: list[Any]) -> Any:
        function = self._function(number)
        kinds = function.type.params
        if not are_of(kinds, values):
            raise Broken("values of other types than the import's")
        door.serving = self.label(number)
        result = function.call(*values)
        door.serving = None
        return fit_result(function, result, door)

    def label(self, number: int) -> str:
        function = self._function(number)
        return f"{function.module}.{function.name}"


def are_of(kinds: Sequence[str], values: Any) -> bool:
    """Tell whether what came from a worker is a list of core values of these types."""
    return type(values) is list and len(values) == len(kinds) and all(map(_is_of, kinds, values))


def _is_of(kind: str, value: Any) -> bool:
    if kind[0] == "f":
        return type(value) is float and (kind == "f64" or is_single(value))
    bits = int(kind[1:])
    return type(value) is int and -(1 << (bits - 1)) <= value < 1 << (bits - 1)
