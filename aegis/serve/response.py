"""The response of a guest, from frames to ASGI messages.

The frames are data of a guest or of a worker.
A worker process may be compromised, so names, values, lengths and sizes are checked here too, though the code in the
guest's process has checked them before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aegis.host.net.http.field_section import is_field_name, is_field_value, is_of_connection
from aegis.host.net.http.framing import stated_length
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.net.http.message import Fields
from aegis.host.net.http.served_exchange import NO_CONTENT
from aegis.host.net.http.served_frames import DATA, END, FAULT, HEAD, FrameError, unpack_fields
from aegis.limits import Limits
from aegis.serve.statuses import plain_text, status_of_code

__all__ = ["ResponseCutOff", "ResponseWriter", "max_frame_bytes"]

_STATUSES = range(200, 600)
"""Statuses of final responses; servers know no others."""
_MAX_SECTION_BYTES, _LENGTH_BYTES = 1 << 20, 8
"""Bytes of a section without a limit of the policy; bytes by which a frame states the lengths of a field."""

Send = Callable[[dict[str, Any]], Awaitable[None]]


class ResponseCutOff(Exception):
    """The guest's response ended before its end: the server must not let the client take it for a whole one.

    The application raises it to the server after the head was sent. Its cause is the error of the guest, if it has one.
    """


def max_frame_bytes(limits: Limits) -> int:
    """Return the largest size of a head or of trailers in a frame."""
    size = _MAX_SECTION_BYTES if limits.http_field_bytes is None else limits.http_field_bytes
    count = size if limits.http_fields is None else limits.http_fields
    return size + (count + 2) * _LENGTH_BYTES + 64


class ResponseWriter:
    """Sends one response. ``trailers``: the server and the client accept them.

    ``status`` is the status that was sent, ``None`` before. ``over``: nothing more is sent. ``complete``: the guest's
    response was sent wholly; ``answered``: another one was sent in its place. ``fault`` says why it is not whole.
    """

    def __init__(self, send: Send, limits: Limits, method: str, *, trailers: bool, offered: bool) -> None:
        self._send, self._limits, self._method = send, limits, method
        self._wanted, self._offered = trailers, offered
        self._trailing = self._bare = False
        self._left: int | None = None
        self.status: int | None = None
        self.over = self.complete = self.answered = False
        self.fault = ""

    async def take(self, kind: bytes, payload: bytes) -> None:
        """Pass a frame on. After :attr:`over` there is nothing to take."""
        try:
            if kind == HEAD and self.status is None:
                await self._start(payload)
            elif kind == FAULT and self.status is None:
                code = payload.decode("ascii", "replace")[:64]
                await self.answer(status_of_code(code), f"the guest answered with the error {code}")
            elif kind == DATA and self.status is not None:
                await self._piece(payload)
            elif kind == END and self.status is not None:
                await self._end(unpack_fields(payload))
            else:
                raise FrameError("a frame out of its order")
        except (FrameError, HttpFault) as fault:
            self.fail(f"the guest's response is malformed: {fault}")

    def fail(self, fault: str) -> None:
        """Send nothing more: the response is not whole, for the first reason given."""
        self.over, self.fault = True, self.fault or fault

    async def answer(self, status: int, reason: str, *fields: tuple[bytes, bytes]) -> None:
        """Answer in place of the guest."""
        self.fail(reason)
        self.answered = True
        body = plain_text(status)
        known = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": [*known, *fields]})
        await self._send({"type": "http.response.body", "body": b"" if self._method == "HEAD" else body})

    # -- the guest's response -------------------------------------------------------------------------

    async def _start(self, payload: bytes) -> None:
        (name, value), *fields = unpack_fields(payload) or [(b"", b"")]
        if name != b":status" or not value.isdigit() or len(value) != 3 or int(value) not in _STATUSES:
            raise FrameError("no status of a final response")
        fields = self._checked(fields)
        status, stated = int(value), stated_length(fields)
        self._bare = self._method == "HEAD" or status in NO_CONTENT
        if status == 204:  # it has no length (RFC 9110, 8.6)
            fields = [entry for entry in fields if entry[0] != b"content-length"]
        self._left = None if self._bare else stated
        self._trailing = self._offered and (self._wanted or any(name == b"trailer" for name, _ in fields))
        self.status = status
        await self._send(
            {"type": "http.response.start", "status": status, "headers": fields, "trailers": self._trailing}
        )

    def _checked(self, fields: Fields) -> Fields:
        """Return fields with their names in lower case, as ASGI has them; raise ``FrameError`` for an invalid one."""
        found = [(name.lower(), value) for name, value in fields]
        size = sum(len(name) + len(value) for name, value in found)
        most, most_bytes = self._limits.http_fields, self._limits.http_field_bytes
        if (most is not None and len(found) > most) or (most_bytes is not None and size > most_bytes):
            raise FrameError("more fields than the limits allow")
        for name, value in found:
            if not is_field_name(name) or not is_field_value(value) or is_of_connection(name):
                raise FrameError("a field that no response may have")
        return found

    async def _piece(self, data: bytes) -> None:
        if self._left is not None:
            if len(data) > self._left:
                raise FrameError("a body longer than its content-length")
            self._left -= len(data)
        if data and not self._bare:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _end(self, trailers: Fields) -> None:
        if self._left:
            raise FrameError("a body shorter than its content-length")
        fields = self._checked(trailers)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        if self._trailing:
            await self._send({"type": "http.response.trailers", "headers": fields, "more_trailers": False})
        self.over = self.complete = True
