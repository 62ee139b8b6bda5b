"""``wasi:sockets`` 0.3 on loopback, in process and isolated: a guest in text makes each call, and a test drives it."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from aegis.component.tasks.scheduler import Scheduler
from aegis.errors import DeadlineExceeded, QuotaExceeded
from tests.host.http.servers import raw_server
from tests.host.network.wire import echo
from tests.host.preview3.puppet import (
    ARGUMENTS,
    BLOCKED,
    BYTES,
    CANCELLED,
    CANCELLED_BEFORE_RETURNED,
    COMPLETED,
    DROPPED,
    RESULT,
    RETURNED,
    STARTED,
    Puppet,
    puppet,
    socket_address,
)
from tests.isolation.names import Names

SMALL = 4096
"""A size of buffers with which the system holds less than the piece that the host buffers."""
LOCAL = "tcp://127.0.0.1:*"
SENT_AT = ARGUMENTS + 64
STREAM_READ, STREAM_WRITE, FUTURE_READ = 2, 3, 4
both = pytest.mark.parametrize("isolate", [False, True], ids=["in process", "isolated"])
pytestmark = [both, pytest.mark.usual(one_of="isolate")]


@contextlib.contextmanager
def listener(backlog: int = 100, *, buffer: int = 0) -> Iterator[tuple[socket.socket, int]]:
    """A server whose connections the test accepts itself; ``buffer`` is the size of their buffers for receiving."""
    with socket.socket() as made:
        if buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        made.bind(("127.0.0.1", 0))
        made.listen(backlog)
        made.settimeout(20)
        yield made, made.getsockname()[1]


@contextlib.contextmanager
def unanswered() -> Iterator[int]:
    """The port of a listener whose queue is full, so that an attempt to connect stays under way."""
    with contextlib.ExitStack() as held, listener(0) as (_, port):
        for _ in range(8):
            one = held.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        yield port


def reset(connection: socket.socket) -> None:
    """Close a connection such that its peer gets RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# -- the policy ----------------------------------------------------------------------------------------


def test_a_connection_is_made_with_its_rule_alone(isolate: bool) -> None:
    with raw_server(echo) as port:
        with puppet(isolate) as guest:
            made = guest.create()
            assert guest.ended(guest.connect(made, port)) == RETURNED
            assert guest.outcome(SENT_AT) == "access-denied"
            assert [d.remedy for d in guest.denials] == [f"--allow-net tcp://127.0.0.1:{port}"]
        with puppet(isolate, f"tcp://127.0.0.1:{port}") as guest:
            made = guest.connected(port)
            assert guest.port(made, "tcp-remote") == port
            writing, sent = guest.send(made)
            reading, received = guest.receive(made)
            assert guest.write(writing, b"ping") == (4, COMPLETED)
            assert guest.read(reading, 100) == (b"ping", COMPLETED)
            guest.call("bytes-write-drop", writing)
            assert guest.end_of("sent", sent) == "ok"
            assert guest.read(reading, 100) == (b"", DROPPED)
            assert guest.end_of("received", received) == "ok"
            assert guest.denials == []


def test_listening_needs_a_rule(isolate: bool) -> None:
    with puppet(isolate, LOCAL) as guest:
        assert guest.bind(guest.create(), 8080) == "access-denied"
        made = guest.create()
        guest.call("listen", made, RESULT)  # binds to a free port of all addresses
        assert guest.outcome() == "access-denied"
        assert [d.action for d in guest.denials] == ["listen at", "listen at"]
        assert not guest.call("is-listening", made)
    with puppet(isolate, listen=(LOCAL,)) as guest:
        made, connections, port = guest.listening()
        assert guest.call("is-listening", made)
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted = guest.accept(connections)
            assert guest.port(accepted, "tcp-remote") == client.getsockname()[1]
            assert not guest.call("is-listening", accepted)
            reading, _ = guest.receive(accepted)
            client.sendall(b"hello")
            assert guest.read(reading, 10) == (b"hello", COMPLETED)


