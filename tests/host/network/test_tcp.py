"""TCP on loopback: every method in every state, connections to their end, and the addresses a guest may listen on."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aegis.bindings.wasi_sockets_network import ErrorCode
from aegis.bindings.wasi_sockets_tcp import ShutdownType
from aegis.errors import DeadlineExceeded, QuotaExceeded
from aegis.wit.values import Err
from tests.host.http.servers import raw_server
from tests.host.network.wire import V6, at, at6, connect, echo, guest, listen, read_all, silent, tcp, udp, write_all
from tests.host.preview2.guest import Guest, descriptors, refusal

LOCAL = ("tcp://127.0.0.1:*",)


@contextlib.contextmanager
def unheard() -> Iterator[tuple[socket.socket, int]]:
    """A server whose connections the test accepts itself, so that it sees whether a client connected."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening, listening.getsockname()[1]


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


# -- states --------------------------------------------------------------------------------------------

STATES = (
    "unbound", "bind-started", "bound", "listen-started", "listening", "connecting", "connected", "closed",
)  # fmt: skip
ALLOWED_IN: dict[str, tuple[str, ...]] = {
    "start_bind": ("unbound",),
    "finish_bind": ("bind-started",),
    "start_connect": ("unbound", "bound"),
    "finish_connect": ("connecting",),
    "start_listen": ("bound",),
    "finish_listen": ("listen-started",),
    "accept": ("listening",),
    "local_address": ("bound", "listen-started", "listening", "connected"),
    "remote_address": ("connected",),
    "shutdown": ("connected",),
    "set_listen_backlog_size": ("unbound", "bind-started", "bound", "listen-started", "listening"),
}


def in_state(made: Guest, state: str, server: int) -> Any:
    opened = tcp(made)
    if state in ("connecting", "connected"):
        opened.start_connect(None, at(server))
        if state == "connected":
            opened.subscribe().block()
            opened.finish_connect()
    elif state == "closed":
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        opened.start_connect(None, at(port))
        opened.subscribe().block()
        assert refusal(opened.finish_connect) == "connection-refused"
    else:
        steps = (lambda: opened.start_bind(None, at(0)), opened.finish_bind, opened.start_listen, opened.finish_listen)
        for step in steps[: STATES.index(state)]:
            step()
    assert opened.state == state
    return opened


@pytest.mark.parametrize("state", STATES)
def test_a_call_in_the_wrong_state_is_refused_and_changes_nothing(state: str) -> None:
    arguments: dict[str, tuple[Any, ...]] = {
        "start_bind": (None, at(0)), "shutdown": (ShutdownType.BOTH,), "set_listen_backlog_size": (5,),
    }  # fmt: skip
    with unheard() as (_, port), guest(*LOCAL, listen=LOCAL) as made:
        arguments["start_connect"] = (None, at(port))
        opened = in_state(made, state, port)
        for name, states in ALLOWED_IN.items():
            if state not in states:
                code = "not-in-progress" if name.startswith("finish") else "invalid-state"
                assert refusal(getattr(opened, name), *arguments.get(name, ())) == code, name
        assert opened.state == state
        assert opened.is_listening() == (state == "listening")
        assert refusal(opened.set_listen_backlog_size, 0) == "invalid-argument"


def test_a_refused_connect_leaves_the_socket_as_it_was() -> None:
    with unheard() as (listening, port), guest(f"tcp://127.0.0.1:{port}", limits={"connections": 1}) as made:
        opened = tcp(made)
        for _ in range(3):
            assert refusal(opened.start_connect, None, at(port ^ 1)) == "access-denied"
            assert refusal(opened.start_connect, None, at(0)) == "invalid-argument"
        with pytest.raises(BlockingIOError):
            listening.accept()
        opened.start_connect(None, at(port))
        opened.subscribe().block()
        opened.finish_connect()


def test_an_address_of_another_family_is_refused_before_the_policy_is_asked() -> None:
    mapped = at6(80, 0, 0, 0, 0, 0, 0xFFFF, 0x7F00, 1)
    with guest() as made:
        four = tcp(made)
        for call in (four.start_connect, four.start_bind):
            assert refusal(call, None, at6(80, 1)) == "invalid-argument"
            assert refusal(call, None, mapped) == "invalid-argument"
        if has_ipv6():
            six = tcp(made, V6)
            for call in (six.start_connect, six.start_bind):
                assert refusal(call, None, at(80)) == "invalid-argument"
                assert refusal(call, None, mapped) == "invalid-argument"
            assert refusal(six.start_connect, None, at6(80)) == "invalid-argument"
        assert made.decisions == []


