"""A key-value store in memory, which several sandboxes may share."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aegis.host.keyvalue.waiting import held
from aegis.policy.keyvalue import KeyValueCall

__all__ = ["MemoryStore"]


class MemoryStore:
    """A bucket in the memory of this process: a :class:`~aegis.policy.keyvalue.KeyValueStore`.

    Give one object to several policies, or several names, and they share its entries. It lives as long as the object.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries = _MemoryEntries()

    @contextmanager
    def transaction(self, call: KeyValueCall) -> Iterator[_MemoryEntries]:
        """Return the entries, which no other thread uses until the context is left."""
        with held(self._lock, call):
            try:
                yield self._entries
                self._entries.before.clear()
            finally:
                self._entries.undo()  # nothing, unless the block was left by an exception


class _MemoryEntries:
    """The entries, their keys in order, and the values that a transaction changed."""

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

    def keys(self, after: str | None, most: int) -> Sequence[str]:
        first = 0 if after is None else bisect_right(self._keys, after)
        return self._keys[first : first + most]

    def size(self) -> tuple[int, int]:
        return len(self._values), self._bytes

    def undo(self) -> None:
        """Restore the values of before the transaction, the latest change first."""
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
