"""The length of a body follows one rule in both protocols and directions: stated once, in digits, and correct."""

from __future__ import annotations

import http.server
import re
import socket
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.bindings import wasi_http_types as types
from aegis.host.net.http.framing import response_length, stated_length
from aegis.host.net.http.http_fault import HttpFault
from aegis.wit.values import Err
from tests.host.http.client import Client, answering, code, wait_for, write_all
from tests.host.http.recorded import PROTOCOLS, recording, responding
from tests.host.http.servers import raw_server, tls_context

every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
REFUSED = ("HttpRequestBodySize", "HttpProtocolError")
METHODS = {"GET": types.MethodGet(), "HEAD": types.MethodHead(), "POST": types.MethodPost(), "PUT": types.MethodPut()}


def made(client: Client, url: str, method: str, lengths: list[bytes]) -> Any:
    request = client.request(url, METHODS[method])
    request._headers.immutable = False
    for value in lengths:
        request._headers.append("Content-Length", value)
    request._headers.immutable = True
    return request


def attempt(client: Client, request: Any, body: bytes | None, *, early: bool = False) -> str:
    """Send a request; return the name of its error code, or an empty name."""
    outgoing = None if body is None else request.body()
    try:
        future = None if early else client.handler.handle(request, None)
        if outgoing is not None:
            stream = outgoing.write()
            write_all(stream, body or b"")
            stream.__drop__()
            client.types.OutgoingBody.finish(outgoing, None)
        future = future or client.handler.handle(request, None)
        client.receive(future)
    except Err as error:
        of_stream = getattr(getattr(error.value, "value", None), "code", None)
        return type(of_stream or error.value).__name__.removeprefix("ErrorCode")
    return ""


# -- requests ------------------------------------------------------------------------------------------

AGREE: list[tuple[str, list[bytes], bytes | None, list[bytes]]] = [
    ("POST", [b"3"], b"abc", [b"3"]),
    ("POST", [b"003"], b"abc", [b"3"]),
    ("POST", [b"0"], None, [b"0"]),
    ("POST", [b"0"], b"", [b"0"]),
    ("POST", [], None, [b"0"]),
    ("PUT", [], None, [b"0"]),
    ("GET", [], None, []),
    ("HEAD", [], None, []),
    ("GET", [b"0"], None, [b"0"]),
    ("GET", [b"3"], b"abc", [b"3"]),
]


@every_protocol
@pytest.mark.parametrize(("method", "lengths", "body", "written"), AGREE)
def test_a_true_length_is_written_once_in_plain_digits(
    protocol: str, method: str, lengths: list[bytes], body: bytes | None, written: list[bytes]
) -> None:
    with (
        recording(protocol) as (scheme, port, recorded),
        Client(f"local:{port}", tls=tls_context()) as client,
    ):
        request = made(client, f"{scheme}://localhost:{port}/", method, lengths)
        early = lengths == [b"0"] and body == b""
        assert attempt(client, request, body, early=early) == ""
        assert (recorded.whole, recorded.body) == (True, body or b"")
        assert recorded.values(b"content-length") == written
        assert not (recorded.values(b"transfer-encoding") and written)


def test_a_body_of_unknown_length_is_sent_in_chunks_or_frames() -> None:
    for protocol in PROTOCOLS:
        with (
            recording(protocol) as (scheme, port, recorded),
            Client(f"local:{port}", tls=tls_context()) as client,
        ):
            assert attempt(client, made(client, f"{scheme}://localhost:{port}/", "POST", []), b"abc") == ""
            assert (recorded.whole, recorded.body, recorded.values(b"content-length")) == (True, b"abc", [])


DISAGREE: list[tuple[list[bytes], bytes | None]] = [
    ([b"0"], b"abc"), ([b"2"], b"abc"), ([b"5"], b"abc"), ([b"5"], b""), ([b"5"], None), ([b"+3"], b"abc"),
    ([b"-3"], b"abc"), ([b"+0"], None), ([b"-0"], None), ([b"3,3"], b"abc"), ([b"3, 3"], b"abc"), ([b"0,0"], None),
    ([b"3", b"3"], b"abc"), ([b"3", b"4"], b"abc"), ([b"0", b"3"], b"abc"), ([b"0", b"0"], None), ([b"0x3"], b"abc"),
    ([b"3_0"], b"abc"), ([b"\xb3"], b"abc"), ([b"\xd9\xa3"], b"abc"), ([b"3.0"], b"abc"), ([b"3 3"], b"abc"),
    ([b"3;x"], b"abc"), ([b""], b"abc"), ([b""], None), ([b"1" * 19], b"abc"), ([b"9" * 18], b"abc"),
    ([b"0" * 18 + b"3"], b"abc"), ([b"1" * 5000], None), ([b"chunked"], b"abc"),
]  # fmt: skip


