"""``wasi:keyvalue``: store, atomics and batch, on the buckets that the policy grants."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from aegis.bindings.wasi_keyvalue_atomics import CasErrorCasFailed, CasErrorStoreError
from aegis.bindings.wasi_keyvalue_store import ErrorAccessDenied, ErrorOther, KeyResponse
from aegis.host.keyvalue import bucket as stores
from aegis.wit.values import Err

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aegis.host.preview2 import Wasi

__all__ = ["implementation"]


@contextmanager
def _answered() -> Iterator[None]:
    """Answer the guest with the reason why an operation failed."""
    try:
        yield
    except stores.BucketError as error:
        raise Err(ErrorOther(str(error))) from None


class Bucket:
    """The resource ``bucket``."""

    def __init__(self, opened: stores.Bucket) -> None:
        self.opened = opened

    def get(self, key: str) -> bytes | None:
        with _answered():
            return self.opened.get(key)

    def set_(self, key: str, value: bytes) -> None:
        with _answered():
            self.opened.set(key, value)

    def delete(self, key: str) -> None:
        with _answered():
            self.opened.delete(key)

    def exists(self, key: str) -> bool:
        with _answered():
            return self.opened.exists(key)

    def list_keys(self, cursor: str | None) -> KeyResponse:
        with _answered():
            return KeyResponse(*self.opened.page(cursor))


class Cas:
    """The resource ``cas``: a value as it was, which is the value still if it has the same bytes."""

    def __init__(self, opened: stores.Bucket, before: stores.Snapshot) -> None:
        self.opened, self.before = opened, before

    @staticmethod
    def new(bucket: Bucket, key: str) -> Cas:
        with _answered():
            return Cas(bucket.opened, bucket.opened.snapshot(key))

    def current(self) -> bytes | None:
        return self.before.value


class _KeyValue:
    """The functions of all three interfaces."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi
        self.Cas = Cas

    def open(self, identifier: str) -> Bucket:
        opened = self._wasi.grants.keyvalue.open(identifier)
        if opened is None:
            raise Err(ErrorAccessDenied())
        return Bucket(opened)

    def increment(self, bucket: Bucket, key: str, delta: int) -> int:
        with _answered():
            return bucket.opened.increment(key, delta)

    def swap(self, cas: Cas, value: bytes) -> None:
        try:
            now = cas.opened.swap(cas.before, value)
        except stores.BucketError as error:
            raise Err(CasErrorStoreError(ErrorOther(str(error)))) from None
        if now is not None:
            raise Err(CasErrorCasFailed(Cas(cas.opened, now)))

    def get_many(self, bucket: Bucket, keys: list[str]) -> list[tuple[str, bytes] | None]:
        with _answered():
            return bucket.opened.get_many(keys)

    def set_many(self, bucket: Bucket, key_values: list[tuple[str, bytes]]) -> None:
        with _answered():
            bucket.opened.set_many(key_values)

    def delete_many(self, bucket: Bucket, keys: list[str]) -> None:
        with _answered():
            bucket.opened.delete_many(keys)


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _KeyValue(wasi)
