"""The benchmark of the guide "Plugins in a web service": stalls of the event loop under 200 concurrent requests.

A quarter of the requests are for plugins that trap, never end, or exceed a limit. The reference is the same application
without plugins, on the same machine in turns; its stalls are those of the framework and of other processes.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from bench_rows import Row

__all__ = ["PARTS"]

STALL = 0.050
WAKE_SECONDS = 0.002
TEXT_BYTES = 50 << 20
BAD = ["traps", "spins", "grows", "prints"]
REQUESTS = (["honest"] * 12 + BAD) * 12 + ["honest"] * 6 + ["traps", "prints"]


def web(rounds: int) -> list[Row]:
    """The longest stall of the event loop, and the median time of a request for a good plugin."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from tests.web_load import loaded, service

    async def plain(request: Any) -> JSONResponse:
        await request.json()
        await asyncio.sleep(0)
        return JSONResponse({"price": 1})

    async def main(guide: Any) -> list[tuple[Any, Any]]:
        empty = Starlette(routes=[Route("/price/{plugin}", plain, methods=["POST"])])
        async with guide.app.router.lifespan_context(guide.app):
            await loaded(guide.app, REQUESTS)  # starts threads and fills caches
            return [(await loaded(guide.app, REQUESTS), await loaded(empty, REQUESTS)) for _ in range(rounds)]

    with tempfile.TemporaryDirectory() as folder:
        pairs = asyncio.run(main(service(Path(folder))))
    columns = list(zip(*pairs, strict=True))
    stall, floor = (min(load.stall for load in column) for column in columns)
    mine, reference = (statistics.median(good(load) for load in column) for column in columns)
    return [
        Row("event loop stall, 200 requests", stall, floor, stall / floor, f"<= {STALL * 1000:g} ms", stall <= STALL),
        Row("request for a good plugin among them", mine, reference, mine / reference),
    ]


def web_texts(rounds: int) -> list[Row]:
    """The longest stall of the event loop during a call that takes and returns 50 MB of text.

    The reference is an idle event loop: its stalls are those of other processes. The limit ``value_bytes`` is raised,
    because a character takes up to four bytes in Python.
    """
    from aegis import Aegis
    from tests.echo import Manner, logging_echo_component

    async def main() -> list[Row]:
        rows = []
        with Aegis(memory="1GiB", value_bytes="1GiB", host_bytes="4GiB", timeout=None, cache=False) as runtime:
            guest = runtime.load_wat(logging_echo_component(["string"], Manner()))
            for kind, char in (("ASCII", "a"), ("accented", "\xe9"), ("Chinese", "\u6f22")):
                text = char * (TEXT_BYTES // len(char.encode()))
                stalls, floors = [], []
                for _ in range(max(2, rounds)):
                    async with runtime.asandbox(guest) as sandbox:
                        stalls.append(await stall_during(sandbox.acall("echo-back", text)))
                    floors.append(await stall_during(asyncio.sleep(0.1)))
                    gc.collect()
                stall, floor = min(stalls), min(floors)
                name = f"event loop stall, 50 MB of {kind} text"
                rows.append(Row(name, stall, floor, stall / floor, f"<= {STALL * 1000:g} ms", stall <= STALL))
        return rows

    return asyncio.run(main())


async def stall_during(work: Awaitable[object]) -> float:
    """Return by how much a task that wakes every two milliseconds was late at the most, while ``work`` ran."""
    late, ended = 0.0, False

    async def wake() -> None:
        nonlocal late
        before = time.perf_counter()
        while not ended:
            await asyncio.sleep(WAKE_SECONDS)
            now = time.perf_counter()
            late, before = max(late, now - before - WAKE_SECONDS), now

    task = asyncio.create_task(wake())
    await asyncio.sleep(0)
    await work
    await asyncio.sleep(0)
    ended = True
    await task
    return late


def good(load: Any) -> float:
    """Return the median seconds of the requests for the good plugin."""
    return statistics.median(answer.seconds for answer in load.answers if answer.plugin == "honest")


PARTS = (web, web_texts)