def test_a_denied_peer_is_not_accepted_and_the_next_one_is(isolate: bool) -> None:
    with puppet(isolate, listen=("tcp://127.0.0.1:*",), deny=("127.0.0.2",)) as guest:
        _, connections, port = guest.listening()
        with (
            socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0)) as denied,
            socket.create_connection(("127.0.0.1", port)) as allowed,
        ):
            accepted = guest.accept(connections)
            assert guest.port(accepted, "tcp-remote") == allowed.getsockname()[1]
            denied.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                assert denied.recv(1) == b""


def test_datagrams_need_a_rule_and_come_from_allowed_peers(isolate: bool) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        for one in (peer, stranger):
            one.bind(("127.0.0.1", 0))
            one.settimeout(20)
        port = peer.getsockname()[1]
        with puppet(isolate) as guest:
            assert sent_to(guest, guest.create("udp"), port, b"x") == "access-denied"
        with puppet(isolate, f"udp://127.0.0.1:{port}") as guest:
            made = guest.create("udp")
            guest.call("udp-receive", made, RESULT)
            assert guest.outcome() == "invalid-state"
            assert sent_to(guest, made, port, b"ping") == "ok"
            data, sender = peer.recvfrom(100)
            assert data == b"ping"
            pending = guest.call("udp-receive", made, RESULT)
            assert pending & 15 == STARTED
            stranger.sendto(b"strange", sender)
            peer.sendto(b"pong", sender)
            assert guest.ended(pending) == RETURNED
            assert datagram(guest) == (b"pong", port)


def sent_to(guest: Puppet, handle: int, port: int, data: bytes, *, some: int = 1) -> str:
    """Send a datagram; return the outcome. Without ``some`` the guest names no peer."""
    guest.poke(BYTES, data)
    guest.poke(ARGUMENTS, struct.pack("<IIIBxxx", handle, BYTES, len(data), some) + socket_address(port))
    assert guest.ended(guest.call("udp-send", ARGUMENTS, RESULT)) == RETURNED
    return guest.outcome()


def datagram(guest: Puppet) -> tuple[bytes, int]:
    """Return the bytes and the sender's port of a datagram received at ``RESULT``."""
    assert guest.outcome() == "ok"
    at, count = guest.words(RESULT + 4, 2)
    return guest.peek(at, count), int.from_bytes(guest.peek(RESULT + 16, 2), "little")


