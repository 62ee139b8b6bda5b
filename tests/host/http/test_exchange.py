"""``wasi:http`` against real servers: allowed requests stream both ways, denied ones are recorded and never dialled."""

from __future__ import annotations

import socket
import time

import pytest

from aegis.bindings import wasi_http_types as types
from aegis.errors import DeadlineExceeded, QuotaExceeded
from aegis.host.preview2.http_outgoing import RequestOptions
from aegis.wit.values import Err
from tests.host.http.client import Client, answering, code, silent
from tests.host.http.servers import http2_server, raw_server, server, tls_context


def test_an_allowed_request_streams_with_its_trailers() -> None:
    with server() as port, Client(f"http://127.0.0.1:{port}") as client:
        answer = client.send(client.request(f"http://127.0.0.1:{port}/a?b", headers={"x-sent": b"1"}))
        assert (answer.status, answer.body, answer.trailers) == (200, b"hello" * 3, [("x-trailer", b"done")])
        assert answer.headers["x-path"] == b"/a?b"
        assert answer.headers["x-sent"] == b"1"


def test_a_request_that_no_rule_allows_is_denied_with_its_remedy() -> None:
    with server() as port, Client("http://example.com") as client:
        with pytest.raises(Err) as caught:
            client.send(client.request(f"http://127.0.0.1:{port}/"))
        assert code(caught) == "HttpRequestDenied"
        assert [d.remedy for d in client.decisions] == [f"--allow-net 'GET http://127.0.0.1:{port}'"]


def test_an_allowed_name_that_is_private_is_not_dialled() -> None:
    with server() as port:
        with Client(f"http://localhost:{port}") as client, pytest.raises(Err) as caught:
            client.send(client.request(f"http://localhost:{port}/"))
        assert code(caught) == "DestinationIpProhibited"
        with Client(f"local:{port}") as client:
            assert client.send(client.request(f"http://localhost:{port}/")).status == 200


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("stated", [False, True], ids=["chunked", "stated"])
def test_ten_megabytes_go_both_ways(tls: bool, stated: bool) -> None:
    data = bytes(range(256)) * 40_000
    with server(tls=tls) as port, Client(f"local:{port}", tls=tls_context()) as client:
        headers = {"content-length": str(len(data)).encode()} if stated else {}
        url = f"{'https' if tls else 'http'}://localhost:{port}/"
        answer = client.send(client.request(url, types.MethodPost(), headers), data)
        assert answer.status == 201
        assert answer.body == data


def test_trailers_are_sent_after_a_body() -> None:
    with server() as port, Client(f"local:{port}") as client:
        trailers = client.types.Fields.from_list([("x-sum", b"7")])
        answer = client.send(client.request(f"http://localhost:{port}/", types.MethodPost()), b"abc", trailers=trailers)
        assert answer.headers["x-trailers"] == b"x-sum: 7"


def test_http_2_is_spoken_where_the_server_does() -> None:
    data = b"0123456789" * 30_000
    with http2_server() as port, Client(f"local:{port}", tls=tls_context()) as client:
        answer = client.send(client.request(f"https://localhost:{port}/two"))
        assert (answer.status, answer.body, answer.headers["x-path"]) == (200, b"hello", b"/two")
        assert answer.trailers == [("x-trailer", b"done")]
        posted = client.send(client.request(f"https://localhost:{port}/", types.MethodPost()), data)
        assert posted.body == data


def test_a_server_with_an_untrusted_certificate_receives_no_request() -> None:
    with server(tls=True) as port, Client(f"local:{port}") as client, pytest.raises(Err) as caught:
        client.send(client.request(f"https://localhost:{port}/"))
    assert code(caught) == "TlsCertificateError"


def test_a_certificate_for_another_name_is_refused() -> None:
    with server(tls=True) as port, Client(f"local:{port}", tls=tls_context()) as client, pytest.raises(Err) as caught:
        client.send(client.request(f"https://127.0.0.2:{port}/"))
    assert code(caught) in ("TlsCertificateError", "ConnectionRefused")


# -- servers that misbehave ----------------------------------------------------------------------------


def test_a_server_that_stalls_cannot_outlive_the_deadline() -> None:
    with silent() as port, Client(f"local:{port}", timeout=0.3) as client:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.send(client.request(f"http://localhost:{port}/"))
        assert time.monotonic() - started < 5


def test_the_guests_own_timeouts_are_kept() -> None:
    options = RequestOptions()
    options.set_first_byte_timeout(100_000_000)
    with silent() as port, Client(f"local:{port}") as client:
        with pytest.raises(Err) as caught:
            client.send(client.request(f"http://localhost:{port}/"), options=options)
        assert code(caught) == "HttpResponseTimeout"


