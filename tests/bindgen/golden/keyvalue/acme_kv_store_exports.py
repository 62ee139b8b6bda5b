# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``acme:kv/store@1.2.0``.

Buckets of bytes, by key.

Since 1.0.0.
"""

from __future__ import annotations

from typing import Protocol

from aegis.wit.handle import Handle
from aegis.wit.types import Borrow, Function, Interface, List, Option, Own, Resource, Result, Tuple
from aegis.wit.values import Err, Ok

from .acme_kv_store import ENTRY, ERROR, Entry, Error

__all__ = [
    "BUCKET",
    "CURSOR",
    "ENTRY",
    "ERROR",
    "INTERFACE",
    "Bucket",
    "BucketClass",
    "Cursor",
    "Entry",
    "Error",
    "Exports",
]


class Bucket(Handle, Protocol):
    """A bucket.

    Since 1.0.0.
    """

    def get(self, key: str) -> bytes | None:
        """Return a value.

        Raises ``Err[Error]``.
        """

    def set_(self, entry: Entry) -> None:
        """Raises ``Err[Error]``."""

    def drop_(self) -> None:
        """Since 1.0.0. Deprecated since 1.1.0."""


class Cursor(Handle, Protocol):
    """The resource ``cursor``."""

    def next(self) -> Entry | None: ...


class BucketClass(Protocol):
    """The class of ``bucket``: its constructor and static functions."""

    def __call__(self, name: str) -> Bucket:
        """Open a bucket by name."""

    def open_all(self, names: list[str]) -> list[Bucket]:
        """Raises ``Err[Error]``."""


class Resources(Protocol):
    """The classes of the resources that are made by functions of their own."""

    @property
    def Bucket(self) -> BucketClass: ...


class Exports(Resources, Protocol):
    """What Python calls in a guest that exports the interface: ``sandbox.bind(INTERFACE)``."""

    def scan(self, of: Bucket) -> Cursor:
        """Walk over a bucket."""

    def merge(self, into: Bucket, from_: Bucket) -> tuple[int, Ok[int] | Err[Error]]: ...


_NAME = "acme:kv/store@1.2.0"

BUCKET = Resource("bucket", python=Bucket, owner=_NAME)
CURSOR = Resource("cursor", python=Cursor, owner=_NAME)

INTERFACE = Interface(
    _NAME,
    functions={
        "[constructor]bucket": Function((("name", "string"),), Own(BUCKET)),
        "[method]bucket.get": Function(
            (("self", Borrow(BUCKET)), ("key", "string")),
            Result(Option(List("u8")), ERROR),
        ),
        "[method]bucket.set": Function((("self", Borrow(BUCKET)), ("entry", ENTRY)), Result(None, ERROR)),
        "[method]bucket.drop": Function((("self", Borrow(BUCKET)),)),
        "[static]bucket.open-all": Function((("names", List("string")),), Result(List(Own(BUCKET)), ERROR)),
        "[method]cursor.next": Function((("self", Borrow(CURSOR)),), Option(ENTRY)),
        "scan": Function((("of", Borrow(BUCKET)),), Own(CURSOR)),
        "merge": Function((("into", Borrow(BUCKET)), ("from", Own(BUCKET))), Tuple(("u32", Result("u32", ERROR)))),
    },
    types={"error": ERROR, "entry": ENTRY, "bucket": BUCKET, "cursor": CURSOR},
)
