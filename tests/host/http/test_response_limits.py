"""The limits on a response's fields apply when the guest receives the response, not when it reads the body."""

from __future__ import annotations

import socket
import threading
from typing import Any

import hpack
import pytest
from hyperframe.frame import ContinuationFrame, HeadersFrame

from aegis.wit.values import Err
from tests.host.http.client import Client, code, read_all, wait_for
from tests.host.http.recorded import PROTOCOLS, Fields, frames, responding
from tests.host.http.servers import raw_server, server_context, tls_context

every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
OK = (b":status", b"200")
EMPTY = (b"content-length", b"0")
HINT = (b":status", b"103")


def many(count: int, size: int = 1) -> Fields:
    return [(b"x-%d" % n, b"a" * size) for n in range(count)]


def got(serving: Any, protocol: str, **limits: Any) -> str:
    """Return the error code of the future, or an empty name; do not read the body."""
    with serving as port, Client(f"local:{port}", tls=tls_context(), **limits) as client:
        scheme = "https" if protocol == "h2" else "http"
        future = client.handler.handle(client.request(f"{scheme}://localhost:{port}/"), None)
        try:
            wait_for(future).__drop__()
        except Err as error:
            return type(error.value).__name__.removeprefix("ErrorCode")
        finally:
            future.__drop__()
        return ""


WITHIN: list[list[Fields]] = [
    [[OK, *many(255), EMPTY]],
    [[OK, (b"x", b"a" * 65500), EMPTY]],
    [[OK, (b"x", b"a" * 32000), (b"y", b"b" * 33000), EMPTY]],
    [[HINT, *many(50)], [HINT, *many(50)], [OK, *many(100), EMPTY]],
]
BEYOND: list[list[Fields]] = [
    [[OK, *many(256), EMPTY]],
    [[OK, *many(8000), EMPTY]],
    [[OK, *[(b"x", b"a")] * 8000, EMPTY]],
    [[OK, (b"x", b"a" * 50_000), (b"y", b"b" * 50_000), EMPTY]],
    [[OK, (b"x", b"a" * 65_536), EMPTY]],
    [[OK, (b"x" * 65_536, b"a"), EMPTY]],
    [[OK, *[(b"x", b"a" * 4000)] * 200, EMPTY]],
    [[HINT, *many(200)], [OK, *many(100), EMPTY]],
    [[HINT, (b"x", b"a" * 40_000)], [OK, (b"x", b"a" * 40_000), EMPTY]],
    [*([[HINT]] * 300), [OK, EMPTY]],
]


@every_protocol
@pytest.mark.parametrize("sections", WITHIN, ids=range(len(WITHIN)))
def test_a_response_within_the_limits_arrives(protocol: str, sections: list[Fields]) -> None:
    assert got(responding(protocol, *sections), protocol) == ""


@every_protocol
@pytest.mark.parametrize("sections", BEYOND, ids=range(len(BEYOND)))
def test_fields_beyond_a_limit_are_an_error_of_the_future(protocol: str, sections: list[Fields]) -> None:
    assert got(responding(protocol, *sections), protocol) == "HttpResponseHeaderSectionSize"


@every_protocol
def test_the_limits_are_those_of_the_policy(protocol: str) -> None:
    section = [OK, *many(300, 300), EMPTY]
    assert got(responding(protocol, section), protocol, http_fields=400, http_field_bytes=200_000) == ""
    assert got(responding(protocol, section), protocol, http_fields=None, http_field_bytes=None) == ""
    assert got(responding(protocol, section), protocol, http_field_bytes=200_000) == "HttpResponseHeaderSectionSize"
    assert got(responding(protocol, section), protocol, http_fields=400) == "HttpResponseHeaderSectionSize"
    assert got(responding(protocol, [OK, *many(3), EMPTY]), protocol, http_fields=3) == "HttpResponseHeaderSectionSize"


TRAILERS: list[tuple[Fields, bool]] = [
    (many(256), True),
    (many(257), False),
    (many(8000), False),
    ([(b"x", b"a" * 50_000), (b"y", b"b" * 50_000)], False),
    ([(b"x", b"a" * 65_536)], False),
]


