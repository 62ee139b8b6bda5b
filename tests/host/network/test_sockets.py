"""``wasi:sockets`` on loopback: the states of the WIT, a policy check before every address, and timely ends."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from aegis import Aegis
from aegis.bindings.wasi_sockets_network import (
    ErrorCode,
    IpAddressIpv4,
)
from aegis.bindings.wasi_sockets_tcp import ShutdownType
from aegis.bindings.wasi_sockets_udp import OutgoingDatagram
from aegis.errors import DeadlineExceeded, GuestTrap, QuotaExceeded
from aegis.wit.values import Err
from tests.host.http.servers import raw_server
from tests.host.network.wire import (
    V4,
    V6,
    at,
    at6,
    connect,
    echo,
    guest,
    listen,
    look_up,
    names,
    read_all,
    silent,
    tcp,
    udp,
    write_all,
)
from tests.host.preview2.guest import refusal

# -- the policy ----------------------------------------------------------------------------------------


def test_a_connection_is_denied_with_its_remedy_and_granted_by_it() -> None:
    with raw_server(echo) as port:
        with guest() as made:
            assert refusal(tcp(made).start_connect, None, at(port)) == "access-denied"
            assert made.denied == [f"--allow-net tcp://127.0.0.1:{port}"]
        with guest(made.denied[0].partition(" ")[2]) as granted:
            _, reading, writing = connect(granted, port)
            writing.blocking_write_and_flush(b"ping")
            assert reading.blocking_read(100) == b"ping"
            assert granted.denied == []


def test_deny_wins() -> None:
    with raw_server(echo) as port, guest(f"local:{port}", deny=("127.0.0.0/8",)) as made:
        assert refusal(tcp(made).start_connect, None, at(port)) == "access-denied"


def test_listening_needs_a_rule_of_its_own() -> None:
    with guest("local:*") as made:
        opened = tcp(made)
        assert refusal(opened.start_bind, None, at(8080)) == "access-denied"
        assert made.denied == ["--listen tcp://127.0.0.1:8080"]
        opened.start_bind(None, at(0, "0.0.0.0"))
        opened.finish_bind()
        assert refusal(opened.start_listen) == "access-denied", "any free port of its own is for clients"
    with guest(listen=("tcp://127.0.0.1:*",)) as made:
        server, port = listen(made)
        assert server.is_listening()
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.subscribe().block()
            _, reading, writing = server.accept()
            client.sendall(b"hello")
            assert reading.blocking_read(10) == b"hello"
            writing.blocking_write_and_flush(b"bye")
            assert client.recv(10) == b"bye"
        assert refusal(server.accept) == "would-block"


# -- states and arguments --------------------------------------------------------------------------------


def test_each_call_in_the_wrong_state_is_refused() -> None:
    with guest("local:*", listen=("tcp://127.0.0.1:*",)) as made:
        fresh = tcp(made)
        for call in ("finish_bind", "finish_connect", "finish_listen"):
            assert refusal(getattr(fresh, call)) == "not-in-progress"
        for call in ("start_listen", "accept", "local_address", "remote_address"):
            assert refusal(getattr(fresh, call)) == "invalid-state"
        assert refusal(fresh.shutdown, ShutdownType.BOTH) == "invalid-state"
        server, port = listen(made)
        assert refusal(server.start_bind, None, at(0)) == "invalid-state"
        assert refusal(server.start_connect, None, at(port)) == "invalid-state"
        client, _, _ = connect(made, port)
        assert client.remote_address() == at(port)
        assert client.local_address().value.address == (127, 0, 0, 1)
        assert refusal(client.start_connect, None, at(port)) == "invalid-state"
        assert refusal(client.set_listen_backlog_size, 5) == "invalid-state"
        server.set_listen_backlog_size(5)


BAD = [at(0), at(80, "0.0.0.0"), at6(80, 1)]


@pytest.mark.parametrize("address", BAD, ids=["port 0", "unspecified", "another family"])
def test_an_address_that_cannot_be_meant_is_refused(address: Any) -> None:
    with guest("local:*", "0.0.0.0:*") as made:
        assert refusal(tcp(made).start_connect, None, address) == "invalid-argument"


def test_an_ipv4_address_in_ipv6_clothes_is_refused() -> None:
    with guest("local:*") as made:
        mapped = at6(80, 0, 0, 0, 0, 0, 0xFFFF, 0x7F00, 1)
        assert refusal(tcp(made, V6).start_connect, None, mapped) == "invalid-argument"


def test_options_are_kept_and_zero_is_refused() -> None:
    with guest() as made:
        opened = tcp(made)
        assert opened.address_family() is V4
        opened.set_keep_alive_enabled(True)
        assert opened.keep_alive_enabled()
        for name, value in (
            ("keep_alive_idle_time", 60 * 10**9),
            ("keep_alive_interval", 5 * 10**9),
            ("keep_alive_count", 3),
            ("hop_limit", 7),
        ):
            getattr(opened, f"set_{name}")(value)
            assert getattr(opened, name)() == value
            assert refusal(getattr(opened, f"set_{name}"), 0) == "invalid-argument"
        for name in ("receive_buffer_size", "send_buffer_size"):
            getattr(opened, f"set_{name}")(2**64 - 1)
            assert getattr(opened, name)() > 0
            assert refusal(getattr(opened, f"set_{name}"), 0) == "invalid-argument"


# -- what goes over a connection -------------------------------------------------------------------------


def test_ten_megabytes_go_both_ways() -> None:
    data = bytes(range(256)) * 40_000

    def receive_then_send(connection: socket.socket) -> None:
        got = b"".join(iter(lambda: connection.recv(65536), b""))
        connection.sendall(got[::-1])

    with raw_server(receive_then_send) as port, guest(f"local:{port}") as made:
        opened, reading, writing = connect(made, port)
        write_all(writing, data)
        opened.shutdown(ShutdownType.SEND)
        assert read_all(reading) == data[::-1]


def test_half_a_close_leaves_the_other_half() -> None:
    def close_then_listen(connection: socket.socket) -> None:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        heard.append(connection.recv(100))
        done.set()

    heard: list[bytes] = []
    done = threading.Event()
    with raw_server(close_then_listen) as port, guest(f"local:{port}") as made:
        _, reading, writing = connect(made, port)
        assert read_all(reading) == b"last words"
        writing.blocking_write_and_flush(b"and mine")
        assert done.wait(20)
    assert heard == [b"and mine"]


def test_a_reset_is_an_error_that_is_found_again() -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(1)  # only after the other side is connected, and has noticed
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with raw_server(reset) as port, guest(f"local:{port}") as made:
        _, reading, writing = connect(made, port)
        writing.blocking_write_and_flush(b"x")
        with pytest.raises(Err) as caught:
            reading.blocking_read(10)
        network = made.of("wasi:sockets/network")
        assert network.network_error_code(caught.value.value.value) is ErrorCode.CONNECTION_RESET


def test_a_refused_connection_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with guest(f"local:{port}") as made:
        assert refusal(connect, made, port) == "connection-refused"


@pytest.mark.parametrize("way", ["read", "write"])
def test_a_peer_that_stalls_cannot_outlive_the_deadline(way: str) -> None:
    with silent() as port, guest(f"local:{port}", timeout=0.3) as made:
        _, reading, writing = connect(made, port)
        started = time.monotonic()
        calls = {"read": lambda: reading.blocking_read(1), "write": lambda: write_all(writing, bytes(64 << 20))}
        with pytest.raises(DeadlineExceeded):
            calls[way]()
        assert time.monotonic() - started < 10


def test_backpressure_is_reported() -> None:
    with silent() as port, guest(f"local:{port}") as made:
        _, _, writing = connect(made, port)
        while permit := writing.check_write():
            writing.write(bytes(permit))
        assert not writing.subscribe().ready()


# -- limits ----------------------------------------------------------------------------------------------


def test_sockets_connections_and_bytes_have_limits() -> None:
    with raw_server(echo) as port:
        with guest(f"local:{port}", limits={"sockets": 2}) as made:
            held = [tcp(made), tcp(made)]
            assert refusal(tcp, made) == "new-socket-limit"
            held.pop().__drop__()
            tcp(made)
        with guest(f"local:{port}", limits={"connections": 2}) as made:
            for _ in range(2):
                connect(made, port)
            with pytest.raises(QuotaExceeded, match="2 connections"):
                connect(made, port)
        with guest(f"local:{port}", limits={"network_bytes": 1000}) as made:
            _, _, writing = connect(made, port)
            with pytest.raises(QuotaExceeded, match="1,000 bytes"):
                writing.blocking_write_and_flush(bytes(1001))


def test_nothing_is_left_when_the_sandbox_ends() -> None:
    with raw_server(echo) as port, guest(f"local:{port}", listen=("tcp://127.0.0.1:*",)) as made:
        connect(made, port)
        listen(made)
        udp(made)
        network = made.grants.network
        assert len(network._open) == 3
    assert not network._open


# -- UDP ---------------------------------------------------------------------------------------------------


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(20)
        yield made


def test_each_datagram_is_judged(peer: socket.socket) -> None:
    port = peer.getsockname()[1]
    with guest(f"udp://127.0.0.1:{port}") as made:
        incoming, outgoing = udp(made).stream(None)
        assert outgoing.check_send() > 0
        assert outgoing.send([OutgoingDatagram(b"one", at(port))]) == 1
        data, sender = peer.recvfrom(100)
        assert data == b"one"
        assert refusal(outgoing.send, [OutgoingDatagram(b"x", at(port ^ 1))]) == "access-denied"
        assert made.denied == [f"--allow-net udp://127.0.0.1:{port ^ 1}"]
        assert outgoing.send([OutgoingDatagram(b"two", at(port)), OutgoingDatagram(b"x", at(port ^ 1))]) == 1
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"psst", ("127.0.0.1", sender[1]))
        peer.sendto(b"reply", ("127.0.0.1", sender[1]))
        found: list[Any] = []
        while not found:
            incoming.subscribe().block()
            found = incoming.receive(10)
        assert [(d.data, d.remote_address) for d in found] == [(b"reply", at(port))]


def test_a_datagram_keeps_the_rules(peer: socket.socket) -> None:
    port = peer.getsockname()[1]
    with guest("udp://127.0.0.1:*") as made:
        _, outgoing = udp(made).stream(at(port))
        with pytest.raises(GuestTrap, match=r"/0 datagrams\): call check-send before"):
            outgoing.send([OutgoingDatagram(b"", None)])
        outgoing.check_send()
        assert outgoing.send([OutgoingDatagram(b"to the one", None)]) == 1
        assert peer.recvfrom(100)[0] == b"to the one"
        assert refusal(outgoing.send, [OutgoingDatagram(b"x", at(port ^ 1))]) == "invalid-argument"
        assert refusal(outgoing.send, [OutgoingDatagram(bytes(70_000), None)]) == "datagram-too-large"
        _, free = udp(made).stream(None)
        free.check_send()
        assert refusal(free.send, [OutgoingDatagram(b"x", None)]) == "invalid-argument"


def test_a_udp_server_needs_its_rule(peer: socket.socket) -> None:
    with guest("local:*") as made:
        opened = made.of("wasi:sockets/udp-create-socket").create_udp_socket(V4)
        assert refusal(opened.start_bind, None, at(5353)) == "access-denied"
        assert made.denied == ["--listen udp://127.0.0.1:5353"]
    with guest(listen=("udp://127.0.0.1:*",)) as made:
        opened = made.of("wasi:sockets/udp-create-socket").create_udp_socket(V4)
        opened.start_bind(None, at(0))
        opened.finish_bind()
        incoming, _ = opened.stream(None)
        peer.sendto(b"hello", ("127.0.0.1", opened.local_address().value.port))
        incoming.subscribe().block()
        assert incoming.receive(1)[0].data == b"hello"


# -- names -------------------------------------------------------------------------------------------------


def test_an_address_of_an_allowed_name_may_be_reached() -> None:
    resolver = names(db_example=["93.184.216.34", "10.0.0.5", "1.1.1.1"])
    with guest("tcp://db.example:5432", resolver=resolver) as made:
        assert refusal(tcp(made).start_connect, None, at(5432, "1.1.1.1")) == "access-denied"
        assert look_up(made, "db.example") == [IpAddressIpv4((93, 184, 216, 34)), IpAddressIpv4((1, 1, 1, 1))]
        network = made.grants.network
        assert network.may_connect("tcp", "1.1.1.1", 5432)
        assert not network.may_connect("tcp", "1.1.1.1", 22)
        assert not network.may_connect("tcp", "10.0.0.5", 5432)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "::1", "fe80::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"],
)
def test_a_name_that_leads_inside_is_as_if_it_did_not_exist(address: str) -> None:
    with guest("tcp://db.example:5432", resolver=names(db_example=[address])) as made:
        assert refusal(look_up, made, "db.example") == "name-unresolvable"
        assert made.denied


def test_a_name_that_no_rule_names_is_not_looked_up() -> None:
    asked: list[str] = []
    with guest("tcp://db.example:5432", resolver=lambda name: asked.append(name) or []) as made:  # type: ignore[func-returns-value]
        assert refusal(look_up, made, "evil.example") == "access-denied"
        assert refusal(look_up, made, "x" * 300) == "invalid-argument"
        assert asked == []


@pytest.mark.parametrize("text", ["127.0.0.1", "0x7f.1", "2130706433", "[::1]", "::ffff:127.0.0.1"])
def test_an_address_in_any_notation_is_its_own_answer_and_still_judged(text: str) -> None:
    with guest("tcp://db.example:5432", resolver=names()) as made:
        assert len(look_up(made, text)) == 1
        assert refusal(tcp(made).start_connect, None, at(80)) == "access-denied"


def test_so_many_answers_and_no_more() -> None:
    many = [f"93.184.216.{n}" for n in range(100)]
    with guest("db.example:*", resolver=names(db_example=many), limits={"resolver_answers": 5}) as made:
        assert len(look_up(made, "db.example")) == 5


def test_a_resolver_that_fails_or_never_answers_is_reported() -> None:
    with guest("*.example:*", resolver=names()) as made:
        assert refusal(look_up, made, "no.example") == "name-unresolvable"

    def again(name: str) -> list[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    with guest("*.example:*", resolver=again) as made:
        assert refusal(look_up, made, "a.example") == "temporary-resolver-failure"
    over = threading.Event()
    with guest("*.example:*", resolver=lambda name: over.wait() and [], timeout=0.2) as made:  # type: ignore[arg-type, return-value]
        stream = made.of("wasi:sockets/ip-name-lookup").resolve_addresses(None, "slow.example")
        assert refusal(stream.resolve_next_address) == "would-block"
        with pytest.raises(DeadlineExceeded):
            stream.subscribe().block()
    over.set()


def test_a_component_that_imports_the_unstable_error_code_links() -> None:
    cases = " ".join(f'"{code.value}"' for code in ErrorCode)
    text = f"""(component
      (import "wasi:io/error@0.2.6" (instance $io (export "error" (type (sub resource)))))
      (alias export $io "error" (type $error))
      (import "wasi:sockets/network@0.2.6" (instance
        (alias outer 1 $error (type $outer)) (export "error" (type $err (eq $outer)))
        (type $cases (enum {cases})) (export "error-code" (type $code (eq $cases)))
        (type $maybe (option $code))
        (export "network-error-code" (func (param "err" (borrow $err)) (result $maybe)))))
      (core module $m (func (export "f")))
      (core instance $i (instantiate $m))
      (func (export "f") (canon lift (core func $i "f"))))"""
    runtime = Aegis(cache=False, pooled=False)
    with runtime.sandbox(runtime.load_wat(text)) as sandbox:
        assert sandbox.call("f") is None
