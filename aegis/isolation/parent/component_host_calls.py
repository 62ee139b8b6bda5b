"""Calls of the embedder's functions and objects in the parent, on behalf of a component in a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from aegis.component.conversion.coerce import ConversionError
from aegis.component.planning.world import ImportedFunction
from aegis.component.trampoline import call_method, refit
from aegis.engine.call.answer import answered
from aegis.engine.threads.await_result import await_result
from aegis.errors import AegisError, CallError, HostError
from aegis.isolation.parent.handles import WorkerResource
from aegis.isolation.parent.host_calls import DROP, RESULT_REJECTED, STREAM_DROP, STREAM_TAKE, HostFunctions
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
    """The functions for a component, by the index of the imported function.

    ``served`` are the indices of those in the parent: of the embedder, and of interfaces that the index places there.
    The worker has the others, which an answer step needs as well (``all_answered``).
    """

    def __init__(
        self, wanted: Sequence[ImportedFunction], functions: Sequence[Callable[..., Any]], handles: ParentHandles,
        served: frozenset[int], *, all_answered: bool,
    ) -> None:  # fmt: skip
        self._wanted, self._functions, self._served = wanted, functions, served
        self._numbers = frozenset(range(len(wanted))) if all_answered else served
        self._signatures: dict[int, Signature] = {}
        self.handles = handles
        self.any = bool(self._numbers)
        self._latest: tuple[int, Any, int] | None = None

    def answer(self, door: Door, number: int, values: list[Any]) -> Any:
        assert self.handles is not None
        if number == DROP:
            self.handles.drop_object(values[0] if values else None, door)
            return None
        if number == RESULT_REJECTED:
            return self._coerce_rejected(door)
        if number in (STREAM_TAKE, STREAM_DROP):
            return self._stream(number, values)
        function, signature = self._wanted[number], self._signature(number, door)
        arguments = signature.unpack(values)
        self.handles.taken.clear()
        self._latest = None
        result = self._result(door, number, arguments)
        if function.type.result is None and result is not None:
            refit(function, result, door)
        first = self.handles.next
        self._latest = number, result, first
        return self._encode_or_release(lambda: self._encode(signature, result, door), number, result, first)

    def _stream(self, number: int, values: list[Any]) -> Any:
        """Serve a read of a stream of the application, or its end."""
        assert self.handles is not None
        if len(values) != (2 if number == STREAM_TAKE else 1):
            raise ProtocolError("malformed request for a stream")
        return self.handles.take_elements(*values) if number == STREAM_TAKE else self.handles.drop_end(*values)

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

    def _result(self, door: Door, number: int, arguments: list[Any]) -> Any:
        function = self._wanted[number]
        called = self._called(door, number, arguments)
        try:
            result = answered(door, function.interface, function.name, function.type, called, tuple(arguments))
            result = await_result(door, result, str(function))
        except Err as declared:
            if not isinstance(function.type.result, Result):
                raise
            return declared
        return as_result(result) if isinstance(function.type.result, Result) else result

    def _called(self, door: Door, number: int, arguments: list[Any]) -> Callable[..., Any]:
        """Return the host function itself: in the worker, or here, also for a method of an object that is here."""
        method = self._wanted[number].method
        here = number in self._served or (method and not isinstance(arguments[0], WorkerResource))
        if not here:
            return self.in_worker(self._signature(number, door).unpack_result)
        return partial(call_method, method) if method else self._functions[number]

    def _signature(self, number: int, door: Door) -> Signature:
        made = self._signatures.get(number)
        if made is None:
            assert self.handles is not None
            made = self._signatures[number] = Signature(self._wanted[number].type, self.handles, door)
        return made

    def label(self, number: int) -> str:
        if number in (STREAM_TAKE, STREAM_DROP):
            return "a stream of the host"
        if number in (DROP, RESULT_REJECTED):
            return "a resource's drop" if number == DROP else "a result"
        if number not in self._numbers:
            raise ProtocolError("unknown host function")
        return str(self._wanted[number])
