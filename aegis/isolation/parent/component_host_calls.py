"""Calls of the embedder's functions and objects in the parent, on behalf of a component in a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from aegis.component.conversion.coerce import ConversionError
from aegis.component.planning.world import ImportedFunction
from aegis.component.trampoline import call_method, refit
from aegis.engine.call.answer import answered
from aegis.engine.threads.await_result import await_result, awaited_later
from aegis.errors import AegisError, CallError, HostError
from aegis.isolation.parent.handles import WorkerResource
from aegis.isolation.parent.host_calls import DROP, RESULT_REJECTED, STREAM_DROP, STREAM_TAKE, HostFunctions
from aegis.isolation.parent.none_yet import NONE_YET
from aegis.isolation.protocol.channel import ProtocolError
from aegis.isolation.protocol.wit_values import Signature
from aegis.support.lean import TYPE_CHECKING, Any, late
from aegis.values import Interest
from aegis.wit.results import as_result
from aegis.wit.types import Result
from aegis.wit.values import Err

if TYPE_CHECKING:
    from aegis.component.tasks import host_calls
    from aegis.engine.call.door import Door
    from aegis.isolation.parent.handles import ParentHandles
else:  # needed only for asynchronous components
    host_calls = late("aegis.component.tasks.host_calls")

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
        if number == STREAM_DROP:
            if len(values) != 1:
                raise ProtocolError("malformed request for a stream")
            return self.handles.drop_end(*values)
        if number == STREAM_TAKE:
            raise ProtocolError("a request for elements of a stream whose answer must not come later")
        arguments = self._arguments(door, number, values)
        return self._finished(door, number, self._result(door, number, arguments, later=False))

    def answer_later(self, door: Door, number: int, values: list[Any]) -> Any:
        assert self.handles is not None
        if number == STREAM_TAKE:
            if len(values) != 2:
                raise ProtocolError("malformed request for a stream")
            found = self.handles.take_elements(*values)
            return _PendingElements(self, door, *values) if found is NONE_YET else found
        if number not in self._served or not self._wanted[number].type.is_async:
            raise ProtocolError("a host call whose answer may not come later")
        result = self._result(door, number, self._arguments(door, number, values), later=True)
        later = _later_of(door, result, str(self._wanted[number]))
        return self._finished(door, number, result) if later is None else _PendingCall(self, door, number, later)

    def _arguments(self, door: Door, number: int, values: list[Any]) -> list[Any]:
        assert self.handles is not None
        arguments = self._signature(number, door).unpack(values)
        self.handles.taken.clear()
        self._latest = None
        return arguments

    def _finished(self, door: Door, number: int, result: Any) -> Any:
        """Encode the result of a call that waits for it."""
        assert self.handles is not None
        function, signature = self._wanted[number], self._signature(number, door)
        if isinstance(function.type.result, Result):
            result = as_result(result)
        elif function.type.result is None and result is not None:
            refit(function, result)
        first = self.handles.next
        self._latest = number, result, first
        return self._encode_or_release(lambda: self._encode(signature, result, door), number, result, first)

    def finished_later(self, door: Door, number: int, later: Any) -> Any:
        """Encode the result of a call that went on; coerce it first, because the worker cannot reject it."""
        assert self.handles is not None
        function, first = self._wanted[number], self.handles.next
        try:
            result = later.result()
        except Err as declared:
            if not isinstance(function.type.result, Result):
                raise
            result = declared
        pack = self._signature(number, door).pack_result
        return self._encode_or_release(lambda: pack(refit(function, result)), number, result, first)

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
        return self._signature(number, door).pack_result(refit(self._wanted[number], result))

    def _result(self, door: Door, number: int, arguments: list[Any], *, later: bool) -> Any:
        """Call a function; return what it returns, and unless ``later`` await that if it is an awaitable."""
        function = self._wanted[number]
        called = self._called(door, number, arguments)
        try:
            result = answered(door, function.interface, function.name, function.type, called, tuple(arguments))
            if not later:
                result = await_result(door, result, str(function))
        except Err as declared:
            if not isinstance(function.type.result, Result):
                raise
            return declared
        return result

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


def _later_of(door: Door, result: Any, name: str) -> Any:
    """Return the operation that completes a call, if the host function returned one or an awaitable."""
    if hasattr(type(result), "__await__"):
        return awaited_later(door, result, name)
    return result if host_calls.is_later(type(result)) else None


class _PendingCall:
    """The answer of a host function that goes on; a :class:`~aegis.isolation.parent.overlapping.PendingAnswer`."""

    def __init__(self, host: ComponentFunctions, door: Door, number: int, later: Any) -> None:
        self._host, self._door, self._number, self._later = host, door, number, later
        self.ready, self.interest, self.cancel = later.ready, later.interest, later.cancel
        self.wakes_door: bool = getattr(later, "wakes_door", False)

    def finish(self) -> tuple[bool, Any]:
        """Return whether the function failed, and its encoded result or error."""
        door, number = self._door, self._number
        return self._host.outcome(door, number, lambda: self._host.finished_later(door, number, self._later))

    def waits_in(self, call: object) -> bool:
        """Return whether the function runs as ``call``."""
        return self._later is call


class _PendingElements:
    """A read of a stream or future of the application that has nothing yet."""

    def __init__(self, host: ComponentFunctions, door: Door, number: int, count: int) -> None:
        assert host.handles is not None
        self._host, self._handles, self._door, self._number, self._count = host, host.handles, door, number, count
        self._offered = host.handles.ends.offered(number)
        self.wakes_door: bool = self._offered.wakes_door

    def ready(self) -> bool:
        """Return whether there are elements, or the end."""
        return bool(self._offered.ready())

    def interest(self) -> Interest:
        """Return the events to wait for."""
        return self._offered.interest()  # type: ignore[no-any-return]

    def finish(self) -> tuple[bool, Any] | None:
        """Return the elements as the answer to a host call; ``None`` if there are none yet."""
        take = self._handles.take_elements
        failed, answer = self._host.outcome(
            self._door, STREAM_TAKE, lambda: take(self._number, self._count, again=True)
        )
        return None if answer is NONE_YET else (failed, answer)

    def cancel(self) -> None:
        """Close the end, unless it was closed before: the guest reads no more."""
        if self._handles.ends.offers(self._number):
            self._handles.drop_end(self._number)

    def waits_in(self, call: object) -> bool:
        """Return ``False``: no host function runs."""
        return False