def test_a_connected_datagram_socket_has_one_peer_until_it_is_disconnected(isolate: bool) -> None:
    with contextlib.ExitStack() as held, puppet(isolate, "udp://127.0.0.1:*") as guest:
        first, second = (held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
            one.settimeout(20)
        ports = first.getsockname()[1], second.getsockname()[1]
        made = guest.create("udp")
        guest.call("disconnect", made, RESULT)
        assert guest.outcome() == "invalid-state"
        assert guest.bind(made, ports[0], call="udp-connect") == "ok"
        here = ("127.0.0.1", guest.port(made, "udp-local"))
        assert sent_to(guest, made, ports[0], b"a") == "ok"
        assert sent_to(guest, made, 0, b"b", some=0) == "ok"
        assert sent_to(guest, made, ports[1], b"c") == "invalid-argument"
        assert [first.recv(9), first.recv(9)] == [b"a", b"b"]
        pending = guest.call("udp-receive", made, RESULT)
        second.sendto(b"second", here)
        first.sendto(b"first", here)
        assert guest.ended(pending) == RETURNED
        assert datagram(guest) == (b"first", ports[0])
        guest.call("disconnect", made, RESULT)
        assert guest.outcome() == "ok"
        assert sent_to(guest, made, 0, b"d", some=0) == "invalid-argument"
        assert sent_to(guest, made, ports[1], b"e") == "ok"
        assert second.recv(9) == b"e"
        second.sendto(b"second", here)
        assert guest.ended(guest.call("udp-receive", made, RESULT)) == RETURNED
        assert datagram(guest) == (b"second", ports[1])


# -- waits ---------------------------------------------------------------------------------------------


def test_many_connections_wait_together_and_none_of_them_busily(isolate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer answers in the reverse order, each after the guest has seen the answer before; a wait has few steps."""
    count, waits = 40, [0]
    before = Scheduler._wait

    def counted(self: Scheduler) -> None:
        waits[0] += 1
        before(self)

    monkeypatch.setattr(Scheduler, "_wait", counted)
    with listener() as (server, port), puppet(isolate, LOCAL, sockets=100) as guest, contextlib.ExitStack() as held:
        ends = []
        for _ in range(count):
            made = guest.connected(port)
            connection, _ = server.accept()
            held.enter_context(connection)
            reading, _ = guest.receive(made)
            assert guest.call("bytes-read", reading, BYTES + 16 * len(ends), 16) == BLOCKED
            guest.join(reading)
            ends.append((reading, connection))
        waits[0] = 0
        for n, (reading, connection) in reversed(list(enumerate(ends))):
            connection.sendall(b"%d" % n)
            assert guest.wait() == (STREAM_READ, reading, len(str(n)) << 4)
            assert guest.peek(BYTES + 16 * n, len(str(n))) == b"%d" % n
        assert isolate or waits[0] <= 3 * count


def test_a_wait_for_one_byte_takes_few_steps_however_long_it_lasts(
    isolate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread counts the steps when the guest has waited for a while: other waits are pending all the time."""
    waits, seen = [0], []
    before = Scheduler._wait

    def counted(self: Scheduler) -> None:
        waits[0] += 1
        before(self)

    monkeypatch.setattr(Scheduler, "_wait", counted)
    with (
        listener() as (server, port), puppet(isolate, LOCAL, "udp://127.0.0.1:*", listen=(LOCAL,)) as guest,
    ):  # fmt: skip
        _, connections, _ = guest.listening()
        assert guest.call("accept", connections, RESULT, 1) == BLOCKED
        drops = guest.create("udp")
        assert sent_to(guest, drops, port, b"x") == "ok"
        assert guest.call("udp-receive", drops, RESULT + 512) & 15 == STARTED
        reading, _ = guest.receive(guest.connected(port))
        connection, _ = server.accept()
        assert guest.call("bytes-read", reading, BYTES, 16) == BLOCKED
        guest.join(reading)
        waits[0] = 0

        def answer() -> None:
            seen.append(waits[0])
            connection.sendall(b"x")

        timer = threading.Timer(0.5, answer)
        timer.start()
        assert guest.wait()[1] == reading
        timer.join()
        connection.close()
        assert isolate or (seen[0] <= 2 and waits[0] <= 4)


def test_a_guest_that_yields_instead_of_waiting_keeps_no_socket_waiting(isolate: bool) -> None:
    with raw_server(echo) as port, puppet(isolate, LOCAL) as guest:
        made = guest.create()
        status = guest.connect(made, port)
        if status & 15 == STARTED:
            guest.join(status >> 4)
            assert guest.spin()[1:] == (status >> 4, RETURNED)
        writing, _ = guest.send(made)
        reading, _ = guest.receive(made)
        assert guest.call("bytes-read", reading, BYTES, 16) == BLOCKED
        guest.join(reading)
        assert guest.write(writing, b"spun") == (4, COMPLETED)
        assert guest.spin() == (STREAM_READ, reading, 4 << 4)
        assert guest.peek(BYTES, 4) == b"spun"


def test_half_closed_connections_work_in_the_other_direction(isolate: bool) -> None:
    with listener() as (server, port), puppet(isolate, LOCAL) as guest:
        first, second = guest.connected(port), guest.connected(port)
        near, far = server.accept()[0], server.accept()[0]
        with near, far:
            writing, sent = guest.send(first)
            assert guest.write(writing, b"all") == (3, COMPLETED)
            guest.call("bytes-write-drop", writing)
            assert guest.end_of("sent", sent) == "ok"
            assert near.recv(9, socket.MSG_WAITALL) == b"all"  # to the end
            near.sendall(b"answer")
            reading, _ = guest.receive(first)
            assert guest.read(reading, 9) == (b"answer", COMPLETED)

            reading, received = guest.receive(second)
            far.shutdown(socket.SHUT_WR)
            assert guest.read(reading, 9) == (b"", DROPPED)
            assert guest.end_of("received", received) == "ok"
            writing, _ = guest.send(second)
            assert guest.write(writing, b"still") == (5, COMPLETED)
            assert far.recv(5, socket.MSG_WAITALL) == b"still"


def test_streams_outlive_their_socket(isolate: bool) -> None:
    """The socket of the system is closed with the last of the resource and its streams."""
    with listener() as (server, port), puppet(isolate, LOCAL, listen=(LOCAL,), sockets=2) as guest:
        made = guest.connected(port)
        connection, _ = server.accept()
        with connection:
            writing, sent = guest.send(made)
            reading, _ = guest.receive(made)
            guest.call("tcp-drop", made)
            assert guest.write(writing, b"here") == (4, COMPLETED)
            assert connection.recv(4, socket.MSG_WAITALL) == b"here"
            connection.sendall(b"there")
            assert guest.read(reading, 9) == (b"there", COMPLETED)
            other = guest.create()
            guest.call("tcp-create", 0, RESULT)
            assert guest.outcome() == "other"  # the limit of sockets
            guest.call("bytes-write-drop", writing)
            assert guest.end_of("sent", sent) == "ok"
            guest.call("bytes-read-drop", reading)
            assert connection.recv(1) == b""
            guest.call("tcp-drop", guest.create())
            guest.call("tcp-drop", other)
        listening, connections, port = guest.listening()
        guest.call("tcp-drop", listening)
        with socket.create_connection(("127.0.0.1", port)):
            guest.accept(connections)
        guest.call("accept-drop", connections)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize("pending", [True, False])
def test_a_reset_ends_both_directions_with_its_error(isolate: bool, pending: bool) -> None:
    with listener() as (server, port), puppet(isolate, LOCAL) as guest:
        made = guest.connected(port)
        connection, _ = server.accept()
        reading, received = guest.receive(made)
        writing, sent = guest.send(made)
        if pending:
            assert guest.call("bytes-read", reading, BYTES, 9) == BLOCKED
            reset(connection)
            assert guest.copied(BLOCKED, reading) == (0, DROPPED)
        else:
            reset(connection)
            assert guest.read(reading, 9) == (b"", DROPPED)
        assert guest.end_of("received", received) == "connection-reset"
        result = COMPLETED
        for _ in range(3):  # the first write may still be accepted, and fails
            result = guest.write(writing, b"x")[1] if result == COMPLETED else result
        assert result == DROPPED
        assert guest.end_of("sent", sent) in ("connection-reset", "connection-broken")


def test_an_error_while_the_rest_is_sent_is_in_the_future(isolate: bool) -> None:
    """The guest has dropped its end, but bytes are left to be sent, when the peer resets the connection."""
    with listener(buffer=SMALL) as (server, port), puppet(isolate, LOCAL) as guest:
        made = guest.connected(port, buffer=SMALL)
        connection, _ = server.accept()
        writing, sent = guest.send(made)
        assert guest.write(writing, bytes(65536)) == (65536, COMPLETED)
        guest.call("bytes-write-drop", writing)
        assert guest.call("sent", sent, RESULT) == BLOCKED
        reset(connection)
        guest.join(sent)
        assert guest.wait() == (FUTURE_READ, sent, COMPLETED)
        assert guest.outcome() == "connection-reset"


def filled(guest: Puppet, writing: int) -> int:
    """Write until the peer's and the host's buffers are full; return the number of bytes. A write is then pending."""
    total = 0
    while True:
        result = guest.call("bytes-write", writing, BYTES, 1 << 20)
        if result == BLOCKED:
            return total
        assert result & 15 == COMPLETED
        total += result >> 4


def test_the_host_buffers_one_piece_for_a_peer_that_does_not_read(isolate: bool) -> None:
    """The peer reads all that the system has, while the host does nothing: the rest is what the host buffered."""
    with listener() as (server, port), puppet(isolate, LOCAL) as guest:
        made = guest.connected(port)
        connection, _ = server.accept()
        with connection:
            writing, sent = guest.send(made)
            accepted = filled(guest, writing)
            assert accepted
            connection.settimeout(0.5)
            came = 0
            with contextlib.suppress(TimeoutError):
                while data := connection.recv(1 << 20):
                    came += len(data)
            assert 0 <= accepted - came <= 65536
            assert guest.call("bytes-write-cancel", writing) & 15 in (CANCELLED, COMPLETED)
            guest.call("bytes-write-drop", writing)
            reader = threading.Thread(target=lambda: all(iter(lambda: connection.recv(1 << 20), b"")))
            connection.settimeout(20)
            reader.start()
            assert guest.end_of("sent", sent) == "ok"
            reader.join()


def test_bytes_that_the_guest_does_not_read_are_not_received(isolate: bool) -> None:
    """The peer of one connection floods it; the guest waits for another one. Received bytes would exceed the limit."""
    with listener() as (server, port), puppet(isolate, LOCAL, network_bytes=1000) as guest:
        flooded, waited = guest.connected(port), guest.connected(port)
        near, far = server.accept()[0], server.accept()[0]
        with near, far:
            guest.receive(flooded)
            reading, _ = guest.receive(waited)
            near.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    near.send(bytes(65536))
            far.sendall(b"now")
            assert guest.read(reading, 3) == (b"now", COMPLETED)


# -- limits --------------------------------------------------------------------------------------------


def test_the_limit_of_connections_counts_both_directions(isolate: bool) -> None:
    with listener() as (_, port), puppet(isolate, LOCAL, listen=(LOCAL,), connections=2) as guest:
        guest.connected(port)
        _, connections, own = guest.listening()
        with socket.create_connection(("127.0.0.1", own)):
            guest.accept(connections)
            with pytest.raises(QuotaExceeded, match="connections"):
                guest.connect(guest.create(), port)


@pytest.mark.parametrize("direction", ["in", "out"])
def test_the_limit_of_bytes_holds_in_each_direction(isolate: bool, direction: str) -> None:
    with listener() as (server, port), puppet(isolate, LOCAL, network_bytes=1000) as guest:
        made = guest.connected(port)
        connection, _ = server.accept()
        with connection:
            if direction == "in":
                connection.sendall(bytes(1001))
                reading, _ = guest.receive(made)
                with pytest.raises(QuotaExceeded, match="network_bytes"):
                    [guest.read(reading, 2000) for _ in range(1001)]
            else:
                writing, _ = guest.send(made)
                assert guest.write(writing, bytes(1000)) == (1000, COMPLETED)
                with pytest.raises(QuotaExceeded, match="network_bytes"):
                    guest.write(writing, b"x")


def test_at_the_limit_of_sockets_connections_wait_until_one_is_free(isolate: bool) -> None:
    with puppet(isolate, listen=(LOCAL,), sockets=2) as guest:
        _, connections, port = guest.listening()
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)) as second:
            first = guest.accept(connections)
            assert guest.call("accept", connections, RESULT, 1) == BLOCKED
            guest.join(connections)
            guest.call("tcp-drop", first)
            assert guest.wait() == (STREAM_READ, connections, 1 << 4)
            assert guest.port(guest.words(RESULT, 1)[0], "tcp-remote") == second.getsockname()[1]


