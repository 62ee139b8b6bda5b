"""``wasi:keyvalue``: the interfaces store, atomics and batch, on the buckets that the policy grants.

This module translates between the generated bindings and :mod:`aegis.host.keyvalue`, which enforces the quotas.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from aegis.bindings.wasi_keyvalue_atomics import CasErrorCasFailed, CasErrorStoreError
from aegis.bindings.wasi_keyvalue_store import ErrorAccessDenied, ErrorOther, KeyResponse
from aegis.host.keyvalue import Buckets
from aegis.host.keyvalue import bucket as stores
from aegis.wit.values import Err

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aegis.host.wasi import Wasi

__all__ = ["implementation"]


@contextmanager
def _as_guest_error() -> Iterator[None]:
    """Turn a :class:`BucketError` of the block into ``error.other`` with its message."""
    try:
        yield
    except stores.BucketError as error:
        raise Err(ErrorOther(str(error))) from None


class BucketResource:
    """The resource ``bucket`` of ``wasi:keyvalue/store``."""

    def __init__(self, opened: stores.Bucket) -> None:
        self.opened = opened

    def get(self, key: str) -> bytes | None:
        with _as_guest_error():
            return self.opened.get(key)

    def set_(self, key: str, value: bytes) -> None:
        with _as_guest_error():
            self.opened.set(key, value)

    def delete(self, key: str) -> None:
        with _as_guest_error():
            self.opened.delete(key)

    def exists(self, key: str) -> bool:
        with _as_guest_error():
            return self.opened.exists(key)

    def list_keys(self, cursor: str | None) -> KeyResponse:
        with _as_guest_error():
            return KeyResponse(*self.opened.page(cursor))


class Cas:
    """The resource ``cas`` of ``wasi:keyvalue/atomics``: a value as it was when the handle was made.

    ``swap`` compares bytes, so it succeeds also if the value was changed and changed back meanwhile.
    """

    def __init__(self, opened: stores.Bucket, before: stores.Snapshot) -> None:
        self.opened, self.before = opened, before

    @staticmethod
    def new(bucket: BucketResource, key: str) -> Cas:
        with _as_guest_error():
            return Cas(bucket.opened, bucket.opened.snapshot(key))

    def current(self) -> bytes | None:
        return self.before.value


class _KeyValue:
    """The functions of all three interfaces, and the class of their one resource with a constructor."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi
        self.Cas = Cas

    def open(self, identifier: str) -> BucketResource:
        opened = self._wasi.grants.of(Buckets).open(identifier)
        if opened is None:
            raise Err(ErrorAccessDenied())
        return BucketResource(opened)

    def increment(self, bucket: BucketResource, key: str, delta: int) -> int:
        with _as_guest_error():
            return bucket.opened.increment(key, delta)

    def swap(self, cas: Cas, value: bytes) -> None:
        try:
            now = cas.opened.swap(cas.before, value)
        except stores.BucketError as error:
            raise Err(CasErrorStoreError(ErrorOther(str(error)))) from None
        if now is not None:
            raise Err(CasErrorCasFailed(Cas(cas.opened, now)))

    def get_many(self, bucket: BucketResource, keys: list[str]) -> list[tuple[str, bytes] | None]:
        with _as_guest_error():
            return bucket.opened.get_many(keys)

    def set_many(self, bucket: BucketResource, key_values: list[tuple[str, bytes]]) -> None:
        with _as_guest_error():
            bucket.opened.set_many(key_values)

    def delete_many(self, bucket: BucketResource, keys: list[str]) -> None:
        with _as_guest_error():
            bucket.opened.delete_many(keys)


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _KeyValue(wasi)
