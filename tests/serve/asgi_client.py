"""A client of ASGI applications in the same event loop: it sends one request and collects the response."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aegis.serve import Application

__all__ = ["Answer", "ask", "ask_now", "scope_of"]

_WAIT_SECONDS = 60.0


@dataclass(kw_only=True)
class Answer:
    """A response as the server got it. ``failure`` is the exception that the application raised."""

    status: int | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] | None = None
    ended: bool = False
    failure: BaseException | None = None


def scope_of(
    path: str, method: str = "GET", headers: Sequence[tuple[bytes, bytes]] = (), **more: Any
) -> dict[str, Any]:
    """Return the scope of a request to ``a.example``, as a server makes it; ``more`` replaces or adds keys."""
    target, _, query = path.partition("?")
    made = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": target, "raw_path": target.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"a.example"), *headers], "client": ("192.0.2.1", 1), "server": ("127.0.0.1", 80),
        "extensions": {},
    }  # fmt: skip
    return {**made, **more}


async def ask(
    app: Application, path: str, body: Sequence[bytes] = (b"",), *, method: str = "GET",
    headers: Sequence[tuple[bytes, bytes]] = (), gone_after: asyncio.Event | None = None,
    on_piece: Any = None, scope: dict[str, Any] | None = None, **more: Any,
) -> Answer:  # fmt: skip
    """Send a request with a body in pieces; return the response.

    After the body the client waits, and is gone when ``gone_after`` is set. ``on_piece`` is awaited with each piece of
    the response's body, before the application may send the next one.
    """
    pieces = list(body)
    answer, parts = Answer(), bytearray()

    async def receive() -> dict[str, Any]:
        if pieces:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
        await (asyncio.Event() if gone_after is None else gone_after).wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            assert answer.status is None
            answer.status, answer.headers = message["status"], list(message["headers"])
        elif kind == "http.response.body":
            assert answer.status is not None
            assert not answer.ended
            parts.extend(message.get("body", b""))
            answer.ended = not message.get("more_body", False)
            if on_piece is not None:
                await on_piece(message.get("body", b""))
        else:
            assert kind == "http.response.trailers"
            assert answer.ended
            answer.trailers = list(message["headers"])

    made = scope_of(path, method, headers, **more) if scope is None else scope
    try:
        await asyncio.wait_for(app(made, receive, send), _WAIT_SECONDS)
    except (Exception, asyncio.CancelledError) as error:
        answer.failure = error
    answer.body = bytes(parts)
    return answer


def ask_now(app: Application, path: str, body: Sequence[bytes] = (b"",), **more: Any) -> Answer:
    """Like :func:`ask`, on an event loop of its own."""
    return asyncio.run(ask(app, path, body, **more))
