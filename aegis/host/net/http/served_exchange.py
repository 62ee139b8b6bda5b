"""A request that a guest serves, on the guest's side: the body that arrives, and the response that leaves.

Both use one connection to the server, whose other end :mod:`aegis.serve` has; no function blocks. The connection is the
only authority of this side: it has no socket of the client.
"""

from __future__ import annotations

import _socket

from aegis.host.net.http.framing import stated_length
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.net.http.message import Fields
from aegis.host.net.http.served_frames import (
    DATA,
    END,
    FAULT,
    HEAD,
    MAX_DATA_BYTES,
    ServedFrames,
    frame,
    pack_fields,
)
from aegis.values import CallScope, Interest

__all__ = ["NO_CONTENT", "ArrivingBody", "LeavingResponse"]

NO_CONTENT = frozenset({204, 304})
"""Statuses of responses that never have a body (RFC 9110, 6.4.1)."""
_MAX_HELD_BYTES = 65536
_NOW, _NO_SIGNAL = _socket.MSG_DONTWAIT, getattr(_socket, "MSG_NOSIGNAL", 0)
_GONE = "connection-terminated"


class ArrivingBody:
    """The body of a request. It has the methods by which the classes of ``wasi:http`` read an :class:`Exchange`."""

    def __init__(self, connection: _socket.socket) -> None:
        self._connection: _socket.socket | None = connection
        self._frames = ServedFrames(0)
        self._data = memoryview(b"")
        self._ended = False
        self._news = False
        """Whether bytes were received since :meth:`interest` was asked: another reader may have taken them."""

    def _pump(self) -> None:
        """Receive until there is a piece, or the end of the body or of the connection."""
        while not self._data and not self._ended and self._connection is not None:
            found = self._frames.next()
            if found is not None:
                self._ended, self._data = found[0] == END, memoryview(found[1])
                continue
            try:
                received = self._connection.recv(_MAX_HELD_BYTES, _NOW)
            except BlockingIOError:
                return
            except OSError:
                received = b""
            self._news = True
            if not received:
                self.close()
            self._frames.feed(received)

    def take(self, count: int) -> bytes | None:
        """Return a piece of the body, ``None`` if there is none yet, no bytes at its end; raise ``HttpFault``."""
        self._pump()
        if self._data:
            piece, self._data = bytes(self._data[:count]), self._data[count:]
            return piece
        if self._ended:
            return b""
        if self._connection is None:
            raise HttpFault(_GONE)
        return None

    def waiting_body(self) -> bool:
        """Return whether a read would have to wait."""
        self._pump()
        return not self._data and not self._ended and self._connection is not None

    def skipped(self, scope: CallScope) -> bool:
        """Read and discard the rest of the body; return whether its end, or a failure, has come."""
        try:
            while (data := self.take(_MAX_HELD_BYTES)) is not None:
                if not data:
                    return True
                scope.remaining()  # an endless body is read until the deadline at most
        except HttpFault:
            return True
        return False

    def last_trailers(self) -> Fields | None:
        """Return ``None``: servers pass no trailers on. Raise ``HttpFault`` if the body was cut off."""
        if not self._ended:
            raise HttpFault(_GONE)
        return None

    def interest(self) -> Interest:
        """Return the events to wait for."""
        news, self._news = self._news, False
        if self._connection is None or news or self._ended or self._data:
            return Interest(host_time=0.0)
        return Interest(read=(self._connection.fileno(),))

    def use(self) -> ArrivingBody:
        """Return the body for one more user."""
        return self

    def release(self) -> None:
        """Do nothing: the body lives as long as the call."""

    def close(self) -> None:
        """Receive no more: the client is gone, or the call has ended."""
        self._connection = None