# -- cancellation --------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue is answered")
def test_a_cancelled_attempt_to_connect_is_over(isolate: bool) -> None:
    with unanswered() as port, puppet(isolate, LOCAL) as guest:
        made = guest.create()
        status = guest.connect(made, port)
        assert status & 15 == STARTED
        assert guest.connect(made, port, at=ARGUMENTS + 256) & 15 == RETURNED
        assert guest.outcome(ARGUMENTS + 256 + 64) == "invalid-state"  # it is connecting
        assert guest.call("subtask-cancel", status >> 4) == CANCELLED_BEFORE_RETURNED
        guest.call("subtask-drop", status >> 4)
        assert guest.ended(guest.connect(made, port)) == RETURNED
        assert guest.outcome(SENT_AT) == "invalid-state"
        guest.call("tcp-drop", made)


def test_a_cancelled_read_loses_nothing(isolate: bool) -> None:
    with listener() as (server, port), puppet(isolate, LOCAL, "udp://127.0.0.1:*", listen=(LOCAL,)) as guest:
        made = guest.connected(port)
        connection, _ = server.accept()
        reading, _ = guest.receive(made)
        assert guest.call("bytes-read", reading, BYTES, 9) == BLOCKED
        assert guest.call("bytes-read-cancel", reading) == CANCELLED
        with connection:
            connection.sendall(b"whole")
            assert guest.read(reading, 9) == (b"whole", COMPLETED)

        _, connections, own = guest.listening()
        assert guest.call("accept", connections, RESULT, 1) == BLOCKED
        assert guest.call("accept-cancel", connections) == CANCELLED
        with socket.create_connection(("127.0.0.1", own)) as client:
            assert guest.port(guest.accept(connections), "tcp-remote") == client.getsockname()[1]

        drops = guest.create("udp")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            peer.settimeout(20)
            assert sent_to(guest, drops, peer.getsockname()[1], b"x") == "ok"
            _, sender = peer.recvfrom(9)
            status = guest.call("udp-receive", drops, RESULT)
            assert guest.call("subtask-cancel", status >> 4) == CANCELLED_BEFORE_RETURNED
            peer.sendto(b"kept", sender)
            assert guest.ended(guest.call("udp-receive", drops, RESULT)) == RETURNED
            assert datagram(guest)[0] == b"kept"


