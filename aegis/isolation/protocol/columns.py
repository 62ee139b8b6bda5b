"""Calls over columns into a worker: rows cross in pieces, which the worker asks for as it needs them.

Before a function's first call the parent has the worker compile its loop (``["loop", name]``). Then it asks for
the call as it asks for any (``["many", name, rows]``). During it the worker sends
``["rows", number, done, results, wanted]``: how many rows are done, the results of those that are new, and how many
rows it wants next. The parent answers with the bytes of each column. Without a number, and with nothing wanted, it is
the end of the call, be it good or bad, and has no answer. So one piece is on its way at a time, the call has one
deadline and one measure of fuel, and whatever ends it the parent has the results of the rows before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aegis.engine.call.columns import LoopShape
from aegis.errors import CallError
from aegis.isolation.protocol.channel import Broken
from aegis.isolation.protocol.errors import to_plain
from aegis.support.buffers import ColumnBatch, bad_element

if TYPE_CHECKING:
    from aegis.isolation.parent.store import IsolatedStore

__all__ = ["MOST_BYTES", "ColumnCalls", "Conversation", "RemoteBatch", "call_rows", "serve_rows"]

MOST_BYTES = 1 << 19
"""Bytes of the rows in one piece, arguments and results; as many as the memory of the worker's loop has."""


class Conversation:
    """In the parent: a call under way, and the rows that the worker was given last."""

    __slots__ = ("batch", "lent", "over")

    def __init__(self, batch: ColumnBatch) -> None:
        self.batch = batch
        self.lent = 0
        self.over = False

    def take(self, done: int, results: bytes) -> None:
        """Store the results of the rows up to ``done``; raise :class:`Broken` for what cannot be."""
        batch = self.batch
        new, of = done - batch.done, batch.result
        if self.over or not 0 <= new <= self.lent or len(results) != new * (0 if of is None else of.width):
            raise Broken("results of other rows than those that were asked for")
        if of is not None and bad_element(of, results) is not None:
            raise Broken("a result of another type than the export's")
        batch.store(new, results)
        self.lent -= new

    def give(self, wanted: int) -> list[bytes]:
        """Return the arguments of the next rows; raise :class:`Broken` if there are not as many."""
        batch = self.batch
        if self.lent or not 1 <= wanted <= batch.rows - batch.done or wanted * batch.row_bytes > MOST_BYTES:
            raise Broken("more rows than there are")
        given = list(batch.pieces(batch.done, wanted))
        self.lent = wanted
        return given


class ColumnCalls:
    """In the parent: calls over columns under way in one sandbox, one inside another, and the loops that it has."""

    __slots__ = ("loops", "under_way")

    def __init__(self) -> None:
        self.under_way: list[Conversation] = []
        self.loops: set[str] = set()


def call_rows(store: IsolatedStore, name: str, batch: ColumnBatch) -> None:
    """Call the export ``name`` of a worker's guest for the rows of ``batch``.

    Before the first such call the worker compiles the loop, which is not the guest's time.
    """
    calls = store.columns
    if name not in calls.loops:
        _prepare(store, name)
        calls.loops.add(name)
    batch.begun = True
    calls.under_way.append(Conversation(batch))
    try:
        value = store.request("many", name, batch.rows)
        store.in_time()
        if value is not None or batch.done != batch.rows:
            raise store.worker_failed(Broken("the end of a call whose rows are not done"))
    except BaseException as error:
        if isinstance(error, CallError):
            store.spent = True  # an element that another thread changed; rows before it have run
        batch.locate(error)
        raise
    finally:
        calls.under_way.pop()


def _prepare(store: IsolatedStore, name: str) -> None:
    """Have the worker compile the loop; unless a call is under way it has as long as it has to get ready."""
    store._settling = not store.entered_here()
    try:
        value = store.request("loop", name)
    finally:
        store._settling = False
    if value is not None:
        raise store.worker_failed(Broken("a value for a loop that was compiled"))


def serve_rows(calls: ColumnCalls, message: list[Any], answer: Callable[[int, bool, Any], None]) -> None:
    """Take what a worker says of a call over columns, and ``answer`` with a number, whether it failed, and rows."""
    if len(message) != 5 or not calls.under_way:
        raise Broken("rows where there is no call over columns")
    _, mine, done, results, wanted = message
    if type(done) is not int or type(results) is not bytes or type(wanted) is not int:
        raise Broken("rows that cannot be read")
    conversation = calls.under_way[-1]
    conversation.take(done, results)
    if mine is None:
        conversation.over = True
        return
    if type(mine) is not int:
        raise Broken("rows that cannot be read")
    try:
        rows = conversation.give(wanted)
    except CallError as error:  # another thread changed a column meanwhile
        answer(mine, True, to_plain(error))
    else:
        answer(mine, False, rows)


class RemoteBatch:
    """In a worker: the rows of a call, as :class:`~aegis.support.buffers.ColumnBatch` has them, in the parent."""

    __slots__ = ("_ask", "_pending", "_tell", "begun", "done", "params", "row_bytes", "rows")

    def __init__(
        self, rows: int, shape: LoopShape, ask: Callable[[int, bytes, int], Any], tell: Callable[[int, bytes], None]
    ) -> None:
        self.rows, self.params, self.row_bytes = rows, shape.params, shape.row_bytes()
        self._ask, self._tell = ask, tell
        self._pending = b""
        self.done = 0
        self.begun = False

    def load(self, first: int, number: int, targets: Sequence[memoryview]) -> None:
        """Send the results so far, and copy the arguments of the next rows."""
        pending, self._pending = self._pending, b""
        for target, data in zip(targets, self._ask(first, pending, number), strict=True):
            target[:] = data

    def store(self, number: int, data: Any) -> None:
        """Keep the results of so many rows until the next message."""
        self._pending = bytes(data)
        self.done += number

    def locate(self, error: BaseException) -> None:
        """Leave it to the parent to say which row was under way: it knows how many are done."""

    def finish(self) -> None:
        """Send the results that are left; this needs no answer."""
        self._tell(self.done, self._pending)
