"""In the parent: the embedder's functions, called for a guest in a worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from aegis.component.fit import Unfit
from aegis.component.trampoline import refit
from aegis.component.world import ImportedFunction
from aegis.engine.trampoline import fit_result
from aegis.errors import AegisError, CallError, HostError
from aegis.isolation.codec import Signature, is_single
from aegis.isolation.faults import to_plain
from aegis.isolation.wire import Broken
from aegis.lean import TYPE_CHECKING, Any
from aegis.values import HostFunction
from aegis.wit.results import as_result
from aegis.wit.types import Result
from aegis.wit.values import Err

if TYPE_CHECKING:
    from aegis.engine.door import Door
    from aegis.isolation.objects import ParentHandles

__all__ = ["DEEP", "DROP", "UNFIT", "ComponentFunctions", "HostFunctions", "ModuleFunctions", "are_of"]

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
            return True, to_plain(error if isinstance(error, AegisError) else HostError("a host function raised"))

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


class ComponentFunctions(HostFunctions):
    """The embedder's objects for a component, by the number of the imported function."""

    def __init__(
        self, wanted: Sequence[ImportedFunction], functions: Sequence[Callable[..., Any]], handles: ParentHandles,
        served: set[int],
    ) -> None:  # fmt: skip
        self._wanted, self._functions, self._served = wanted, functions, served
        self._signatures: dict[int, Signature] = {}
        self.handles = handles
        self.any = bool(served)
        self._latest: tuple[int, Any, int] | None = None

    def answer(self, door: Door, number: int, values: list[Any]) -> Any:
        assert self.handles is not None
        if number == DROP:
            self.handles.drop_object(values[0] if values else None)
            return None
        if number == UNFIT:
            return self._refitted(door)
        function, signature = self._wanted[number], self._signature(number, door)
        arguments = signature.unpack(values)
        self.handles.taken.clear()
        self._latest = None
        door.serving = str(function)
        result = self._result(function, number, arguments, door)
        door.serving = None
        if function.type.result is None and result is not None:
            refit(function, result, door)
        first = self.handles.next
        self._latest = number, result, first
        return self._released(lambda: self._packed(signature, result, door), number, result, first)

    def _refitted(self, door: Door) -> Any:
        if self._latest is None:
            raise Broken("complaints about an answer that was not given")
        return self._released(lambda: self._fitted(door), *self._latest)

    def _released(self, pack: Callable[[], Any], number: int, result: Any, first: int) -> Any:
        """Return a result for the wire; one that cannot pass is released."""
        assert self.handles is not None
        function = self._wanted[number]
        try:
            return pack()
        except BaseException as error:
            self.handles.discard(first, function.type.result, result)
            if isinstance(error, CallError):
                raise HostError(f"host function {function} broke its type: {error}") from None
            raise

    def _packed(self, signature: Signature, result: Any, door: Door) -> Any:
        try:
            return signature.pack_result(result)
        except AegisError:
            raise
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError, Unfit):
            return self._fitted(door)

    def _fitted(self, door: Door) -> Any:
        """Return the latest answer made fit, which went over as it was; or raise what is wrong with it."""
        assert self._latest is not None
        assert self.handles is not None
        number, result, first = self._latest
        self._latest = None
        self.handles.withdraw(first)
        return self._signature(number, door).pack_result(refit(self._wanted[number], result, door))

    def _result(self, function: ImportedFunction, number: int, arguments: list[Any], door: Door) -> Any:
        called = self._functions[number]
        if function.method:
            called, arguments = getattr(arguments[0], function.method), arguments[1:]
        if not isinstance(function.type.result, Result):
            return door.settled(called(*arguments), str(function))
        try:
            result = door.settled(called(*arguments), str(function))
        except Err as declared:
            return declared
        return as_result(result)

    def _signature(self, number: int, door: Door) -> Signature:
        made = self._signatures.get(number)
        if made is None:
            assert self.handles is not None
            made = self._signatures[number] = Signature(self._wanted[number].type, self.handles, door)
        return made

    def label(self, number: int) -> str:
        if number in (DROP, UNFIT):
            return "a resource's drop" if number == DROP else "a result"
        if number not in self._served:
            raise Broken("a host function that nobody offered")
        return str(self._wanted[number])
