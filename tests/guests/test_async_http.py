"""A client of wasi:http 0.3, in process and isolated: with the grant it streams both ways, without it is refused."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import aegis
from aegis import NetworkCapability, Outcome, QuotaExceeded
from tests.guests import catalogue
from tests.host.http.client import answering
from tests.host.http.servers import raw_server, server

pytestmark = [
    pytest.mark.parametrize("isolate", [False, True], ids=["in process", "isolated"]),
    pytest.mark.usual(one_of="isolate"),
]


def run(isolate: bool, *words: str, allow: tuple[str, ...] = (), **policy: Any) -> Outcome:
    guest, network = catalogue.built("py-async-http"), NetworkCapability(allow=allow)
    return aegis.run(
        guest, args=words, fuel=None, isolation=isolate or None, network=network, **{"timeout": "240s", **policy}
    )


def said(isolate: bool, *words: str, **policy: Any) -> str:
    return run(isolate, *words, **policy).stdout.decode().strip()


def test_a_request_is_sent_with_the_grant_alone(isolate: bool) -> None:
    with server() as port:
        url, grant = f"http://127.0.0.1:{port}/a?b", f"http://127.0.0.1:{port}"
        denied = run(isolate, "get", url)
        assert denied.stdout == b"refused: ErrorCode_HttpRequestDenied\n"
        assert [d.remedy for d in denied.denials] == [f"--allow-net 'GET {grant}'"]
        answer = "200 hellohellohello [('x-trailer', b'done')] Ok(value=None)"
        assert said(isolate, "get", url, allow=(grant,)) == answer
        assert said(isolate, "via", url, allow=(grant,)) == "200"
        assert said(isolate, "via", url) == "refused: ErrorCode_HttpRequestDenied"


def test_a_rule_for_one_method_allows_no_other(isolate: bool) -> None:
    with server() as port:
        url, allow = f"http://127.0.0.1:{port}/", (f"GET http://127.0.0.1:{port}",)
        assert said(isolate, "get", url, allow=allow).startswith("200 ")
        assert said(isolate, "post", url, "x", allow=allow) == "refused: ErrorCode_HttpRequestDenied"


def test_contents_and_trailers_are_sent(isolate: bool) -> None:
    with server() as port:
        url, allow = f"http://localhost:{port}/", (f"local:{port}",)
        assert said(isolate, "post", url, "some words", allow=allow) == "some words  Ok(value=None)"
        assert said(isolate, "post", url, "x", "x-sum=7", allow=allow) == "x x-sum: 7 Ok(value=None)"


def test_a_field_that_frames_the_message_does_not_follow_it(isolate: bool) -> None:
    """The request is given up before its end; the same name in the header section is no error."""
    with server() as port:
        url, allow = f"http://localhost:{port}/", (f"local:{port}",)
        refused = said(isolate, "post", url, "x", "content-type=a", allow=allow)
        assert refused == "refused: ErrorCode_ConnectionTerminated"
        assert said(isolate, "get", url, "content-type=a", allow=allow).startswith("200 ")


def mirror(connection: socket.socket) -> None:
    """Answer each piece of a chunked request by the same piece, as it comes."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    rest = received.partition(b"\r\n\r\n")[2]
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + rest)
    last = rest
    while not last.endswith(b"0\r\n\r\n"):
        data = connection.recv(65536)
        if not data:
            return
        connection.sendall(data)
        last = (last + data)[-5:]


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("pieces", [0, 1, 160])
def test_a_body_streams_in_both_directions_at_once(isolate: bool, pieces: int) -> None:
    """The server reads no more than it has sent back, so that 10 MiB fit in no buffer: both directions must proceed."""
    with raw_server(mirror) as port:
        answer = said(isolate, "echo", f"http://127.0.0.1:{port}/", str(pieces), allow=(f"local:{port}",))
    assert answer == f"{pieces * 65536} True [] Ok(value=None)"


def test_a_response_is_passed_on_as_a_request(isolate: bool) -> None:
    with server() as port:
        url = f"http://127.0.0.1:{port}/"
        answer = said(isolate, "relay", url, url, allow=(f"local:{port}",))
        assert answer == "hellohellohello x-trailer: done Ok(value=None)"
        only = said(isolate, "relay", url, url, allow=(f"GET http://127.0.0.1:{port}",))
        assert only == "refused: ErrorCode_HttpRequestDenied"


