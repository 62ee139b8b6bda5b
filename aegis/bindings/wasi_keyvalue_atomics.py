# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:keyvalue/atomics@0.2.0-draft2``.

Change a key in one indivisible step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from aegis.bindings.wasi_keyvalue_store import BUCKET, ERROR, Bucket, Error
from aegis.wit.types import Borrow, Function, Interface, List, Option, Own, Resource, Result, Variant
from aegis.wit.values import Err

__all__ = [
    "BUCKET",
    "CAS",
    "CAS_ERROR",
    "ERROR",
    "INTERFACE",
    "Bucket",
    "Cas",
    "CasClass",
    "CasError",
    "CasErrorCasFailed",
    "CasErrorStoreError",
    "Error",
    "Host",
]


class Cas(Protocol):
    """The value of a key at one moment, which a swap replaces if it is the value still."""

    def current(self) -> bytes | Err[Error] | None:
        """Return the value that is remembered, none if there was no such key."""


@dataclass(frozen=True, slots=True)
class CasErrorStoreError:
    """The store failed."""

    value: Error


@dataclass(frozen=True, slots=True)
class CasErrorCasFailed:
    """The value was changed since the handle was made; a handle of the value as it is now."""

    value: Cas


CasError: TypeAlias = CasErrorStoreError | CasErrorCasFailed
"""Why a swap failed."""


class CasClass(Protocol):
    """The class of ``cas``: its constructor and static functions."""

    def new(self, bucket: Bucket, key: str) -> Cas | Err[Error]:
        """Remember the value of a key."""


class Resources(Protocol):
    """The classes of the resources that are made by functions of their own."""

    @property
    def Cas(self) -> CasClass: ...


class Host(Resources, Protocol):
    """What Python provides to a guest that imports the interface."""

    def increment(self, bucket: Bucket, key: str, delta: int) -> int | Err[Error]:
        """Add to the number that a key holds, 0 if there is no such key, and return the sum."""

    def swap(self, cas: Cas, value: bytes) -> Err[CasError] | None:
        """Set the value of a handle's key if it is the one that the handle remembers."""


_NAME = "wasi:keyvalue/atomics@0.2.0-draft2"

CAS = Resource("cas", python=Cas, owner=_NAME)
CAS_ERROR = Variant(
    "cas-error",
    (("store-error", ERROR), ("cas-failed", Own(CAS))),
    python=(CasErrorStoreError, CasErrorCasFailed),
    owner=_NAME,
)

INTERFACE = Interface(
    _NAME,
    functions={
        "[static]cas.new": Function((("bucket", Borrow(BUCKET)), ("key", "string")), Result(Own(CAS), ERROR)),
        "[method]cas.current": Function((("self", Borrow(CAS)),), Result(Option(List("u8")), ERROR)),
        "increment": Function((("bucket", Borrow(BUCKET)), ("key", "string"), ("delta", "s64")), Result("s64", ERROR)),
        "swap": Function((("cas", Own(CAS)), ("value", List("u8"))), Result(None, CAS_ERROR)),
    },
    types={"bucket": BUCKET, "error": ERROR, "cas": CAS, "cas-error": CAS_ERROR},
)
