"""The response of a server, as a guest reads it: its head, its body as a stream, and its trailers as a future."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aegis.bindings import wasi_http_types_0_3 as types
from aegis.host.net.http.error_codes import error_code_of
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.preview3.http_fields import MessageFields, received_fields
from aegis.host.preview3.http_messages import StatusLine
from aegis.values import Ended, Interest
from aegis.wit.values import Err, Ok

if TYPE_CHECKING:
    from collections.abc import Callable

    from aegis.host.net.http.exchange import Exchange
    from aegis.host.net.http.served_exchange import ArrivingBody
    from aegis.host.wasi import Wasi

__all__ = ["BodyReader", "ReceivedResponse", "TrailersReader"]


class ReceivedResponse(StatusLine):
    """The resource ``response`` of a server. It has one user of its exchange, which it passes on to its body.

    ``settle`` completes the transmission of the request if all was sent, so that the exchange can end with the body.
    """

    def __init__(self, wasi: Wasi, exchange: Exchange, settle: Callable[[], None]) -> None:
        assert exchange.head is not None
        super().__init__(exchange.head.status)
        self._wasi, self._exchange, self._settle, self._items = wasi, exchange, settle, exchange.head.fields

    def get_headers(self) -> MessageFields:
        return received_fields(self._wasi, self._items)

    def consumed(self, res: Any) -> tuple[BodyReader, TrailersReader]:
        """Return the body and the trailers; an error that the guest writes to ``res`` ends the exchange."""
        body = BodyReader(self._exchange, self._settle)
        trailers = TrailersReader(self._wasi, self._exchange.use(), body)
        res.then(body.handled)
        return body, trailers

    def __drop__(self) -> None:
        self._settle()
        self._exchange.release()


class BodyReader:
    """The body of a response, or of a request that the guest serves: a source that reads the exchange."""

    def __init__(self, exchange: Exchange | ArrivingBody, settle: Callable[[], None]) -> None:
        self._exchange, self._settle = exchange, settle
        self.closed = False

    def take(self, count: int) -> bytes | None:
        try:
            data = self._exchange.take(count)
        except HttpFault:
            raise Ended from None  # the future of the trailers has the error
        if data == b"":
            raise Ended
        return data

    def ready(self) -> bool:
        return not self._exchange.waiting_body()

    def interest(self) -> Interest:
        return self._exchange.interest()

    def close(self) -> None:
        self.closed = True
        self._settle()
        self._exchange.release()

    def handled(self, outcome: Ok[None] | Err[Any]) -> None:
        """End the exchange if the guest failed to handle the response."""
        if isinstance(outcome, Err):
            self._exchange.close()


class TrailersReader:
    """The future of the trailers. If the guest gave the body up, it reads and discards the rest, which they follow."""

    def __init__(self, wasi: Wasi, exchange: Exchange | ArrivingBody, body: BodyReader) -> None:
        self._wasi, self._exchange, self._body = wasi, exchange, body

    def ready(self) -> bool:
        return self._body.closed and self._exchange.skipped(self._wasi.scope)

    def interest(self) -> Interest:
        """Return the events to wait for: none while the guest reads the body."""
        return self._exchange.interest() if self._body.closed else Interest()

    def result(self) -> Ok[MessageFields | None] | Err[Any]:
        try:
            items = self._exchange.last_trailers()
        except HttpFault as fault:
            return Err(error_code_of(types, fault))
        finally:
            self._exchange.release()
        return Ok(received_fields(self._wasi, items, trailers=True) if items else None)

    def cancel(self) -> None:
        self._exchange.release()