@every_protocol
@pytest.mark.parametrize(("trailers", "within"), TRAILERS, ids=range(len(TRAILERS)))
def test_trailers_beyond_a_limit_are_an_error_after_the_body(protocol: str, trailers: Fields, within: bool) -> None:
    framed = [] if protocol == "h2" else [(b"transfer-encoding", b"chunked")]
    with (
        responding(protocol, [OK, *framed], body=b"abc", trailers=trailers) as port,
        Client(f"local:{port}", tls=tls_context()) as client,
    ):
        scheme = "https" if protocol == "h2" else "http"
        future = client.handler.handle(client.request(f"{scheme}://localhost:{port}/"), None)
        response = wait_for(future)
        body = response.consume()
        stream = body.stream()
        if within:
            assert read_all(stream) == b"abc"
        waiting = client.types.IncomingBody.finish(body)
        if within:
            assert len(wait_for(waiting).entries()) == len(trailers)
        else:
            with pytest.raises(Err) as caught:
                wait_for(waiting)
            assert code(caught) == "HttpResponseTrailerSectionSize"
        for resource in (stream, waiting, response, future):
            resource.__drop__()


ENDLESS = [
    (b"HTTP/1.1 200 OK\r\n", b"x: a\r\n"),
    (b"HTTP/1.1 200 ", b"a"),
    (b"HTTP/1.1 200 OK\r\nx: ", b"a"),
]


@pytest.mark.parametrize(("start", "piece"), ENDLESS)
def test_a_header_section_without_end_is_an_error_of_the_future(start: bytes, piece: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(start)
        while True:
            connection.sendall(piece * 10_000)

    assert got(raw_server(serve), "http/1.1", network_bytes=None) == "HttpResponseHeaderSectionSize"


def test_a_header_section_that_drips_is_looked_at_once() -> None:
    """When data arrives byte by byte, no byte is searched twice for the end of the headers."""
    from aegis.host.net.http.framing import SectionSizes
    from aegis.host.net.http.http1 import Http1
    from aegis.host.net.http.message import Request

    made = Http1(Request("GET", "http", "a", "/", [], False, None), SectionSizes(256, 65536))
    for byte in b"HTTP/1.1 200 OK\r\nx: " + b"a" * 5000:
        made.feed(bytes([byte]))
        assert made._searched >= len(made._head_bytes) - 3
    made.feed(b"\r\n\r\nbody")
    assert made.head is not None
    assert made.next() == b"body"


def continued(piece: bytes) -> Any:
    def serve(connection: socket.socket) -> None:
        for frame in frames(connection):
            if isinstance(frame, HeadersFrame):
                connection.sendall(HeadersFrame(1, hpack.Encoder().encode([OK])).serialize())
                while True:
                    connection.sendall(ContinuationFrame(1, piece).serialize() * 100)

    return raw_server(serve, server_context("h2"))


@pytest.mark.parametrize("piece", [b"", hpack.Encoder().encode([(b"x", b"a" * 9000)], huffman=False)])
def test_continuation_frames_without_end_are_an_error_of_the_future(piece: bytes) -> None:
    found = got(continued(piece), "h2", network_bytes=None)
    assert found in ("HttpProtocolError", "HttpResponseHeaderSectionSize")


def test_a_compressed_section_is_not_decoded_beyond_the_limit() -> None:
    """A compression bomb: one table entry of 4,000 bytes, referenced 60,000 times by one byte each: 240 MB."""
    encoder = hpack.Encoder()
    block = encoder.encode([OK, (b"x", b"a" * 4000)]) + encoder.encode([(b"x", b"a" * 4000)]) * 60_000
    decoded = []
    decoding = hpack.hpack.Decoder._decode_indexed

    def counted(self: Any, data: Any) -> Any:
        decoded.append(1)
        return decoding(self, data)

    def serve(connection: socket.socket) -> None:
        for frame in frames(connection):
            if isinstance(frame, HeadersFrame):
                connection.sendall(HeadersFrame(1, block[:16384]).serialize())
                rest = [block[at : at + 16384] for at in range(16384, len(block), 16384)]
                for n, piece in enumerate(rest):
                    flags = ["END_HEADERS"] if n == len(rest) - 1 else []
                    connection.sendall(ContinuationFrame(1, piece, flags=flags).serialize())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hpack.hpack.Decoder, "_decode_indexed", counted)
        found = got(raw_server(serve, server_context("h2")), "h2")
    assert found == "HttpResponseHeaderSectionSize"
    assert len(decoded) < 100


def test_interim_responses_without_end_are_an_error_of_the_future() -> None:
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        encoder = hpack.Encoder()
        for frame in frames(connection):
            if isinstance(frame, HeadersFrame):
                hint = encoder.encode([(b":status", b"103")])
                while not over.is_set():
                    connection.sendall(HeadersFrame(1, hint, flags=["END_HEADERS"]).serialize() * 100)

    found = got(raw_server(serve, server_context("h2")), "h2", network_bytes=None)
    over.set()
    assert found == "HttpResponseHeaderSectionSize"
