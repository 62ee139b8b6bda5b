"""The key-value buckets that a policy grants: in memory, in SQLite files, or in stores of the embedder.

``bucket`` implements the operations of a guest and enforces the quotas. ``memory`` and ``sqlite`` implement the
protocol :class:`aegis.policy.keyvalue.KeyValueStore`; ``lock_wait`` bounds their waits by the deadline of the call. The
parent runs all of this for an isolated guest: a worker gets no descriptor or path of a store.
"""

from __future__ import annotations

from collections.abc import Callable

from aegis.host.host_quota import HostQuota
from aegis.host.keyvalue.bucket import Bucket as Bucket
from aegis.host.keyvalue.bucket import BucketError as BucketError
from aegis.host.keyvalue.memory import MemoryStore as MemoryStore
from aegis.support.lean import TYPE_CHECKING
from aegis.values import CallScope, Decision

if TYPE_CHECKING:
    from aegis.host.grants import Grants
    from aegis.policy.keyvalue import KeyValueCapability, KeyValueStore

__all__ = ["Bucket", "BucketError", "Buckets", "MemoryStore"]


class Buckets:
    """Key-value stores of one sandbox. A store is opened when the guest first opens its bucket.

    ``charge`` takes the number of bytes that Aegis is about to write to a SQLite file, and raises
    :class:`~aegis.errors.QuotaExceeded` when they exceed the limit ``disk_written``.
    """

    def __init__(
        self, granted: KeyValueCapability | None, scope: CallScope, host_quota: HostQuota, charge: Callable[[int], None]
    ) -> None:
        self._granted, self._scope, self._host_quota, self._charge = granted, scope, host_quota, charge
        self._stores: dict[str, KeyValueStore] = {}
        self._closers: list[Callable[[], None]] = []

    @classmethod
    def acquire(cls, grants: Grants) -> Buckets:
        """Return the stores of a sandbox, none but those that its policy names."""
        return cls(grants.policy.keyvalue, grants.scope, grants.host_quota, lambda count: grants.disk.charge(count))

    def open(self, name: str) -> Bucket | None:
        """Return the bucket ``name``; record a denial and return ``None`` if the policy does not grant it.

        Raise :class:`~aegis.errors.PolicyError` if the store cannot be opened.
        """
        granted = None if self._granted is None else self._granted.store_of(name)
        if self._granted is None or granted is None:
            rule = "no rule grants this bucket"
            self._scope.decided(Decision("keyvalue", "open", name, False, rule, wanted=name))
            return None
        store = self._stores.get(name)
        if store is None:
            store = self._stores[name] = self._open_store(name, granted)
        if self._scope.listens:
            self._scope.decided(Decision("keyvalue", "open", name, True, f"bucket {name}"))
        charge = self._charge if isinstance(granted, str) and granted != "memory" else None
        return Bucket(name, store, self._granted, self._scope, self._host_quota, charge)

    def _open_store(self, name: str, granted: str | KeyValueStore) -> KeyValueStore:
        if not isinstance(granted, str):
            return granted
        if granted == "memory":
            return MemoryStore()
        from aegis.host.keyvalue.sqlite import SqliteStore  # imports sqlite3, which other stores do not need

        quotas = self._granted
        assert quotas is not None  # it granted the store
        most = (
            None
            if quotas.max_value_bytes is None or quotas.max_key_bytes is None
            else (quotas.max_value_bytes + quotas.max_key_bytes)
        )
        store = SqliteStore(granted.partition(":")[2], name, most)
        self._closers.append(store.close)
        return store

    def close(self) -> None:
        """Close the SQLite files. A store of the embedder stays open: other sandboxes may use it."""
        while self._closers:
            self._closers.pop()()
