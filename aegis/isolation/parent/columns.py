"""The parent's side of calls over columns (:mod:`aegis.isolation.protocol.columns`)."""

from __future__ import annotations

from collections.abc import Callable

from aegis.errors import CallError
from aegis.isolation.protocol.channel import ProtocolError
from aegis.isolation.protocol.columns import MAX_CHUNK_BYTES
from aegis.isolation.protocol.errors import to_plain
from aegis.support.buffers import ColumnBatch, bad_element
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.isolation.parent.calling_store import CallingStore

__all__ = ["ColumnCalls", "RowExchange", "call_rows", "serve_rows"]


class RowExchange:
    """A running call over columns, and the rows that the worker has but has not returned results for."""

    __slots__ = ("batch", "ended", "lent")

    def __init__(self, batch: ColumnBatch) -> None:
        self.batch = batch
        self.lent = 0
        self.ended = False

    def take(self, done: int, results: bytes) -> None:
        """Store the results of the rows up to ``done``; raise :class:`ProtocolError` if the report is impossible."""
        batch = self.batch
        new, of = done - batch.done, batch.result
        if self.ended or not 0 <= new <= self.lent or len(results) != new * (0 if of is None else of.width):
            raise ProtocolError("results of rows that the worker does not have")
        if of is not None and bad_element(of, results) is not None:
            raise ProtocolError("a result of another type than the export's")
        batch.store(new, results)
        self.lent -= new

    def give(self, wanted: int) -> list[bytes]:
        """Return the arguments of the next ``wanted`` rows; raise :class:`ProtocolError` if that is too many."""
        batch = self.batch
        if self.lent or not 1 <= wanted <= batch.rows - batch.done or wanted * batch.row_bytes > MAX_CHUNK_BYTES:
            raise ProtocolError("request for too many rows")
        given = list(batch.pieces(batch.done, wanted))
        self.lent = wanted
        return given


class ColumnCalls:
    """The running calls over columns of one sandbox, innermost last, and the functions whose loops are compiled."""

    __slots__ = ("loops", "under_way")

    def __init__(self) -> None:
        self.under_way: list[RowExchange] = []
        self.loops: set[str] = set()


def call_rows(store: CallingStore, calls: ColumnCalls, name: str, batch: ColumnBatch) -> None:
    """Call the export ``name`` of a worker's guest for the rows of ``batch``.

    Before the first such call the worker compiles the loop; that time does not count against the guest's deadline.
    """
    if name not in calls.loops:
        _prepare_loop(store, name)
        calls.loops.add(name)
    batch.begun = True
    calls.under_way.append(RowExchange(batch))
    try:
        value = store.request("many", name, batch.rows)
        store.in_time()
        if value is not None or batch.done != batch.rows:
            raise store.worker_failed(ProtocolError("the call ended before all its rows had run"))
    except BaseException as error:
        if isinstance(error, CallError):
            store.spent = True  # another thread changed an element; the rows before it have run
        batch.locate(error)
        raise
    finally:
        calls.under_way.pop()


def _prepare_loop(store: CallingStore, name: str) -> None:
    """Have the worker compile the loop of an export.

    Unless a call is running, the worker may take as long as for preparing a sandbox: it is not the guest's time.
    """
    store.preparing = not store.entered_here()
    try:
        value = store.request("loop", name)
    finally:
        store.preparing = False
    if value is not None:
        raise store.worker_failed(ProtocolError("unexpected value in answer to loop"))


def serve_rows(calls: ColumnCalls, message: list[Any], answer: Callable[[int, bool, Any], None]) -> None:
    """Take results from a worker and give it the next rows.

    Call ``answer`` with the number of the request, whether it failed, and the rows or the error. Raise
    :class:`ProtocolError` if the message is malformed or impossible.
    """
    if len(message) != 5 or not calls.under_way:
        raise ProtocolError("rows outside a call over columns")
    _, request, done, results, wanted = message
    if type(done) is not int or type(results) is not bytes or type(wanted) is not int:
        raise ProtocolError("malformed rows")
    exchange = calls.under_way[-1]
    exchange.take(done, results)
    if request is None:
        exchange.ended = True
        return
    if type(request) is not int:
        raise ProtocolError("malformed rows")
    try:
        rows = exchange.give(wanted)
    except CallError as error:  # another thread changed a column in the meantime
        answer(request, True, to_plain(error))
    else:
        answer(request, False, rows)
