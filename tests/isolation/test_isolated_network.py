"""The rules of the network hold for a whole guest, in process, in a worker, and in a worker with every layer."""

from __future__ import annotations

from typing import Any

import pytest

from aegis import NetworkCapability
from aegis.runtime import entry_point
from tests.guests.catalogue import built
from tests.host.http.client import answering
from tests.host.http.servers import raw_server
from tests.isolation.isolated import only_where_there_are_workers, runtime

pytestmark = only_where_there_are_workers
PLACES = [("in-process", False), ("isolated", False), ("isolated", True)]
every_place = pytest.mark.parametrize(("place", "strict"), PLACES)
TOO_LARGE = b"refused: ErrorCode_HttpResponseHeaderSectionSize\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


def said(place: str, strict: bool, guest: str, *words: str, allow: list[str], deny: list[str] | None = None) -> bytes:
    """Run a guest under a policy; return its output."""
    network = NetworkCapability(allow=allow, deny=deny or [])
    isolation: dict[str, Any] = {"compile_time": "300s", "strict": strict}
    limits: dict[str, Any] = {"fuel": None, "timeout": "60s"}
    aegis = runtime(place, cache=True, isolation=isolation, network=network, **limits)
    component = aegis.load_file(built(guest))
    with aegis.sandbox(component, args=(guest, *words)) as box:
        return bytes(box.run(entry_point(component)).stdout)


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


@every_place
def test_a_host_that_idna_2003_and_2008_read_differently_is_not_asked(place: str, strict: bool) -> None:
    printed = said(place, strict, "py-http", "get", "http://fa\u00df.invalid/", allow=["public:80"])
    assert printed == b"refused: ErrorCode_HttpRequestUriInvalid\n"
