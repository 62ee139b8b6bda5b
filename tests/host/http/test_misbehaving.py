"""Servers and guests of ``wasi:http`` with unusual or invalid behaviour: nothing is lost, nothing hangs."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hyperframe.frame import GoAwayFrame, PingFrame, RstStreamFrame

from aegis.bindings import wasi_http_types as types
from aegis.errors import DeadlineExceeded
from aegis.wit.values import Err
from tests.host.http.client import Answer, Client, answering, code, read_all, wait_for, write_all
from tests.host.http.servers import http2_answers, http2_server, raw_server, server, tls_context

# -- a guest that keeps what it has -------------------------------------------------------------------


def test_one_request_after_another_takes_no_more_than_one() -> None:
    with server() as port, Client(f"local:{port}", http_requests=1, sockets=1) as client:
        for _ in range(5):
            request = client.request(f"http://localhost:{port}/", types.MethodPost())
            assert client.send(request, b"x").body == b"x"


def test_a_response_that_was_read_holds_no_connection() -> None:
    with server() as port, Client(f"local:{port}", http_requests=1, sockets=1) as client:
        kept = []
        for _ in range(3):
            future = client.handler.handle(client.request(f"http://localhost:{port}/"), None)
            response = wait_for(future)
            body = response.consume()
            stream = body.stream()
            assert read_all(stream) == b"hello" * 3
            kept += [stream, body, response, future]
            assert not client.grants.network._open
        for resource in kept:
            resource.__drop__()


def test_a_body_that_was_given_up_ends_its_request() -> None:
    with server() as port, Client(f"local:{port}") as client:
        request = client.request(f"http://localhost:{port}/", types.MethodPost())
        request.body().__drop__()
        future = client.handler.handle(request, None)
        with pytest.raises(Err) as caught:
            wait_for(future)
        assert code(caught) == "ConnectionTerminated"
        future.__drop__()


def test_a_body_that_was_given_up_takes_no_more() -> None:
    with Client() as client:
        body = client.request("http://localhost/", types.MethodPost()).body()
        stream = body.write()
        body.__drop__()
        with pytest.raises(Err) as caught:
            stream.check_write()
        assert type(caught.value.value).__name__ == "StreamErrorClosed"


@pytest.mark.parametrize("method", [types.MethodConnect(), types.MethodOther("CONNECT"), types.MethodOther("connect")])
def test_no_tunnel_is_asked_for(method: Any) -> None:
    with Client("http://a.example") as client, pytest.raises(Err) as caught:
        client.handler.handle(client.request("http://a.example/", method), None)
    assert code(caught) == "HttpRequestMethodInvalid"


def test_trailers_do_not_follow_a_stated_length() -> None:
    def only_listen(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    with raw_server(only_listen) as port, Client(f"local:{port}") as client:
        trailers = client.types.Fields.from_list([("x-sum", b"7")])
        request = client.request(f"http://localhost:{port}/", types.MethodPost(), {"content-length": b"3"})
        with pytest.raises(Err) as caught:
            client.send(request, b"abc", trailers=trailers)
        assert code(caught) == "HttpProtocolError"


def test_fields_of_a_connection_stay_with_it() -> None:
    of_connection = b"Connection: close, x\r\nUpgrade: h3\r\nKeep-Alive: 5\r\n"
    raw = b"HTTP/1.1 200 OK\r\n" + of_connection + b"X: 1\r\nContent-Length: 0\r\n\r\n"
    with raw_server(answering(raw)) as port, Client(f"local:{port}") as client:
        answer = client.send(client.request(f"http://localhost:{port}/"))
        assert answer.headers == {"x": b"1", "content-length": b"0"}


@pytest.mark.parametrize("host", ["localhost.", "LocalHost", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]"])
def test_a_host_in_any_notation_is_asked_for_by_the_one_that_was_judged(host: str) -> None:
    def tell(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    heard: list[bytes] = []
    with raw_server(tell) as port, Client(f"local:{port}") as client:
        assert client.send(client.request(f"http://{host}:{port}/")).status == 200
    plain = b"localhost" if host.lower().startswith("l") else b"127.0.0.1"
    assert b"\r\nhost: %s:%d\r\n" % (plain, port) in heard[0].lower()
    with server(tls=True) as port, Client(f"local:{port}", tls=tls_context()) as client:
        assert client.send(client.request(f"https://{host}:{port}/")).status == 200


@pytest.mark.parametrize("authority", ["a..b", "1.2.3.4.5", "a_b-", "\x01", "x" * 300, "a:99999"])
def test_a_host_that_is_none_is_not_asked_for(authority: str) -> None:
    with Client("public:*") as client:
        request = client.types.OutgoingRequest(client.types.Fields())
        request.set_authority(authority)
        with pytest.raises(Err) as caught:
            client.handler.handle(request, None)
    assert code(caught) == "HttpRequestUriInvalid"


def test_a_method_is_allowed_and_another_is_not() -> None:
    with server() as port, Client(f"GET http://127.0.0.1:{port}") as client:
        url = f"http://127.0.0.1:{port}/"
        assert client.send(client.request(url)).status == 200
        with pytest.raises(Err) as caught:
            client.send(client.request(url, types.MethodPost()), b"x")
        assert code(caught) == "HttpRequestDenied"
        assert [d.rule for d in client.decisions] == [f"nothing allows POST http://127.0.0.1:{port}"]


# -- servers that end early, or say goodbye ---------------------------------------------------------------


def post(client: Client, url: str, data: bytes) -> tuple[Answer, bool]:
    """Send a body for as long as it is accepted; return the response and whether all of it was accepted."""
    request = client.request(url, types.MethodPost())
    outgoing = request.body()
    future = client.handler.handle(request, None)
    stream = outgoing.write()
    taken = False
    with contextlib.suppress(Err):
        write_all(stream, data)
        taken = True
    stream.__drop__()
    client.types.OutgoingBody.finish(outgoing, None)
    return client.receive(future), taken


def test_an_answer_that_comes_before_the_request_has_gone_is_read() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")

    with raw_server(refuse) as port, Client(f"local:{port}") as client:
        answer, taken = post(client, f"http://localhost:{port}/", bytes(20_000_000))
        assert (answer.status, answer.body, taken) == (413, b"big", False)


def get_two(answer: Callable[[socket.socket, Any, int], None], **more: Any) -> Answer:
    with http2_answers(answer) as port, Client(f"local:{port}", tls=tls_context(), **more) as client:
        return client.send(client.request(f"https://localhost:{port}/"))


def test_a_frame_without_data_is_not_the_end() -> None:
    def answer(connection: socket.socket, protocol: Any, stream: int) -> None:
        protocol.send_headers(stream, [(":status", "200")])
        for data in (b"", b"one", b"", b"", b"two", b""):
            protocol.send_data(stream, data)
        protocol.end_stream(stream)

    assert get_two(answer).body == b"onetwo"


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "byte by byte"])
def test_a_server_that_wants_no_further_stream_ends_this_one_in_peace(at_once: bool) -> None:
    def answer(connection: socket.socket, protocol: Any, stream: int) -> None:
        farewell = GoAwayFrame(last_stream_id=stream, error_code=0, additional_data=b"bye").serialize()
        protocol.send_headers(stream, [(":status", "200")])
        protocol.send_data(stream, b"all of it", end_stream=True)
        rest = farewell + protocol.data_to_send()
        for piece in [rest] if at_once else [rest[n : n + 1] for n in range(len(rest))]:
            connection.sendall(piece)

    assert get_two(answer).body == b"all of it"


@pytest.mark.parametrize(("last", "error"), [(0, 0), (1, 11)], ids=["not this one", "an error"])
def test_a_server_that_ends_the_connection_ends_the_request(last: int, error: int) -> None:
    def answer(connection: socket.socket, protocol: Any, stream: int) -> None:
        connection.sendall(GoAwayFrame(last_stream_id=last, error_code=error).serialize())

    with pytest.raises(Err) as caught:
        get_two(answer)
    assert code(caught) == "ConnectionTerminated"


def test_a_server_may_answer_and_want_no_more_of_the_request() -> None:
    def answer(connection: socket.socket, protocol: Any, stream: int) -> None:
        protocol.send_headers(stream, [(":status", "403")])
        protocol.send_data(stream, b"no", end_stream=True)
        connection.sendall(protocol.data_to_send() + RstStreamFrame(stream_id=stream, error_code=0).serialize())

    with http2_answers(answer) as port, Client(f"local:{port}", tls=tls_context()) as client:
        answered, taken = post(client, f"https://localhost:{port}/", bytes(1_000_000))
        assert (answered.status, answered.body, taken) == (403, b"no", False)


@pytest.mark.parametrize("status", ["abc", "99", "99999", "-200", ""])
def test_a_status_that_is_none_is_an_error_code(status: str) -> None:
    def answer(connection: socket.socket, protocol: Any, stream: int) -> None:
        protocol.send_headers(stream, [(":status", status)], end_stream=True)

    with pytest.raises(Err) as caught:
        get_two(answer)
    assert code(caught) == "HttpProtocolError"


def test_ten_megabytes_go_both_ways_over_http_2() -> None:
    data = bytes(range(256)) * 40_000
    with http2_server() as port, Client(f"local:{port}", tls=tls_context()) as client:
        answer = client.send(client.request(f"https://localhost:{port}/", types.MethodPost()), data)
        assert answer.body == data
        assert answer.trailers == [("x-trailer", b"done")]


def test_a_server_without_tls_is_an_error_code() -> None:
    with server() as port, Client(f"local:{port}", tls=tls_context()) as client, pytest.raises(Err) as caught:
        client.send(client.request(f"https://localhost:{port}/"))
    assert code(caught) == "TlsProtocolError"


def test_a_handshake_that_is_broken_off_is_an_error_code() -> None:
    serve = raw_server(lambda connection: connection.recv(10) and None)
    with serve as port, Client(f"local:{port}", tls=tls_context()) as client, pytest.raises(Err) as caught:
        client.send(client.request(f"https://localhost:{port}/"))
    assert code(caught) == "ConnectionTerminated"


# -- floods and stalls ------------------------------------------------------------------------------------


def endless(piece: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        while True:
            connection.sendall(piece)

    return serve


def test_hints_without_end_are_an_error_code() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000
    with raw_server(endless(hints)) as port, Client(f"local:{port}", network_bytes=None) as client:
        future = client.handler.handle(client.request(f"http://localhost:{port}/"), None)
        with pytest.raises(Err) as caught:
            wait_for(future)
        assert code(caught) == "HttpResponseHeaderSectionSize"


def test_a_body_without_end_is_skipped_no_longer_than_the_deadline() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        endless(bytes(1 << 20))(connection)

    with raw_server(serve) as port, Client(f"local:{port}", timeout=0.5, network_bytes=None) as client:
        future = client.handler.handle(client.request(f"http://localhost:{port}/"), None)
        trailers = client.types.IncomingBody.finish(wait_for(future).consume())
        with pytest.raises(DeadlineExceeded):
            wait_for(trailers)


def test_pings_whose_answers_are_not_read_are_not_kept() -> None:
    def answer(connection: socket.socket, protocol: Any, stream: int) -> None:
        flood = PingFrame(opaque_data=b"12345678").serialize() * 4000
        while True:
            connection.sendall(flood)

    serve = http2_answers(answer)
    with serve as port, Client(f"local:{port}", tls=tls_context(), timeout=0.5, network_bytes=None) as client:
        future = client.handler.handle(client.request(f"https://localhost:{port}/"), None)
        with pytest.raises(DeadlineExceeded):
            wait_for(future)
        (exchange,) = client.grants.network.exchanges
        assert len(exchange._unsent) < 2 << 20  # type: ignore[attr-defined]


def test_a_guest_that_only_writes_waits_though_there_is_much_to_read() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(500_000))
        over.wait()

    waits, over = 0, threading.Event()
    with raw_server(serve) as port, Client(f"local:{port}", timeout=0.5) as client:
        wait = client.door.wait

        def counted(seconds: float | None = None, **descriptors: Any) -> Any:
            nonlocal waits
            waits += 1
            return wait(seconds, **descriptors)

        client.door.wait = counted  # type: ignore[method-assign]
        request = client.request(f"http://localhost:{port}/", types.MethodPost())
        stream = request.body().write()
        client.handler.handle(request, None)
        with pytest.raises(DeadlineExceeded):
            write_all(stream, bytes(50_000_000))
    over.set()
    assert waits < 2000


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one address of loopback")
def test_an_address_that_does_not_answer_is_given_up_for_the_next() -> None:
    with contextlib.ExitStack() as opened:
        port = opened.enter_context(server(host="127.0.0.2"))
        deaf = opened.enter_context(socket.create_server(("127.0.0.1", port), backlog=0))
        for _ in range(3):  # the capacity of its queue
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        client = opened.enter_context(Client(f"local:{port}", resolver=lambda name: ["127.0.0.1", "127.0.0.2"]))
        client.grants.network.address_timeout = 0.05
        assert client.send(client.request(f"http://localhost:{port}/")).status == 200
