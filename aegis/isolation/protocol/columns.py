"""Calls over columns: the rows cross the channel in chunks, which the worker requests as it needs them.

Before the first such call of a function, the parent has the worker compile its loop (``["loop", name]``). The call is
a request like any other (``["many", name, rows]``). While it runs, the worker sends
``["rows", number, done, results, wanted]``: the number of rows that have run, the results of those that the parent does
not have yet, and the number of rows that it wants next. The parent answers with the bytes of each column. A message
whose number is ``None`` ends the call, whether it succeeded or failed; the parent does not answer it.

At most one chunk is in transit, a single deadline and fuel limit covers the whole call, and however the call ends, the
parent has the results of all rows reported before.

The two sides are :mod:`aegis.isolation.parent.columns` and :mod:`aegis.isolation.worker.columns`.
"""

from __future__ import annotations

__all__ = ["MAX_CHUNK_BYTES"]

MAX_CHUNK_BYTES = 1 << 19
"""Bytes of the rows in one chunk, arguments and results together: the size of the loop's memory in the worker."""
