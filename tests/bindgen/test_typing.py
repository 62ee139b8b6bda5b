"""The types of the bindings accept correct user code and reject incorrect code, under ``mypy --strict``."""

from __future__ import annotations

from pathlib import Path

from aegis.bindgen import generate
from aegis.wit.wasm_tools import read_wit
from tests.bindgen.support import WORLDS, package, typed

GOOD = """
from __future__ import annotations

from aegis import Sandbox
from aegis.wit.values import Err, Ok, Some
from kv import AsyncPlugin, Plugin, Verbosity, imports
from kv.acme_kv_store import Bucket, Entry, Error, ErrorDenied, ErrorMissing, Host, Provider


class MyBucket:
    def __init__(self, name: str) -> None:
        self.name = name

    def get(self, key: str) -> bytes | None:
        raise Err(ErrorMissing())

    def set_(self, entry: Entry) -> Err[Error] | None:
        return None if entry.ttl is None else Err(ErrorDenied("no"))

    def drop_(self) -> None: ...

    @staticmethod
    def open_all(names: list[str]) -> list[Bucket]:
        return [MyBucket(name) for name in names]


class MyCursor:
    def next(self) -> Entry | None:
        return Entry("key", b"value", Some(None))


class Structural:
    Bucket = MyBucket

    def scan(self, of: object) -> MyCursor:
        return MyCursor()

    def merge(self, into: object, from_: object) -> tuple[int, Ok[int] | Err[Error]]:
        return 1, Ok(2)


class Explicit(Host):
    Bucket = MyBucket

    def scan(self, of: object) -> MyCursor:
        return MyCursor()

    async def merge(self, into: object, from_: object) -> tuple[int, Ok[int] | Err[Error]]:
        return 1, Ok(2)


class Mixed(Structural, Provider): ...


class Functions:
    def tell(self, how: Verbosity, what: str) -> None:
        print(what if how is Verbosity.LOUD else "")


class AsyncFunctions:
    async def tell(self, how: Verbosity, what: str) -> Err[str] | None:
        return None


async def use_later(sandbox: Sandbox) -> str:
    guest = AsyncPlugin(sandbox)
    bucket = await guest.store.Bucket("a")
    found: bytes | None = await guest.store.Bucket.get(bucket, "x")
    await guest.store.Bucket.set_(bucket, Entry("a", found or b"", None))
    entry = await guest.store.Cursor.next(await guest.store.scan(bucket))
    await guest.store.Bucket.drop((await guest.store.Bucket.open_all(["b"]))[0])
    await guest.run.run()
    return await guest.summary([entry] if entry else [], Verbosity.QUIET)


def use(sandbox: Sandbox) -> str:
    imports(store=Structural(), functions=Functions())
    imports(store=Explicit(), functions=Functions())
    imports(store=Mixed(), functions=AsyncFunctions())
    guest = Plugin(sandbox)
    with guest.store.Bucket("a") as bucket:
        found: bytes | None = bucket.get("x")
        bucket.set_(Entry("a", found or b"", None))
        entry = guest.store.scan(bucket).next()
        match guest.store.merge(bucket, guest.store.Bucket.open_all(["b"])[0]):
            case number, Ok(value):
                print(number + value)
            case _, Err(ErrorDenied(why)):
                print(why.upper())
    guest.run.run()
    return guest.summary([entry] if entry else [], Verbosity.QUIET)
"""
BAD = """
from __future__ import annotations

from aegis import Sandbox
from kv import Plugin, Verbosity, imports
from kv.acme_kv_store import Entry, Host


class Lacking:
    def scan(self, of: object) -> int:
        return 1


class Explicit(Host):
    def scan(self, of: object) -> int:
        return 1


class Functions:
    def tell(self, how: str, what: str) -> None: ...


def use(sandbox: Sandbox) -> None:
    imports(store=Lacking(), functions=Functions())
    Explicit()
    guest = Plugin(sandbox)
    guest.store.Bucket(1)
    guest.store.Bucket("a").get()
    guest.summary([Entry("a", "text", None)], "loud")
    guest.nothing()
    Verbosity.SILENT
"""
WRONG = {
    15: "override",
    24: "arg-type",
    25: "abstract",
    27: "arg-type",
    28: "call-arg",
    29: "arg-type",
    30: "attr-defined",
    31: "attr-defined",
}


def test_user_code_is_checked_against_the_wit(tmp_path: Path) -> None:
    package(tmp_path / "kv", generate(read_wit(str(WORLDS / "keyvalue.wit"))))
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "bad.py").write_text(BAD)
    said = [line for line in typed(tmp_path).splitlines() if ": error: " in line]
    assert all(line.startswith("bad.py:") for line in said), said
    found = {int(line.split(":")[1]): line.rpartition("[")[2].rstrip("]") for line in said}
    assert found == WRONG, "\n".join(said)
