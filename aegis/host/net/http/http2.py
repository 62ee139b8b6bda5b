"""HTTP/2 on h2: one stream of one connection.

h2 does not compare the body of a request with its ``content-length``, and lets trailers replace the length that the
header section of a response stated. So this module checks lengths itself, by the rules of
:mod:`aegis.host.net.http.framing`.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import hyperframe.exceptions

from aegis.host.net.http.framing import LENGTH, SectionSizes, response_length
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.net.http.message import Fields, Head, Request

__all__ = ["Http2"]

_FRAME_HEADER_BYTES = 9
_MAX_FRAME_BYTES = 1 << 14
_GOAWAY = 7
_Response = h2.events.ResponseReceived | h2.events.InformationalResponseReceived
_FINAL_STATUSES = range(200, 1000)


class Http2:
    """The client of one exchange."""

    def __init__(self, request: Request, sizes: SectionSizes) -> None:
        self._method, self._sizes = request.method, sizes
        self._expected: int | None = None
        self._received = 0
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self._connection = h2.connection.H2Connection(config)
        self._connection.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: sizes.list_bytes,
            },
        )
        # h2 applies a setting when the server acknowledges it, which a hostile server never does.
        self._connection.decoder.max_header_list_size = sizes.list_bytes
        self._connection.initiate_connection()
        self._stream = self._connection.get_next_available_stream_id()
        self.head: Head | None = None
        self.trailers: Fields | None = None
        self.ended = False
        self._pieces: deque[bytes] = deque()
        self._complete = self._unwanted = False
        self._partial = b""
        self._ending: Fields | None = None
        self._waiting = b""
        self._end_wanted = False
        head = [
            (b":method", request.method.encode()),
            (b":scheme", request.scheme.encode()),
            (b":authority", request.authority.encode()),
            (b":path", request.target.encode()),
        ]
        fields = [(name.lower(), value) for name, value in request.fields]
        if request.length is not None:
            fields.append((LENGTH, b"%d" % request.length))
        with self._faults():
            self._connection.send_headers(self._stream, head + fields, end_stream=not request.has_body)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Translate the errors of h2, caused by the client or by the server, to ``HttpFault``."""
        try:
            yield
        except h2.exceptions.StreamClosedError:
            raise HttpFault("connection-terminated") from None
        except h2.exceptions.DenialOfServiceError:
            raise HttpFault(f"HTTP-response-{'header' if self.head is None else 'trailer'}-section-size") from None
        except h2.exceptions.InvalidBodyLengthError as error:
            raise HttpFault("HTTP-response-body-size", error.actual_length) from None
        except (h2.exceptions.H2Error, hyperframe.exceptions.HyperframeError):
            raise HttpFault("HTTP-protocol-error") from None

    # -- sending -------------------------------------------------------------------------------------

    def take(self) -> bytes:
        """Return the bytes to send now."""
        self._push()
        return bytes(self._connection.data_to_send())

    def room(self) -> int:
        """Return how many bytes of the body are accepted now: the server's window, or none while some wait."""
        if self._unwanted:
            raise HttpFault("connection-terminated")
        return 0 if self._waiting else max(0, min(65536, self._window()))

    def _window(self) -> int:
        with self._faults():
            return self._connection.local_flow_control_window(self._stream)

    def body(self, data: bytes) -> None:
        """Accept a piece of the body."""
        self._waiting += data
        self._push()

    def end(self, trailers: Fields | None) -> None:
        """End the body, with trailers if there are any."""
        self._ending, self._end_wanted = trailers, True
        self._push()

    def _push(self) -> None:
        with self._faults():
            while self._waiting:
                size = min(len(self._waiting), self._window(), self._connection.max_outbound_frame_size)
                if size <= 0:
                    return
                self._connection.send_data(self._stream, self._waiting[:size])
                self._waiting = self._waiting[size:]
            if self._end_wanted:
                self._end_wanted = False
                if self._ending:
                    trailers = [(name.lower(), value) for name, value in self._ending]
                    self._connection.send_headers(self._stream, trailers, end_stream=True)
                else:
                    self._connection.end_stream(self._stream)

    # -- receiving -----------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Accept received bytes; none at the end of the connection."""
        if not data:
            if not self._complete:
                raise HttpFault("HTTP-response-incomplete")
            return
        with self._faults():
            events = self._connection.receive_data(self._without_goaway(data))
        for event in events:
            self._event(event)

    def _without_goaway(self, data: bytes) -> bytes:
        """Return the complete frames without each GOAWAY that lets this stream continue: h2 would end the connection.

        A server sends one when it accepts no further stream on the connection (RFC 9113, 6.8), and there is none.
        """
        self._partial += data
        frames, at = bytearray(), 0
        while len(self._partial) - at >= _FRAME_HEADER_BYTES:
            size = int.from_bytes(self._partial[at : at + 3], "big")
            end = at + _FRAME_HEADER_BYTES + min(size, _MAX_FRAME_BYTES)  # h2 rejects a larger frame
            if end > len(self._partial):
                break
            frame = self._partial[at:end]
            if not self._is_graceful_goaway(frame):
                frames += frame
            at = end
        self._partial = self._partial[at:]
        return bytes(frames)

    def _is_graceful_goaway(self, frame: bytes) -> bool:
        if frame[3] != _GOAWAY or len(frame) < _FRAME_HEADER_BYTES + 8:
            return False
        last = int.from_bytes(frame[9:13], "big") & 0x7FFF_FFFF
        return last >= self._stream and frame[13:17] == bytes(4)

    def _event(self, event: object) -> None:
        if isinstance(event, h2.events.InformationalResponseReceived):
            self._sizes.interim(self._judged(event)[1])
        elif isinstance(event, h2.events.ResponseReceived):
            status, fields = self._judged(event)
            self._sizes.header(fields)
            if status not in _FINAL_STATUSES:
                raise HttpFault("HTTP-protocol-error")
            self.head = Head(status, fields)
        elif isinstance(event, h2.events.DataReceived):
            self._data(event)
        elif isinstance(event, h2.events.TrailersReceived):
            trailers = _fields(event)
            self._sizes.trailer(trailers)
            self.trailers = trailers
        elif isinstance(event, h2.events.StreamEnded):
            if self._expected not in (None, self._received):
                raise HttpFault("HTTP-response-body-size", self._received)
            self._complete = True
            self._pieces.append(b"")
        elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
            if not self._complete:
                raise HttpFault("connection-terminated")
            self._unwanted = True  # the server needs no more of the request (RFC 9113, 8.1)

    def _judged(
        self, event: h2.events.ResponseReceived | h2.events.InformationalResponseReceived
    ) -> tuple[int, Fields]:
        """Return the status and the fields of a response, and expect the length that it states from then on."""
        fields = _fields(event)
        status = next((value for name, value in fields if name == b":status"), b"")
        if len(status) != 3 or not status.isdigit():
            raise HttpFault("HTTP-protocol-error")
        plain = [(name, value) for name, value in fields if not name.startswith(b":")]
        self._expected = response_length(self._method, int(status), plain)
        return int(status), plain

    def _data(self, event: h2.events.DataReceived) -> None:
        data = bytes(event.data or b"")
        self._received += len(data)
        if self._expected is not None and self._received > self._expected:
            raise HttpFault("HTTP-response-body-size", self._received)
        if data:  # an empty piece marks the end here, and a server may send an empty DATA frame before it
            self._pieces.append(data)
        unused = (event.flow_controlled_length or 0) - len(data)
        if unused:
            with self._faults():
                self._connection.acknowledge_received_data(unused, self._stream)

    def next(self) -> bytes | None:
        """Return a piece of the body, ``None`` if more bytes are needed or the message has ended."""
        if not self._pieces:
            return None
        piece = self._pieces.popleft()
        if piece:
            return piece
        self.ended = True
        return None

    def consumed(self, count: int) -> None:
        """Extend the server's window by ``count`` bytes, which the guest took."""
        if not self.ended:
            with self._faults():
                self._connection.acknowledge_received_data(count, self._stream)


def _fields(event: Any) -> Fields:
    return [(bytes(name), bytes(value)) for name, value in event.headers or ()]