@every_protocol
@pytest.mark.parametrize("early", [False, True], ids=["streamed", "gathered"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_length_that_is_not_the_bodys_is_an_error_code_and_reaches_no_server(
    protocol: str, method: str, early: bool
) -> None:
    for lengths, body in DISAGREE:
        with (
            recording(protocol) as (scheme, port, recorded),
            Client(f"local:{port}", tls=tls_context()) as client,
        ):
            request = made(client, f"{scheme}://localhost:{port}/", method, lengths)
            assert attempt(client, request, body, early=early) in REFUSED, (lengths, body)
        assert not recorded.whole or (recorded.values(b"content-length"), recorded.body) == ([b"0"], b"")
        assert len(recorded.body) <= int((recorded.values(b"content-length") or [b"0"])[0])


@every_protocol
def test_a_body_beyond_its_length_sends_no_byte_too_many(protocol: str) -> None:
    """The guest continues after the error: its writes are discarded, and the request never ends."""
    with (
        recording(protocol) as (scheme, port, recorded),
        Client(f"local:{port}", tls=tls_context()) as client,
    ):
        request = made(client, f"{scheme}://localhost:{port}/", "POST", [b"3"])
        outgoing = request.body()
        future = client.handler.handle(request, None)
        stream = outgoing.write()
        write_all(stream, b"abc")
        for _ in range(2):
            with pytest.raises(Err):
                write_all(stream, b"GET / HTTP/1.1\r\n\r\n")
        stream.__drop__()
        with pytest.raises(Err) as caught:
            client.types.OutgoingBody.finish(outgoing, None)
        assert code(caught) == "HttpRequestBodySize"
        future.__drop__()
    assert recorded.body in (b"", b"abc")
    assert b"GET" not in recorded.raw[10:]


@every_protocol
@pytest.mark.parametrize(
    "name", ["content-length", "Transfer-Encoding", "host", "te", "trailer", "Authorization", "set-cookie", "expect"]
)
def test_a_field_that_frames_or_routes_does_not_follow_the_body(protocol: str, name: str) -> None:
    with (
        recording(protocol) as (scheme, port, recorded),
        Client(f"local:{port}", tls=tls_context()) as client,
    ):
        entries = [(name, b"trailers" if name == "te" else b"3")]
        if name.lower() in ("host", "transfer-encoding"):
            with pytest.raises(Err) as refused:
                client.types.Fields.from_list(entries)
            assert type(refused.value.value) is types.HeaderErrorForbidden
            return
        trailers = client.types.Fields.from_list(entries)
        request = made(client, f"{scheme}://localhost:{port}/", "POST", [])
        outgoing = request.body()
        future = client.handler.handle(request, None)
        with pytest.raises(Err) as caught:
            client.types.OutgoingBody.finish(outgoing, trailers)
        assert code(caught) == "HttpProtocolError"
        future.__drop__()
    assert not recorded.whole


@every_protocol
def test_a_request_ends_its_connection_and_may_ask_for_trailers(protocol: str) -> None:
    with (
        recording(protocol) as (scheme, port, recorded),
        Client(f"local:{port}", tls=tls_context()) as client,
    ):
        headers = {"TE": b"Trailers", "trailer": b"x-sum"}
        client.send(client.request(f"{scheme}://localhost:{port}/", headers=headers))
        assert recorded.values(b"te") == [b"Trailers"]
        assert recorded.values(b"trailer") == [b"x-sum"]
        assert recorded.values(b"connection") == ([] if protocol == "h2" else [b"close, te"])
        for value in (b"gzip", b"trailers, deflate", b""):
            with pytest.raises(Err) as caught:
                client.types.Fields().append("te", value)
            assert type(caught.value.value) is types.HeaderErrorForbidden


@pytest.mark.parametrize("name", [":path", ":authority", ":method", "x y", "x:", "x ", " x", "x\n", "x\0", "", "ü"])
def test_no_field_is_a_pseudo_header_or_breaks_the_line(name: str) -> None:
    with Client() as client, pytest.raises(Err) as caught:
        client.types.Fields.from_list([(name, b"1")])
    assert type(caught.value.value) is types.HeaderErrorInvalidSyntax


@pytest.mark.parametrize("path", ["/a b", "/a\r\nx: y", "/a#b", "/\0", "/\x7f", "/ü", "/a\tb", "\n", "x" * 100_000])
def test_a_path_that_would_break_the_message_is_refused(path: str) -> None:
    with Client() as client, pytest.raises(Err):
        client.types.OutgoingRequest(client.types.Fields()).set_path_with_query(path)


@pytest.mark.parametrize("text", ["GE T", "GET\r\n", "", "x" * 65, "G\0T", "GÉT", "G:T", "(GET)"])
def test_a_method_that_would_break_the_message_is_refused(text: str) -> None:
    with Client() as client, pytest.raises(Err):
        client.types.OutgoingRequest(client.types.Fields()).set_method(types.MethodOther(text))


@pytest.mark.parametrize("text", ["a\r\nb", "a b", "u@a", "a/b", "a?b", "a#b", "a\0\n", "x" * 2000, "a:1:2", "[::1"])
def test_an_authority_that_would_break_the_message_is_refused(text: str) -> None:
    with Client("public:*") as client:
        request = client.types.OutgoingRequest(client.types.Fields())
        with pytest.raises(Err):
            request.set_authority(text)
        with pytest.raises(Err):
            request.set_scheme(types.SchemeOther(f"x{text}!"))


@every_protocol
@pytest.mark.parametrize(
    ("path", "method", "target"),
    [
        ("*", "GET", b"/*"),
        ("http://evil.example/", "GET", b"/http://evil.example/"),
        ("", "GET", b"/"),
        ("?a", "GET", b"/?a"),
    ],
)
def test_a_target_is_a_path_of_the_host_that_was_judged(protocol: str, path: str, method: str, target: bytes) -> None:
    with (
        recording(protocol) as (scheme, port, recorded),
        Client(f"local:{port}", tls=tls_context()) as client,
    ):
        request = client.request(f"{scheme}://localhost:{port}/", METHODS[method])
        request.set_path_with_query(path)
        client.send(request)
        authority = b"localhost:%d" % port
        if protocol == "h2":
            assert (recorded.values(b":path"), recorded.values(b":authority")) == ([target], [authority])
        else:
            assert recorded.raw.startswith(b"%s %s HTTP/1.1\r\n" % (method.encode(), target))
            assert recorded.values(b"host") == [authority]


@pytest.mark.parametrize("method", ["get", "Get", "gET"])
def test_a_method_in_another_case_is_another_method(method: str) -> None:
    with recording("http/1.1") as (_, port, recorded), Client(f"GET http://localhost:{port}") as client:
        with pytest.raises(Err) as caught:
            client.send(client.request(f"http://localhost:{port}/", types.MethodOther(method)))
        assert code(caught) == "HttpRequestDenied"
    assert recorded.raw == b""


def test_a_server_that_ignores_the_body_of_a_get_does_not_take_it_for_a_request() -> None:
    """The rule allows only GET; the body contains a complete POST request, which the server must not read."""
    methods: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            methods.append(self.command)
            self.send_response(204)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *words: Any) -> None:
            """Log nothing."""

    def serve(connection: socket.socket) -> None:
        Handler(connection, ("127.0.0.1", 0), None)  # type: ignore[arg-type]
        over.set()

    over = threading.Event()
    smuggled = b"POST /admin HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
    with raw_server(serve) as port, Client(f"GET http://127.0.0.1:{port}") as client:
        request = client.request(f"http://127.0.0.1:{port}/", headers={"content-length": b"%d" % len(smuggled)})
        attempt(client, request, smuggled)
        over.wait(20)
    assert methods == ["GET"]


def test_a_trace_has_no_body() -> None:
    with Client("http://a.example") as client:
        assert attempt(client, client.request("http://a.example/", types.MethodTrace()), b"x") == "HttpRequestBodySize"


# -- responses -----------------------------------------------------------------------------------------

OK = (b":status", b"200")
LENGTHS: list[tuple[str, bytes, list[bytes], bytes | None, str]] = [
    ("GET", b"200", [b"3"], b"abc", ""),
    ("GET", b"200", [b"0"], None, ""),
    ("GET", b"200", [b"5"], b"abc", "incomplete"),
    ("GET", b"200", [b"5"], None, "incomplete"),
    ("GET", b"200", [b"2"], b"abc", "long"),
    ("GET", b"200", [b"0"], b"abc", "long"),
    *(("GET", b"200", [value], b"abc", "refused") for value in (
        b"+3", b"-3", b"3,3", b"3, 3", b"0,0", b"0x3", b"3_0", b"", b"3 3", b"\xb3", b"0" * 18 + b"3", b"chunked",
    )),
    ("GET", b"200", [b"3", b"3"], b"abc", "refused"),
    ("GET", b"200", [b"3", b"0"], b"abc", "refused"),
    ("HEAD", b"200", [b"5"], None, ""),
    ("HEAD", b"200", [b"5", b"5"], None, "refused"),
    ("GET", b"204", [b"0"], None, ""),
    ("GET", b"204", [b"5"], None, "refused"),
    ("GET", b"304", [b"0"], None, ""),
]  # fmt: skip


@every_protocol
@pytest.mark.parametrize(("method", "status", "lengths", "body", "ending"), LENGTHS)
def test_a_response_has_the_one_length_that_it_states(
    protocol: str, method: str, status: bytes, lengths: list[bytes], body: bytes | None, ending: str
) -> None:
    section = [(b":status", status), *((b"content-length", value) for value in lengths)]
    with (
        responding(protocol, section, body=body) as port,
        Client(f"local:{port}", tls=tls_context()) as client,
    ):
        scheme = "https" if protocol == "h2" else "http"
        request = client.request(f"{scheme}://localhost:{port}/", METHODS[method])
        if not ending or (ending, protocol) == ("long", "http/1.1"):  # HTTP/1.1: later bytes are not read
            answer = client.send(request)
            assert answer.body == (body or b"")[: int(lengths[0])]
            return
        with pytest.raises(Err) as caught:
            client.send(request)
        expected = {
            "refused": ("HttpProtocolError",),
            "incomplete": ("HttpResponseIncomplete", "HttpResponseBodySize"),
            "long": ("HttpResponseBodySize",),
        }[ending]
        assert code(caught) in expected


@every_protocol
def test_trailers_do_not_change_the_length_that_the_head_stated(protocol: str) -> None:
    framed = [] if protocol == "h2" else [(b"transfer-encoding", b"chunked")]
    trailers = [(b"content-length", b"3"), (b"x-sum", b"1")]
    with (
        responding(protocol, [OK, *framed], body=b"abc", trailers=trailers) as port,
        Client(f"local:{port}", tls=tls_context()) as client,
    ):
        scheme = "https" if protocol == "h2" else "http"
        answer = client.send(client.request(f"{scheme}://localhost:{port}/"))
        assert (answer.body, answer.trailers) == (b"abc", [("x-sum", b"1")])
    with (
        responding("h2", [OK, (b"content-length", b"5")], body=b"abc", trailers=[(b"x-sum", b"1")]) as port,
        Client(f"local:{port}", tls=tls_context()) as client,
    ):
        with pytest.raises(Err) as caught:
            client.send(client.request(f"https://localhost:{port}/"))
        assert code(caught) == "HttpResponseBodySize"


BROKEN = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 103 Hint\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\n: empty\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n leading: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 000 Zero\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("raw", BROKEN)
def test_a_response_that_two_readers_would_read_differently_is_an_error_code(raw: bytes) -> None:
    with raw_server(answering(raw)) as port, Client(f"local:{port}") as client:
        with pytest.raises(Err) as caught:
            client.send(client.request(f"http://localhost:{port}/"))
        assert code(caught) == "HttpProtocolError"


# -- the rule itself -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "length"), [(b"0", 0), (b"7", 7), (b"007", 7), (b"9" * 18, 10**18 - 1)])
def test_a_length_is_one_to_eighteen_digits(value: bytes, length: int) -> None:
    assert stated_length([(b"Content-LENGTH", value)]) == length
    assert stated_length([(b"x", value)]) is None


@given(st.lists(st.binary(max_size=20) | st.from_regex(rb"[ +-]?[0-9]{1,20}", fullmatch=True), max_size=3))
def test_no_other_form_is_a_length(values: list[bytes]) -> None:
    """For all values: a length is accepted if there is exactly one value, of digits only, and it is that number."""
    fields = [(b"content-length", value) for value in values]
    if not values:
        assert stated_length(fields) is None
    elif len(values) == 1 and re.fullmatch(rb"[0-9]{1,18}", values[0]):
        assert stated_length(fields) == int(values[0])
    else:
        with pytest.raises(HttpFault):
            stated_length(fields)


def test_a_response_without_a_body_may_state_the_length_of_another() -> None:
    fields = [(b"content-length", b"5")]
    assert (response_length("HEAD", 200, fields), response_length("GET", 304, fields)) == (0, 0)
    assert (response_length("GET", 200, fields), response_length("GET", 200, [])) == (5, None)
    with pytest.raises(HttpFault):
        response_length("HEAD", 200, [(b"transfer-encoding", b"chunked")], chunks=False)


def test_a_future_of_a_refused_request_is_never_made() -> None:
    with Client("http://a.example") as client:
        request = made(client, "http://a.example/", "POST", [b"+0"])
        with pytest.raises(Err) as caught:
            wait_for(client.handler.handle(request, None))
        assert code(caught) == "HttpProtocolError"
        assert client.grants.network.exchanges == set()