# -- deadlines -----------------------------------------------------------------------------------------


def wait_for_bytes(guest: Puppet, port: int) -> None:
    reading, _ = guest.receive(guest.connected(port))
    guest.read(reading, 1)


def wait_for_room(guest: Puppet, port: int) -> None:
    writing, _ = guest.send(guest.connected(port, buffer=SMALL))
    for _ in range(2):
        guest.write(writing, bytes(65536))


def wait_for_the_rest(guest: Puppet, port: int) -> None:
    writing, sent = guest.send(guest.connected(port, buffer=SMALL))
    guest.write(writing, bytes(65536))
    guest.call("bytes-write-drop", writing)
    guest.end_of("sent", sent)


def wait_for_a_connection(guest: Puppet, port: int) -> None:
    guest.accept(guest.listening()[1])


def wait_for_a_datagram(guest: Puppet, port: int) -> None:
    made = guest.create("udp")
    assert guest.bind(made, call="udp-bind") == "ok"
    guest.ended(guest.call("udp-receive", made, RESULT))


@pytest.mark.parametrize(
    "wait",
    [wait_for_bytes, wait_for_room, wait_for_the_rest, wait_for_a_connection, wait_for_a_datagram],
    ids=lambda one: one.__name__,
)
def test_each_wait_ends_at_the_deadline(isolate: bool, wait: Callable[[Puppet, int], None]) -> None:
    with (
        listener(buffer=SMALL) as (_, port),
        puppet(isolate, LOCAL, listen=(LOCAL, "udp://127.0.0.1:*"), timeout="2s") as guest,
        pytest.raises(DeadlineExceeded),
    ):
        wait(guest, port)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue is answered")
