"""The answer step of a guest in a worker, if its sandbox has one: the step in the parent answers each host call.

A call of a host function that the worker has is sent to the parent, which may ask the worker to run the function
(:meth:`ForwardedAnswers.own`) before it sends the answer. Functions that the parent has go to the parent anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from aegis.engine.call.trampoline import fit_result
from aegis.errors import AegisError, HostError
from aegis.isolation.protocol.channel import ProtocolError
from aegis.isolation.worker.host_calls import Ask
from aegis.support.lean import TYPE_CHECKING, Any, NamedTuple, late
from aegis.text import shown
from aegis.values import FuncType, HostCall, HostFunction, MemoryFault
from aegis.wit.err import Err

if TYPE_CHECKING:
    from aegis.component.conversion import coerce
    from aegis.engine.call.door import Door
    from aegis.isolation.parent import host_calls
    from aegis.isolation.protocol import wit_values
    from aegis.isolation.worker.component_host_calls import WorkerHandles
    from aegis.wit import results, types
else:  # needed only for components
    coerce, wit_values = late("aegis.component.conversion.coerce"), late("aegis.isolation.protocol.wit_values")
    host_calls = late("aegis.isolation.parent.host_calls")
    results, types = late("aegis.wit.results"), late("aegis.wit.types")

__all__ = ["ForwardedAnswers"]

_END_NUMBERS = 3 << 51
"""The first number of streams and futures that are shown; those of resources begin at ``WORKER_NUMBERS``, 1 << 52."""


class _Converters(NamedTuple):
    """The converters of one function: for its arguments, for its own result, and for the answer of the parent."""

    pack: Callable[[Any], list[Any]]
    pack_own: Callable[[HostCall], Any]
    unpack: Callable[[Any], Any]


class ForwardedAnswers:
    """Implements :class:`aegis.values.AnswerStep`: forwards host calls to the parent.

    ``numbers`` returns the number of each import by module or interface, and name. ``remote`` lists the imports that
    the parent serves, as in :attr:`~aegis.isolation.protocol.specs.SandboxSpec.remote`.
    """

    def __init__(
        self, remote: Iterable[tuple[str, str]], ask: Ask, numbers: Callable[[], Mapping[tuple[str, str], int]],
        handles: WorkerHandles | None,
    ) -> None:  # fmt: skip
        self._remote, self._ask, self._find_numbers, self._handles = frozenset(remote), ask, numbers, handles
        self._numbers: Mapping[tuple[str, str], int] | None = None
        self._ends = _ShownEnds(handles)
        self._converters: dict[int, _Converters] = {}
        self._waiting: list[tuple[HostCall, _Converters]] = []
        """The calls that wait for the parent's answer, innermost last."""

    def use(self, door: Door) -> None:
        """Answer the calls of ``door``, whose budgets limit the values in messages."""
        self._door = door

    def __call__(self, call: HostCall, /) -> Any:
        if self._is_remote(call):
            return call.answer()
        if self._numbers is None:
            self._numbers = self._find_numbers()
        number = self._numbers[call.interface, call.function]
        convert = self._converters.get(number)
        if convert is None:
            convert = self._converters[number] = self._made(call)
        with self._ends.during_call():
            arguments = convert.pack(call.arguments)
            self._waiting.append((call, convert))
            try:
                answer = self._ask(number, arguments)
            finally:
                self._waiting.pop()
            return convert.unpack(answer)

    def own(self) -> Any:
        """Run the host function of the innermost call that waits, and return its encoded result."""
        call, convert = self._waiting[-1]
        try:
            return convert.pack_own(call)
        except (AegisError, MemoryFault):
            raise
        except Exception as error:
            name = f"{call.interface}.{call.function}"
            raise HostError(f"host function {name} raised {type(error).__name__}: {shown(error, 200, str)}") from error

    def _is_remote(self, call: HostCall) -> bool:
        if isinstance(call.type, FuncType):
            return (call.interface, call.function) in self._remote
        return ((call.interface, "") if call.interface else ("", call.function)) in self._remote

    def _made(self, call: HostCall) -> _Converters:
        if isinstance(call.type, FuncType):
            return _Converters(list, partial(_core_result, self._door), _core_answer)
        signature = wit_values.Signature(call.type, self._ends, self._door)
        return _Converters(
            signature.pack, partial(_component_result, signature, self._door),
            partial(_component_answer, signature, self._ask),
        )  # fmt: skip


class _ShownEnds:
    """A handle table that shows streams and futures to the answer step without giving them away.

    The step gets an object for each, which it may only return. The numbers are valid until the call has its answer.
    """

    def __init__(self, handles: WorkerHandles | None) -> None:
        self._handles = handles
        self._shown: dict[int, Any] = {}
        self._next = _END_NUMBERS

    @contextmanager
    def during_call(self) -> Iterator[None]:
        """Forget the streams of a call, and of calls within it, at its end."""
        first = self._next
        try:
            yield
        finally:
            for number in range(first, self._next):
                del self._shown[number]
            self._next = first

    def number(self, value: Any, resource: Any, *, own: bool) -> int:
        assert self._handles is not None
        return self._handles.number(value, resource, own=own)

    def find(self, number: int, resource: Any, *, own: bool) -> Any:
        assert self._handles is not None
        return self._handles.find(number, resource, own=own)

    def end_number(self, value: Any, of: Any) -> int:
        number, self._next = self._next, self._next + 1
        self._shown[number] = value
        return number

    def find_end(self, number: int, of: Any) -> Any:
        if number < _END_NUMBERS:
            assert self._handles is not None
            return self._handles.find_end(number, of)
        if number not in self._shown:
            raise HostError("the answer to a host call contains a stream or future of another call")
        return self._shown[number]


def _core_result(door: Door, call: HostCall) -> Any:
    function = HostFunction(module=call.interface, name=call.function, type=call.type, call=call.answer)
    return fit_result(function, call.answer(), door)


def _core_answer(answer: Any) -> Any:
    return tuple(answer) if isinstance(answer, list) else answer


def _component_result(signature: wit_values.Signature, door: Door, call: HostCall) -> Any:
    of = call.type.result
    try:
        value = _complete(door, call.answer())
    except Err as declared:
        value = declared
    if isinstance(of, types.Result):
        value = results.as_result(value)
    elif isinstance(value, Err):
        raise value
    try:
        return signature.pack_result(value)
    except AegisError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError, coerce.ConversionError):
        return signature.pack_result(coerce.fit(of, value, "its result"))


def _complete(door: Door, value: Any) -> Any:
    """Return a result; wait for one that comes later, with all tasks of the guest, because the answer step waits."""
    if not (hasattr(value, "interest") and hasattr(value, "result")):
        return value
    while not value.ready():
        door.wait_for([value.interest()])
    return value.result()


def _component_answer(signature: wit_values.Signature, ask: Ask, answer: Any) -> Any:
    try:
        return signature.unpack_result(answer)
    except ProtocolError:
        return signature.unpack_result(ask(host_calls.RESULT_REJECTED, []))
