"""HTTP/2 on h2: one stream of one connection."""

from __future__ import annotations

from collections import deque

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from aegis.host.http.faults import HttpFault
from aegis.host.http.message import Fields, Head, Request

__all__ = ["Http2"]

_FRAME_HEAD = 9
_FRAME_MOST = 1 << 14
_GOAWAY = 7
_STATUSES = range(100, 1000)


class Http2:
    """The client's side of one exchange."""

    def __init__(self, request: Request, field_bytes: int) -> None:
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self._connection = h2.connection.H2Connection(config)
        self._connection.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: field_bytes,
            },
        )
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
        try:
            fields = [(name.lower(), value) for name, value in request.fields]
            self._connection.send_headers(self._stream, head + fields, end_stream=not request.has_body)
        except h2.exceptions.ProtocolError:
            raise HttpFault("HTTP-protocol-error") from None

    # -- sending -------------------------------------------------------------------------------------

    def take(self) -> bytes:
        """Return the bytes to send now."""
        self._push()
        return bytes(self._connection.data_to_send())

    def room(self) -> int:
        """How much of the body may be given now: what the other side's window allows, less what waits."""
        if self._unwanted:
            raise HttpFault("connection-terminated")
        return 0 if self._waiting else max(0, min(65536, self._window()))

    def _window(self) -> int:
        try:
            return self._connection.local_flow_control_window(self._stream)
        except h2.exceptions.StreamClosedError:
            raise HttpFault("connection-terminated") from None

    def body(self, data: bytes) -> None:
        """Give a piece of the body."""
        self._waiting += data
        self._push()

    def end(self, trailers: Fields | None) -> None:
        """End the body, with trailers if there are any."""
        self._ending, self._end_wanted = trailers, True
        self._push()

    def _push(self) -> None:
        try:
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
        except h2.exceptions.StreamClosedError:
            raise HttpFault("connection-terminated") from None
        except h2.exceptions.ProtocolError:
            raise HttpFault("HTTP-protocol-error") from None

    # -- receiving -----------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take bytes that came; none at the end of the connection."""
        if not data:
            if not self._complete:
                raise HttpFault("HTTP-response-incomplete")
            return
        try:
            events = self._connection.receive_data(self._without_farewells(data))
        except h2.exceptions.DenialOfServiceError:
            raise HttpFault("HTTP-response-header-section-size") from None
        except h2.exceptions.ProtocolError:
            raise HttpFault("HTTP-protocol-error") from None
        for event in events:
            self._event(event)

    def _without_farewells(self, data: bytes) -> bytes:
        """Return whole frames less every GOAWAY that lets this stream go on: h2 would take it for the end of all.

        A server sends one when it wants no further stream on the connection (RFC 9113, 6.8); there is none.
        """
        self._partial += data
        frames, at = b"", 0
        while len(self._partial) - at >= _FRAME_HEAD:
            size = int.from_bytes(self._partial[at : at + 3], "big")
            end = at + _FRAME_HEAD + min(size, _FRAME_MOST)  # what is larger is h2's to refuse
            if end > len(self._partial):
                break
            frame = self._partial[at:end]
            if not self._is_farewell(frame):
                frames += frame
            at = end
        self._partial = self._partial[at:]
        return frames

    def _is_farewell(self, frame: bytes) -> bool:
        if frame[3] != _GOAWAY or len(frame) < _FRAME_HEAD + 8:
            return False
        last = int.from_bytes(frame[9:13], "big") & 0x7FFF_FFFF
        return last >= self._stream and frame[13:17] == bytes(4)

    def _event(self, event: object) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            fields = [(bytes(n), bytes(v)) for n, v in event.headers or ()]
            status = next((v for n, v in fields if n == b":status"), b"")
            if not status.isdigit() or int(status[:4]) not in _STATUSES:
                raise HttpFault("HTTP-protocol-error")
            self.head = Head(int(status), [(n, v) for n, v in fields if not n.startswith(b":")])
        elif isinstance(event, h2.events.DataReceived):
            if event.data:  # no bytes stand for the end, and a server may well send none
                self._pieces.append(bytes(event.data))
            unused = (event.flow_controlled_length or 0) - len(event.data or b"")
            if unused:
                self._connection.acknowledge_received_data(unused, self._stream)
        elif isinstance(event, h2.events.TrailersReceived):
            self.trailers = [(bytes(n), bytes(v)) for n, v in event.headers or ()]
        elif isinstance(event, h2.events.StreamEnded):
            self._complete = True
            self._pieces.append(b"")
        elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
            if not self._complete:
                raise HttpFault("connection-terminated")
            self._unwanted = True  # the response is whole: what is left of the request is not wanted (RFC 9113, 8.1)

    def next(self) -> bytes | None:
        """Return a piece of the body, or ``None`` when more bytes must come, or the message has ended."""
        if not self._pieces:
            return None
        piece = self._pieces.popleft()
        if piece:
            return piece
        self.ended = True
        return None

    def consumed(self, count: int) -> None:
        """The guest took so much of the body: let the server send as much again."""
        if not self.ended:
            self._connection.acknowledge_received_data(count, self._stream)
