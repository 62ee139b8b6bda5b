"""The service of the guide "Plugins in a web service" under load, without a server: for its tests and the benchmark."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests import markdown

__all__ = ["Answer", "Load", "loaded", "post", "service"]

GUIDE = Path(__file__).resolve().parent.parent / "docs" / "guides" / "web-service.md"


class Answer(NamedTuple):
    """The answer to one request, and the seconds it took."""

    plugin: str
    status: int
    body: Any
    seconds: float


class Load(NamedTuple):
    """The answers to all requests, the longest stall of the event loop meanwhile in seconds, and the time in all."""

    answers: list[Answer]
    stall: float
    seconds: float


def service(folder: Path) -> Any:
    """Return the module ``service.py`` of the guide, written to ``folder``."""
    markdown.write_files(markdown.blocks(GUIDE.read_text(encoding="utf-8"), GUIDE.name), folder)
    spec = importlib.util.spec_from_file_location("web_service_of_the_guide", folder / "service.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def post(app: Any, plugin: str, body: bytes) -> Answer:
    """Send one request to an ASGI application (ASGI, "HTTP connection scope") and return the answer."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": f"/price/{plugin}", "raw_path": f"/price/{plugin}".encode(), "query_string": b"", "root_path": "",
        "headers": [(b"content-type", b"application/json")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    parts: list[bytes] = []
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            parts.append(message.get("body", b""))

    started = time.perf_counter()
    await app(scope, receive, send)
    return Answer(plugin, status, json.loads(b"".join(parts)), time.perf_counter() - started)


async def loaded(app: Any, plugins: Sequence[str]) -> Load:
    """Send one request for each of ``plugins``, all at once, to a running application."""
    stall, stopped = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal stall
        last = time.perf_counter()
        while not stopped.is_set():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            stall = max(stall, now - last - 0.001)
            last = now

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    started = time.perf_counter()
    answers = await asyncio.gather(*(post(app, plugin, str(n).encode()) for n, plugin in enumerate(plugins)))
    seconds = time.perf_counter() - started
    stopped.set()
    await watcher
    return Load(answers, stall, seconds)
