"""A denied name blocks every way to its peer: each transport, each spelling, each name of the same address."""

from __future__ import annotations

import errno
import select
import socket
from typing import Any

import pytest

from aegis.bindings.wasi_sockets_network import IpAddressIpv4
from aegis.host.net import verdicts
from aegis.host.net.network import system_resolver
from aegis.policy import NetworkCapability
from aegis.wit.values import Err
from tests.host.http.client import Client, code
from tests.host.http.servers import raw_server, server
from tests.host.network.test_datagrams import heard_nothing, peer_socket, server_of
from tests.host.network.wire import at, connect, echo, guest, listen, look_up, names, tcp, udp
from tests.host.preview2.guest import Guest, refusal

ALLOWED = ("public:*",)
DENIALS = [
    "tracker.example", "https://tracker.example", "http://tracker.example:8080", "tcp://tracker.example:25",
    "udp://tracker.example:443", "tracker.example:1-2", "HTTPS://Tracker.EXAMPLE.", "https://*.example",
]  # fmt: skip
TRANSPORTS = [("tcp", 443), ("tcp", 9), ("udp", 443), ("http", 80), ("https", 443), ("https", 8443)]


def reached(made: Guest | Client, address: str) -> list[tuple[str, int]]:
    """Return the transports and ports by which an address may be reached, by sockets or by requests."""
    network = made.grants.network
    sockets = [(s, p) for s, p in TRANSPORTS if s in ("tcp", "udp") and network.may_connect(s, address, p)]
    return sockets + [(s, p) for s, p in TRANSPORTS if "http" in s and network.may_request(s, address, p, "GET")]


@pytest.mark.parametrize("denied", DENIALS)
def test_a_denied_name_is_not_looked_up_for_any_transport(denied: str) -> None:
    asked: list[str] = []
    with guest(*ALLOWED, deny=(denied,), resolver=lambda n: asked.append(n) or ["1.1.1.1"]) as made:  # type: ignore[func-returns-value]
        for spelling in ("tracker.example", "TRACKER.example.", "tracker。example", "\uff54racker.example"):
            assert refusal(look_up, made, spelling) == "access-denied"
            for scheme, port in TRANSPORTS:
                assert not made.grants.network.may_request(scheme, spelling, port, "GET")
        assert asked == []
        assert made.denied == [""] * len(made.denied), "no flag overrides a denial"
    with guest(*ALLOWED, resolver=names(tracker_example=["1.1.1.1"])) as made:
        assert look_up(made, "tracker.example") == [IpAddressIpv4((1, 1, 1, 1))]


@pytest.mark.parametrize("denied", DENIALS)
def test_every_address_that_a_denied_name_was_resolved_to_is_denied_on_every_transport(denied: str) -> None:
    """Here the denied name is the target of an alias, which is known only after the alias is resolved."""
    known = names(alias_org=["1.1.1.1", "64:ff9b::101:102", "Tracker.example."])
    with guest(*ALLOWED, "alias.org:*", deny=(denied,), resolver=known) as made:
        assert len(reached(made, "1.1.1.1")) == len(TRANSPORTS), "no name was resolved to it yet"
        assert refusal(look_up, made, "alias.org") == "name-unresolvable"
        for address in ("1.1.1.1", "::ffff:1.1.1.1", "2002:101:101::1", "16843009", "1.1.1.2", "64:ff9b::1.1.1.2"):
            assert reached(made, address) == []
        assert len(reached(made, "1.1.1.3")) == len(TRANSPORTS)
        assert made.decisions[-1].rule.startswith("nothing") or made.decisions[-1].allowed
        assert {d.remedy for d in made.decisions if d.rule.startswith("deny ")} == {""}


def test_a_denied_name_denies_an_address_that_it_shares_with_an_allowed_one() -> None:
    known = names(a_example=["1.1.1.1"], c_example=["1.1.1.1", "b.example"])
    with guest("tcp://a.example:443", "c.example:1", deny=("udp://b.example:5",), resolver=known) as made:
        look_up(made, "a.example")
        assert made.grants.network.may_connect("tcp", "1.1.1.1", 443), "b.example was not resolved"
        assert refusal(look_up, made, "c.example") == "name-unresolvable"
        assert not made.grants.network.may_connect("tcp", "1.1.1.1", 443)
        assert refusal(look_up, made, "a.example") == "name-unresolvable", "nor is it given again"


