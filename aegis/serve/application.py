"""The ASGI application of a component that exports an HTTP handler.

One task passes the body of a request to the guest and waits for the client to go; one runs the guest; the application's
own passes the response on. They share the connection of :mod:`.connection`. The guest's deadline bounds the second.
When the guest has ended, others may take its place, and the client has as long again to take the rest of the response.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from aegis.errors import AegisError, PolicyError
from aegis.host.net.http.served_frames import FrameError, ServedHead
from aegis.limits import Limits
from aegis.observe.outcome import Outcome
from aegis.runtime import Aegis
from aegis.sandbox.serving import handler_of
from aegis.serve.connection import Receive, ServerEnd, connected
from aegis.serve.report import OnRequest, ServedRequest
from aegis.serve.request import Rejected, head_of, wants_trailers
from aegis.serve.response import ResponseCutOff, ResponseWriter, Send, max_frame_bytes
from aegis.serve.sandboxes import Sandboxes
from aegis.serve.statuses import status_of_error
from aegis.text import printable, shown

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine import Module
    from aegis.sandbox.sandbox import Sandbox

__all__ = ["Application", "asgi"]

_CONCURRENT_REQUESTS = 32
"""Requests at once, unless the embedder states another number: as many guests as asynchronous calls run at once."""
_RETRY_SECONDS = b"1"


def asgi(
    runtime: Aegis, component: Module | Component, *, max_concurrent: int = _CONCURRENT_REQUESTS,
    requests_per_sandbox: int = 1, imports: Mapping[str, Any] | None = None, args: Sequence[str] = (),
    isolate: bool | None = None, on_request: OnRequest | None = None,
) -> Application:  # fmt: skip
    """Return an ASGI 3 application that has ``component`` answer requests under the policy of ``runtime``.

    The component exports ``wasi:http/incoming-handler`` of WASI 0.2 or ``wasi:http/handler`` of WASI 0.3. If it exports
    both, the latter serves.

    ``max_concurrent``
        Requests that are served at once; further ones get the status 503. Each may use the memory that the policy
        allows a sandbox.
    ``requests_per_sandbox``
        Requests that one sandbox serves, one after the other. 1, the default, gives each request a new sandbox, so
        that it can see nothing of others. With more, requests share the guest's memory, and a sandbox whose guest did
        not return is not used again.
    ``imports``, ``args``, ``isolate``
        As for :meth:`aegis.Aegis.sandbox`.
    ``on_request``
        Called on the event loop with a :class:`ServedRequest` at the end of each request. The subscribers of the
        runtime get the events of the calls besides.

    Raise :class:`~aegis.errors.LinkError` for a component without a handler, :class:`~aegis.errors.PolicyError` for an
    invalid number.
    """
    for name, value in (("max_concurrent", max_concurrent), ("requests_per_sandbox", requests_per_sandbox)):
        if type(value) is not int or value < 1:
            raise PolicyError(f"{name} must be a positive integer, not {shown(value, 40)}")
    handler_of(component)
    options = {"imports": imports, "args": args, "isolate": isolate}
    sandboxes = Sandboxes(runtime, component, requests_per_sandbox, options)
    return Application(runtime, sandboxes, max_concurrent, on_request)


class Application:
    """An ASGI application; :func:`asgi` makes it. It serves the scopes ``http`` and ``lifespan``.

    Its requests belong to one event loop of :mod:`asyncio` at a time. ``running`` is the number of requests whose
    guests run.
    """

    def __init__(self, runtime: Aegis, sandboxes: Sandboxes, max_concurrent: int, on_request: OnRequest | None) -> None:
        self._limits, self._sandboxes = runtime.policy.limits, sandboxes
        self._most, self._on_request = max_concurrent, on_request
        self.running = 0

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(receive, send)
        elif kind == "websocket":
            await _refuse_websocket(receive, send)
        else:
            raise ValueError(f"the ASGI scope {printable(str(kind), 40)} is not served: pass http or lifespan")

    async def aclose(self) -> None:
        """Close the sandboxes that wait for requests; the server's shutdown does this too. The runtime stays open."""
        await self._sandboxes.close()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._sandboxes.probe()
        except AegisError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    # -- one request -------------------------------------------------------------------------------

    async def _http(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        began = time.monotonic()
        writer = ResponseWriter(
            send, self._limits, scope["method"], trailers=wants_trailers(scope),
            offered="http.response.trailers" in (scope.get("extensions") or {}),
        )  # fmt: skip
        request = _RequestUnderWay(self._sandboxes, writer)
        try:
            if self.running >= self._most:
                used = f"{self._most + 1}/{self._most}"
                reason = f"too many requests at once ({used}): raise it with max_concurrent or --max-concurrent"
                await writer.answer(503, reason, (b"retry-after", _RETRY_SECONDS))
                return
            try:
                head = head_of(scope, self._limits)
            except Rejected as rejected:
                await writer.answer(rejected.status, rejected.reason)
                return
            self.running += 1
            await request.serve(head, receive, self._limits, self._release)
        finally:
            self._report(scope, writer, request.outcome, time.monotonic() - began)
        request.raise_failure()

    def _release(self, guest: asyncio.Task[bytes]) -> None:
        """Give the place of a guest that has ended to another request."""
        self.running -= 1

    def _report(
        self, scope: Mapping[str, Any], writer: ResponseWriter, outcome: Outcome | None, seconds: float
    ) -> None:
        if self._on_request is None:
            return
        raw = bytes(scope.get("raw_path") or scope["path"].encode("utf-8", "replace"))
        query = bytes(scope.get("query_string") or b"")
        report = ServedRequest(
            method=str(scope["method"]), target=(raw + b"?" + query if query else raw).decode("latin-1"),
            status=writer.status, complete=writer.complete, seconds=seconds, outcome=outcome, reason=writer.fault,
        )  # fmt: skip
        try:
            self._on_request(report)
        except Exception as error:  # a report cannot break a request
            asyncio.get_running_loop().call_exception_handler(
                {"message": "on_request of aegis.serve raised an exception", "exception": error}
            )


class _RequestUnderWay:
    """One request that a guest serves. ``outcome`` is that of its call, once it has ended."""

    def __init__(self, sandboxes: Sandboxes, writer: ResponseWriter) -> None:
        self._sandboxes, self._writer = sandboxes, writer
        self.outcome: Outcome | None = None
        self._client_gone = False

    async def serve(
        self, head: ServedHead, receive: Receive, limits: Limits, release: Callable[[asyncio.Task[bytes]], None]
    ) -> None:
        """Pass the request to a guest, and its response to the client; call ``release`` when the guest has ended."""
        end, far = connected(max_frame_bytes(limits))
        guest = asyncio.create_task(self._call(head, far))
        guest.add_done_callback(release)
        feeding = asyncio.create_task(self._feed(end, receive, guest))
        try:
            async with asyncio.timeout(None) as patience:
                guest.add_done_callback(lambda _: _limit(patience, limits.timeout))
                await self._respond(end, guest)
        except TimeoutError:
            self._writer.fail("the client did not take the response in time")
        finally:
            await _ended(feeding, guest)
            far.close()
            end.close()

    async def _feed(self, end: ServerEnd, receive: Receive, guest: asyncio.Task[bytes]) -> None:
        """Pass the body of the request on; a client that goes before the whole response was sent ends the guest."""
        if await end.feed(receive) and not self._writer.over:
            self._client_gone = True
            guest.cancel()

    async def _respond(self, end: ServerEnd, guest: asyncio.Task[bytes]) -> None:
        """Pass the response on, and answer in place of a guest that has not answered."""
        writer = self._writer
        try:
            await self._pass_on(end, guest)
        except FrameError as error:
            writer.fail(f"the guest's response is malformed: {error}")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._client_gone or (task is not None and task.cancelling()):
                raise
            writer.fail("the client is gone")
            return
        if not writer.complete and not writer.answered:
            await _ended(guest)
            await self._answer_in_place()

    async def _pass_on(self, end: ServerEnd, guest: asyncio.Task[bytes]) -> None:
        """Pass frames on until the response is over; then wait for the end of the guest, unless it is malformed."""
        writer = self._writer
        async with aclosing(end.frames()) as frames:
            async for kind, payload in frames:
                await writer.take(kind, payload)
                if writer.over:
                    break
        if not writer.over or writer.complete or writer.answered:
            for kind, payload in end.rest(await guest):
                if not writer.over:
                    await writer.take(kind, payload)

    async def _answer_in_place(self) -> None:
        """Answer for a guest that has sent no head, and give up a response that lacks its end."""
        writer, error = self._writer, None if self.outcome is None else self.outcome.error
        reason = str(error) if error is not None else "the guest ended without a whole response"
        if writer.status is None:
            await writer.answer(500 if error is None else status_of_error(error), reason)
        else:
            writer.fail(reason)

    async def _call(self, head: ServedHead, connection: Any) -> bytes:
        """Have a sandbox serve the request; return the last bytes of the response."""
        sandbox: Sandbox | None = None
        served, returned = 0, False
        try:
            sandbox, served = await self._sandboxes.take()
            self.outcome, rest = await sandbox.aserve(head, connection)
            returned = self.outcome.status == "returned"
            return rest
        except AegisError as error:  # the sandbox could not be opened
            self.outcome = Outcome.from_error(error)
            return b""
        finally:
            connection.close()
            if sandbox is not None:
                await self._sandboxes.give(sandbox, served, returned=returned)

    def raise_failure(self) -> None:
        """Raise the failures that the server must know: a response that was cut off, and mistakes of the embedder."""
        error = None if self.outcome is None else self.outcome.error
        writer = self._writer
        if self._client_gone:
            return
        if writer.over and not writer.complete and not writer.answered:
            raise ResponseCutOff(writer.fault) from error
        if error is not None and error.blame != "guest":
            raise error


def _limit(patience: asyncio.Timeout, seconds: float | None) -> None:
    """Have ``patience`` end after some seconds, unless the block that it bounds has ended."""
    if seconds is not None:
        with suppress(RuntimeError):
            patience.reschedule(asyncio.get_running_loop().time() + seconds)


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _refuse_websocket(receive: Receive, send: Send) -> None:
    """Close a WebSocket before it is accepted, which the client sees as the status 403: wasi:http has none."""
    await receive()
    await send({"type": "websocket.close", "code": 1003, "reason": "this application serves no WebSocket"})