# -- decisions -----------------------------------------------------------------------------------------


def test_decisions_are_recorded() -> None:
    with unheard() as (_, port), guest(f"tcp://127.0.0.1:{port}", listen=("tcp://127.0.0.1:0",)) as made:
        tcp(made).start_connect(None, at(port))
        refusal(tcp(made).start_connect, None, at(9, "10.0.0.1"))
        tcp(made).start_bind(None, at(0))
        refusal(tcp(made).start_bind, None, at(9))
        rule, here = f"allow tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port}"
        nothing = "nothing allows"
        assert [tuple(decision) for decision in made.decisions] == [
            ("network", "connect to", here, True, rule, "", ""),
            (
                "network", "connect to", "tcp://10.0.0.1:9", False, f"{nothing} tcp://10.0.0.1:9",
                "--allow-net tcp://10.0.0.1:9", "",
            ),
            ("network", "listen at", "tcp://127.0.0.1:0", True, "listen tcp://127.0.0.1:0", "", ""),
            (
                "network", "listen at", "tcp://127.0.0.1:9", False, f"{nothing} listening at tcp://127.0.0.1:9",
                "--listen tcp://127.0.0.1:9", "",
            ),
        ]  # fmt: skip


@pytest.mark.skipif(not has_ipv6(), reason="the system has no IPv6")
def test_ipv6_is_denied_and_granted_alike() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        with guest(f"tcp://127.0.0.1:{port}") as made:
            assert refusal(tcp(made, V6).start_connect, None, at6(port, 1)) == "access-denied"
            assert made.denied == [f"--allow-net 'tcp://[::1]:{port}'"]
        with guest(f"tcp://[::1]:{port}") as made:
            opened = tcp(made, V6)
            opened.start_connect(None, at6(port, 1))
            opened.subscribe().block()
            reading, writing = opened.finish_connect()
            accepted, _ = server.accept()
            with accepted:
                writing.blocking_write_and_flush(b"six")
                assert accepted.recv(9) == b"six"
                accepted.sendall(b"!")
                assert reading.blocking_read(9) == b"!"
            assert opened.remote_address() == at6(port, 1)
            assert opened.address_family() is V6


@pytest.mark.parametrize(
    "rule", ["udp://127.0.0.1:{}", "https://127.0.0.1:{}", "tcp://127.0.0.2:{}", "public:*", "private:*"]
)
def test_a_rule_for_something_else_does_not_do(rule: str) -> None:
    with unheard() as (listening, port), guest(rule.format(port)) as made:
        assert refusal(tcp(made).start_connect, None, at(port)) == "access-denied"
        with pytest.raises(BlockingIOError):
            listening.accept()


# -- listening -----------------------------------------------------------------------------------------


def test_a_client_may_ask_for_any_port_of_its_own() -> None:
    with raw_server(echo) as port, guest(f"tcp://127.0.0.1:{port}") as made:
        opened = tcp(made)
        opened.start_bind(None, at(0, "0.0.0.0"))
        opened.finish_bind()
        opened.start_connect(None, at(port))
        opened.subscribe().block()
        reading, writing = opened.finish_connect()
        writing.blocking_write_and_flush(b"mine")
        assert reading.blocking_read(9) == b"mine"
        assert refusal(tcp(made).start_bind, None, at(0)) == "access-denied", (
            "an address of its choice is another thing"
        )


LISTENS = [
    ("tcp://127.0.0.1:{}", True),
    ("127.0.0.0/8:{}", True),
    ("local:{}", True),
    ("udp://127.0.0.1:{}", False),
    ("tcp://127.0.0.2:{}", False),
    ("public:{}", False),
]


