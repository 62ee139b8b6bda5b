# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:keyvalue/store@0.2.0-draft2``.

Read and write single keys of a bucket. A guest reads its own writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from aegis.wit.types import Borrow, Function, Interface, List, Option, Own, Record, Resource, Result, Variant
from aegis.wit.values import Err

__all__ = [
    "BUCKET",
    "ERROR",
    "INTERFACE",
    "KEY_RESPONSE",
    "Bucket",
    "Error",
    "ErrorAccessDenied",
    "ErrorNoSuchStore",
    "ErrorOther",
    "Host",
    "KeyResponse",
]


@dataclass(frozen=True, slots=True)
class ErrorNoSuchStore:
    """The host knows no store of this name."""


@dataclass(frozen=True, slots=True)
class ErrorAccessDenied:
    """The guest has no grant for the store, which may or may not exist."""


@dataclass(frozen=True, slots=True)
class ErrorOther:
    """Anything else, such as a quota that is exhausted or a failure of the medium."""

    value: str


Error: TypeAlias = ErrorNoSuchStore | ErrorAccessDenied | ErrorOther
"""Why an operation failed."""


@dataclass(frozen=True, slots=True)
class KeyResponse:
    """One page of the keys of a bucket."""

    keys: list[str]
    """The keys of this page."""
    cursor: str | None
    """Where the next page begins; none after the last page."""


class Bucket(Protocol):
    """A collection of keys with a value each."""

    def get(self, key: str) -> bytes | Err[Error] | None:
        """Return the value of a key, none if there is no such key."""

    def set_(self, key: str, value: bytes) -> Err[Error] | None:
        """Set the value of a key, which is created if there is none."""

    def delete(self, key: str) -> Err[Error] | None:
        """Remove a key; do nothing if there is none."""

    def exists(self, key: str) -> bool | Err[Error]:
        """Tell whether there is a key."""

    def list_keys(self, cursor: str | None) -> KeyResponse | Err[Error]:
        """Return a page of the keys, from the cursor of the page before or from the start."""


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def open(self, identifier: str) -> Bucket | Err[Error]:
        """Open a bucket by its name."""


_NAME = "wasi:keyvalue/store@0.2.0-draft2"

ERROR = Variant(
    "error",
    (("no-such-store", None), ("access-denied", None), ("other", "string")),
    python=(ErrorNoSuchStore, ErrorAccessDenied, ErrorOther),
    owner=_NAME,
)
KEY_RESPONSE = Record(
    "key-response",
    (("keys", List("string")), ("cursor", Option("string"))),
    python=KeyResponse,
    owner=_NAME,
)
BUCKET = Resource("bucket", python=Bucket, owner=_NAME)

INTERFACE = Interface(
    _NAME,
    functions={
        "open": Function((("identifier", "string"),), Result(Own(BUCKET), ERROR)),
        "[method]bucket.get": Function(
            (("self", Borrow(BUCKET)), ("key", "string")),
            Result(Option(List("u8")), ERROR),
        ),
        "[method]bucket.set": Function(
            (("self", Borrow(BUCKET)), ("key", "string"), ("value", List("u8"))),
            Result(None, ERROR),
        ),
        "[method]bucket.delete": Function((("self", Borrow(BUCKET)), ("key", "string")), Result(None, ERROR)),
        "[method]bucket.exists": Function((("self", Borrow(BUCKET)), ("key", "string")), Result("bool", ERROR)),
        "[method]bucket.list-keys": Function(
            (("self", Borrow(BUCKET)), ("cursor", Option("string"))),
            Result(KEY_RESPONSE, ERROR),
        ),
    },
    types={"error": ERROR, "key-response": KEY_RESPONSE, "bucket": BUCKET},
)
