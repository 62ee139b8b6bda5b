"""For any bytes from a server, the protocol continues or fails with an error code, and with no other exception."""

from __future__ import annotations

import contextlib
from typing import Any

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegis.host.net.http.framing import SectionSizes
from aegis.host.net.http.http1 import Http1
from aegis.host.net.http.http2 import Http2
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.net.http.message import Request

REQUEST = Request("POST", "https", "a.example", "/", [(b"x", b"1")], True, 3)
VALUES = st.sampled_from([b"200", b"103", b"204", b"0", b"3", b"+3", b"", b"a", b"\xff", b"trailers", b"chunked"])
NAMES = st.sampled_from([b":status", b"content-length", b"transfer-encoding", b"x", b"X", b"", b":path", b"te", b"a b"])
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
STREAMS = st.sampled_from([0, 1, 2, 3])


def block(fields: list[tuple[bytes, bytes]]) -> bytes:
    return bytes(hpack.Encoder().encode(fields, huffman=False))


def flagged(frame: Any, flags: list[str]) -> bytes:
    for flag in flags:
        with contextlib.suppress(ValueError):
            frame.flags.add(flag)
    return bytes(frame.serialize())


FLAGS = st.lists(st.sampled_from(["END_STREAM", "END_HEADERS", "ACK", "PADDED", "PRIORITY"]), max_size=3)
BLOCKS = FIELDS.map(block) | FIELDS.map(lambda fields: block([(b":status", b"200"), *fields])) | st.binary(max_size=30)
FRAMES = st.one_of(
    st.builds(lambda n, b, f: flagged(HeadersFrame(n or 1, b), f), STREAMS, BLOCKS, FLAGS),
    st.builds(lambda n, b, f: flagged(ContinuationFrame(n or 1, b), f), STREAMS, BLOCKS, FLAGS),
    st.builds(lambda n, b, f: flagged(DataFrame(n or 1, b), f), STREAMS, st.binary(max_size=9), FLAGS),
    st.builds(lambda f: flagged(SettingsFrame(0), f), FLAGS),
    st.builds(lambda k, v: SettingsFrame(0, {k: v}).serialize(), st.integers(0, 9), st.integers(0, 2**32 - 1)),
    st.builds(lambda n, w: WindowUpdateFrame(n, w).serialize(), STREAMS, st.integers(1, 2**31 - 1)),
    st.builds(lambda n, c: RstStreamFrame(n or 1, c).serialize(), STREAMS, st.integers(0, 99)),
    st.builds(lambda n, c: GoAwayFrame(0, n, c, b"x").serialize(), STREAMS, st.integers(0, 99)),
    st.builds(lambda n, b: flagged(PushPromiseFrame(n or 1, 2, b), ["END_HEADERS"]), STREAMS, BLOCKS),
    st.builds(lambda n: PriorityFrame(n or 1, 0, 1).serialize(), STREAMS),
    st.just(PingFrame(0, b"12345678").serialize()),
    st.binary(max_size=40),
)
LINES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Hint\r\n", b"HTTP/1.0 204\r\n", b"Content-Length: 3\r\n", b"\r\n", b"\n",
        b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n", b" folded\r\n", b"x: 1\r\n", b"abc", b"\0",
        b": \r\n",
    ]
)  # fmt: skip
many = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def use(made: Http1 | Http2, pieces: list[bytes]) -> None:
    """Send a body and receive a response, as an exchange does."""
    with contextlib.suppress(HttpFault):
        made.take()
        if made.room() >= 3:
            made.body(b"abc")
        made.end(None)
        for piece in pieces:
            made.feed(piece)
            made.take()
            while data := made.next():
                made.consumed(len(data))
        made.feed(b"")
        made.next()


@many
@given(st.lists(FRAMES, max_size=8))
def test_any_frames_of_a_server_are_a_response_or_an_error_code(pieces: list[bytes]) -> None:
    use(Http2(REQUEST, SectionSizes(256, 65536)), [SettingsFrame(0).serialize(), *(piece for piece in pieces if piece)])


@many
@given(st.lists(LINES | st.binary(max_size=20), max_size=12))
def test_any_lines_of_a_server_are_a_response_or_an_error_code(pieces: list[bytes]) -> None:
    use(Http1(REQUEST, SectionSizes(256, 65536)), [piece for piece in pieces if piece])
