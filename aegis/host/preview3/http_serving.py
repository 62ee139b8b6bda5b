"""The request that a guest serves through ``wasi:http/handler``, and the response that it gives, as they pass.

The guest's task returns the response and may go on: it writes the contents and the trailers afterwards. The call is
over when the task has ended, and the response is complete or was given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aegis.host.net.http.field_section import may_trail
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.net.http.served_exchange import ArrivingBody, LeavingResponse
from aegis.host.preview3.http_contents import ContentsSink, SentTrailers
from aegis.host.preview3.http_fields import received_fields
from aegis.host.preview3.http_messages import StreamingRequest, StreamingResponse
from aegis.host.preview3.http_received import BodyReader, ReceivedResponse, TrailersReader
from aegis.values import Ended, Interest
from aegis.wit.values import Err, Ok

if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from aegis.host.net.http.served_frames import ServedHead
    from aegis.host.wasi import Wasi

__all__ = ["ArrivingRequest", "ServedTask"]


class _Unsendable:
    """In place of contents or trailers of a request that arrives: there is no stream of a guest to read."""

    def close(self) -> None:
        """Do nothing: the body is that of the served call."""


class _Unwritten:
    """In place of the future by which a reader of a response may report a failure: the host reports none."""

    def then(self, take: Callable[[Any], None]) -> None:
        """Pass nothing to ``take``."""


class ArrivingRequest(StreamingRequest):
    """The resource ``request`` of a client. The guest may read it, but passes it on by a request of its own."""

    received = True

    def __init__(self, wasi: Wasi, head: ServedHead, body: ArrivingBody) -> None:
        unsendable = _Unsendable()
        super().__init__(received_fields(wasi, head.fields), unsendable, unsendable, None)
        self.line.fill(head.method, head.scheme, head.authority, head.target)
        self._wasi, self._body = wasi, body

    def consumed(self, res: Any) -> tuple[Any, Any]:
        """Return the body and its trailers. The server does not learn whether the guest failed to handle them."""
        body = BodyReader(self._body, lambda: None)
        return body, TrailersReader(self._wasi, self._body, body)


class _LeavingContents(ContentsSink):
    """A sink for the contents of a guest's response, which ends the response when the trailers are there too."""

    def __init__(self, leaving: LeavingResponse, response: StreamingResponse) -> None:
        self._leaving = leaving
        super().__init__(leaving, response, SentTrailers(response.trailers))

    def end(self, fields: Any) -> None:
        if fields is not None and not may_trail(fields):
            self.refuse_trailers()
            return
        self._leaving.end(None if fields is None else fields.items)
        fault = self._leaving.short
        self.finish(Ok(None)) if fault is None else self.fail(fault)

    def released(self) -> None:
        self._leaving.close()


class _Relay:
    """The operation of the host that passes on a response which a guest received from another server, unread."""

    def __init__(self, leaving: LeavingResponse, body: Any, trailers: Any, expect: Callable[[Any], None]) -> None:
        self._leaving, self._body, self._trailers, self._expect = leaving, body, trailers, expect
        self._body_over = False
        expect(self)

    def _room(self) -> int | None:
        """Return the room for bytes of the body; ``None`` if the response was given up."""
        try:
            return self._leaving.room()
        except HttpFault:
            return None

    def ready(self) -> bool:
        room = self._room()
        if room is None:
            return True
        return bool(self._trailers.ready()) if self._body_over else room > 0 and bool(self._body.ready())

    def interest(self) -> Interest:
        if self._body_over:
            return self._trailers.interest()  # type: ignore[no-any-return]
        return self._body.interest() if self._room() else self._leaving.interest()

    def complete(self) -> None:
        """Pass a piece on, or the trailers after the last one."""
        room = self._room()
        if room is None:
            self.cancel()
        elif self._body_over:
            self._end()
        else:
            try:
                piece = self._body.take(room) if room else None
                if piece:
                    self._leaving.give(bytes(piece))
            except Ended:
                self._body_over = True
                self._body.close()
            self._expect(self)

    def _end(self) -> None:
        found = self._trailers.result()
        if isinstance(found, Err):
            self._leaving.close()  # the server's response was cut off, and so is this one
        else:
            self._leaving.end(None if found.value is None else found.value.items)

    def cancel(self) -> None:
        """Give the response up, because the client or the store is gone."""
        self._leaving.close()
        if not self._body_over:
            self._body.close()
        self._trailers.cancel()


class ServedTask:
    """One call of ``handler``: its argument, and the state of its response."""

    def __init__(self, wasi: Wasi, head: ServedHead, connection: _socket.socket) -> None:
        self._body, self._leaving = ArrivingBody(connection), LeavingResponse(connection, head.method)
        self.arguments = (ArrivingRequest(wasi, head, self._body),)
        self._sending: Any = None

    @property
    def over(self) -> bool:
        """Whether the response is complete, or was given up."""
        return self._leaving.over

    def resolved(self, result: Any, expect: Callable[[Any], None]) -> None:
        """Answer with the result of the guest's task; ``expect`` starts an operation of the host."""
        if not isinstance(result, Ok):
            code = result.value if isinstance(result, Err) else result
            self._leaving.refuse(type(code).__name__.removeprefix("ErrorCode"))
            return
        response = result.value
        try:
            self._leaving.respond(response.get_status_code(), response.get_headers().items)
        except HttpFault:
            response.__drop__()
            return
        if isinstance(response, ReceivedResponse):
            body, trailers = response.consumed(_Unwritten())
            self._sending = _Relay(self._leaving, body, trailers, expect)
        else:
            self._sending = _LeavingContents(self._leaving, response)

    def finish(self) -> bytes:
        """End both directions, for resources that the guest keeps; return the bytes that were not sent yet."""
        self._body.close()
        self._leaving.over = True
        return self._leaving.rest()
