"""The operations on an open bucket, within its quotas.

An operation raises :class:`BucketError` for a failure that the guest gets as an error of ``wasi:keyvalue``, and the
errors of the call (deadline, cancellation, limits) for those that end the guest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from aegis.host.host_quota import HostQuota, QuotaReservation
from aegis.host.keyvalue.lock_wait import StoreFailed
from aegis.limits import format_count
from aegis.support.lean import TYPE_CHECKING, NamedTuple, TypeVar
from aegis.values import CallScope, Decision

if TYPE_CHECKING:
    from aegis.policy.keyvalue import KeyValueCapability, KeyValueEntries, KeyValueStore

__all__ = ["PAGE_KEYS", "Bucket", "BucketError", "Snapshot"]

PAGE_KEYS = 1000
"""Keys of one page of ``list-keys``."""
_PAGE_BYTES = 1 << 18
"""Bytes of the keys of one page. A page has one key at least, however long."""
_TRANSACTION_KEYS = 256
"""Keys of a batch in one transaction. Between two, other sandboxes that share the bucket get the lock."""
_ENTRY_BYTES = 200
"""Bytes that Python objects add to a key and its value."""
_S64_CHARACTERS = 20
"""Characters of the longest decimal s64, with its sign."""
_S64_RANGE = range(-(1 << 63), 1 << 63)
_Item = TypeVar("_Item")


class BucketError(Exception):
    """A failed operation. The guest gets the message: it names no path and no store of the host."""


class Snapshot(NamedTuple):
    """The value of a key at one moment. ``reservation`` counts its bytes as memory of the host that the guest uses."""

    key: str
    value: bytes | None
    reservation: QuotaReservation


class Bucket:
    """A bucket that a guest opened.

    Each operation is one transaction of the store; a batch is one for each 256 keys (``_TRANSACTION_KEYS``). ``charge``
    counts the bytes that a SQLite file takes; it is ``None`` for other stores.
    """

    def __init__(
        self, name: str, store: KeyValueStore, quotas: KeyValueCapability, scope: CallScope, host_quota: HostQuota,
        charge: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        self._name, self._store, self._quotas = name, store, quotas
        self._scope, self._host_quota, self._charge = scope, host_quota, charge

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, ``None`` if the key does not exist."""
        self._check_key("get", key)
        with self._entries("get") as entries:
            return entries.get(key)

    def set(self, key: str, value: bytes) -> None:
        """Set the value of a key."""
        self.set_many([(key, value)], "set")

    def delete(self, key: str) -> None:
        """Delete a key if it exists."""
        self.delete_many([key], "delete")

    def exists(self, key: str) -> bool:
        """Return whether a key exists."""
        return self.get(key) is not None

    def page(self, cursor: str | None) -> tuple[list[str], str | None]:
        """Return one page of keys, in the order of code points, and the next cursor, ``None`` after the last page.

        A cursor is the last key of its page. So it stays valid when keys are set or deleted between two pages.
        """
        if cursor is not None:
            self._check_key("list-keys", cursor)
        with self._entries("list-keys") as entries:
            found = list(entries.keys(cursor, PAGE_KEYS))
        size = 0
        for n, key in enumerate(found):
            size += len(key.encode())
            if size > _PAGE_BYTES and n:
                return found[:n], found[n - 1]
        return found, found[-1] if len(found) >= PAGE_KEYS else None

    def increment(self, key: str, delta: int) -> int:
        """Add ``delta`` to the decimal number in a value, and return the sum. A key that does not exist counts as 0.

        Raise :class:`BucketError`, and change nothing, if the value is not a decimal number or the sum is not an s64.
        """
        self._check_key("increment", key)
        with self._entries("increment") as entries:
            total = _number(entries.get(key)) + delta
            if total not in _S64_RANGE:
                raise BucketError("the sum does not fit in 64 bits: the value is unchanged")
            self._put("increment", entries, key, b"%d" % total)
        return total

    def snapshot(self, key: str) -> Snapshot:
        """Return the present value of a key, for a later :meth:`swap`."""
        self._check_key("cas", key)
        with self._entries("cas") as entries:
            return self._snapshot_of(key, entries.get(key))

    def swap(self, before: Snapshot, value: bytes) -> Snapshot | None:
        """Set the key of a snapshot if its value is unchanged; otherwise return a snapshot of the present value."""
        with self._entries("swap") as entries:
            now = entries.get(before.key)
            if now != before.value:
                return self._snapshot_of(before.key, now)
            self._put("swap", entries, before.key, value)
        return None

    def get_many(self, keys: Sequence[str]) -> list[tuple[str, bytes] | None]:
        """Return each key with its value, in the order of ``keys``; ``None`` for a key that does not exist."""
        for key in keys:
            self._check_key("get-many", key)
        found: list[tuple[str, bytes] | None] = []
        reservation = self._host_quota.reserve()  # the guest may name the key of one large value many times
        for batch in _batches(keys):
            with self._entries("get-many") as entries:
                for key in batch:
                    value = entries.get(key)
                    reservation.add(_ENTRY_BYTES + (0 if value is None else len(value)))
                    found.append(None if value is None else (key, value))
        return found

    def set_many(self, pairs: Sequence[tuple[str, bytes]], action: str = "set-many") -> None:
        """Set the values of keys, in order. An entry that exceeds a quota ends the operation.

        Its transaction is rolled back; those of earlier batches are committed already.
        """
        for key, _ in pairs:
            self._check_key(action, key)
        for batch in _batches(pairs):
            with self._entries(action) as entries:
                for key, value in batch:
                    self._put(action, entries, key, value)

    def delete_many(self, keys: Sequence[str], action: str = "delete-many") -> None:
        """Delete those of ``keys`` that exist."""
        for key in keys:
            self._check_key(action, key)
        for batch in _batches(keys):
            with self._entries(action) as entries:
                for key in batch:
                    entries.delete(key)

    # -- transactions and quotas ---------------------------------------------------------------

    @contextmanager
    def _entries(self, action: str) -> Iterator[KeyValueEntries]:
        """Run one transaction of the store.

        A :class:`StoreFailed` is recorded with its cause for the embedder; the guest gets an error without it, because
        the cause may describe the host.
        """
        self._scope.remaining()  # raises when the call must end, before the store does any work
        try:
            with self._store.transaction(self._scope) as entries:
                yield entries
        except StoreFailed as error:
            self._scope.decided(Decision("keyvalue", action, self._name, False, f"the store failed: {error}"))
            raise BucketError("the store failed") from None

    def _check_key(self, action: str, key: str) -> None:
        allowed = self._quotas.max_key_bytes
        # UTF-8 needs a byte per character at least, so the first comparison saves encoding a key that is far too long.
        if allowed is not None and (len(key) > allowed or len(key.encode()) > allowed):
            raise self._exceeded(action, "max_key_bytes", len(key.encode()), allowed)

    def _put(self, action: str, entries: KeyValueEntries, key: str, value: bytes) -> None:
        """Set a key within the quotas. An entry may always shrink, also in a bucket that exceeds a quota already.

        A bucket in a file outlives the policy, so its quota may be smaller today than when it was filled.
        """
        quotas = self._quotas
        if quotas.max_value_bytes is not None and len(value) > quotas.max_value_bytes:
            raise self._exceeded(action, "max_value_bytes", len(value), quotas.max_value_bytes)
        old = entries.get(key)
        keys, size = entries.size()
        new = len(value) - len(old) if old is not None else len(value) + len(key.encode())
        if old is None and quotas.max_keys is not None and keys >= quotas.max_keys:
            raise self._exceeded(action, "max_keys", keys + 1, quotas.max_keys)
        if new > 0 and quotas.max_bytes is not None and size + new > quotas.max_bytes:
            raise self._exceeded(action, "max_bytes", size + new, quotas.max_bytes)
        if self._charge is not None:
            self._charge(len(key.encode()) + len(value))
        entries.set(key, value)

    def _exceeded(self, action: str, quota: str, used: int, allowed: int) -> BucketError:
        label = _LABELS[quota]
        numbers = f"({format_count(used)}/{format_count(allowed)})"
        rule = f"{label} exceeded {numbers}: raise it with {quota} of the key-value capability"
        self._scope.decided(Decision("keyvalue", action, self._name, False, rule))
        return BucketError(f"{label} exceeded {numbers}")

    def _snapshot_of(self, key: str, value: bytes | None) -> Snapshot:
        reservation = self._host_quota.reserve()
        reservation.add(_ENTRY_BYTES + len(key) + (0 if value is None else len(value)))
        return Snapshot(key, value, reservation)


_LABELS = {
    "max_keys": "bucket-key limit", "max_bytes": "bucket-byte limit", "max_value_bytes": "bucket-value limit",
    "max_key_bytes": "key-length limit",
}  # fmt: skip


def _batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """Split the items of one operation into those of its transactions."""
    return (items[n : n + _TRANSACTION_KEYS] for n in range(0, len(items), _TRANSACTION_KEYS))


def _number(value: bytes | None) -> int:
    """Return the decimal number in a value, 0 for no value; raise :class:`BucketError` for other bytes."""
    if value is None:
        return 0
    digits = value.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > _S64_CHARACTERS:
        raise BucketError("the value is not a decimal number: only such a value can be incremented")
    return int(value)
