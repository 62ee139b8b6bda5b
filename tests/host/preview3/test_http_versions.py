"""wasi:http 0.3 decides, frames and fails as 0.2 does on the same grants, in both protocols."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from hyperframe.frame import RstStreamFrame

from aegis.bindings import wasi_http_types as two
from aegis.bindings import wasi_http_types_0_3 as three
from aegis.bindings.index import INDEX
from aegis.errors import DeadlineExceeded, QuotaExceeded
from aegis.values import Ended
from aegis.wit.values import Err, Ok
from tests.host.http.client import Client, code, silent, wait_for
from tests.host.http.recorded import PROTOCOLS, recording, responding
from tests.host.http.servers import http2_answers, http2_server, raw_server, server, tls_context

every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
NAMES = [
    "x", "X-a", "te", "Host", "connection", "keep-alive", "upgrade", "", "a b", "a:b", "\u00fc", ":path", "x" * 70_000,
]  # fmt: skip
VALUES = [b"", b"1", b"trailers", b"gzip", b" x", b"x\t", b"a\r\nb", b"\0", b"\xff", b"a\tb"]
PARTS = {
    "method": ["", "GET", "get", "x y", "x\r\n", "\u00fc", "x" * 64, "x" * 65, "CONNECT", "connect", "TRACE"],
    "scheme": ["", "http", "ftp", "1x", "a b", "x" * 65],
    "authority": [
        "",
        "a",
        "a:",
        "a:1",
        "a:65536",
        "u@a",
        "[::1]:1",
        "[::1",
        "a/b",
        "a b",
        "x" * 1025,
        "0x7f.1",
        "a..b",
    ],
    "path": ["", "/", "x", "//x", "/ x", "/x#y", "*", "/\r\n", "/\u00fc", "/" + "x" * 16384, "/" + "x" * 70_000],
}


class Value:
    """A future of a guest that has written a value, or writes it later."""

    def __init__(self, *values: Any) -> None:
        self.values, self.closed = list(values), False
        self._take: Callable[[Any], None] | None = None

    def then(self, take: Callable[[Any], None]) -> None:
        self._take = take
        for value in self.values:
            take(value)

    def write(self, value: Any) -> None:
        assert self._take is not None
        self._take(value)

    def close(self) -> None:
        self.closed = True


class Contents:
    """A stream of a guest that writes ``data`` as the sink accepts it, and closes its end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.closed, self.sink = data, False, None
        self._ended: Callable[[], None] = lambda: None

    def pump(self, sink: Any, ended: Callable[[], None]) -> Contents:
        self.sink, self._ended = sink, ended
        return self

    def stop(self) -> None:
        self.closed = True

    close = stop

    def step(self) -> None:
        if self.closed or self.sink is None:
            return
        try:
            while room := self.sink.room():
                self.sink.give(self.data[:room])
                self.data = self.data[room:]
                if not self.data:
                    self.closed = True
                    self._ended()
                    return
        except Ended:
            self.closed = True


class StreamingClient(Client):
    """A guest's side of WASI 0.3, beside that of 0.2 on the same grants."""

    def of(self, interface: str) -> Any:
        return self.wasi.implementation(next(r for r in INDEX.rows if r.name == f"wasi:http/{interface}@0.3.0"))

    def made(
        self, url: str, method: str = "GET", fields: tuple[tuple[str, bytes], ...] = (), contents: Any = None,
        trailers: Any = None, options: Any = None,
    ) -> tuple[Any, list[Any], list[Any]]:  # fmt: skip
        """Return a request, the list for the outcome of its transmission, and its operations."""
        scheme, _, rest = url.partition("://")
        authority, _, path = rest.partition("/")
        types = self.of("types")
        headers = types.Fields.from_list(list(fields))
        request, sent = types.Request.new(headers, contents, trailers or Value(Ok(None)), options)
        outcome: list[Any] = []
        operations: list[Any] = []
        sent.attach(outcome.append, operations.append)
        request.set_scheme(three.SchemeHttps() if scheme == "https" else three.SchemeHttp())
        request.set_authority(authority)
        request.set_path_with_query(f"/{path}")
        request.set_method(three.MethodOther(method))
        return request, outcome, operations

    def drive(self, until: Callable[[], bool], waiting: Any, contents: Any, operations: list[Any]) -> None:
        """Do what the scheduler does, until ``until()``."""
        while True:
            if contents is not None:
                contents.step()
            for operation in [one for one in operations if one.ready()]:
                operations.remove(operation)
                operation.complete()
            if until():
                return
            sinks = [contents.sink] if contents is not None and not contents.closed and contents.sink else []
            self.door.wait_for([one.interest() for one in (waiting, *sinks, *operations)])

    def fetch(self, request: Any, outcome: list[Any], operations: list[Any], contents: Any = None) -> Any:
        """Send a request; return status, body, and the value of the trailers when the transmission is complete."""
        later = self.of("client").send(request)
        self.drive(later.ready, later, contents, operations)
        response = later.result()
        status = response.get_status_code()
        body, trailers = self.of("types").Response.consume_body(response, Value(Ok(None)))
        data = bytearray()
        try:
            while True:
                self.drive(body.ready, body, contents, operations)
                data += body.take(1 << 20)
        except Ended:
            body.close()
        self.drive(trailers.ready, trailers, contents, operations)
        ending = trailers.result()
        self.drive(lambda: bool(outcome), trailers, contents, operations)
        return status, bytes(data), ending