class LeavingResponse:
    """The response of a guest. It has the methods by which the classes of ``wasi:http`` write to an :class:`Exchange`.

    It holds at most some 64 KiB that the server has not received; :meth:`rest` returns these after the call.
    """

    def __init__(self, connection: _socket.socket, method: str) -> None:
        self._connection: _socket.socket | None = connection
        self._method = method
        self._unsent = bytearray()
        self._given = 0
        self._length: int | None = None
        self._fault = HttpFault(_GONE)
        """The reason why a response that is over accepts nothing."""
        self.answered = False
        """Whether the guest has answered, by a response or an error."""
        self.over = False
        """Whether the response is complete, or was given up: the guest can add nothing."""

    def respond(self, status: int, fields: Fields) -> None:
        """Send the head; raise ``HttpFault`` if its length is ambiguous, which is then the answer."""
        self.answered = True
        if status < 200:  # the final response has another status (RFC 9110, 15.2)
            self._unsent += frame(FAULT, b"HttpProtocolError")
            self.over = True
            raise HttpFault("HTTP-protocol-error")
        try:
            stated = stated_length(fields)
        except HttpFault:
            self.refuse("HttpProtocolError")
            raise
        self._length = None if self._method == "HEAD" or status in NO_CONTENT else stated
        self._unsent += frame(HEAD, pack_fields([(b":status", str(status).encode()), *fields]))
        self._pump()

    def refuse(self, code: str) -> None:
        """Answer with an error, by the name of its case of ``error-code`` in PascalCase."""
        self.answered = self.over = True
        self._unsent += frame(FAULT, code.encode())
        self._pump()

    @property
    def short(self) -> HttpFault | None:
        """The fault of a body of another length than the stated one, ``None`` without one."""
        return None if self._fault.code == _GONE else self._fault

    @property
    def length(self) -> int | None:
        """The length that the body must have, ``None`` for any."""
        return self._length

    def _pump(self) -> None:
        while self._unsent and self._connection is not None:
            try:
                sent = self._connection.send(self._unsent, _NOW | _NO_SIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self._connection, self.over = None, True
                self._unsent.clear()
                return
            del self._unsent[:sent]

    def room(self) -> int:
        """Return how many bytes of the body are accepted now; raise ``HttpFault`` if they cannot be sent."""
        self._pump()
        if self._connection is None or self.over:
            raise self._fault
        return max(0, _MAX_HELD_BYTES - len(self._unsent))

    def give(self, data: bytes) -> None:
        """Accept a piece of the body; more bytes than the stated length give the response up."""
        self._given += len(data)
        if self._length is not None and self._given > self._length:
            self._fault = HttpFault("HTTP-response-body-size", self._given)
            self.close()
        if not self.over:
            for at in range(0, len(data), MAX_DATA_BYTES):
                self._unsent += frame(DATA, data[at : at + MAX_DATA_BYTES])
            self._pump()

    def end(self, trailers: Fields | None) -> None:
        """End the body, unless it is shorter than the stated length: then the response is given up."""
        if self._length not in (None, self._given) and not self.over:
            self._fault = HttpFault("HTTP-response-body-size", self._given)
            self.close()
        if not self.over:
            self.over = True
            self._unsent += frame(END, pack_fields(trailers or []))
            self._pump()

    def sent(self) -> bool:
        """Return whether the server has received everything; raise ``HttpFault`` if it never will."""
        self._pump()
        if self._connection is None:
            raise HttpFault(_GONE)
        return not self._unsent

    def interest(self) -> Interest:
        """Return the events to wait for."""
        if self._connection is None or not self._unsent:
            return Interest(host_time=0.0)
        return Interest(write=(self._connection.fileno(),))

    def use(self) -> LeavingResponse:
        """Return the response for one more user."""
        return self

    def release(self) -> None:
        """Do nothing: the response lives as long as the call."""

    def close(self) -> None:
        """Give the response up: the server cuts it off after the bytes that were accepted."""
        self.over = True

    def rest(self) -> bytes:
        """Return the accepted bytes that the server has not received, and send no more."""
        self._connection, rest = None, bytes(self._unsent)
        return rest
