"""One request and its response: who pumps it makes it go on, and nobody waits in here.

Timeouts are of the host's time, whatever clock the guest has: they are about the network.
"""

from __future__ import annotations

import ssl
import time
from typing import Any, NamedTuple

from aegis.host.http.faults import HttpFault
from aegis.host.http.message import Fields, Head, Request
from aegis.host.http.transport import Transport
from aegis.host.network import Network

__all__ = ["Exchange", "Timeouts", "missing_library"]

_MOST = 65536


class Timeouts(NamedTuple):
    """Seconds, or ``None`` for no bound but the call's own deadline."""

    connect: float | None = None
    first_byte: float | None = None
    between_bytes: float | None = None


def missing_library() -> str | None:
    """Return what to install where HTTP cannot be had, ``None`` where it can."""
    from importlib.util import find_spec

    if find_spec("h11") is None or find_spec("h2") is None:
        return "HTTP needs the extra http: pip install 'aegis-wasm[http]'"
    return None


class Exchange:
    """A request under way. ``head``, ``trailers`` and ``error`` are what has come of it so far."""

    def __init__(
        self, network: Network, request: Request, host: str, port: int, timeouts: Timeouts,
        context: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self._network, self._request, self._timeouts = network, request, timeouts
        self.error: HttpFault | None = None
        self._protocol: Any = None
        self._unsent = b""
        self._body = bytearray()
        self._given_end: tuple[Fields | None] | None = None
        self._end_given = not request.has_body
        self._pieces: list[bytes] = []
        self._held = 0
        self._end_seen = False
        self._users = 1
        self._since = time.monotonic()
        self._phase = "connect"
        self._transport: Transport | None = None
        try:
            self._transport = Transport(network, request.scheme, host, port, context)
        except HttpFault as fault:
            self.error = fault

    # -- going on ------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Go on as far as it goes without waiting; what goes wrong is kept in ``error``."""
        if self.error is not None or self._transport is None:
            return
        try:
            self._go()
            self._overdue()
        except HttpFault as fault:
            self.error = fault
            self._transport.close()

    def _go(self) -> None:
        transport = self._transport
        assert transport is not None
        if self._protocol is None:
            if not transport.pump():
                return
            self._protocol = self._speak(transport.protocol)
            self._enter("first_byte")
        self._send_on(transport)
        self._receive(transport)
        self._send_on(transport)

    def _speak(self, protocol: str) -> Any:
        field_bytes = self._network.limits.http_field_bytes or 1 << 20
        if protocol == "h2":
            from aegis.host.http.http2 import Http2

            return Http2(self._request, field_bytes)
        from aegis.host.http.http1 import Http1

        return Http1(self._request, field_bytes)

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

    def _receive(self, transport: Transport) -> None:
        while self._held < _MOST and not self._end_seen:
            piece = self._protocol.next()
            if piece:
                self._pieces.append(piece)
                self._held += len(piece)
                self._enter("between_bytes")
                continue
            if self._protocol.ended:
                self._end_seen = True
                self._check(self._protocol.trailers, "trailer")
                return
            if self._protocol.head is not None and self._phase == "first_byte":
                self._check(self._protocol.head.fields, "header")
                self._enter("between_bytes")
                continue
            data = transport.receive()
            if data is None:
                return
            self._protocol.feed(data)
            if self._protocol.head is not None:
                self._since = time.monotonic()

    def _check(self, fields: Fields | None, what: str) -> None:
        limits = self._network.limits
        if fields is None:
            return
        size = sum(len(name) + len(value) for name, value in fields)
        many = limits.http_fields is not None and len(fields) > limits.http_fields
        if many or (limits.http_field_bytes is not None and size > limits.http_field_bytes):
            raise HttpFault(f"HTTP-response-{what}-section-size", size)

    def _enter(self, phase: str) -> None:
        self._phase, self._since = phase, time.monotonic()

    def _bound(self) -> float | None:
        bound: float | None = getattr(self._timeouts, self._phase)
        return bound

    def _overdue(self) -> None:
        bound = self._bound()
        if bound is None or self._end_seen or time.monotonic() < self._since + bound:
            return
        codes = {"connect": "connection-timeout", "first_byte": "HTTP-response-timeout"}
        raise HttpFault(codes.get(self._phase, "connection-read-timeout"))

    # -- the request's body --------------------------------------------------------------------------

    def room(self) -> int:
        """How many bytes of the body are taken now."""
        self.pump()
        if self.error is not None:
            raise self.error
        return max(0, _MOST - len(self._body) - len(self._unsent))

    def give(self, data: bytes) -> None:
        """Take a piece of the request's body."""
        self._body += data
        self.pump()

    def end(self, trailers: Fields | None) -> None:
        """End the request's body."""
        if not self._end_given:
            self._end_given, self._given_end = True, (trailers,)
            self.pump()

    def sent(self) -> bool:
        """Tell whether all that was given has gone."""
        self.pump()
        return not self._body and not self._unsent and not (self._transport is not None and self._transport.sending())

    # -- the response --------------------------------------------------------------------------------

    @property
    def head(self) -> Head | None:
        """How the response begins, once it has."""
        return None if self._protocol is None else self._protocol.head

    @property
    def trailers(self) -> Fields | None:
        """The fields after the body, once it has ended."""
        return None if self._protocol is None else self._protocol.trailers

    def take(self, count: int) -> bytes | None:
        """Return a piece of the response's body, ``None`` for nothing yet, no bytes at its end."""
        if not self._pieces:
            self.pump()
        if self._pieces:
            piece = self._pieces[0]
            if len(piece) > count:
                self._pieces[0] = piece[count:]
                piece = piece[:count]
            else:
                self._pieces.pop(0)
            self._held -= len(piece)
            self._protocol.consumed(len(piece))
            return piece
        if self._end_seen:
            return b""
        if self.error is not None:
            raise self.error
        return None

    def waiting_body(self) -> bool:
        """Tell whether a read of the body would have to wait."""
        self.pump()
        return not self._pieces and not self._end_seen and self.error is None

    @property
    def finished(self) -> bool:
        """Whether the whole response has come and been taken."""
        return self._end_seen and not self._pieces

    # -- waiting and ending --------------------------------------------------------------------------

    def interest(self) -> tuple[tuple[int, ...], tuple[int, ...], float | None]:
        """Return descriptors to read and to write, and when (``time.monotonic``) to look again."""
        bound = self._bound()
        again = None if bound is None else self._since + bound
        if self._transport is None or self.error is not None:
            return (), (), 0.0
        reads, writes = self._transport.interest(write=bool(self._unsent))
        return reads, writes, again

    def use(self) -> Exchange:
        """Count one more user."""
        self._users += 1
        return self

    def let_go(self) -> None:
        """Count one less; the last ends the exchange."""
        self._users -= 1
        if not self._users:
            self.close()

    def close(self) -> None:
        """End it, whatever it is doing."""
        if self._transport is not None:
            self._transport.close()
        if self.error is None and not self._end_seen:
            self.error = HttpFault("connection-terminated")
        self._network.exchanges.discard(self)
