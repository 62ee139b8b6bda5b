"""The network rules hold for a whole guest: in process, in a worker, and in a worker with every layer."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from aegis import NetworkCapability
from aegis.sandbox.entry_points import entry_point
from tests.guests.catalogue import built
from tests.host.http.client import answering
from tests.host.http.servers import raw_server
from tests.isolation.isolated import only_where_there_are_workers, runtime

pytestmark = only_where_there_are_workers
PLACES = [("in-process", False), ("isolated", False), ("isolated", True)]
every_place = pytest.mark.parametrize(("place", "strict"), PLACES)
TOO_LARGE = b"refused: ErrorCode_HttpResponseHeaderSectionSize\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


def said(
    place: str, strict: bool, guest: str, *words: str, allow: Sequence[str] = (), deny: Sequence[str] = (),
    listen: Sequence[str] = (),
) -> bytes:  # fmt: skip
    """Run a guest under a policy; return its output."""
    network = NetworkCapability(allow=allow, deny=deny, listen=listen)
    isolation: dict[str, Any] = {"compile_time": "300s", "strict": strict}
    limits: dict[str, Any] = {"fuel": None, "timeout": "60s"}
    aegis = runtime(place, cache=True, isolation=isolation, network=network, **limits)
    component = aegis.load_file(built(guest))
    with aegis.sandbox(component, args=(guest, *words)) as box:
        return bytes(box.run(entry_point(component)).stdout)


@pytest.mark.usual("in-process*", "isolated-True")
@every_place
def test_a_name_that_a_rule_denies_for_one_transport_is_reached_by_none(place: str, strict: bool) -> None:
    """The name resolves to an address that the policy allows; without the denial the same guest reaches it."""
    with raw_server(lambda connection: connection.sendall(connection.recv(100))) as port:
        for deny, expected in ((["https://localhost:1"], b"refused: "), ([], b"got b'ping'\n")):
            words = ("client", "localhost", str(port))
            assert said(place, strict, "py-net", *words, allow=[f"local:{port}"], deny=deny).startswith(expected)
    with raw_server(answering(OK + b"\r\nhi")) as port:
        for deny, expected in (
            (["udp://localhost:1"], b"refused: ErrorCode_HttpRequestDenied\n"),
            ([], b"200 hi []\n"),
        ):
            words = ("get", f"http://LOCALHOST.:{port}/")
            assert said(place, strict, "py-http", *words, allow=[f"local:{port}"], deny=deny) == expected


@pytest.mark.usual(every=5)
@every_place
@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (OK, b"200 hi []\n"),
        (OK + b"x: a\r\n" * 8000, TOO_LARGE),
        (
            OK + b"x: %s\r\ny: %s\r\n" % (b"a" * 50_000, b"b" * 50_000),
            b"refused: ErrorCode_HttpResponseHeaderSectionSize\n",
        ),
        (OK + b"Content-Length: 2\r\n", b"refused: ErrorCode_HttpProtocolError\n"),
    ],
)
def test_a_response_beyond_the_rules_is_an_error_before_the_guest_gets_it(
    place: str, strict: bool, head: bytes, expected: bytes
) -> None:
    with raw_server(answering(head + b"\r\nhi")) as port:
        url = f"http://127.0.0.1:{port}/"
        assert said(place, strict, "py-http", "get", url, allow=[f"http://127.0.0.1:{port}"]) == expected


@pytest.mark.usual("isolated-True")
@every_place
def test_a_guest_of_wasi_0_3_streams_and_is_refused_alike(place: str, strict: bool) -> None:
    """The same rules and limits of a response hold, and a name is judged with its addresses."""
    refused = b"refused: ErrorCode_HttpRequestDenied\n"
    with raw_server(answering(OK + b"\r\nhi")) as port:
        words, allow = ("get", f"http://LOCALHOST.:{port}/"), [f"local:{port}"]
        expected = b"200 hi [] Ok(value=None)\n"
        assert said(place, strict, "py-async-http", *words, allow=allow) == expected
        assert said(place, strict, "py-async-http", *words) == refused
        assert said(place, strict, "py-async-http", *words, allow=allow, deny=["udp://localhost:1"]) == refused
        public = said(place, strict, "py-async-http", *words, allow=[f"http://localhost:{port}"])
        assert public == b"refused: ErrorCode_DestinationIpProhibited\n"
    with raw_server(answering(OK + b"x: a\r\n" * 8000 + b"\r\nhi")) as port:
        words, allow = ("get", f"http://127.0.0.1:{port}/"), [f"http://127.0.0.1:{port}"]
        assert said(place, strict, "py-async-http", *words, allow=allow) == TOO_LARGE


@every_place
def test_a_host_that_idna_2003_and_2008_read_differently_is_not_asked(place: str, strict: bool) -> None:
    printed = said(place, strict, "py-http", "get", "http://fa\u00df.invalid/", allow=["public:80"])
    assert printed == b"refused: ErrorCode_HttpRequestUriInvalid\n"


@contextmanager
def datagrams_echoed() -> Iterator[int]:
    """Send datagrams back to their senders; yield the port."""

    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, answering = self.request
            answering.sendto(data, self.client_address)

    with socketserver.UDPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


@pytest.mark.usual("isolated-True")
@every_place
def test_a_guest_reaches_exactly_its_grants_by_either_transport(place: str, strict: bool) -> None:
    with raw_server(echo) as tcp, datagrams_echoed() as udp:
        words = {"client": ("client", "127.0.0.1", str(tcp)), "datagram": ("datagram", "127.0.0.1", str(udp))}
        for name, rule in (("client", f"tcp://127.0.0.1:{tcp}"), ("datagram", f"udp://127.0.0.1:{udp}")):
            assert said(place, strict, "py-net", *words[name], allow=[rule]) == b"got b'ping'\n"
            other = "datagram" if name == "client" else "client"
            assert said(place, strict, "py-net", *words[other], allow=[rule]).startswith(b"refused: ")
        bulk = said(place, strict, "py-net", "bulk", "127.0.0.1", str(tcp), "1000000", allow=[f"tcp://127.0.0.1:{tcp}"])
        assert bulk == b"intact True\n"


@pytest.mark.usual("isolated-True")
@every_place
def test_a_guest_of_wasi_0_3_reaches_exactly_its_grants_by_either_transport(place: str, strict: bool) -> None:
    with raw_server(echo) as tcp, datagrams_echoed() as udp:
        words = {"client": ("client", "127.0.0.1", str(tcp), "ping"), "datagram": ("datagram", "127.0.0.1", str(udp))}
        for name, rule in (("client", f"tcp://127.0.0.1:{tcp}"), ("datagram", f"udp://127.0.0.1:{udp}")):
            assert said(place, strict, "py-async-sockets", *words[name], allow=[rule]).startswith(b"got b'ping'")
            other = "datagram" if name == "client" else "client"
            printed = said(place, strict, "py-async-sockets", *words[other], allow=[rule])
            assert printed == b"refused: AccessDenied\n"
        assert said(place, strict, "py-async-sockets", "both", "5", allow=["tcp://127.0.0.1:*"],
                    listen=["tcp://127.0.0.1:*"]) == b"5 right\n"  # fmt: skip


@pytest.mark.usual(every=5)
@every_place
@pytest.mark.parametrize("deny", [[], ["127.0.0.2"]])
def test_a_guest_that_listens_is_reached_by_peers_that_no_rule_denies(
    place: str, strict: bool, deny: list[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answers: list[bytes] = []
    stopped = threading.Event()

    def call(host: str) -> None:
        while not stopped.wait(0.01):  # until the server is listening
            with socket.socket() as client:
                client.bind((host, 0))
                if not client.connect_ex(("127.0.0.1", port)):
                    try:
                        client.sendall(b"hello")
                        answers.append(client.recv(100))
                    except ConnectionError:  # the server closed the connection before it was read
                        answers.append(b"")
                    return

    def peers() -> None:
        for host in ("127.0.0.2", "127.0.0.1") if deny else ("127.0.0.2",):
            call(host)

    thread = threading.Thread(target=peers)
    thread.start()
    try:
        listen = [f"tcp://127.0.0.1:{port}"]
        printed = said(place, strict, "py-net", "server", "127.0.0.1", str(port), listen=listen, deny=deny)
    finally:
        stopped.set()
        thread.join()
    assert printed == f"listening at {port}\nserved\n".encode()
    assert answers == ([b"", b"HELLO"] if deny else [b"HELLO"])


@every_place
def test_a_guest_listens_at_no_address_without_a_rule_for_it(place: str, strict: bool) -> None:
    printed = said(place, strict, "py-net", "server", "127.0.0.1", "0", allow=["local:*"], listen=["tcp://127.0.0.2:*"])
    assert printed.startswith(b"refused: ")
