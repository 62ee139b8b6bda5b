"""A request on its way: the guest's contents and trailers pass to the exchange while it advances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aegis.bindings import wasi_http_types_0_3 as types
from aegis.host.net.http.error_codes import error_code_of
from aegis.host.net.http.exchange import Timeouts
from aegis.host.net.http.field_section import may_trail
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.net.http.request_line import KnownBody, begin
from aegis.host.preview3.http_received import ReceivedResponse
from aegis.values import Ended, Interest
from aegis.wit.values import Err, Ok

if TYPE_CHECKING:
    from collections.abc import Callable

    from aegis.host.net.http.exchange import Exchange
    from aegis.host.preview3.http_messages import StreamingRequest
    from aegis.host.wasi import Wasi

__all__ = ["PendingResponse", "SentTrailers", "Transmission", "send"]


class SentTrailers:
    """The trailers that the guest writes, once it has. ``on_known`` is called then."""

    def __init__(self, future: Any) -> None:
        self.value: Ok[Any] | Err[Any] | None = None
        self.on_known: Callable[[], None] = lambda: None
        future.then(self._take)

    def _take(self, value: Ok[Any] | Err[Any]) -> None:
        self.value = value
        self.on_known()

    @property
    def announced(self) -> bool:
        """Whether there are fields to send."""
        return isinstance(self.value, Ok) and self.value.value is not None and bool(self.value.value.items)


class Transmission:
    """A sink of the contents of a request, which completes the future of its transmission."""

    def __init__(self, exchange: Exchange, request: StreamingRequest, trailers: SentTrailers) -> None:
        self._exchange, self._outcome, self._trailers = exchange.use(), request.outcome, trailers
        self._over = self._ended = self._pursued = False
        self._contents_over = request.contents is None
        self._pump: Any = None
        trailers.on_known = self._go_on
        if request.contents is not None:
            self._pump = request.contents.pump(self, self._contents_ended)
        self._go_on()
        self._pursue()

    # -- the sink of the contents ----------------------------------------------------------------------

    def room(self) -> int:
        """Return how many bytes are accepted now; raise ``Ended`` if the request failed."""
        if not self._over:
            try:
                return self._exchange.room()
            except HttpFault as fault:
                self.fail(fault)
        raise Ended

    def give(self, data: Any) -> None:
        """Accept bytes of the contents, which are sent as far as the server takes them."""
        self._exchange.give(bytes(data))

    def ready(self) -> bool:
        """Return whether there is room, or the request has failed."""
        try:
            return self._over or self._exchange.room() > 0
        except HttpFault:
            return True

    def interest(self) -> Interest:
        """Return the events that the exchange waits for."""
        return self._exchange.interest()

    def close(self) -> None:
        """Note that no more contents come: :meth:`_contents_ended` follows if the guest has ended them."""

    def _contents_ended(self) -> None:
        self._contents_over = True
        self._go_on()

    # -- the end of the request ------------------------------------------------------------------------

    def _go_on(self) -> None:
        """End the request when both the contents and the trailers are there; an error instead of trailers aborts it."""
        trailers = self._trailers.value
        if self._over or self._ended or trailers is None:
            return
        if isinstance(trailers, Err):
            self._exchange.close()
            self._finish(Err(trailers.value))
        elif self._contents_over:
            self._end(trailers.value)

    def _end(self, fields: Any) -> None:
        if fields is not None and not (may_trail(fields) and self._exchange.may_end_with(fields.items)):
            self._exchange.close()
            self.fail(HttpFault("HTTP-protocol-error"))
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
                self._finish(Ok(None))
        except HttpFault as fault:
            self.fail(fault)

    def fail(self, fault: HttpFault) -> None:
        """Accept no more contents; the guest learns of the fault by the future, unless all was sent before."""
        self._finish(Err(error_code_of(types, fault)))

    def _finish(self, outcome: Ok[None] | Err[Any]) -> None:
        if not self._over:
            self._over = True
            self._outcome.set(outcome)
            if self._pump is not None:
                self._pump.stop()
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
