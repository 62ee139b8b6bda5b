"""In the parent: how exports are called by general messages, of core modules and of components."""

from __future__ import annotations

from collections.abc import Sequence

from aegis.engine.call import core_values
from aegis.errors import AegisError, CallError, LimitExceeded
from aegis.isolation.parent.host_calls import are_of
from aegis.isolation.parent.outlines import check_count
from aegis.isolation.protocol.channel import Broken
from aegis.isolation.protocol.scalar_frames import are_scalars
from aegis.support.lean import TYPE_CHECKING, Any, Protocol, late
from aegis.values import FuncType

if TYPE_CHECKING:
    from aegis.component.conversion import coerce
    from aegis.isolation.parent.handles import ParentHandles
    from aegis.isolation.parent.store import IsolatedStore
    from aegis.isolation.protocol import wit_values
    from aegis.wit import results, types
else:  # of components alone
    coerce, wit_values = late("aegis.component.conversion.coerce"), late("aegis.isolation.protocol.wit_values")
    results, types = late("aegis.wit.results"), late("aegis.wit.types")

__all__ = ["ComponentCalls", "CoreCalls", "ExportCalls", "MisfitArguments"]


class MisfitArguments(Exception):
    """The worker says that the arguments are not of the function's types."""


class ExportCalls(Protocol):
    """Calls one export by general messages. ``scalar``: fixed frames can call it too."""

    scalar: bool

    @property
    def name(self) -> str:
        """The export's name on the wire."""
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
        """Call it, inside whatever deadline is armed."""
        ...

    def result(self, value: Any) -> Any:
        """Return what the caller gets of an answer's ``value``, which is the worker's word."""
        ...


class CoreCalls:
    """Calls an export of a core module."""

    __slots__ = ("_store", "name", "params", "results", "scalar")

    def __init__(self, store: IsolatedStore, name: str, signature: FuncType) -> None:
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
            raise self._store.worker_failed(Broken("a result of other types than the export's"))
        self._store.in_time()
        return tuple(value) if isinstance(value, list) else value


class ComponentCalls:
    """Calls an exported function of a component."""

    __slots__ = ("_handles", "_signature", "_store", "name", "params", "results", "scalar")

    def __init__(self, store: IsolatedStore, handles: ParentHandles, name: str, function: types.Function) -> None:
        self._store, self._handles, self.name = store, handles, name
        self._signature = wit_values.Signature(function, handles, store.door)
        self.params = [of for _, of in function.params]
        self.results = [] if function.result is None else [function.result]
        self.scalar = are_scalars(self.params, self.results)

    def call(self, values: Sequence[Any]) -> Any:
        """Call, and once more with arguments made fit where they are of another shape than their types."""
        store, handles = self._store, self._handles
        mark, first = handles.lent, handles.next
        check_count(values, self.params)
        try:
            try:
                value = store.converse(self._message(values), mark=mark)
            except MisfitArguments:
                store.understood(lambda: handles.withdraw(first))
                fitted = coerce.fit_arguments(self._signature.function, values)
                value = store.ask(self._message(fitted), mark=mark)
        except CallError:
            # The guest was not entered: what was to be its own is the caller's still.
            handles.release_loans((), mark)
            store.understood(lambda: handles.withdraw(first))
            raise
        finally:
            handles.release_loans((), mark)
        return self.result(value)

    def result(self, value: Any) -> Any:
        found = self._store.understood(lambda: self._signature.unpack_result(value))
        self._handles.taken.clear()
        self._store.in_time()
        return results.unwrap(found) if isinstance(self._signature.function.result, types.Result) else found

    def _message(self, values: Sequence[Any]) -> list[Any]:
        return self._store.call_message(self.name, self._packed(values))

    def _packed(self, values: Sequence[Any]) -> list[Any]:
        """Return arguments as plain data; raise ``MisfitArguments`` where they are of another shape than their types.

        What cannot be sent, because it is too large for instance, gives the guest no object.
        """
        first = self._handles.next
        try:
            return self._signature.pack(values)
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError, coerce.ConversionError) as error:
            if isinstance(error, AegisError):
                raise
            raise MisfitArguments from None
        except LimitExceeded:
            self._store.understood(lambda: self._handles.withdraw(first))
            raise
