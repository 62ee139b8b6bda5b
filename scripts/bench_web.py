"""The benchmark of the guide "Plugins in a web service": stalls of the event loop under 200 concurrent requests.

A quarter of the requests are for plugins that trap, never end, or exceed a limit. The reference is the same application
without plugins, on the same machine in turns; its stalls are those of the framework and of other processes.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import Any

from bench_rows import Row

__all__ = ["PARTS"]

STALL = 0.050
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


def good(load: Any) -> float:
    """Return the median seconds of the requests for the good plugin."""
    return statistics.median(answer.seconds for answer in load.answers if answer.plugin == "honest")


PARTS = (web,)
