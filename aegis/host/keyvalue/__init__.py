"""Key-value stores: the buckets that a policy grants, each behind its quotas, in memory, in SQLite or the embedder's.

``bucket`` has the operations that guests ask for; ``memory`` and ``sqlite`` are two stores of the protocol
:class:`aegis.policy.keyvalue.KeyValueStore`. For isolated guests all of it is in the parent.
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
    from aegis.policy.keyvalue import KeyValueCapability, KeyValueStore

__all__ = ["Bucket", "BucketError", "Buckets", "MemoryStore"]


class Buckets:
    """The key-value stores of one sandbox. A store is opened when the guest first opens its bucket.

    ``charge`` counts bytes about to be written to a file; it raises when the limit ``disk_written`` is exceeded.
    """

    def __init__(
        self, granted: KeyValueCapability | None, scope: CallScope, host_quota: HostQuota, charge: Callable[[int], None]
    ) -> None:
        self._granted, self._scope, self._host_quota, self._charge = granted, scope, host_quota, charge
        self._stores: dict[str, KeyValueStore] = {}
        self._closers: list[Callable[[], None]] = []

    def open(self, name: str) -> Bucket | None:
        """Return a bucket, ``None`` for a name that is not granted, which is recorded as a denial.

        Raise :class:`~aegis.errors.PolicyError` when the store cannot be opened.
        """
        granted = None if self._granted is None else self._granted.store_of(name)
        if self._granted is None or granted is None:
            rule = "no rule grants this bucket"
            self._scope.decided(Decision("keyvalue", "open", name, False, rule, remedy=name))
            return None
        store = self._stores.get(name)
        if store is None:
            store = self._stores[name] = self._opened(name, granted)
        if self._scope.listens:
            self._scope.decided(Decision("keyvalue", "open", name, True, f"bucket {name}"))
        charge = self._charge if isinstance(granted, str) and granted != "memory" else None
        return Bucket(name, store, self._granted, self._scope, self._host_quota, charge)

    def _opened(self, name: str, granted: str | KeyValueStore) -> KeyValueStore:
        if not isinstance(granted, str):
            return granted
        if granted == "memory":
            return MemoryStore()
        from aegis.host.keyvalue.sqlite import SqliteStore  # loads sqlite3, which other buckets do without

        store = SqliteStore(granted.partition(":")[2], name)
        self._closers.append(store.close)
        return store

    def close(self) -> None:
        """Close the files."""
        while self._closers:
            self._closers.pop()()
