"""The operations on one open bucket, behind its quotas; one that fails for the guest raises :class:`BucketError`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from aegis.host.host_quota import HostQuota, QuotaReservation
from aegis.host.keyvalue.waiting import StoreFailed
from aegis.limits import format_count
from aegis.support.lean import TYPE_CHECKING, NamedTuple, TypeVar
from aegis.values import CallScope, Decision

if TYPE_CHECKING:
    from aegis.policy.keyvalue import KeyValueCapability, KeyValueEntries, KeyValueStore

__all__ = ["PAGE", "Bucket", "BucketError", "Snapshot"]

PAGE = 1000
"""Keys of one page."""
_PAGE_BYTES = 1 << 18
_BATCH = 256
"""Keys of a batch in one transaction: other sandboxes that share the bucket get a turn after so many."""
_ENTRY_BYTES = 200
"""Bytes that Python needs for a key with its value, beside their own."""
_DIGITS = 20
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_Item = TypeVar("_Item")


class BucketError(Exception):
    """Why an operation failed, in words that the guest may see."""


class Snapshot(NamedTuple):
    """The value of a key at one moment; ``held`` counts it among the bytes that the host keeps for the guest."""

    key: str
    value: bytes | None
    held: QuotaReservation


class Bucket:
    """One bucket that a guest opened. Each operation is one transaction of the store, a batch several."""

    def __init__(
        self, name: str, store: KeyValueStore, quotas: KeyValueCapability, scope: CallScope, host_quota: HostQuota,
        charge: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        self._name, self._store, self._quotas = name, store, quotas
        self._scope, self._host_quota, self._charge = scope, host_quota, charge

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, ``None`` if there is no such key."""
        self._check_key("get", key)
        with self._entries("get") as entries:
            return entries.get(key)

    def set(self, key: str, value: bytes) -> None:
        """Set the value of a key."""
        self.set_many([(key, value)], "set")

    def delete(self, key: str) -> None:
        """Remove a key, if there is one."""
        self.delete_many([key], "delete")

    def exists(self, key: str) -> bool:
        """Tell whether there is a key."""
        return self.get(key) is not None

    def page(self, cursor: str | None) -> tuple[list[str], str | None]:
        """Return the keys after ``cursor``, and the cursor of the next page, ``None`` after the last."""
        if cursor is not None:
            self._check_key("list-keys", cursor)
        with self._entries("list-keys") as entries:
            found = list(entries.keys(cursor, PAGE))
        size = 0
        for n, key in enumerate(found):
            size += len(key.encode())
            if size > _PAGE_BYTES and n:
                return found[:n], found[n - 1]
        return found, found[-1] if len(found) >= PAGE else None

    def increment(self, key: str, delta: int) -> int:
        """Add to the decimal number that a key holds, 0 if there is no such key, and return the sum."""
        self._check_key("increment", key)
        with self._entries("increment") as entries:
            total = _number(entries.get(key)) + delta
            if not _LEAST <= total <= _MOST:
                raise BucketError("the sum does not fit into 64 bits; the value is as it was")
            self._put("increment", entries, key, b"%d" % total)
        return total

    def snapshot(self, key: str) -> Snapshot:
        """Return the value of a key as it is now."""
        self._check_key("cas", key)
        with self._entries("cas") as entries:
            return self._kept(key, entries.get(key))

    def swap(self, before: Snapshot, value: bytes) -> Snapshot | None:
        """Set the key of a snapshot if it has the value of then; otherwise return a snapshot of now."""
        with self._entries("swap") as entries:
            now = entries.get(before.key)
            if now != before.value:
                return self._kept(before.key, now)
            self._put("swap", entries, before.key, value)
        return None

    def get_many(self, keys: Sequence[str]) -> list[tuple[str, bytes] | None]:
        """Return each key with its value, ``None`` for one that is not there."""
        for key in keys:
            self._check_key("get-many", key)
        found: list[tuple[str, bytes] | None] = []
        gathered = self._host_quota.reserve()  # a guest may ask for one large value many times
        for part in _parts(keys):
            with self._entries("get-many") as entries:
                for key in part:
                    value = entries.get(key)
                    gathered.add(_ENTRY_BYTES + (0 if value is None else len(value)))
                    found.append(None if value is None else (key, value))
        return found

    def set_many(self, pairs: Sequence[tuple[str, bytes]], action: str = "set-many") -> None:
        """Set the values of keys. The first that exceeds a quota ends it; those before may be set."""
        for key, _ in pairs:
            self._check_key(action, key)
        for part in _parts(pairs):
            with self._entries(action) as entries:
                for key, value in part:
                    self._put(action, entries, key, value)

    def delete_many(self, keys: Sequence[str], action: str = "delete-many") -> None:
        """Remove keys, those that there are."""
        for key in keys:
            self._check_key(action, key)
        for part in _parts(keys):
            with self._entries(action) as entries:
                for key in part:
                    entries.delete(key)

    # -- pieces --------------------------------------------------------------------------------

    @contextmanager
    def _entries(self, action: str) -> Iterator[KeyValueEntries]:
        """Give the entries for one transaction; a failure of the medium is recorded, and the guest gets an error."""
        self._scope.remaining()
        try:
            with self._store.transaction(self._scope) as entries:
                yield entries
        except StoreFailed as error:
            self._scope.decided(Decision("keyvalue", action, self._name, False, f"the store failed: {error}"))
            raise BucketError("the store failed") from None

    def _check_key(self, action: str, key: str) -> None:
        allowed = self._quotas.max_key_bytes
        if allowed is not None and (len(key) > allowed or len(key.encode()) > allowed):
            raise self._exceeded(action, "max_key_bytes", len(key.encode()), allowed)

    def _put(self, action: str, entries: KeyValueEntries, key: str, value: bytes) -> None:
        """Set a key within the quotas; one that was lowered since still lets a bucket shrink."""
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

    def _kept(self, key: str, value: bytes | None) -> Snapshot:
        held = self._host_quota.reserve()
        held.add(_ENTRY_BYTES + len(key) + (0 if value is None else len(value)))
        return Snapshot(key, value, held)


_LABELS = {
    "max_keys": "bucket-key limit", "max_bytes": "bucket-byte limit", "max_value_bytes": "bucket-value limit",
    "max_key_bytes": "key-length limit",
}  # fmt: skip


def _parts(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[n : n + _BATCH] for n in range(0, len(items), _BATCH))


def _number(value: bytes | None) -> int:
    if value is None:
        return 0
    digits = value.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > _DIGITS:
        raise BucketError("the value is not a decimal number; only such a one can be incremented")
    return int(value)