def outcome_of(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the name of an error's class, or of a limit; ``None`` if there is no error."""
    try:
        function(*arguments)
    except Err as error:
        return type(error.value).__name__
    except QuotaExceeded as error:
        return error.limit, error.used
    return None


@pytest.mark.parametrize("name", NAMES)
def test_a_field_is_judged_alike(name: str) -> None:
    with StreamingClient() as client:
        old, new = client.types.Fields, client.of("types").Fields
        for value in VALUES:
            for call in ("append", "set_"):
                given = value if call == "append" else [value, value]
                first, second = old(), new()
                assert outcome_of(getattr(first, call), name, given) == outcome_of(getattr(second, call), name, given)
                assert first.entries() == second.copy_all()
            assert outcome_of(old.from_list, [(name, value)]) == outcome_of(new.from_list, [(name, value)])
        assert outcome_of(old().delete, name) == outcome_of(new().delete, name)
        assert outcome_of(old().delete, name) == outcome_of(new().get_and_delete, name)


def test_fields_are_taken_out_in_order_and_copied_apart() -> None:
    with StreamingClient() as client:
        fields = client.of("types").Fields.from_list([("X-a", b"1"), ("y", b"2"), ("x-A", b"3")])
        copy = fields.clone()
        assert fields.get_and_delete("x-a") == [b"1", b"3"]
        assert fields.get_and_delete("x-a") == []
        assert fields.copy_all() == [("y", b"2")]
        assert copy.copy_all() == [("X-a", b"1"), ("y", b"2"), ("x-A", b"3")]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_request_is_judged_alike(part: str) -> None:
    """Each value is set in both versions, and sent if it can be set: the answers and the decisions are the same."""
    said: dict[str, list[Any]] = {"two": [], "three": []}
    for version, found in said.items():
        types: Any = two if version == "two" else three
        with StreamingClient("http://127.0.0.1:1", "GET http://a:1") as client:
            for value in PARTS[part]:
                if version == "two":
                    request = client.request("http://127.0.0.1:1/")
                else:
                    request = client.made("http://127.0.0.1:1/")[0]
                    request.set_method(types.MethodGet())
                variant = {"method": types.MethodOther, "scheme": types.SchemeOther}.get(part, str)(value)
                name = "path_with_query" if part == "path" else part
                refused = outcome_of(getattr(request, f"set_{name}"), variant)
                found.append(refused)
                if refused is None:
                    getter = getattr(request, name if version == "two" else f"get_{name}")
                    assert getter() == variant
                    found.append(failure_of(client, version, request))
            found += client.decisions
    assert said["two"] == said["three"]


def failure_of(client: StreamingClient, version: str, request: Any) -> str:
    """Send a request that no server answers; return the name of its error code."""

    def send() -> None:
        if version == "two":
            wait_for(client.handler.handle(request, None))
        else:
            later = client.of("client").send(request)
            client.drive(later.ready, later, None, [])
            later.result()

    with pytest.raises(Err) as caught:
        send()
    return code(caught)


@every_protocol
@pytest.mark.parametrize(
    ("method", "stated", "data", "written"),
    [
        ("GET", None, None, []), ("GET", b"0", None, [b"0"]), ("POST", None, None, [b"0"]),
        ("POST", b"3", b"abc", [b"3"]), ("POST", None, b"abc", []), ("PUT", b"003", b"abc", [b"3"]),
        ("GET", b"3", b"abc", [b"3"]), ("POST", b"0", None, [b"0"]),
    ],
)  # fmt: skip
def test_the_length_of_a_body_is_stated_once_and_is_true(
    protocol: str, method: str, stated: bytes | None, data: bytes | None, written: list[bytes]
) -> None:
    contents = None if data is None else Contents(data)
    fields = () if stated is None else (("content-length", stated),)
    with recording(protocol) as (scheme, port, recorded), StreamingClient(f"local:{port}", tls=tls_context()) as client:
        request, sent, operations = client.made(f"{scheme}://localhost:{port}/", method, fields, contents)
        assert client.fetch(request, sent, operations, contents)[0] == 200
        assert sent == [Ok(None)]
        assert (recorded.whole, recorded.body) == (True, data or b"")
        assert recorded.values(b"content-length") == written


@every_protocol
@pytest.mark.parametrize(
    ("stated", "data"),
    [(b"2", b"abc"), (b"5", b"abc"), (b"5", None), (b"3,3", b"abc"), (b"+3", b"abc"), (b"chunked", b"abc")],
)
def test_a_length_that_is_not_the_bodys_is_an_error_and_reaches_no_server(
    protocol: str, stated: bytes, data: bytes | None
) -> None:
    contents = None if data is None else Contents(data)
    with recording(protocol) as (scheme, port, recorded), StreamingClient(f"local:{port}", tls=tls_context()) as client:
        fields = (("content-length", stated),)
        request, sent, operations = client.made(f"{scheme}://localhost:{port}/", "POST", fields, contents)
        with pytest.raises(Err) as caught:
            client.fetch(request, sent, operations, contents)
        assert code(caught) in ("HttpRequestBodySize", "HttpProtocolError")
        assert sent == [Err(caught.value.value)]
        assert contents is None or contents.closed
    assert not recorded.whole
    assert len(recorded.body) <= 5


def test_trailers_without_contents_follow_an_empty_body() -> None:
    with server() as port, StreamingClient(f"local:{port}") as client:
        fields = client.of("types").Fields.from_list([("x-sum", b"7")])
        request, sent, operations = client.made(f"http://localhost:{port}/", "POST", trailers=Value(Ok(fields)))
        later = client.of("client").send(request)
        client.drive(later.ready, later, None, operations)
        response = later.result()
        assert response.get_headers().get("x-trailers") == [b"x-sum: 7"]
        response.__drop__()
        client.drive(lambda: bool(sent), later, None, operations)
        assert sent == [Ok(None)]


def test_trailers_that_were_not_announced_are_an_error() -> None:
    """The server never answers: the head promises an empty body, so another could answer before the error."""
    with raw_server(_read_to_the_end) as port, StreamingClient(f"local:{port}") as client:
        fields = client.of("types").Fields.from_list([("x-sum", b"7")])
        trailers = Value()
        request, sent, operations = client.made(f"http://localhost:{port}/", "POST", trailers=trailers)
        later = client.of("client").send(request)
        trailers.write(Ok(fields))
        assert sent == [Err(three.ErrorCodeHttpProtocolError())]
        client.drive(later.ready, later, None, operations)
        with pytest.raises(Err):
            later.result()


def _read_to_the_end(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@pytest.mark.parametrize("name", ["content-length", "Transfer-Encoding", "host", "set-cookie"])
def test_a_field_that_frames_or_routes_does_not_follow_the_body(name: str) -> None:
    with recording("http/1.1") as (scheme, port, recorded), StreamingClient(f"local:{port}") as client:
        fields = client.of("types").Fields()
        if outcome_of(fields.append, name, b"1") is not None:
            return  # no fields of the guest's have it
        contents = Contents(b"abc")
        request, sent, operations = client.made(
            f"{scheme}://localhost:{port}/", "POST", contents=contents, trailers=Value(Ok(fields))
        )
        with pytest.raises(Err):
            client.fetch(request, sent, operations, contents)
        assert sent == [Err(three.ErrorCodeHttpProtocolError())]
    assert not recorded.whole


def test_ten_megabytes_go_both_ways_over_http_2() -> None:
    data = bytes(range(256)) * 40_000
    contents = Contents(data)
    with http2_server() as port, StreamingClient(f"local:{port}", tls=tls_context()) as client:
        request, sent, operations = client.made(f"https://localhost:{port}/", "POST", contents=contents)
        status, body, ending = client.fetch(request, sent, operations, contents)
        assert (status, body, sent) == (200, data, [Ok(None)])
        assert isinstance(ending, Ok)
        assert ending.value.copy_all() == [("x-trailer", b"done")]


def test_users_of_an_exchange_are_checked_again_once_after_one_received_bytes() -> None:
    """What one user receives may make another ready that was checked before, which would otherwise wait for ever."""

    def head_alone(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        connection.recv(1)

    with raw_server(head_alone) as port, StreamingClient(f"local:{port}") as client:
        request, _, operations = client.made(f"http://localhost:{port}/")
        later = client.of("client").send(request)
        client.drive(later.ready, later, None, operations)
        assert later.interest().host_time == 0.0
        again = later.interest()
        assert again.read
        assert again.host_time != 0.0
        later.cancel()


@every_protocol
@pytest.mark.parametrize("count", [256, 257])
def test_received_trailers_have_limits(protocol: str, count: int) -> None:
    framed = [] if protocol == "h2" else [(b"transfer-encoding", b"chunked")]
    fields = [(b"x-%d" % n, b"1") for n in range(count)]
    with (
        responding(protocol, [(b":status", b"200"), *framed], body=b"abc", trailers=fields) as port,
        StreamingClient(f"local:{port}", tls=tls_context()) as client,
    ):
        scheme = "https" if protocol == "h2" else "http"
        _, _, ending = client.fetch(*client.made(f"{scheme}://localhost:{port}/"))
        if count == 256:
            assert len(ending.value.copy_all()) == 256
        else:
            assert type(ending.value) is three.ErrorCodeHttpResponseTrailerSectionSize


def test_fields_of_a_connection_stay_with_it() -> None:
    with server() as port, StreamingClient(f"local:{port}") as client:
        request, _, operations = client.made(f"http://localhost:{port}/")
        later = client.of("client").send(request)
        client.drive(later.ready, later, None, operations)
        response = later.result()
        assert not response.get_headers().has("transfer-encoding")
        assert outcome_of(response.get_headers().append, "x", b"1") == "HeaderErrorImmutable"
        response.__drop__()


def test_the_options_of_a_request_are_immutable_and_their_copies_are_not() -> None:
    with StreamingClient() as client:
        options = client.of("types").RequestOptions()
        names = ("connect_timeout", "first_byte_timeout", "between_bytes_timeout")
        for number, name in enumerate(names):
            getattr(options, f"set_{name}")(number)
        request = client.made("http://a/", options=options)[0]
        held = request.get_options()
        copy = held.clone()
        for number, name in enumerate(names):
            assert getattr(held, f"get_{name}")() == getattr(copy, f"get_{name}")() == number
            assert outcome_of(getattr(held, f"set_{name}"), 5) == "RequestOptionsErrorImmutable"
            getattr(copy, f"set_{name}")(None)
            assert getattr(copy, f"get_{name}")() is None
        assert client.made("http://a/")[0].get_options() is None


@pytest.mark.parametrize("status", [0, 99, 100, 404, 999, 1000, 65535])
def test_a_status_has_three_digits(status: int) -> None:
    with StreamingClient() as client:
        types = client.of("types")
        response, _ = types.Response.new(types.Fields(), None, Value(Ok(None)))
        assert response.get_status_code() == 200
        expected = None if 100 <= status <= 999 else "NoneType"
        assert outcome_of(response.set_status_code, status) == expected
        assert response.get_status_code() == (200 if expected else status)


@pytest.mark.parametrize("outcome", [Ok(None), Err(three.ErrorCodeLoopDetected())])
def test_a_message_of_a_guest_is_taken_by_another(outcome: Any) -> None:
    """The reader gets the contents and the trailers as they are; the future of the message has what it answers."""
    with StreamingClient() as client:
        types = client.of("types")
        contents, trailers = Contents(b"abc"), Value()
        response, sent = types.Response.new(types.Fields(), contents, trailers)
        request, done = types.Request.new(types.Fields(), None, trailers, None)
        for made, cls, future, first in (
            (response, types.Response, sent, contents),
            (request, types.Request, done, ()),
        ):
            found: list[Any] = []
            future.attach(found.append)
            answer = Value()
            body, ending = cls.consume_body(made, answer)
            assert (body is first or body == first, ending is trailers, found) == (True, True, [])
            answer.write(outcome)
            assert found == [outcome]


def too_large(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")


def unwanted(connection: socket.socket, protocol: Any, stream: int) -> None:
    protocol.send_headers(stream, [(":status", "413")])
    protocol.send_data(stream, b"big", end_stream=True)
    connection.sendall(protocol.data_to_send() + RstStreamFrame(stream_id=stream, error_code=0).serialize())


@every_protocol
def test_a_server_that_answers_early_wants_no_more_of_the_contents(protocol: str) -> None:
    """The response arrives whole; the guest's stream is closed, and its transmission has failed."""
    contents = Contents(bytes(20_000_000))
    serving = http2_answers(unwanted) if protocol == "h2" else raw_server(too_large)
    with serving as port, StreamingClient(f"local:{port}", tls=tls_context()) as client:
        url = f"{'https' if protocol == 'h2' else 'http'}://localhost:{port}/"
        request, sent, operations = client.made(url, "POST", contents=contents)
        assert client.fetch(request, sent, operations, contents) == (413, b"big", Ok(None))
        assert sent == [Err(three.ErrorCodeConnectionTerminated())]
        assert contents.closed
        assert contents.data


def test_a_server_that_stalls_cannot_outlive_the_deadline() -> None:
    with silent() as port, StreamingClient(f"local:{port}", timeout=0.3) as client:
        request, _, operations = client.made(f"http://localhost:{port}/")
        later = client.of("client").send(request)
        with pytest.raises(DeadlineExceeded):
            client.drive(later.ready, later, None, operations)
        later.cancel()
