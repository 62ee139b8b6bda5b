# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:keyvalue/batch@0.2.0-draft2``.

Read and write several keys by one call, which is not one indivisible step.
"""

from __future__ import annotations

from typing import Protocol

from aegis.bindings.wasi_keyvalue_store import BUCKET, ERROR, Bucket, Error
from aegis.wit.types import Borrow, Function, Interface, List, Option, Result, Tuple
from aegis.wit.values import Err

__all__ = ["BUCKET", "ERROR", "INTERFACE", "Bucket", "Error", "Host"]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def get_many(self, bucket: Bucket, keys: list[str]) -> list[tuple[str, bytes] | None] | Err[Error]:
        """Return each key with its value, none for a key that is not there, in the order of the keys."""

    def set_many(self, bucket: Bucket, key_values: list[tuple[str, bytes]]) -> Err[Error] | None:
        """Set the values of keys; after an error some may be set."""

    def delete_many(self, bucket: Bucket, keys: list[str]) -> Err[Error] | None:
        """Remove keys; after an error some may be removed."""


_NAME = "wasi:keyvalue/batch@0.2.0-draft2"

INTERFACE = Interface(
    _NAME,
    functions={
        "get-many": Function(
            (("bucket", Borrow(BUCKET)), ("keys", List("string"))),
            Result(List(Option(Tuple(("string", List("u8"))))), ERROR),
        ),
        "set-many": Function(
            (("bucket", Borrow(BUCKET)), ("key-values", List(Tuple(("string", List("u8")))))),
            Result(None, ERROR),
        ),
        "delete-many": Function((("bucket", Borrow(BUCKET)), ("keys", List("string"))), Result(None, ERROR)),
    },
    types={"bucket": BUCKET, "error": ERROR},
)