def test_an_address_that_one_transport_finds_denied_is_denied_to_the_others() -> None:
    """HTTP learns that the address belongs to a denied name; sockets may not reach it from then on, and vice versa."""
    with server() as port:
        rules = {"allow": (f"local:{port}",), "deny": ("https://tracker.example",)}
        known = names(localhost=["127.0.0.1", "tracker.example"])
        with Client(*rules["allow"], deny=rules["deny"], resolver=known) as client:
            assert client.send(client.request(f"http://127.0.0.1:{port}/")).status == 200
            with pytest.raises(Err) as caught:
                client.send(client.request(f"http://localhost:{port}/"))
            assert code(caught) == "DestinationIpProhibited"
            assert not client.grants.network.may_connect("tcp", "127.0.0.1", port)
            with pytest.raises(Err) as caught:
                client.send(client.request(f"http://127.0.0.1:{port}/"))
            assert code(caught) == "HttpRequestDenied"
        with guest(*rules["allow"], deny=rules["deny"], resolver=known) as made:
            assert refusal(look_up, made, "localhost") == "name-unresolvable"
            assert refusal(tcp(made).start_connect, None, at(port)) == "access-denied"
            assert not made.grants.network.may_request("http", "0x7f.1", port, "GET")


@pytest.mark.parametrize("denied", [(), ("tracker.example",)])
def test_an_attempt_to_connect_ends_when_its_address_is_found_denied(denied: tuple[str, ...]) -> None:
    """The queue of the server is full, so the connection is made only after the look-up; without the rule it is."""
    known = names(alias_org=["127.0.0.1", "tracker.example"])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        with (
            socket.create_connection(("127.0.0.1", port)),
            guest("local:*", "alias.org:*", deny=denied, resolver=known) as made,
        ):
            network = made.grants.network
            opened = network.open(socket.AF_INET, socket.SOCK_STREAM)
            assert opened is not None
            assert network.may_connect("tcp", "127.0.0.1", port)
            assert network.connect(opened, ("127.0.0.1", port)) == errno.EINPROGRESS
            if denied:
                assert refusal(look_up, made, "alias.org") == "name-unresolvable"
            else:
                assert look_up(made, "alias.org")
            listening.accept()[0].close()  # now there is room
            select.select([], [opened], [], 10)
            if denied:
                with pytest.raises(OSError, match=r"reset|connected|Broken pipe"):
                    opened.send(b"text")
            else:
                assert opened.send(b"text") == 4


def test_a_denial_is_of_one_sandbox() -> None:
    known = names(alias_org=["1.1.1.1", "tracker.example"])
    with guest(*ALLOWED, deny=("tracker.example",), resolver=known) as one, guest(*ALLOWED) as other:
        assert refusal(look_up, one, "alias.org") == "name-unresolvable"
        assert reached(one, "1.1.1.1") == []
        assert len(reached(other, "1.1.1.1")) == len(TRANSPORTS)


def test_denied_addresses_are_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "_DENIED_ADDRESSES", 100)
    answers = iter(range(10_000))

    def resolve(name: str) -> list[str]:
        many = [f"1.1.{n // 250}.{n % 250}" for n in (next(answers) for _ in range(10))]
        return [*many, "tracker.example"] if name.startswith("t") else many

    with guest(*ALLOWED, deny=("tracker.example",), resolver=resolve) as made:
        for n in range(10):
            assert refusal(look_up, made, f"t{n}.example") == "name-unresolvable"
        assert not made.grants.network.may_connect("tcp", "1.1.0.0", 443)
        assert refusal(look_up, made, "a.example") == "access-denied"
        assert "too many addresses of denied names (100/100)" in made.decisions[-1].rule
        assert not made.grants.network.may_request("https", "a.example", 443, "GET")
        assert made.grants.network.may_request("https", "8.8.8.8", 443, "GET")


def test_an_answer_of_any_length_costs_a_bounded_number_of_judgements() -> None:
    judged: list[str] = []

    class Counting(NetworkCapability):
        def decide_answer(self, host: str, address: str) -> Any:
            judged.append(address)
            return super().decide_answer(host, address)

    answers = [f"10.0.{n // 250}.{n % 250}" for n in range(20_000)]
    made = verdicts.NetworkJudge(Counting(allow=ALLOWED))
    assert made.permitted("a.example", made.resolved("a.example", answers), 64) == []
    assert len(judged) == 64
    assert len(made.permitted("b.example", [f"8.8.{n // 250}.{n % 250}" for n in range(20_000)], 100)) == 100


def test_the_systems_resolver_gives_the_canonical_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda *words, **more: [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "cdn.tracker.example", ("1.1.1.1", 0)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1%eth0", 0, 0, 2)),
        ],
    )
    assert system_resolver("www.example") == ["1.1.1.1", "fe80::1", "cdn.tracker.example"]


# -- denied addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("denied", "closed"),
    [
        ("1.1.1.0/24", {"tcp", "udp", "http", "https"}),
        ("public", {"tcp", "udp", "http", "https"}),
        ("tcp://1.1.1.1", {"tcp", "http", "https"}),
        ("http://1.1.1.1", {"tcp", "udp", "http", "https"}),
        ("https://[::ffff:1.1.1.1]", {"tcp", "udp", "http", "https"}),
        ("udp://1.1.1.1", {"udp"}),
    ],
)
def test_a_denied_address_is_denied_over_each_carrier_of_its_scheme(denied: str, closed: set[str]) -> None:
    with guest(*ALLOWED, "a.example:*", deny=(denied,), resolver=names(a_example=["1.1.1.1"])) as made:
        assert {scheme for scheme, _ in set(TRANSPORTS) - set(reached(made, "1.1.1.1"))} == closed
        if closed == {"tcp", "udp", "http", "https"}:
            assert not any(made.grants.network.vetted(s, "a.example", p, "GET", ["1.1.1.1"]) for s, p in TRANSPORTS)