def test_a_body_that_is_given_up_is_followed_by_its_trailers(isolate: bool) -> None:
    with server() as port:
        answer = said(isolate, "first", f"http://127.0.0.1:{port}/", allow=(f"local:{port}",))
        assert answer == "5 [('x-trailer', b'done')]"


def test_an_error_instead_of_trailers_aborts_the_request(isolate: bool) -> None:
    received, ended = bytearray(), threading.Event()

    def serve(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            received.extend(data)
        ended.set()

    with raw_server(serve) as port:
        answer = said(isolate, "aborted", f"http://127.0.0.1:{port}/", allow=(f"local:{port}",))
        assert answer == "ErrorCode_ConnectionTerminated ErrorCode_InternalError(value='gave up')"
        assert ended.wait(20)
    assert not received.endswith(b"0\r\n\r\n")


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n" + b"x: a\r\n" * 8000 + b"\r\n", "refused: ErrorCode_HttpResponseHeaderSectionSize"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab", "200 ab ErrorCode_HttpResponseIncomplete Ok(value=None)"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na", "refused: ErrorCode_HttpProtocolError"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", "302  [] Ok(value=None)"),
        (b"nonsense\r\n\r\n", "refused: ErrorCode_HttpProtocolError"),
    ],
)
def test_a_broken_response_is_an_error_code(isolate: bool, raw: bytes, expected: str) -> None:
    with raw_server(answering(raw)) as port:
        assert said(isolate, "get", f"http://127.0.0.1:{port}/", allow=(f"local:{port}",)) == expected


@contextlib.contextmanager
def unanswering() -> Iterator[int]:
    """Receive requests and answer none until the test ends."""
    over = threading.Event()
    with raw_server(lambda connection: over.wait(60) and None) as port:
        try:
            yield port
        finally:
            over.set()


def test_the_guests_timeout_is_kept(isolate: bool) -> None:
    with unanswering() as port:
        answer = said(isolate, "late", f"http://127.0.0.1:{port}/", "50000000", allow=(f"local:{port}",))
    assert answer == "refused: ErrorCode_HttpResponseTimeout"


def test_requests_at_once_have_a_limit(isolate: bool) -> None:
    """No request ends before the guest has sent all that it may, and was refused the others."""
    with unanswering() as port:
        words = ("many", "5", f"http://127.0.0.1:{port}/", "2000000000")
        answer = said(isolate, *words, allow=(f"local:{port}",), http_requests=3)
    assert answer == "ErrorCode_ConnectionLimitReached:2 ErrorCode_HttpResponseTimeout:3"


def test_both_versions_work_at_once_and_count_together(isolate: bool) -> None:
    """The request of WASI 0.2 is under way when that of 0.3 is sent."""
    with server() as port:
        answer = said(isolate, "both", f"http://127.0.0.1:{port}/", allow=(f"local:{port}",), http_requests=2)
        assert answer == "[b'two', b'three'] hellohellohello"
    with unanswering() as port:
        answer = said(isolate, "both", f"http://127.0.0.1:{port}/", allow=(f"local:{port}",), http_requests=1)
        assert answer == "refused: ErrorCode_ConnectionLimitReached"


def test_limits_of_the_network_hold(isolate: bool) -> None:
    with raw_server(mirror) as port:
        url, allow = f"http://127.0.0.1:{port}/", (f"local:{port}",)
        ended = run(isolate, "echo", url, "20", allow=allow, network_bytes=500_000)
        assert isinstance(ended.error, QuotaExceeded)
        assert ended.error.limit == "network_bytes"
    with server() as port:
        words, allow = ("many", "3", f"http://127.0.0.1:{port}/"), (f"local:{port}",)
        assert said(isolate, *words, allow=allow, connections=3) == "hellohellohello:3"
        ended = run(isolate, *words, allow=allow, connections=2)
        assert isinstance(ended.error, QuotaExceeded)
        assert ended.error.limit == "connections"
