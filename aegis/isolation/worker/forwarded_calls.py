"""The answer step of a guest in a worker, if its sandbox has one: the step in the parent answers each host call.

A call of a host function that the worker has is sent to the parent, which may ask the worker to run the function
(:meth:`ForwardedAnswers.own`) before it sends the answer. Functions that the parent has go to the parent anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
        assert self._handles is not None
        signature = wit_values.Signature(call.type, self._handles, self._door)
        return _Converters(
            signature.pack, partial(_component_result, signature), partial(_component_answer, signature, self._ask)
        )


def _core_result(door: Door, call: HostCall) -> Any:
    function = HostFunction(module=call.interface, name=call.function, type=call.type, call=call.answer)
    return fit_result(function, call.answer(), door)


def _core_answer(answer: Any) -> Any:
    return tuple(answer) if isinstance(answer, list) else answer


def _component_result(signature: wit_values.Signature, call: HostCall) -> Any:
    of = call.type.result
    try:
        value = call.answer()
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


def _component_answer(signature: wit_values.Signature, ask: Ask, answer: Any) -> Any:
    try:
        return signature.unpack_result(answer)
    except ProtocolError:
        return signature.unpack_result(ask(host_calls.RESULT_REJECTED, []))