def test_a_denied_peer_does_not_reach_a_listening_guest() -> None:
    for deny, heard in ((("127.0.0.0/8",), False), (("udp://127.0.0.1",), True), ((), True)):
        with guest(listen=("tcp://127.0.0.1:*",), deny=deny) as made:
            listening, port = listen(made)
            with socket.create_connection(("127.0.0.1", port)) as client:
                listening.subscribe().block()
                if heard:
                    assert len(listening.accept()) == 3
                    continue
                assert refusal(listening.accept) == "would-block"
                assert client.recv(1) == b"", "it was hung up on"
                assert made.decisions[-1][:4] == (
                    "network",
                    "accept",
                    f"tcp://127.0.0.1:{client.getsockname()[1]}",
                    False,
                )


def test_a_denied_sender_is_not_heard_by_a_listening_guest() -> None:
    for deny, expected in ((("local",), []), (("tcp://127.0.0.1",), [b"hello"])):
        with guest(listen=("udp://127.0.0.1:*",), deny=deny) as made, peer_socket() as peer:
            opened = server_of(made)
            incoming, _ = opened.stream(None)
            peer.sendto(b"hello", ("127.0.0.1", opened.local_address().value.port))
            incoming.subscribe().block()
            assert [datagram.data for datagram in incoming.receive(9)] == expected
            assert heard_nothing(peer)


def test_a_denied_name_behind_an_open_socket_is_heard_no_more() -> None:
    known = names(localhost=["127.0.0.1", "tracker.example"])
    with peer_socket() as peer, guest("local:*", deny=("tracker.example",), resolver=known) as made:
        opened = udp(made)
        incoming, outgoing = opened.stream(at(peer.getsockname()[1]))
        assert refusal(look_up, made, "localhost") == "name-unresolvable"
        peer.sendto(b"late", ("127.0.0.1", opened.local_address().value.port))
        incoming.subscribe().block()
        assert incoming.receive(9) == []
        assert outgoing.check_send()


@pytest.mark.parametrize("by_http", [False, True])
def test_a_connection_is_hung_up_when_its_address_turns_out_to_be_a_denied_names(by_http: bool) -> None:
    known = names(localhost=["127.0.0.1", "tracker.example"])
    with (
        raw_server(echo) as port,
        guest(f"local:{port}", "public:*", deny=("tracker.example",), resolver=known) as made,
    ):
        opened, reading, writing = connect(made, port)
        writing.blocking_write_and_flush(b"before")
        assert reading.blocking_read(10) == b"before"
        if by_http:
            made.grants.network.vetted("http", "localhost", port, "GET", known("localhost"))
        else:
            assert refusal(look_up, made, "localhost") == "name-unresolvable"
        assert refusal(writing.blocking_write_and_flush, b"after") in (
            "StreamErrorClosed",
            "StreamErrorLastOperationFailed",
        )
        assert refusal(reading.blocking_read, 10) == "StreamErrorClosed"
        assert refusal(tcp(made).start_connect, None, at(port)) == "access-denied"
        opened.__drop__()


def test_a_guest_is_granted_by_the_rule_and_denied_by_the_denial_alone() -> None:
    with raw_server(echo) as port:
        known = names(localhost=["127.0.0.1"])
        for deny, answer in (((), ""), (("http://localhost:1",), "access-denied")):
            with guest(f"local:{port}", deny=deny, resolver=known) as made:
                if answer:
                    assert refusal(look_up, made, "localhost") == answer
                else:
                    assert look_up(made, "localhost")
                    tcp(made).start_connect(None, at(port))


UNSPECIFIED = ["0.0.0.0", "0", "0x0.0", "[::]", "[::ffff:0.0.0.0]", "zero.example"]


@pytest.mark.parametrize("spelling", UNSPECIFIED)
def test_an_unspecified_address_is_no_way_to_loopback(spelling: str) -> None:
    """Linux connects 0.0.0.0 to 127.0.0.1, which may be denied where 0.0.0.0/0 is allowed."""
    rules = ("0.0.0.0/0:*", "[::]/0:*", "zero.example:*")
    known = names(zero_example=["0.0.0.0"])
    with server() as port:
        for deny in (("local",), ()):
            with Client(*rules, deny=deny, resolver=known) as client, pytest.raises(Err) as caught:
                client.send(client.request(f"http://{spelling}:{port}/"))
            assert code(caught) in ("HttpRequestDenied", "DestinationIpProhibited")
            assert [d.remedy for d in client.decisions if not d.allowed] == [""], "no option permits it"
        with Client(*rules) as client:
            assert client.send(client.request(f"http://127.0.0.1:{port}/")).status == 200
