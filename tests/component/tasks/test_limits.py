"""Limits of a call hold in asynchronous components, however long the calls of an event loop overlap.

``fuel`` and ``host_bytes`` count from the start of the latest call or read, so that a service whose calls always
overlap does not end, and a single call that exceeds them does.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aegis import Aegis, OutOfFuel, QuotaExceeded, Sandbox, StreamWriter
from tests.component.aegis_side import RUNTIME
from tests.component.tasks.async_guests import copier, script

LIMITS: dict[str, tuple[dict[str, Any], type[BaseException]]] = {
    "fuel": ({"fuel": 200_000}, OutOfFuel),
    "host bytes": ({"host_bytes": 20_000}, QuotaExceeded),
}


@contextlib.contextmanager
def guest(limits: dict[str, Any]) -> Any:
    runtime = Aegis(cache=False, pooled=False, timeout="60s", **limits)
    with runtime.sandbox(runtime.load_wat(copier("u8", imports=False))) as sandbox:
        yield sandbox


@contextlib.asynccontextmanager
async def another_call(sandbox: Sandbox) -> AsyncIterator[None]:
    """Have a call under way meanwhile, which waits."""
    writer: StreamWriter[int] = StreamWriter()
    other = asyncio.create_task(sandbox.acall("collect", writer, 5, 1, 10))
    await asyncio.sleep(0)
    yield
    writer.close()
    assert await other == b""


@pytest.mark.parametrize("limit", LIMITS)
def test_calls_that_overlap_have_each_limit_anew(limit: str) -> None:
    async def main(sandbox: Sandbox) -> None:
        async with another_call(sandbox):
            for _ in range(100):
                assert len(await sandbox.acall("collect", bytes(1000), 20, 1, 1000)) == 1000
            reader = await sandbox.acall("relay", (bytes(1000) for _ in range(100)), 500, 1)
            size = 0
            while piece := await reader.aread(1000):
                size += len(piece)
            assert size == 100_000

    with guest(LIMITS[limit][0]) as sandbox:
        asyncio.run(main(sandbox))
        assert sandbox.state == "ready"


@pytest.mark.parametrize("limit", LIMITS)
def test_one_call_that_exceeds_a_limit_ends_all_that_overlap(limit: str) -> None:
    async def main(sandbox: Sandbox) -> None:
        with pytest.raises(LIMITS[limit][1]):
            async with another_call(sandbox):
                await sandbox.acall("collect", bytes(50_000), 20, 1, 50_000)

    with guest(LIMITS[limit][0]) as sandbox:
        with contextlib.suppress(LIMITS[limit][1]):
            asyncio.run(main(sandbox))
        assert sandbox.state == "poisoned"


@pytest.mark.parametrize("limit", LIMITS)
def test_a_synchronous_read_has_the_limits_of_a_call(limit: str) -> None:
    with guest(LIMITS[limit][0]) as sandbox:
        reader = sandbox.call("relay", (bytes(1000) for _ in range(100)), 500, 1)
        assert sum(map(len, reader)) == 100_000
        assert sandbox.state == "ready"


YIELDING = """(func (export "run") (result i32) (i32.const 1))
    (func (export "run-cb") (param i32 i32 i32) (result i32) (i32.const 1))"""


@pytest.mark.parametrize("waits", [False, True], ids=["yields", "waits"])
def test_ctrl_c_ends_a_call(waits: bool) -> None:
    text = copier("u8", imports=False) if waits else script(YIELDING, {"run": "(result u32)"})
    with RUNTIME.sandbox(RUNTIME.load_wat(text)) as sandbox:
        begun = threading.Event()

        def press() -> None:
            begun.wait(30)
            while not sandbox._run.store.in_call():  # type: ignore[union-attr]
                pass
            _thread.interrupt_main()

        thread = threading.Thread(target=press)
        thread.start()
        name, arguments = ("collect", (StreamWriter(), 5, 1, 10)) if waits else ("run", ())
        begun.set()
        with pytest.raises(KeyboardInterrupt):
            sandbox.call(name, *arguments)
        thread.join()
        assert sandbox.state == "poisoned"
