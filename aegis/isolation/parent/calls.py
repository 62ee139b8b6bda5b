"""Calls by general messages in the parent: of exports of core modules and of components."""

from __future__ import annotations

from collections.abc import Sequence

from aegis.engine.call import core_values
from aegis.errors import AegisError, CallError, LimitExceeded
from aegis.isolation.parent.host_calls import are_of
from aegis.isolation.parent.outlines import check_count
from aegis.isolation.protocol.channel import ProtocolError
from aegis.isolation.protocol.scalar_frames import are_scalars
from aegis.support.lean import TYPE_CHECKING, Any, Protocol, late
from aegis.values import FuncType

if TYPE_CHECKING:
    from aegis.component.conversion import coerce
    from aegis.isolation.parent.calling_store import CallingStore
    from aegis.isolation.parent.handles import ParentHandles
    from aegis.isolation.protocol import wit_values
    from aegis.wit import results, types
else:  # needed only for components
    coerce, wit_values = late("aegis.component.conversion.coerce"), late("aegis.isolation.protocol.wit_values")
    results, types = late("aegis.wit.results"), late("aegis.wit.types")

__all__ = ["ArgumentsRejected", "ComponentCalls", "CoreCalls", "ExportCalls"]


class ArgumentsRejected(Exception):
    """The arguments cannot be encoded, or the worker rejected them, because they do not have the function's types."""


class ExportCalls(Protocol):
    """Calls one export by general messages. ``scalar``: fixed frames can also call it."""

    scalar: bool

    @property
    def name(self) -> str:
        """The export's name in messages."""
        ...

    @property
    def params(self) -> Sequence[Any]:
        """The types of its parameters."""
        ...

    @property
    def results(self) -> Sequence[Any]:
        """The types of its results."""
        ...

    def call(self, values: Sequence[Any]) -> Any:
        """Call the export, within the deadline that is set."""
        ...

    def result(self, value: Any) -> Any:
        """Validate the ``value`` of an answer and convert it to the caller's result."""
        ...


class CoreCalls:
    """Calls an export of a core module."""

    __slots__ = ("_store", "name", "params", "results", "scalar")

    def __init__(self, store: CallingStore, name: str, signature: FuncType) -> None:
        self._store, self.name = store, name
        self.params, self.results = signature.params, signature.results
        self.scalar = are_scalars(self.params, self.results)

    def call(self, values: Sequence[Any]) -> Any:
        params = self.params
        check_count(values, params)
        pairs = enumerate(zip(params, values, strict=True), 1)
        given = [core_values.coerce(kind, value, f"argument {n}") for n, (kind, value) in pairs]
        return self.result(self._store.ask(self._store.call_message(self.name, given)))

    def result(self, value: Any) -> Any:
        of = self.results
        found: Any = [value] if len(of) == 1 else value if of else []
        if not are_of(of, found) or (not of and value is not None):
            raise self._store.worker_failed(ProtocolError("a result of another type than the export's"))
        self._store.in_time()
        return tuple(value) if isinstance(value, list) else value


class ComponentCalls:
    """Calls an exported function of a component."""

    __slots__ = ("_handles", "_signature", "_store", "_streams", "name", "params", "results", "scalar")

    def __init__(self, store: CallingStore, handles: ParentHandles, name: str, function: types.Function) -> None:
        self._store, self._handles, self.name = store, handles, name
        self._signature = wit_values.Signature(function, handles, store.door)
        self.params = [of for _, of in function.params]
        self.results = [] if function.result is None else [function.result]
        self.scalar = are_scalars(self.params, self.results)
        self._streams = not self.scalar and any(map(types.has_ends, self.params))

    def call(self, values: Sequence[Any]) -> Any:
        """Call the export; if its types reject the arguments as they are, coerce them and call again."""
        store, handles = self._store, self._handles
        mark, first = handles.lent, handles.next
        check_count(values, self.params)
        if handles.dropped_ends:
            handles.ends.drop_closed()
        if self._streams:  # a stream can be given away once, so the arguments must be right at once
            values = coerce.fit_arguments(self._signature.function, values)
        try:
            try:
                value = store.converse(self._message(values), mark=mark)
            except ArgumentsRejected:
                store.validated(lambda: handles.withdraw(first))
                fitted = coerce.fit_arguments(self._signature.function, values)
                value = store.ask(self._message(fitted), mark=mark)
        except CallError:
            if not store.spent:  # the guest was not entered, so the caller keeps the objects that it passed as ``own``
                handles.release_loans((), mark)
                store.validated(lambda: handles.withdraw(first))
            raise
        finally:
            handles.release_loans((), mark)
        return self.result(value)

    def result(self, value: Any) -> Any:
        found = self._store.validated(lambda: self._signature.unpack_result(value))
        self._handles.taken.clear()
        self._store.in_time()
        return results.unwrap(found) if isinstance(self._signature.function.result, types.Result) else found

    def _message(self, values: Sequence[Any]) -> list[Any]:
        return self._store.call_message(self.name, self._packed(values))

    def _packed(self, values: Sequence[Any]) -> list[Any]:
        """Encode the arguments; raise ``ArgumentsRejected`` if they do not have the exact types.

        If a limit prevents the call, withdraw the objects that were numbered for the guest.
        """
        first = self._handles.next
        try:
            return self._signature.pack(values)
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError, coerce.ConversionError) as error:
            if isinstance(error, AegisError):
                raise
            raise ArgumentsRejected from None
        except LimitExceeded:
            self._store.validated(lambda: self._handles.withdraw(first))
            raise
