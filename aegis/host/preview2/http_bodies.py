"""The bodies of ``wasi:http``, outgoing and incoming, with their trailers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aegis.host.net.http.field_section import may_trail
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.preview2.http_errors import error_code, failed
from aegis.host.preview2.http_fields import Fields, received
from aegis.host.preview2.io import CHUNK_BYTES, Ended, InputStream, Interest, OutputStream, Pollable
from aegis.wit.values import Err, Ok

if TYPE_CHECKING:
    from aegis.host.net.http.exchange import Exchange
    from aegis.host.net.http.served_exchange import ArrivingBody, LeavingResponse
    from aegis.host.wasi import Wasi

__all__ = ["FutureTrailers", "IncomingBody", "IncomingResponse", "OutgoingBody"]


# -- outgoing -----------------------------------------------------------------------------------------


class OutgoingBody:
    """The resource ``outgoing-body``: it buffers bytes until the message is sent, then streams.

    ``size_code`` names the error for a body of another length than the stated one.
    """

    def __init__(self, wasi: Wasi, length: int | None, size_code: str = "HTTP-request-body-size") -> None:
        self.wasi, self.length, self.size_code = wasi, length, size_code
        self.gathered = bytearray()
        self.reservation = wasi.grants.host_quota.reserve()
        self.exchange: Exchange | LeavingResponse | None = None
        self.given = 0
        self.ended = self._given_up = False
        self.trailers: Fields | None = None
        self._written = False

    @property
    def over(self) -> bool:
        """Whether the body accepts no more bytes."""
        return self.ended or self._given_up

    def write(self) -> OutputStream:
        if self._written:
            raise Err(None)
        self._written = True
        return _BodyOutput(self.wasi, self)

    @staticmethod
    def finish(this: OutgoingBody, trailers: Fields | None) -> None:
        if this.length is not None and this.given != this.length:
            this.__drop__()
            raise Err(error_code(HttpFault(this.size_code, this.given)))
        if trailers is not None and not may_trail(trailers):
            this.__drop__()
            raise Err(error_code(HttpFault("HTTP-protocol-error")))
        this.ended, this.trailers = True, trailers
        if this.exchange is not None:
            this.exchange.end(this.last_fields())
        this.__drop__()

    def last_fields(self) -> list[tuple[bytes, bytes]] | None:
        """Return the trailers to send, ``None`` without any."""
        return None if self.trailers is None else self.trailers.items

    def attach(self, exchange: Exchange | LeavingResponse) -> None:
        """Pass the buffered bytes to the exchange, which has begun, and stream from then on."""
        self.exchange = exchange.use()
        if self.gathered:
            exchange.give(bytes(self.gathered))
            self._forget()
        if self.ended:
            exchange.end(self.last_fields())
        if self.ended or self._given_up:
            self.__drop__()

    def _forget(self) -> None:
        self.gathered.clear()
        self.reservation.clear()

    def __drop__(self) -> None:
        """Release the exchange. ``finish`` calls this too, since it consumes the handle without a drop."""
        self._given_up = not self.ended
        if self._given_up:
            self._forget()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            if self._given_up:
                exchange.close()  # without ``finish`` the body is incomplete: abort the request
            exchange.release()


class _BodyOutput(OutputStream):
    def __init__(self, wasi: Wasi, body: OutgoingBody) -> None:
        super().__init__(wasi)
        self._body = body

    def room(self) -> int:
        if self._body.over:
            raise Ended
        exchange = self._body.exchange
        if exchange is None:
            return max(0, CHUNK_BYTES - len(self._body.gathered))
        try:
            return exchange.room()
        except HttpFault as fault:
            raise failed(fault) from None

    def give(self, data: bytes) -> None:
        body = self._body
        body.given += len(data)
        if body.length is not None and body.given > body.length:
            raise failed(HttpFault(body.size_code, body.given))
        if body.exchange is None:
            body.reservation.add(len(data))
            body.gathered += data
        else:
            body.exchange.give(data)

    def flushed(self) -> bool:
        exchange = self._body.exchange
        if exchange is None:
            return True
        try:
            return exchange.sent()
        except HttpFault as fault:
            raise failed(fault) from None

    def interest(self) -> Interest:
        exchange = self._body.exchange
        # Until the request is sent nothing drains the body: only the deadline ends such a wait.
        return Interest() if exchange is None else exchange.interest()


# -- incoming -----------------------------------------------------------------------------------------


class IncomingResponse:
    """The resource ``incoming-response``."""

    def __init__(self, wasi: Wasi, exchange: Exchange) -> None:
        assert exchange.head is not None
        self._wasi, self._exchange = wasi, exchange.use()
        self._head = exchange.head
        self._consumed = False

    def status(self) -> int:
        return self._head.status

    def headers(self) -> Fields:
        return received(self._wasi, self._head.fields)

    def consume(self) -> IncomingBody:
        if self._consumed:
            raise Err(None)
        self._consumed = True
        return IncomingBody(self._wasi, self._exchange)

    def __drop__(self) -> None:
        self._exchange.release()


class IncomingBody:
    """The resource ``incoming-body``."""

    def __init__(self, wasi: Wasi, exchange: Exchange | ArrivingBody) -> None:
        self.wasi, self.exchange = wasi, exchange.use()
        self._streamed = False

    def stream(self) -> InputStream:
        if self._streamed:
            raise Err(None)
        self._streamed = True
        return _BodyInput(self.wasi, self.exchange)

    @staticmethod
    def finish(this: IncomingBody) -> FutureTrailers:
        made = FutureTrailers(this.wasi, this.exchange)
        this.__drop__()
        return made

    def __drop__(self) -> None:
        self.exchange.release()


class _BodyInput(InputStream):
    def __init__(self, wasi: Wasi, exchange: Exchange | ArrivingBody) -> None:
        super().__init__(wasi)
        self._exchange = exchange.use()

    def take(self, count: int) -> bytes | None:
        try:
            data = self._exchange.take(count)
        except HttpFault as fault:
            raise failed(fault) from None
        if data == b"":
            raise Ended
        return data

    def ready(self) -> bool:
        return not self._exchange.waiting_body()

    def interest(self) -> Interest:
        return self._exchange.interest()

    def close(self) -> None:
        self._exchange.release()


class FutureTrailers:
    """The resource ``future-trailers``: it reads and discards the rest of the body, which the trailers follow."""

    def __init__(self, wasi: Wasi, exchange: Exchange | ArrivingBody) -> None:
        self._wasi, self._exchange = wasi, exchange.use()
        self._taken = False

    def get(self) -> Any:
        if not self.ready():
            return None
        if self._taken:
            return Err(None)
        self._taken = True
        try:
            trailers = self._exchange.last_trailers()
        except HttpFault as fault:
            return Ok(Err(error_code(fault)))
        return Ok(Ok(received(self._wasi, trailers, trailers=True) if trailers else None))

    def ready(self) -> bool:
        return self._exchange.skipped(self._wasi.scope)

    def interest(self) -> Interest:
        return self._exchange.interest()

    def subscribe(self) -> Pollable:
        return Pollable(self, self._wasi)

    def __drop__(self) -> None:
        self._exchange.release()
