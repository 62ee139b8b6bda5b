"""The worker's side of calls over columns (:mod:`aegis.isolation.protocol.columns`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aegis.engine.call.columns import LoopShape
from aegis.support.lean import Any

__all__ = ["RemoteBatch"]


class RemoteBatch:
    """The rows of a call, held by the parent; used like :class:`~aegis.support.buffers.ColumnBatch`."""

    __slots__ = ("_ask", "_pending", "_send", "begun", "done", "params", "result_bytes", "row_bytes", "rows")

    def __init__(
        self, rows: int, shape: LoopShape, ask: Callable[[int, bytes, int], Any], send: Callable[[int, bytes], None]
    ) -> None:
        self.rows, self.params, self.row_bytes = rows, shape.params, shape.row_bytes()
        self.result_bytes = 0 if shape.result is None else shape.result.width
        self._ask, self._send = ask, send
        self._pending = b""
        self.done = 0
        self.begun = False

    def load(self, first: int, number: int, targets: Sequence[memoryview]) -> None:
        """Send the pending results, and copy the arguments of the next ``number`` rows to ``targets``."""
        pending, self._pending = self._pending, b""
        for target, data in zip(targets, self._ask(first, pending, number), strict=True):
            target[:] = data

    def store(self, number: int, data: Any) -> None:
        """Keep the results of ``number`` rows until the next message."""
        self._pending = bytes(data)
        self.done += number

    def locate(self, error: BaseException) -> None:
        """Do nothing: the parent knows how many rows have run, and adds the row to the error."""

    def finish(self) -> None:
        """Send the remaining results; the parent does not answer."""
        self._send(self.done, self._pending)
