"""Mistakes that both type checkers must report: each line that ends with a mark, and no other line."""

from __future__ import annotations

from typing import Literal

from aegis import Aegis, NetworkCapability, Sandbox
from tests.bindgen.golden.keyvalue import AsyncPlugin, Plugin, Verbosity, imports
from tests.bindgen.golden.keyvalue.acme_kv_store import Error, ErrorDenied, Host


class Bucket:
    def get(self, key: str) -> bytes | None:
        return None


class Store(Host):
    Bucket = Bucket  # mistake

    async def scan(self, of: object) -> int:  # mistake
        return 1


class Functions:
    async def tell(self, how: str, what: str) -> None: ...


NetworkCapability(allowed=["public"])  # mistake
Aegis(memori="1MiB")  # mistake
Aegis(max_concurrent_calls="many")  # mistake
imports(store=Bucket(), functions=Functions())  # mistake


def told(error: Error) -> str:
    if error.case == "denied":
        return error.value
    return error.value  # mistake


def changed(error: ErrorDenied) -> None:
    error.case = "denied"  # mistake
    error.value = ""  # mistake


def named(error: Error) -> Literal["missing", "denid"]:
    return error.case  # mistake


async def use(runtime: Aegis, sandbox: Sandbox) -> None:
    plugin = AsyncPlugin(sandbox)
    await plugin.summary([], "loud")  # mistake
    await plugin.store.Bucket(1)  # mistake
    await plugin.store.Bucket.get("not a handle", "key")  # mistake
    Plugin(sandbox).summary([], Verbosity.LOUD).close()  # mistake
    async with runtime.asandbox("plugin.wasm"):  # mistake
        pass