BROKEN = [
    ("HttpResponseIncomplete", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
    ("HttpResponseIncomplete", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
    ("HttpProtocolError", b"SSH-2.0-other\r\n\r\n"),
    ("HttpProtocolError", b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n"),
    ("HttpResponseHeaderSectionSize", b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000 + b"\r\n\r\n"),
    ("HttpResponseHeaderSectionSize", b"HTTP/1.1 200 OK\r\n" + b"x: a\r\n" * 400 + b"\r\n"),
    ("HttpResponseIncomplete", b""),
]


@pytest.mark.parametrize(("expected", "raw"), BROKEN, ids=[f"{e}-{n}" for n, (e, _) in enumerate(BROKEN)])
def test_a_broken_response_is_an_error_code(expected: str, raw: bytes) -> None:
    with raw_server(answering(raw)) as port, Client(f"local:{port}") as client:
        with pytest.raises(Err) as caught:
            client.send(client.request(f"http://localhost:{port}/"))
        assert code(caught) == expected


def test_a_slow_drip_arrives() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"
    pieces = [bytes([byte]) for byte in head + b"dripsy"]
    with raw_server(answering(*pieces)) as port, Client(f"local:{port}") as client:
        assert client.send(client.request(f"http://localhost:{port}/")).body == b"dripsy"


def test_a_redirect_is_the_guests_affair() -> None:
    raw = b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n"
    with raw_server(answering(raw)) as port, Client(f"local:{port}") as client:
        answer = client.send(client.request(f"http://localhost:{port}/"))
        assert (answer.status, answer.headers["location"]) == (302, b"http://10.0.0.1/")
        with pytest.raises(Err) as caught:
            client.send(client.request("http://10.0.0.1/"))
        assert code(caught) == "HttpRequestDenied"


def test_a_refused_connection_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Client(f"local:{port}") as client, pytest.raises(Err) as caught:
        client.send(client.request(f"http://127.0.0.1:{port}/"))
    assert code(caught) == "ConnectionRefused"


# -- limits, and what a guest may not say --------------------------------------------------------------


def test_so_many_exchanges_at_once_and_no_more() -> None:
    with silent() as port, Client(f"local:{port}", http_requests=2) as client:
        held = [client.handler.handle(client.request(f"http://localhost:{port}/"), None) for _ in range(2)]
        with pytest.raises(Err) as caught:
            client.handler.handle(client.request(f"http://localhost:{port}/"), None)
        assert code(caught) == "ConnectionLimitReached"
        held.pop().__drop__()
        client.handler.handle(client.request(f"http://localhost:{port}/"), None).__drop__()
        held.pop().__drop__()


def test_bytes_on_the_network_have_a_limit() -> None:
    with (
        server() as port,
        Client(f"local:{port}", network_bytes=100_000) as client,
        pytest.raises(QuotaExceeded) as caught,
    ):
        client.send(client.request(f"http://localhost:{port}/", types.MethodPost()), bytes(200_000))
    assert caught.value.limit == "network_bytes"


def test_fields_have_limits() -> None:
    with Client(http_fields=3, http_field_bytes=100) as client:
        fields = client.types.Fields()
        for n in range(3):
            fields.append(f"x-{n}", b"1")
        with pytest.raises(QuotaExceeded, match="3 fields"):
            fields.append("x-3", b"1")
        with pytest.raises(QuotaExceeded, match="100 bytes"):
            client.types.Fields.from_list([("x", b"a" * 101)])


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("host", b"evil", types.HeaderErrorForbidden),
        ("Transfer-Encoding", b"chunked", types.HeaderErrorForbidden),
        ("connection", b"close", types.HeaderErrorForbidden),
        ("bad name", b"1", types.HeaderErrorInvalidSyntax),
        ("", b"1", types.HeaderErrorInvalidSyntax),
        ("x", b"a\r\nb: c", types.HeaderErrorInvalidSyntax),
        ("x", b"a\0", types.HeaderErrorInvalidSyntax),
    ],
)
def test_a_field_that_would_break_the_message_is_refused(name: str, value: bytes, error: type) -> None:
    with Client() as client:
        fields = client.types.Fields()
        for attempt in (
            lambda: fields.append(name, value), lambda: fields.set_(name, [value]),
            lambda: client.types.Fields.from_list([(name, value)]),
        ):  # fmt: skip
            with pytest.raises(Err) as caught:
                attempt()
            assert isinstance(caught.value.value, error)


def test_the_fields_of_a_message_are_immutable() -> None:
    with Client() as client:
        fields = client.types.Fields.from_list([("a", b"1")])
        request = client.types.OutgoingRequest(fields)
        with pytest.raises(Err) as caught:
            request.headers().append("b", b"2")
        assert isinstance(caught.value.value, types.HeaderErrorImmutable)
        copy = request.headers().clone()
        copy.append("b", b"2")
        assert copy.entries() == [("a", b"1"), ("b", b"2")]
        assert (copy.get("A"), copy.has("B")) == ([b"1"], True)


@pytest.mark.parametrize("authority", ["user@host", "host:99x", "a b", "host/path", ""])
def test_an_authority_that_is_none_is_refused(authority: str) -> None:
    with Client() as client, pytest.raises(Err):
        client.types.OutgoingRequest(client.types.Fields()).set_authority(authority)


def test_a_body_of_another_length_than_stated_is_an_error() -> None:
    with server() as port, Client(f"local:{port}") as client:
        request = client.request(f"http://localhost:{port}/", types.MethodPost(), {"content-length": b"5"})
        with pytest.raises(Err) as caught:
            client.send(request, b"abc")
        assert code(caught) == "HttpRequestBodySize"
