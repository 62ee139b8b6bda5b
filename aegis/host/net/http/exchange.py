"""One request and its response. The exchange advances when it is pumped; no function blocks.

Timeouts are in real time, whichever clock the guest has, since they concern the network.
"""

from __future__ import annotations

import ssl
import time
from collections import deque
from typing import Any, NamedTuple

from aegis.host.net.http.framing import SectionSizes
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.net.http.message import Fields, Head, Request
from aegis.host.net.http.transport import Transport
from aegis.host.net.network import Network
from aegis.values import CallScope, Interest

__all__ = ["Exchange", "Timeouts"]

_MAX_HELD_BYTES = 65536
_SECOND = 1e9
_RECEIVES_PER_PUMP = 16
"""Chunks that are received before the guest continues: an endless response must not occupy the host."""


class Timeouts(NamedTuple):
    """The timeouts that the guest sets, in seconds; ``None``: only the deadline of the call applies."""

    connect: float | None = None
    first_byte: float | None = None
    between_bytes: float | None = None

    @classmethod
    def of(cls, *nanoseconds: int | None) -> Timeouts:
        """Return timeouts that a guest set in nanoseconds."""
        return cls(*(None if span is None else span / _SECOND for span in nanoseconds))


class Exchange:
    """A request under way. ``head``, ``trailers`` and ``error`` are its results so far."""

    def __init__(
        self, network: Network, request: Request, host: str, port: int, timeouts: Timeouts,
        context: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self._network, self._request, self._timeouts = network, request, timeouts
        self.error: HttpFault | None = None
        self._protocol: Any = None
        self._unsent = b""
        self._body = bytearray()
        self._given = 0
        self._given_end: tuple[Fields | None] | None = None
        self._end_given = not request.has_body
        self._stopped: HttpFault | None = None
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._request_sent = self._end_seen = self._deaf = self._more = False
        self._news = False
        """Whether bytes were received or sent since :meth:`interest` was asked: what one user of the exchange did may
        have made another ready, which was checked before."""
        self._users = 1
        self._since = time.monotonic()
        self._phase = "connect"
        self._transport: Transport | None = None
        try:
            self._transport = Transport(network, request, host, port, context)
        except HttpFault as fault:
            self.error = fault

    # -- advancing -----------------------------------------------------------------------------------

    def pump(self) -> None:
        """Advance as far as possible without blocking; store a failure in ``error``."""
        if self.error is not None or self._transport is None:
            return
        unsent = len(self._unsent)
        try:
            self._go(self._transport)
            self._overdue()
        except HttpFault as fault:
            self._fail(fault)
        self._news |= len(self._unsent) < unsent

    def _fail(self, fault: HttpFault) -> None:
        self.error = fault
        self._close_connection()

    def _go(self, transport: Transport) -> None:
        if self._protocol is None:
            if not transport.pump():
                return
            self._protocol = self._speak(transport.protocol)
            self._enter("first_byte")
        self._send_or_stop(transport)
        self._request_sent = self._stopped is None and self._all_sent(transport)
        self._receive(transport)
        self._send_or_stop(transport)
        self._request_sent |= self._stopped is None and self._all_sent(transport)
        if self._end_seen and (self._stopped is not None or self._all_sent(transport)):
            self._close_connection()

    def _close_connection(self) -> None:
        """Close the connection, which no longer counts. Received bytes can still be read."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
        self._network.exchanges.discard(self)

    def _speak(self, protocol: str) -> Any:
        limits = self._network.limits
        sizes = SectionSizes(limits.http_fields, limits.http_field_bytes)
        if protocol == "h2":
            from aegis.host.net.http.http2 import Http2

            return Http2(self._request, sizes)
        from aegis.host.net.http.http1 import Http1

        return Http1(self._request, sizes)

    def _send_or_stop(self, transport: Transport) -> None:
        """Continue to send. A server that accepts no more of the request may still have answered."""
        if self._stopped is not None:
            return
        try:
            self._send_on(transport)
        except HttpFault as fault:
            if fault.code != "connection-terminated":
                raise
            self._stopped = fault
            self._body.clear()
            self._unsent = b""

    def _all_sent(self, transport: Transport) -> bool:
        given = self._end_given and self._given_end is None
        return given and not self._body and not self._unsent and not transport.sending()

    def _send_on(self, transport: Transport) -> None:
        while not transport.sending():
            if self._body and (room := self._protocol.room()):
                self._protocol.body(bytes(self._body[:room]))
                del self._body[:room]
            if self._given_end is not None and not self._body:
                self._protocol.end(*self._given_end)
                self._given_end = None
            self._unsent += self._protocol.take()
            if not self._unsent:
                return
            sent = transport.send(self._unsent)
            if not sent:
                return
            self._unsent = self._unsent[sent:]

    def _hungry(self) -> bool:
        """Return whether to receive more: not while much is unread by the guest, or unsent to the server.

        The server may send flow-control frames even after the response, which permit the rest of the request. What is
        unsent may be a full piece of the body with its framing: a server that answers while it reads must be read then,
        or each side would wait for the other. More than that are answers to frames of the server.
        """
        return not self._deaf and self._held < _MAX_HELD_BYTES and len(self._unsent) <= 2 * _MAX_HELD_BYTES

    def _receive(self, transport: Transport) -> None:
        self._more = False
        for _ in range(_RECEIVES_PER_PUMP):
            self._unpack()
            if not self._hungry():
                return
            data = transport.receive()
            if data is None:
                return
            self._deaf, self._news = not data, True
            self._protocol.feed(data)
            if self._protocol.head is not None:
                self._since = time.monotonic()
        self._unpack()
        self._more = self._hungry()

    def _unpack(self) -> None:
        """Take the pieces of the body that the protocol has decoded."""
        while self._held < _MAX_HELD_BYTES and not self._end_seen:
            piece = self._protocol.next()
            if piece:
                self._pieces.append(piece)
                self._held += len(piece)
                self._enter("between_bytes")
            elif self._protocol.ended:
                self._end_seen = True
            elif self._protocol.head is not None and self._phase == "first_byte":
                self._enter("between_bytes")
            else:
                return

    def _enter(self, phase: str) -> None:
        self._phase, self._since = phase, time.monotonic()

    def _until(self) -> float | None:
        """Return when (``time.monotonic``) the present timeout ends; ``None`` while the guest has bytes to read."""
        bound: float | None = getattr(self._timeouts, self._phase)
        return None if bound is None or self._end_seen or self._held else self._since + bound

    def _overdue(self) -> None:
        until = self._until()
        if until is None or time.monotonic() < until:
            return
        codes = {"connect": "connection-timeout", "first_byte": "HTTP-response-timeout"}
        raise HttpFault(codes.get(self._phase, "connection-read-timeout"))

    # -- the request's body --------------------------------------------------------------------------

    def room(self) -> int:
        """Return how many bytes of the body are accepted now; raise ``HttpFault`` if it failed."""
        self.pump()
        fault = self.error or self._stopped
        if fault is not None:
            raise fault
        return max(0, _MAX_HELD_BYTES - len(self._body) - len(self._unsent))

    def give(self, data: bytes) -> None:
        """Accept a piece of the request's body; more bytes than the stated length are a failure, and are not sent."""
        self._given += len(data)
        if self._request.length is not None and self._given > self._request.length:
            self._fail(HttpFault("HTTP-request-body-size", self._given))
            return
        self._body += data
        self.pump()

    def end(self, trailers: Fields | None) -> None:
        """End the request's body; if it is shorter than the stated length, fail and close the connection."""
        if self._request.length not in (None, self._given) and self.error is None:
            self._fail(HttpFault("HTTP-request-body-size", self._given))
        if not self._end_given:
            self._end_given, self._given_end = True, (trailers,)
            self.pump()

    def may_end_with(self, trailers: Fields) -> bool:
        """Return whether trailers may follow what was announced: a body whose length was not stated, or no fields."""
        return not trailers or (self._request.has_body and self._request.length is None)

    def sent(self) -> bool:
        """Return whether all accepted bytes were sent; raise ``HttpFault`` if the exchange failed."""
        self.pump()
        fault = self.error or self._stopped
        if fault is not None:
            raise fault
        return not self._body and not self._unsent and not (self._transport is not None and self._transport.sending())

    def request_sent(self) -> bool:
        """Return whether the whole request was sent; raise ``HttpFault`` if it never will be."""
        self.pump()
        fault = self.error or self._stopped
        if fault is not None and not self._request_sent:
            raise fault
        return self._request_sent

    # -- the response --------------------------------------------------------------------------------

    @property
    def head(self) -> Head | None:
        """The status and fields of the response, ``None`` before they have arrived."""
        return None if self._protocol is None else self._protocol.head

    @property
    def trailers(self) -> Fields | None:
        """The fields after the body, ``None`` before its end or without any."""
        return None if self._protocol is None else self._protocol.trailers

    def take(self, count: int) -> bytes | None:
        """Return a piece of the response's body, ``None`` if there is none yet, no bytes at its end."""
        if not self._pieces:
            self.pump()
        if self._pieces:
            piece = self._pieces[0]
            if len(piece) > count:
                self._pieces[0] = piece[count:]
                piece = piece[:count]
            else:
                self._pieces.popleft()
            self._held -= len(piece)
            self._since = time.monotonic()
            self._protocol.consumed(len(piece))
            return piece
        if self._end_seen:
            return b""
        if self.error is not None:
            raise self.error
        return None

    def waiting_body(self) -> bool:
        """Return whether a read of the body would have to wait."""
        self.pump()
        return not self._pieces and not self._end_seen and self.error is None

    def skipped(self, scope: CallScope) -> bool:
        """Read and discard the rest of the body, whose end may never come; return whether it, or a failure, has."""
        try:
            while (data := self.take(_MAX_HELD_BYTES)) is not None:
                if not data:
                    return True
                scope.remaining()  # an endless body is read until the deadline at most
        except HttpFault:
            return True
        return False

    def last_trailers(self) -> Fields | None:
        """Return the fields after the body, ``None`` without any; raise ``HttpFault`` if the body was cut short."""
        if self.error is not None and not self.finished:
            raise self.error
        return self.trailers

    @property
    def finished(self) -> bool:
        """Whether the whole response has arrived and was taken."""
        return self._end_seen and not self._pieces

    # -- waiting and ending --------------------------------------------------------------------------

    def interest(self) -> Interest:
        """Return the descriptors to wait for, and when to check again."""
        news, self._news = self._news, False
        if self._transport is None or self.error is not None or self._more or news:
            return Interest(host_time=0.0)
        reads, writes, again = self._transport.interest(read=self._hungry(), write=bool(self._unsent))
        soonest = min((t for t in (again, self._until()) if t is not None), default=None)
        return Interest(read=reads, write=writes, host_time=soonest)

    @property
    def over(self) -> bool:
        """Whether the connection is closed: nothing more is sent or received."""
        return self._transport is None

    def use(self) -> Exchange:
        """Count one more user."""
        self._users += 1
        return self

    def release(self) -> None:
        """Count one user less; the last one ends the exchange."""
        self._users -= 1
        if not self._users:
            self.close()

    def close(self) -> None:
        """End the exchange, in whichever phase it is."""
        if self.error is None and not self._end_seen:
            self.error = HttpFault("connection-terminated")
        self._close_connection()