@pytest.mark.parametrize(("rule", "allowed"), LISTENS)
def test_a_rule_says_where_to_listen(rule: str, allowed: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with guest("local:*", listen=(rule.format(port),)) as made:
        if allowed:
            assert listen(made, port)[1] == port
        else:
            assert refusal(tcp(made).start_bind, None, at(port)) == "access-denied"
            assert made.denied == [f"--listen tcp://127.0.0.1:{port}"]


def test_an_address_that_cannot_be_had_is_reported() -> None:
    with unheard() as (_, port), guest(listen=("tcp://127.0.0.1:*", "tcp://192.0.2.1:*")) as made:
        assert refusal(tcp(made).start_bind, None, at(port)) == "address-in-use"
        assert refusal(tcp(made).start_bind, None, at(5, "192.0.2.1")) == "address-not-bindable"


def test_one_that_listens_accepts_in_order_and_both_know_their_addresses() -> None:
    with guest(listen=LOCAL) as made:
        server, port = listen(made)
        assert not server.subscribe().ready()
        with contextlib.ExitStack() as clients:
            made_clients = [clients.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(3)]
            for client in made_clients:
                server.subscribe().block()
                accepted, _, _ = server.accept()
                assert accepted.remote_address() == at(client.getsockname()[1])
                assert accepted.local_address() == at(port)
                assert not accepted.is_listening()
        assert refusal(server.accept) == "would-block"


def test_accepting_stops_at_the_limit_of_sockets_and_goes_on_after() -> None:
    with guest(listen=LOCAL, limits={"sockets": 2}) as made:
        server, port = listen(made)
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            server.subscribe().block()
            first = server.accept()
            assert refusal(server.accept) == "new-socket-limit"
            assert refusal(tcp, made) == "new-socket-limit"
            assert refusal(udp, made) == "new-socket-limit"
            for resource_ in first:
                resource_.__drop__()
            server.subscribe().block()
            server.accept()


def test_an_accepted_connection_counts_as_one() -> None:
    with guest(listen=LOCAL, limits={"connections": 1}) as made:
        server, port = listen(made)
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            server.subscribe().block()
            server.accept()
            server.subscribe().block()
            with pytest.raises(QuotaExceeded, match="1 connections"):
                server.accept()


# -- what goes over a connection -----------------------------------------------------------------------


def test_ten_megabytes_are_echoed_while_more_is_sent() -> None:
    data = bytes(range(251)) * 41_778
    with raw_server(echo) as port, guest(f"local:{port}") as made:
        opened, reading, writing = connect(made, port)
        poll = made.of("wasi:io/poll").poll
        pollables = [reading.subscribe(), writing.subscribe()]
        got, sent = bytearray(), 0
        while len(got) < len(data):
            ready = poll(pollables if sent < len(data) else pollables[:1])
            if 0 in ready:
                got += reading.read(65536)
            if 1 in ready:
                permit = min(writing.check_write(), len(data) - sent)
                writing.write(data[sent : sent + permit])
                sent += permit
        assert got == data
        opened.shutdown(ShutdownType.SEND)
        assert read_all(reading) == b""


def test_a_slow_drip_arrives_byte_by_byte() -> None:
    def drip(connection: socket.socket) -> None:
        for n in range(100):
            connection.sendall(bytes([n]))
            connection.recv(1)

    with raw_server(drip) as port, guest(f"local:{port}") as made:
        _, reading, writing = connect(made, port)
        for n in range(100):
            assert reading.blocking_read(100) == bytes([n])
            writing.blocking_write_and_flush(b".")
        assert read_all(reading) == b""


@contextlib.contextmanager
def gathering() -> Iterator[tuple[int, threading.Event, list[int]]]:
    """A server that waits for permission, then reads everything, and then reports the number of bytes."""
    go, counts = threading.Event(), [0]

    def gather(connection: socket.socket) -> None:
        go.wait()
        while data := connection.recv(65536):
            counts[0] += len(data)
        with contextlib.suppress(OSError):
            connection.sendall(b"all")

    with raw_server(gather) as port:
        try:
            yield port, go, counts
        finally:
            go.set()


def fill(writing: Any) -> int:
    """Write until no more bytes are permitted; return the number of bytes."""
    count = 0
    while permit := writing.check_write():
        writing.write(bytes(permit))
        count += permit
    return count


@pytest.mark.parametrize("size", [30_000, 40_000, 100_000])
@pytest.mark.parametrize("way", ["shutdown", "drop"])
def test_the_end_comes_after_everything_that_was_taken(way: str, size: int) -> None:
    """With small buffers the system accepts part of a write; shutting down must not lose the rest."""
    with gathering() as (port, go, counts), guest(f"local:{port}") as made:
        opened = tcp(made)
        opened.set_send_buffer_size(size)
        opened.start_connect(None, at(port))
        opened.subscribe().block()
        reading, writing = opened.finish_connect()
        sent = fill(writing)
        if way == "shutdown":
            opened.shutdown(ShutdownType.SEND)
            assert refusal(writing.check_write) == "StreamErrorClosed"
        else:
            writing.__drop__()
        assert not reading.subscribe().ready()
        go.set()
        assert read_all(reading) == b"all"
        assert counts == [sent]


def test_a_direction_that_was_ended_is_closed_and_the_other_is_not() -> None:
    with raw_server(echo) as port, guest(f"local:{port}") as made:
        opened, reading, writing = connect(made, port)
        writing.blocking_write_and_flush(b"unread")
        reading.subscribe().block()
        opened.shutdown(ShutdownType.RECEIVE)
        assert refusal(reading.read, 10) == "StreamErrorClosed"
        assert refusal(reading.blocking_read, 10) == "StreamErrorClosed"
        assert reading.subscribe().ready()
        writing.blocking_write_and_flush(b"still open")
        opened.shutdown(ShutdownType.SEND)
        for call in (lambda: writing.write(b""), writing.flush, lambda: writing.blocking_write_and_flush(b"x")):
            assert refusal(call) == "StreamErrorClosed"
        assert writing.subscribe().ready()
        opened.shutdown(ShutdownType.SEND)


def test_both_directions_end_at_once() -> None:
    heard: list[bytes] = []
    done = threading.Event()

    def hear(connection: socket.socket) -> None:
        heard.extend(iter(lambda: connection.recv(100), b""))
        done.set()

    with raw_server(hear) as port, guest(f"local:{port}") as made:
        opened, reading, writing = connect(made, port)
        writing.blocking_write_and_flush(b"bye")
        opened.shutdown(ShutdownType.BOTH)
        assert done.wait(20)
        assert heard == [b"bye"]
        assert refusal(reading.read, 1) == "StreamErrorClosed"
        assert refusal(writing.check_write) == "StreamErrorClosed"


def test_the_streams_outlive_the_socket_they_came_of() -> None:
    with raw_server(echo) as port, guest(f"local:{port}", limits={"sockets": 1}) as made:
        opened, reading, writing = connect(made, port)
        opened.__drop__()
        writing.blocking_write_and_flush(b"on")
        assert reading.blocking_read(9) == b"on"
        assert refusal(tcp, made) == "new-socket-limit"
        reading.__drop__()
        writing.__drop__()
        tcp(made)


def test_dropping_an_output_stream_signals_the_end_to_the_peer() -> None:
    def echo_and_end(connection: socket.socket) -> None:
        echo(connection)
        connection.sendall(b"END")

    with raw_server(echo_and_end) as port, guest(f"local:{port}") as made:
        _, reading, writing = connect(made, port)
        writing.blocking_write_and_flush(b"one ")
        writing.__drop__()
        assert read_all(reading) == b"one END"


def test_a_write_to_one_that_reset_fails_and_then_is_closed() -> None:
    gone = threading.Event()

    def reset(connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        gone.set()

    with raw_server(reset) as port, guest(f"local:{port}") as made:
        _, reading, writing = connect(made, port)
        writing.blocking_write_and_flush(b"x")
        assert gone.wait(20)
        with pytest.raises(Err) as caught:
            reading.blocking_read(1)
        assert (
            made.of("wasi:sockets/network").network_error_code(caught.value.value.value) is ErrorCode.CONNECTION_RESET
        )
        assert refusal(reading.read, 1) == "StreamErrorClosed"
        codes = {refusal(write_all, writing, bytes(10 << 20)) for _ in range(2)}
        assert codes <= {"StreamErrorClosed", "StreamErrorLastOperationFailed"}
        assert refusal(writing.check_write) == "StreamErrorClosed"


def reset_at_once(connection: socket.socket) -> None:
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def close_orderly(connection: socket.socket) -> None:
    connection.recv(1)
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(1):
        pass


@pytest.mark.parametrize("end", [reset_at_once, close_orderly])
@pytest.mark.parametrize("how", list(ShutdownType), ids=lambda how: how.name.lower())
def test_a_connection_that_has_ended_still_has_an_address_and_can_be_shut_down(
    end: Callable[[socket.socket], None], how: ShutdownType
) -> None:
    """Oracle: POSIX keeps no address of an ended connection, and wasi-libc aborts a guest for ``invalid-state``."""
    with raw_server(end) as port, guest(f"local:{port}") as made:
        opened, reading, writing = connect(made, port)
        writing.blocking_write_and_flush(b"x")
        read_all(reading)
        opened.shutdown(ShutdownType.SEND)
        for _ in range(2):
            assert opened.remote_address() == at(port)
            assert opened.local_address().value.port
            opened.shutdown(how)


def test_a_server_knows_the_address_of_a_peer_that_has_gone() -> None:
    with guest(listen=LOCAL) as made:
        opened, port = listen(made)
        with socket.create_connection(("127.0.0.1", port)) as peer:
            name = peer.getsockname()[1]
            opened.subscribe().block()
            accepted, reading, _ = opened.accept()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        read_all(reading)
        assert accepted.remote_address() == at(name)
        accepted.shutdown(ShutdownType.BOTH)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_an_ended_connection_over_ipv6_has_its_address_too() -> None:
    with contextlib.ExitStack() as held, guest("tcp://[::1]:*") as made:
        server = held.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        port = server.getsockname()[1]
        opened = tcp(made, V6)
        opened.start_connect(None, at6(port, 0, 0, 0, 0, 0, 0, 0, 1))
        opened.subscribe().block()
        reading, _ = opened.finish_connect()
        server.accept()[0].close()
        read_all(reading)
        assert opened.remote_address() == at6(port, 0, 0, 0, 0, 0, 0, 0, 1)
        opened.shutdown(ShutdownType.BOTH)


def test_bytes_count_both_ways() -> None:
    with raw_server(echo) as port, guest(f"local:{port}", limits={"network_bytes": 1000}) as made:
        _, reading, writing = connect(made, port)
        writing.blocking_write_and_flush(bytes(500))
        got = 0
        while got < 500:
            got += len(reading.blocking_read(500))
        with pytest.raises(QuotaExceeded) as caught:
            writing.blocking_write_and_flush(bytes(1))
        assert (caught.value.limit, caught.value.allowed) == ("network_bytes", 1000)


# -- ends ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog is answered")
def test_a_server_that_never_answers_cannot_outlive_the_deadline() -> None:
    with contextlib.ExitStack() as held, socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        for _ in range(4):
            filler = held.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        with guest(f"local:{port}", timeout=0.3) as made:
            opened = tcp(made)
            opened.start_connect(None, at(port))
            assert refusal(opened.finish_connect) == "would-block"
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                opened.subscribe().block()
            assert time.monotonic() - started < 10


@pytest.mark.parametrize("way", ["accept", "poll", "flush", "splice"])
def test_every_wait_ends_at_the_deadline(way: str) -> None:
    with silent() as port, guest(f"local:{port}", listen=LOCAL, timeout=0.3) as made:
        server, _ = listen(made)
        _, reading, writing = connect(made, port)
        waits: dict[str, Callable[[], Any]] = {
            "accept": server.subscribe().block,
            "poll": lambda: made.of("wasi:io/poll").poll([reading.subscribe(), server.subscribe()]),
            "flush": lambda: (fill(writing), [writing.blocking_write_and_flush(bytes(4096)) for _ in range(10_000)]),
            "splice": lambda: writing.blocking_splice(reading, 10),
        }
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            waits[way]()
        assert time.monotonic() - started < 10


def test_a_pollable_that_outlives_its_resource_is_ready() -> None:
    with silent() as port, guest("local:*", listen=LOCAL) as made:
        server, _ = listen(made)
        opened, reading, writing = connect(made, port)
        fill(writing)
        pollables = [thing.subscribe() for thing in (server, reading, writing)]
        assert not any(pollable.ready() for pollable in pollables)
        for thing in (server, opened, writing, reading):
            thing.__drop__()
        assert made.of("wasi:io/poll").poll(pollables) == [0, 1, 2]


def test_no_descriptor_is_left_when_the_sandbox_ends() -> None:
    with unheard() as (_, port):
        before = descriptors()
        with guest("local:*", "udp://127.0.0.1:*", listen=LOCAL) as made:
            opened, reading, writing = connect(made, port)
            listen(made)
            udp(made).stream(None)
            reading.subscribe()
            opened.__drop__()
            tcp(made).start_connect(None, at(port))
            assert not descriptors() <= before
        assert descriptors() <= before
        for late in (reading, writing):
            late.__drop__()


def test_one_that_the_system_has_no_descriptor_for_is_refused() -> None:
    resource = pytest.importorskip("resource", reason="the system limits no descriptors")
    with guest("tcp://127.0.0.1:9") as made:
        made.of("wasi:sockets/tcp-create-socket")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            assert refusal(tcp, made) == "new-socket-limit"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
