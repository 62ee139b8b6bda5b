"""A key-value store in the memory of this process, which several sandboxes may share."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aegis.host.keyvalue.lock_wait import locked
from aegis.policy.keyvalue import KeyValueCall

__all__ = ["MemoryStore"]


class MemoryStore:
    """A :class:`~aegis.KeyValueStore` in the memory of this process.

    Policies and bucket names that have the same object share its entries, which live as long as the object. Isolated
    guests can use it too: the parent answers their requests.

    ::

        shared = MemoryStore()
        capability = KeyValueCapability(buckets={"cache": shared})
        first, second = Aegis(keyvalue=capability), Aegis(keyvalue=capability)  # their guests share one bucket
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries = _MemoryEntries()

    @contextmanager
    def transaction(self, call: KeyValueCall) -> Iterator[_MemoryEntries]:
        """Lock the entries and return them; restore them if the block ends with an exception.

        Raise as ``call`` does when the deadline passes, or the call is cancelled, while another thread has the lock.
        """
        with locked(self._lock, call):
            try:
                yield self._entries
                self._entries.before.clear()
            finally:
                self._entries.undo()  # does nothing after a commit, which cleared the list


class _MemoryEntries:
    """The entries, their sorted keys, and ``before``: keys that the transaction changed, with their former values."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._keys: list[str] = []
        self._bytes = 0
        self.before: list[tuple[str, bytes | None]] = []

    def get(self, key: str) -> bytes | None:
        return self._values.get(key)

    def set(self, key: str, value: bytes) -> None:
        old = self._values.get(key)
        self.before.append((key, old))
        self._put(key, value, old)

    def delete(self, key: str) -> None:
        old = self._values.get(key)
        if old is not None:
            self.before.append((key, old))
            self._remove(key, old)

    def keys(self, after: str | None, limit: int) -> Sequence[str]:
        first = 0 if after is None else bisect_right(self._keys, after)
        return self._keys[first : first + limit]

    def size(self) -> tuple[int, int]:
        return len(self._values), self._bytes

    def undo(self) -> None:
        """Restore the former values, the latest change first, because a key may have been changed twice."""
        while self.before:
            key, old = self.before.pop()
            now = self._values.get(key)
            if old is not None:
                self._put(key, old, now)
            elif now is not None:
                self._remove(key, now)

    def _put(self, key: str, value: bytes, old: bytes | None) -> None:
        if old is None:
            insort(self._keys, key)
        self._values[key] = value
        self._bytes += len(value) - len(old) if old is not None else len(value) + len(key.encode())

    def _remove(self, key: str, old: bytes) -> None:
        del self._values[key]
        del self._keys[bisect_left(self._keys, key)]
        self._bytes -= len(old) + len(key.encode())
