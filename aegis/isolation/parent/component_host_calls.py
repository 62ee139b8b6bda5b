"""Calls of the embedder's functions and objects in the parent, on behalf of a component in a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aegis.component.conversion.coerce import ConversionError
from aegis.component.planning.world import ImportedFunction
from aegis.component.trampoline import refit
from aegis.engine.threads.await_result import await_result
from aegis.errors import AegisError, CallError, HostError
from aegis.isolation.parent.host_calls import DROP, RESULT_REJECTED, HostFunctions
from aegis.isolation.protocol.channel import ProtocolError
from aegis.isolation.protocol.wit_values import Signature
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.wit.results import as_result
from aegis.wit.types import Result
from aegis.wit.values import Err

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.isolation.parent.handles import ParentHandles

__all__ = ["ComponentFunctions"]


class ComponentFunctions(HostFunctions):
    """The embedder's functions for a component, by the index of the imported function."""

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
            self.handles.drop_object(values[0] if values else None, door)
            return None
        if number == RESULT_REJECTED:
            return self._coerce_rejected(door)
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
        return self._encode_or_release(lambda: self._encode(signature, result, door), number, result, first)

    def _coerce_rejected(self, door: Door) -> Any:
        if self._latest is None:
            raise ProtocolError("rejection of a result that was not sent")
        return self._encode_or_release(lambda: self._coerce_latest(door), *self._latest)

    def _encode_or_release(self, pack: Callable[[], Any], number: int, result: Any, first: int) -> Any:
        """Encode a result with ``pack``; if that fails, release the result."""
        assert self.handles is not None
        function = self._wanted[number]
        try:
            return pack()
        except BaseException as error:
            self.handles.discard(first, function.type.result, result)
            if isinstance(error, CallError):
                raise HostError(f"host function {function} returned an invalid result: {error}") from None
            raise

    def _encode(self, signature: Signature, result: Any, door: Door) -> Any:
        try:
            return signature.pack_result(result)
        except AegisError:
            raise
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError, ConversionError):
            return self._coerce_latest(door)

    def _coerce_latest(self, door: Door) -> Any:
        """Coerce the latest result, which had another type, and encode it; raise ``HostError`` if that fails."""
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
            return await_result(door, called(*arguments), str(function))
        try:
            result = await_result(door, called(*arguments), str(function))
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
        if number in (DROP, RESULT_REJECTED):
            return "a resource's drop" if number == DROP else "a result"
        if number not in self._served:
            raise ProtocolError("unknown host function")
        return str(self._wanted[number])
