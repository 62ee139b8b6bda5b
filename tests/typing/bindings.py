"""Code of an embedder that both type checkers must accept: generated bindings, with ``def`` and with ``async def``."""

from __future__ import annotations

from typing import Literal

from aegis import Aegis, Component, Sandbox
from aegis.wit.values import Err, Ok
from tests.bindgen.golden.keyvalue import AsyncPlugin, Plugin, Verbosity, imports
from tests.bindgen.golden.keyvalue import acme_kv_store_exports as exported
from tests.bindgen.golden.keyvalue.acme_kv_store import (
    Bucket,
    Cursor,
    Entry,
    Error,
    ErrorDenied,
    ErrorMissing,
    Host,
    Provider,
)


class MyBucket:
    def __init__(self, name: str) -> None:
        self.name = name

    async def get(self, key: str) -> bytes | None:
        raise Err(ErrorMissing())

    def set_(self, entry: Entry) -> Err[Error] | None:
        return None if entry.ttl is None else Err(ErrorDenied("no"))

    def drop_(self) -> None: ...

    @staticmethod
    async def open_all(names: list[str]) -> list[Bucket]:
        return [MyBucket(name) for name in names]

    async def __drop__(self) -> None: ...


class MyCursor:
    async def next(self) -> Entry | None:
        return Entry("key", b"value", None)


class Inheriting(Host):
    Bucket = MyBucket

    async def scan(self, of: object) -> Cursor:
        return MyCursor()

    def merge(self, into: object, from_: object) -> tuple[int, Ok[int] | Err[Error]]:
        return 1, Ok(2)


class Structural:
    Bucket = MyBucket

    def scan(self, of: object) -> MyCursor:
        return MyCursor()

    async def merge(self, into: object, from_: object) -> tuple[int, Ok[int] | Err[Error]]:
        return 1, Ok(2)


class Mixed(Structural, Provider): ...


class Functions:
    def tell(self, how: Verbosity, what: str) -> None: ...


class AsyncFunctions:
    async def tell(self, how: Verbosity, what: str) -> Err[str] | None:
        return Err("no") if how is Verbosity.LOUD else None


def provided() -> list[dict[str, object]]:
    stores: list[Provider] = [Inheriting(), Structural(), Mixed()]
    return [imports(store=store, functions=AsyncFunctions()) for store in stores] + [
        imports(store=Inheriting(), functions=Functions())
    ]


def told(error: Error) -> str:
    if error.case == "denied":
        denied: ErrorDenied = error
        return denied.value
    missing: ErrorMissing = error
    nothing: None = missing.value
    name: Literal["missing"] = error.case
    return f"{name} {nothing}"


def either(error: Error) -> tuple[Literal["missing", "denied"], str | None]:
    return error.case, error.value


def handled(sandbox: Sandbox) -> str:
    try:
        return call(sandbox)
    except Err as raised:
        return told(raised.value)


def call(sandbox: Sandbox) -> str:
    plugin = Plugin(sandbox)
    with plugin.store.Bucket("a") as bucket:
        bucket.set_(Entry("key", b"", None))
        return plugin.summary([], Verbosity.LOUD)


async def acall(runtime: Aegis, guest: Component) -> str:
    async with runtime.asandbox(guest, imports=imports(store=Inheriting(), functions=AsyncFunctions())) as sandbox:
        plugin = AsyncPlugin(sandbox)
        bucket: exported.Bucket = await plugin.store.Bucket("a")
        found: bytes | None = await plugin.store.Bucket.get(bucket, "x")
        entry = await plugin.store.Cursor.next(await plugin.store.scan(bucket))
        await plugin.store.Bucket.drop(bucket)
        await plugin.ping()
        return await plugin.summary([Entry("a", found or b"", None), *([entry] if entry else [])], Verbosity.QUIET)
