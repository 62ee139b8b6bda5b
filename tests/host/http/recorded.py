"""Servers that record a request byte by byte and accept anything: HTTP/1.1, and HTTP/2 frame by frame."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import hpack
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, SettingsFrame

from tests.host.http.servers import raw_server, server_context

__all__ = ["PROTOCOLS", "Recorded", "frames", "recording", "responding"]

PROTOCOLS = ["http/1.1", "h2"]
Fields = list[tuple[bytes, bytes]]
Serve = Callable[[socket.socket], None]


@dataclass
class Recorded:
    """A recorded request: its fields, its body, whether it was complete, and every byte of HTTP/1.1."""

    fields: Fields = field(default_factory=list)
    body: bytes = b""
    whole: bool = False
    raw: bytes = b""

    def values(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.fields if known.lower() == name]


def frames(connection: socket.socket) -> Iterator[Frame]:
    """Answer a client's connection preface, and yield the frames that follow."""
    reading = connection.makefile("rb")
    if len(reading.read(24)) < 24:
        return
    connection.sendall(SettingsFrame().serialize())
    while len(head := reading.read(9)) == 9:
        frame, size = Frame.parse_frame_header(memoryview(head))
        frame.parse_body(memoryview(reading.read(size)))
        yield frame


def _record_http2(recorded: Recorded) -> Serve:
    def serve(connection: socket.socket) -> None:
        for frame in frames(connection):
            if isinstance(frame, HeadersFrame):
                recorded.fields += [(bytes(n), bytes(v)) for n, v in hpack.Decoder().decode(frame.data, raw=True)]
            if isinstance(frame, DataFrame):
                recorded.body += frame.data
            if "END_STREAM" in frame.flags:
                recorded.whole = True
                head = hpack.Encoder().encode([(":status", "200")])
                connection.sendall(HeadersFrame(1, head, flags=["END_HEADERS", "END_STREAM"]).serialize())

    return serve


def _record_http1(recorded: Recorded) -> Serve:
    def serve(connection: socket.socket) -> None:
        while not _read_http1(recorded) and (data := connection.recv(65536)):
            recorded.raw += data
        if recorded.whole:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            while data := connection.recv(65536):
                recorded.raw += data

    return serve


def _read_http1(recorded: Recorded) -> bool:
    head, mark, rest = recorded.raw.partition(b"\r\n\r\n")
    if not mark:
        return False
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    recorded.fields = [(name, value.strip()) for name, _, value in lines]
    if recorded.values(b"transfer-encoding"):
        recorded.body = b"".join(re.findall(rb"[0-9a-f]+\r\n(.*?)\r\n", rest, re.DOTALL))
        recorded.whole = rest.endswith(b"0\r\n\r\n")
    else:
        recorded.body = rest
        recorded.whole = len(rest) >= int((recorded.values(b"content-length") or [b"0"])[0])
    return recorded.whole


@contextlib.contextmanager
def recording(protocol: str) -> Iterator[tuple[str, int, Recorded]]:
    """Serve one request; yield the scheme, the port and the record."""
    recorded = Recorded()
    context = server_context("h2") if protocol == "h2" else None
    serve = (_record_http2 if protocol == "h2" else _record_http1)(recorded)
    with raw_server(serve, context) as port:
        yield "https" if protocol == "h2" else "http", port, recorded


def responding(
    protocol: str, *sections: Fields, body: bytes | None = None, trailers: Fields | None = None
) -> Iterator[int]:
    """Answer with several header sections, each with its ``:status``, then a body and trailers; yield the port."""
    if protocol == "h2":
        return raw_server(_respond_http2(sections, body, trailers), server_context("h2"))  # type: ignore[return-value]
    return raw_server(_respond_http1(sections, body, trailers))  # type: ignore[return-value]


def _respond_http1(sections: tuple[Fields, ...], body: bytes | None, trailers: Fields | None) -> Serve:
    raw = b""
    for (_, status), *rest in sections:
        raw += b"HTTP/1.1 %s \r\n" % status + b"".join(b"%s: %s\r\n" % pair for pair in rest) + b"\r\n"
    if trailers is not None:
        raw += b"%x\r\n%s\r\n0\r\n" % (len(body or b""), body) + b"".join(b"%s: %s\r\n" % p for p in trailers) + b"\r\n"
    else:
        raw += body or b""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(raw)

    return serve


def _respond_http2(sections: tuple[Fields, ...], body: bytes | None, trailers: Fields | None) -> Serve:
    def serve(connection: socket.socket) -> None:
        encoder = hpack.Encoder()

        def head(fields: Fields, end: bool) -> bytes:
            return _header_frames(encoder.encode(fields, huffman=False), end)

        for frame in frames(connection):
            if not isinstance(frame, HeadersFrame):
                continue
            *first, last = sections
            sent = b"".join(head(section, False) for section in first)
            sent += head(last, body is None and trailers is None)
            if body is not None:
                sent += DataFrame(1, body, flags=[] if trailers is not None else ["END_STREAM"]).serialize()
            if trailers is not None:
                sent += head(trailers, True)
            connection.sendall(sent)

    return serve


def _header_frames(block: bytes, end: bool) -> bytes:
    pieces = [block[at : at + 16384] for at in range(0, len(block), 16384)] or [b""]
    made: list[Frame] = [HeadersFrame(1, pieces[0], flags=["END_STREAM"] if end else [])]
    made += [ContinuationFrame(1, piece) for piece in pieces[1:]]
    made[-1].flags.add("END_HEADERS")
    return b"".join(frame.serialize() for frame in made)
