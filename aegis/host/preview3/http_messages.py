"""The requests and responses of ``wasi:http/types`` that a guest makes, and the options of a request.

A message has its contents as a stream, and its trailers as a future. The receiver of the message takes both; the
future that came with it says how that ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aegis.bindings import wasi_http_types_0_3 as types
from aegis.host.net.http.exchange import Timeouts
from aegis.host.net.http.request_line import RequestLine
from aegis.values import Promise
from aegis.wit.values import Err

if TYPE_CHECKING:
    from aegis.host.preview3.http_fields import MessageFields

__all__ = ["RequestTimeouts", "StatusLine", "StreamingMessage", "StreamingRequest", "StreamingResponse"]

_STATUSES = range(100, 1000)


class RequestTimeouts:
    """The resource ``request-options``; all times in nanoseconds. Those that belong to a request are ``immutable``."""

    def __init__(self) -> None:
        self._connect: int | None = None
        self._first: int | None = None
        self._between: int | None = None
        self.immutable = False

    def _check(self) -> None:
        if self.immutable:
            raise Err(types.RequestOptionsErrorImmutable())

    def get_connect_timeout(self) -> int | None:
        return self._connect

    def set_connect_timeout(self, duration: int | None) -> None:
        self._check()
        self._connect = duration

    def get_first_byte_timeout(self) -> int | None:
        return self._first

    def set_first_byte_timeout(self, duration: int | None) -> None:
        self._check()
        self._first = duration

    def get_between_bytes_timeout(self) -> int | None:
        return self._between

    def set_between_bytes_timeout(self, duration: int | None) -> None:
        self._check()
        self._between = duration

    def clone(self) -> RequestTimeouts:
        made = RequestTimeouts()
        made._connect, made._first, made._between = self._connect, self._first, self._between
        return made

    def timeouts(self) -> Timeouts:
        """Return the timeouts in seconds."""
        return Timeouts.of(self._connect, self._first, self._between)


class StreamingMessage:
    """The part that requests and responses of a guest share. ``outcome`` is the future that came with the message."""

    def __init__(self, headers: MessageFields, contents: Any, trailers: Any) -> None:
        headers.immutable = True
        self.headers, self.contents, self.trailers = headers, contents, trailers
        self.outcome = Promise()

    def get_headers(self) -> MessageFields:
        return self.headers

    def consumed(self, res: Any) -> tuple[Any, Any]:
        """Return the contents and the trailers for their reader, who writes the outcome to the future ``res``."""
        res.then(self.outcome.set)
        return () if self.contents is None else self.contents, self.trailers

    def refuse(self, code: Any) -> None:
        """Read nothing of the message; ``code`` says why."""
        if self.contents is not None:
            self.contents.close()
        self.trailers.close()
        self.outcome.set(Err(code))

    def __drop__(self) -> None:
        self.refuse(types.ErrorCodeInternalError("the message was dropped before it was sent"))


class StreamingRequest(StreamingMessage):
    """The resource ``request``. ``received``: it is one that the guest serves, not one that it made."""

    received = False

    def __init__(self, headers: MessageFields, contents: Any, trailers: Any, options: RequestTimeouts | None) -> None:
        super().__init__(headers, contents, trailers)
        self.line, self.options = RequestLine(types), options
        if options is not None:
            options.immutable = True

    @staticmethod
    def new(
        headers: MessageFields, contents: Any, trailers: Any, options: RequestTimeouts | None
    ) -> tuple[StreamingRequest, Promise]:
        made = StreamingRequest(headers, contents, trailers, options)
        return made, made.outcome

    @staticmethod
    def consume_body(this: StreamingRequest, res: Any) -> tuple[Any, Any]:
        return this.consumed(res)

    def get_method(self) -> Any:
        return self.line.method

    def set_method(self, method: Any) -> None:
        self.line.set_method(method)

    def get_path_with_query(self) -> str | None:
        return self.line.path

    def set_path_with_query(self, path_with_query: str | None) -> None:
        self.line.set_path(path_with_query)

    def get_scheme(self) -> Any:
        return self.line.scheme

    def set_scheme(self, scheme: Any) -> None:
        self.line.set_scheme(scheme)

    def get_authority(self) -> str | None:
        return self.line.authority

    def set_authority(self, authority: str | None) -> None:
        self.line.set_authority(authority)

    def get_options(self) -> RequestTimeouts | None:
        return self.options


class StatusLine:
    """The status of a response, of the guest or of a server."""

    def __init__(self, status: int = 200) -> None:
        self._status = status

    def get_status_code(self) -> int:
        return self._status

    def set_status_code(self, status_code: int) -> None:
        if status_code not in _STATUSES:
            raise Err(None)
        self._status = status_code


class StreamingResponse(StreamingMessage, StatusLine):
    """The resource ``response``, of the guest. :class:`.ReceivedResponse` is one from a server."""

    def __init__(self, headers: MessageFields, contents: Any, trailers: Any) -> None:
        super().__init__(headers, contents, trailers)
        StatusLine.__init__(self)

    @staticmethod
    def new(headers: MessageFields, contents: Any, trailers: Any) -> tuple[StreamingResponse, Promise]:
        made = StreamingResponse(headers, contents, trailers)
        return made, made.outcome

    @staticmethod
    def consume_body(this: Any, res: Any) -> tuple[Any, Any]:
        """Return the body of a response: ``this`` is the guest's, or one from a server."""
        body: tuple[Any, Any] = this.consumed(res)
        return body