def test_an_attempt_to_connect_ends_at_the_deadline(isolate: bool) -> None:
    with (
        unanswered() as port, puppet(isolate, LOCAL, timeout="2s") as guest, pytest.raises(DeadlineExceeded),
    ):  # fmt: skip
        guest.ended(guest.connect(guest.create(), port))


# -- addresses and states ------------------------------------------------------------------------------


def test_an_address_of_the_other_family_is_refused_unasked(isolate: bool) -> None:
    with puppet(isolate, LOCAL) as guest:
        for kind, family, host in (
            ("tcp", 0, "::1"),
            ("udp", 0, "::1"),
            ("tcp", 1, "127.0.0.1"),
            ("udp", 1, "127.0.0.1"),
        ):
            made = guest.create(kind, family)
            assert guest.bind(made, 80, host, call=f"{kind}-bind") == "invalid-argument"
            if kind == "tcp":
                assert guest.ended(guest.connect(made, 80, host)) == RETURNED
                assert guest.outcome(SENT_AT) == "invalid-argument"
            else:
                assert guest.bind(made, 80, host, call="udp-connect") == "invalid-argument"
        assert guest.denials == []


def test_a_direction_is_used_once_and_only_on_a_connection(isolate: bool) -> None:
    with raw_server(echo) as port, puppet(isolate, LOCAL) as guest:
        made = guest.create()
        for _ in range(2):  # not connected
            writing, sent = guest.send(made)
            assert guest.end_of("sent", sent) == "invalid-state"
            assert guest.write(writing, b"x") == (0, DROPPED)
            reading, received = guest.receive(made)
            assert guest.read(reading, 9) == (b"", DROPPED)
            assert guest.end_of("received", received) == "invalid-state"
        made = guest.connected(port)
        first, _ = guest.send(made)
        writing, sent = guest.send(made)
        assert guest.end_of("sent", sent) == "invalid-state"
        assert guest.write(writing, b"x") == (0, DROPPED)
        only, _ = guest.receive(made)
        reading, received = guest.receive(made)
        assert guest.end_of("received", received) == "invalid-state"
        assert guest.read(reading, 9) == (b"", DROPPED)
        assert guest.write(first, b"works") == (5, COMPLETED)
        assert guest.read(only, 9) == (b"works", COMPLETED)


