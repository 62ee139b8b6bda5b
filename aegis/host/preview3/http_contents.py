"""The contents and trailers of a message that the guest writes, on their way to a connection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from aegis.bindings import wasi_http_types_0_3 as types
from aegis.host.net.http.error_codes import error_code_of
from aegis.host.net.http.http_fault import HttpFault
from aegis.values import Ended, Interest
from aegis.wit.values import Err, Ok

if TYPE_CHECKING:
    from collections.abc import Callable

    from aegis.host.net.http.exchange import Exchange
    from aegis.host.net.http.served_exchange import LeavingResponse
    from aegis.host.preview3.http_messages import StreamingRequest, StreamingResponse

__all__ = ["ContentsSink", "SentTrailers"]


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


class ContentsSink(ABC):
    """A sink of the contents of a message, which completes the future of its transmission.

    ``carrier`` takes the bytes. :meth:`go_on` is called when the contents or the trailers are there; a subclass ends
    the message in :meth:`end` once it has both.
    """

    def __init__(
        self, carrier: Exchange | LeavingResponse, message: StreamingRequest | StreamingResponse, trailers: SentTrailers
    ) -> None:
        self._carrier, self._outcome, self._trailers = carrier, message.outcome, trailers
        self._over = self._ended = False
        self._contents_over = message.contents is None
        self._pump: Any = None
        trailers.on_known = self._go_on
        if message.contents is not None:
            self._pump = message.contents.pump(self, self._contents_ended)
        self._go_on()

    def room(self) -> int:
        """Return how many bytes are accepted now; raise ``Ended`` if the message has failed or was given up."""
        if not self._over:
            try:
                return self._carrier.room()
            except HttpFault as fault:
                self.fail(fault)
        raise Ended

    def give(self, data: Any) -> None:
        """Accept bytes of the contents."""
        self._carrier.give(bytes(data))

    def ready(self) -> bool:
        """Return whether there is room, or the message has failed or was given up."""
        try:
            return self._over or self._carrier.room() > 0
        except HttpFault:
            return True

    def interest(self) -> Interest:
        """Return the events that the connection waits for."""
        return self._carrier.interest()

    def close(self) -> None:  # noqa: B027 - an operation of sinks that this one does not need
        """Note that no more contents come: :meth:`_contents_ended` follows if the guest has ended them."""

    def _contents_ended(self) -> None:
        self._contents_over = True
        self._go_on()

    def _go_on(self) -> None:
        """End the message when the contents and the trailers are there; an error instead of trailers gives it up."""
        trailers = self._trailers.value
        if self._over or self._ended or trailers is None:
            return
        if isinstance(trailers, Err):
            self._carrier.close()
            self.finish(Err(trailers.value))
        elif self._contents_over:
            self.end(trailers.value)

    @abstractmethod
    def end(self, fields: Any) -> None:
        """End the message with these trailers, ``None`` without any."""

    def refuse_trailers(self) -> None:
        """Give the message up, because its trailers may not be sent."""
        self._carrier.close()
        self.fail(HttpFault("HTTP-protocol-error"))

    def fail(self, fault: HttpFault) -> None:
        """Accept no more contents; the guest learns of the fault by the future, unless all was sent before."""
        self.finish(Err(error_code_of(types, fault)))

    def finish(self, outcome: Ok[None] | Err[Any]) -> None:
        """Complete the future, and accept no more contents."""
        if not self._over:
            self._over = True
            self._outcome.set(outcome)
            if self._pump is not None:
                self._pump.stop()
            self.released()

    @abstractmethod
    def released(self) -> None:
        """Release the carrier."""
