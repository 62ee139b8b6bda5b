"""A request on its way: the guest's contents and trailers pass to the exchange while it advances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aegis.bindings import wasi_http_types_0_3 as types
from aegis.host.net.http.error_codes import error_code_of
from aegis.host.net.http.exchange import Timeouts
from aegis.host.net.http.field_section import may_trail
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.net.http.request_line import KnownBody, begin
from aegis.host.preview3.http_contents import ContentsSink, SentTrailers
from aegis.host.preview3.http_received import ReceivedResponse
from aegis.values import Interest
from aegis.wit.values import Err, Ok

if TYPE_CHECKING:
    from aegis.host.net.http.exchange import Exchange
    from aegis.host.preview3.http_messages import StreamingRequest
    from aegis.host.wasi import Wasi

__all__ = ["PendingResponse", "Transmission", "send"]


class Transmission(ContentsSink):
    """A sink of the contents of a request, which completes the future of its transmission."""

    def __init__(self, exchange: Exchange, request: StreamingRequest, trailers: SentTrailers) -> None:
        self._exchange = exchange.use()
        self._pursued = False
        super().__init__(self._exchange, request, trailers)
        self._pursue()

    def end(self, fields: Any) -> None:
        if fields is not None and not (may_trail(fields) and self._exchange.may_end_with(fields.items)):
            self.refuse_trailers()
            return
        self._ended = True
        self._exchange.end(None if fields is None else fields.items)
        self.settle() if self._exchange.over else self._pursue()

    def _pursue(self) -> None:
        """Advance while the guest does something else, until the whole request was sent or has failed."""
        if not self._pursued and not self._over and not self._exchange.over:
            self._pursued = True
            self._outcome.pursue(_Sending(self))

    def pursued(self) -> None:
        """Note that nothing advances the request any more unless :meth:`_pursue` is called again."""
        self._pursued = False
        self.settle()

    def settled(self) -> bool:
        """Return whether the whole request was sent, or the connection is closed or has failed."""
        try:
            sent = self._exchange.request_sent()
        except HttpFault:
            return True
        return self._over or self._exchange.over or (sent and self._ended)

    def settle(self) -> None:
        """Complete the future if the whole request was sent or has failed; else the guest has not ended it."""
        try:
            if self._exchange.request_sent() and self._ended:
                self.finish(Ok(None))
        except HttpFault as fault:
            self.fail(fault)

    def released(self) -> None:
        self._exchange.release()

    def abort(self) -> None:
        """End the exchange, because the store is closed or the guest gave the call up."""
        self._exchange.close()
        self.fail(HttpFault("connection-terminated"))


class _Sending:
    """The operation of the host that advances a transmission."""

    def __init__(self, transmission: Transmission) -> None:
        self._transmission = transmission

    def ready(self) -> bool:
        return self._transmission.settled()

    def interest(self) -> Interest:
        return self._transmission.interest()

    def complete(self) -> None:
        self._transmission.pursued()

    def cancel(self) -> None:
        self._transmission.abort()


class PendingResponse:
    """The response to a request, which has not arrived yet."""

    def __init__(self, wasi: Wasi, exchange: Exchange, transmission: Transmission) -> None:
        self._wasi, self._exchange, self._transmission = wasi, exchange, transmission

    def ready(self) -> bool:
        self._exchange.pump()
        return self._exchange.head is not None or self._exchange.error is not None

    def interest(self) -> Interest:
        return self._exchange.interest()

    def result(self) -> ReceivedResponse:
        """Return the response; raise ``Err`` with the code of the failure."""
        fault = self._exchange.error
        if self._exchange.head is not None:
            return ReceivedResponse(self._wasi, self._exchange, self._transmission.settle)
        assert fault is not None
        self._transmission.fail(fault)
        self._exchange.release()
        raise Err(error_code_of(types, fault))

    def cancel(self) -> None:
        """End the exchange: the guest waits no more for the response."""
        self._transmission.abort()
        self._exchange.release()


def send(wasi: Wasi, request: StreamingRequest) -> PendingResponse:
    """Send a request; raise ``Err`` for one that is invalid, denied, or beyond the limits."""
    if request.received:
        raise Err(types.ErrorCodeInternalError("a received request cannot be sent: make one with its body"))
    try:
        trailers = SentTrailers(request.trailers)
        body = KnownBody(0 if request.contents is None else None, trailers=trailers.announced)
        timeouts = Timeouts() if request.options is None else request.options.timeouts()
        exchange = begin(wasi, request.line, request.headers.items, body, timeouts)
    except HttpFault as fault:
        code = error_code_of(types, fault)
        request.refuse(code)
        raise Err(code) from None
    transmission = Transmission(exchange, request, trailers)
    exchange.pump()
    return PendingResponse(wasi, exchange, transmission)