def test_a_refused_connection_closes_its_socket(isolate: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with puppet(isolate, LOCAL) as guest:
        made = guest.create()
        for expected in ("connection-refused", "invalid-state"):
            assert guest.ended(guest.connect(made, port)) == RETURNED
            assert guest.outcome(SENT_AT) == expected


# -- names ---------------------------------------------------------------------------------------------

LOOKUP_ERRORS = ("access-denied", "invalid-argument", "name-unresolvable")


def looked_up(guest: Puppet, name: bytes) -> list[bytes] | str:
    """Return the addresses of a name as they are in memory, or the error."""
    guest.poke(ARGUMENTS, name)
    assert guest.ended(guest.call("resolve", ARGUMENTS, len(name), RESULT)) == RETURNED
    failed, code = guest.peek(RESULT, 5)[::4]
    if failed:
        return LOOKUP_ERRORS[code]
    at, count = guest.words(RESULT + 4, 2)
    return [guest.peek(at + 18 * n, 18) for n in range(count)]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue is answered")
@pytest.mark.parametrize("denied", [(), ("tracker.example",)], ids=["without the rule", "denied"])
def test_an_attempt_to_connect_ends_when_a_look_up_finds_its_address_denied(
    isolate: bool, denied: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue of the server is full, so the connection is made only after the look-up; without the rule it is."""
    known = Names()
    known.known, known.aliases = {"alias.org": ["127.0.0.1"]}, {"alias.org": "tracker.example"}
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        with (
            socket.create_connection(("127.0.0.1", port)),
            puppet(isolate, "local:*", "alias.org:*", deny=denied) as guest,
        ):
            monkeypatch.setattr(socket, "getaddrinfo", known)
            status = guest.connect(guest.create(), port)
            assert status & 15 == STARTED
            found = looked_up(guest, b"alias.org")
            assert found == "name-unresolvable" if denied else len(found) == 1
            listening.accept()[0].close()  # now there is room
            assert guest.ended(status) == RETURNED
            assert (guest.outcome(SENT_AT) == "ok") is not bool(denied)


def test_a_name_is_looked_up_with_its_rule_alone(isolate: bool) -> None:
    with puppet(isolate, "tcp://localhost:*", "127.0.0.1:*") as guest:
        found = looked_up(guest, b"localhost")
        assert [(one[0], one[2:6]) for one in found] == [(0, b"\x7f\0\0\1")]  # type: ignore[index]
        assert len(looked_up(guest, b"::1")) == 1  # an address is its own result
        assert looked_up(guest, b"not a name") == "invalid-argument"
        assert looked_up(guest, b"elsewhere.example") == "access-denied"
    with puppet(isolate) as guest:
        assert looked_up(guest, b"localhost") == "access-denied"
