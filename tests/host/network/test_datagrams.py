"""UDP on loopback: every datagram is checked against the rules, whatever its source and destination."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from aegis.bindings.wasi_sockets_udp import OutgoingDatagram
from aegis.errors import DeadlineExceeded, GuestTrap, QuotaExceeded
from tests.host.network.wire import V4, V6, at, at6, guest, look_up, names, udp
from tests.host.preview2.guest import Guest, refusal

MAPPED = at6(80, 0, 0, 0, 0, 0, 0xFFFF, 0x7F00, 1)
REFUSED = [(at(0), "port 0"), (at(80, "0.0.0.0"), "unspecified"), (at6(80, 1), "another family"), (MAPPED, "mapped")]


def peer_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.settimeout(20)
    return made


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with peer_socket() as made:
        yield made


def port_of(made: socket.socket) -> int:
    return int(made.getsockname()[1])


def heard_nothing(made: socket.socket) -> bool:
    """Return whether nothing was received; on loopback, a datagram has arrived when the send returns."""
    made.setblocking(False)
    try:
        made.recvfrom(100_000)
    except BlockingIOError:
        return True
    return False


def send(outgoing: Any, *datagrams: OutgoingDatagram) -> int:
    assert outgoing.check_send() >= len(datagrams)
    return int(outgoing.send(list(datagrams)))


def server_of(made: Guest) -> Any:
    opened = made.of("wasi:sockets/udp-create-socket").create_udp_socket(V4)
    opened.start_bind(None, at(0))
    opened.finish_bind()
    return opened


def received(incoming: Any, count: int) -> list[bytes]:
    found: list[Any] = []
    while len(found) < count:
        incoming.subscribe().block()
        found += incoming.receive(100)
    return [datagram.data for datagram in found]


# -- the policy ----------------------------------------------------------------------------------------


def test_a_datagram_is_sent_with_its_rule_and_not_without(peer: socket.socket) -> None:
    port = port_of(peer)
    with guest(f"tcp://127.0.0.1:{port}") as made:
        _, outgoing = udp(made).stream(None)
        outgoing.check_send()
        assert refusal(outgoing.send, [OutgoingDatagram(b"x", at(port))]) == "access-denied"
        assert refusal(udp(made).stream, at(port)) == "access-denied"
        assert set(made.denied) == {f"--allow-net udp://127.0.0.1:{port}"}
        assert heard_nothing(peer)
    peer.settimeout(20)
    with guest(f"udp://127.0.0.1:{port}") as made:
        assert send(udp(made).stream(at(port))[1], OutgoingDatagram(b"x", None)) == 1
        assert peer.recv(9) == b"x"
        assert tuple(made.decisions[0]) == (
            "network", "connect to", f"udp://127.0.0.1:{port}", True, f"allow udp://127.0.0.1:{port}", "", "",
        )  # fmt: skip


def test_datagrams_after_a_denied_one_are_not_sent(peer: socket.socket) -> None:
    port = port_of(peer)
    with guest(f"udp://127.0.0.1:{port}") as made:
        _, outgoing = udp(made).stream(None)
        one, other, more = (OutgoingDatagram(b, at(p)) for b, p in ((b"1", port), (b"2", port ^ 1), (b"3", port)))
        assert send(outgoing, one, other, more) == 1
        assert peer.recv(9) == b"1"
        assert refusal(send, outgoing, other, more) == "access-denied"
        assert heard_nothing(peer)


def test_a_strangers_datagram_is_dropped_by_a_client_and_taken_by_a_server(peer: socket.socket) -> None:
    with guest(f"udp://127.0.0.1:{port_of(peer)}", listen=("udp://127.0.0.1:*",)) as made, peer_socket() as stranger:
        for opened, expected in ((udp(made), [b"known"]), (server_of(made), [b"strange", b"known"])):
            incoming, _ = opened.stream(None)
            there = ("127.0.0.1", opened.local_address().value.port)
            stranger.sendto(b"strange", there)
            peer.sendto(b"known", there)
            assert received(incoming, len(expected)) == expected


def test_a_socket_that_has_its_peer_hears_no_other(peer: socket.socket) -> None:
    with guest("udp://127.0.0.1:*", listen=("udp://127.0.0.1:*",)) as made, peer_socket() as other:
        opened = server_of(made)
        incoming, outgoing = opened.stream(at(port_of(peer)))
        assert opened.remote_address() == at(port_of(peer))
        there = ("127.0.0.1", opened.local_address().value.port)
        other.sendto(b"strange", there)
        peer.sendto(b"known", there)
        assert received(incoming, 1) == [b"known"]
        assert send(outgoing, OutgoingDatagram(b"to the same", at(port_of(peer)))) == 1
        assert peer.recv(100) == b"to the same"
        opened.stream(None)
        assert refusal(opened.remote_address) == "invalid-state"


def test_a_server_answers_only_whom_it_may(peer: socket.socket) -> None:
    with guest(listen=("udp://127.0.0.1:*",)) as made:
        opened = server_of(made)
        incoming, outgoing = opened.stream(None)
        peer.sendto(b"hello", ("127.0.0.1", opened.local_address().value.port))
        assert received(incoming, 1) == [b"hello"]
        outgoing.check_send()
        assert refusal(outgoing.send, [OutgoingDatagram(b"hello", at(port_of(peer)))]) == "access-denied"


def test_a_name_that_was_looked_up_may_answer() -> None:
    with guest("udp://dns.example:53", resolver=names(dns_example=["93.184.216.34"])) as made:
        network = made.grants.network
        assert not network.may_connect("udp", "93.184.216.34", 53)
        assert not network.may_hear("93.184.216.34", 53)
        look_up(made, "dns.example")
        assert network.may_connect("udp", "93.184.216.34", 53)
        assert network.may_hear("93.184.216.34", 53)
        assert not network.may_hear("93.184.216.34", 54)
        assert not network.may_hear("93.184.216.35", 53)


# -- states and arguments ------------------------------------------------------------------------------


def test_each_call_in_the_wrong_state_is_refused() -> None:
    with guest(listen=("udp://127.0.0.1:*",)) as made:
        opened = made.of("wasi:sockets/udp-create-socket").create_udp_socket(V4)
        assert refusal(opened.finish_bind) == "not-in-progress"
        for call in (lambda: opened.stream(None), opened.local_address, opened.remote_address):
            assert refusal(call) == "invalid-state"
        opened.start_bind(None, at(0))
        assert refusal(opened.start_bind, None, at(0)) == "invalid-state"
        assert refusal(opened.stream, None) == "invalid-state"
        opened.finish_bind()
        assert refusal(opened.finish_bind) == "not-in-progress"
        assert refusal(opened.start_bind, None, at(0)) == "invalid-state"
        assert refusal(opened.remote_address) == "invalid-state"
        assert opened.local_address().value.port
        assert opened.subscribe().ready()
        assert opened.address_family() is V4


@pytest.mark.parametrize(("address", "_name"), REFUSED, ids=[name for _, name in REFUSED])
def test_an_address_that_cannot_be_meant_is_refused(address: Any, _name: str) -> None:
    with guest("local:*", "0.0.0.0:*", "[::]:*") as made:
        opened = udp(made)
        assert refusal(opened.stream, address) == "invalid-argument"
        _, outgoing = opened.stream(None)
        assert refusal(send, outgoing, OutgoingDatagram(b"x", address)) == "invalid-argument"
        assert made.decisions == []


def test_options_are_kept_and_zero_is_refused() -> None:
    with guest() as made:
        opened = udp(made)
        opened.set_unicast_hop_limit(9)
        assert opened.unicast_hop_limit() == 9
        for name in ("unicast_hop_limit", "receive_buffer_size", "send_buffer_size"):
            assert refusal(getattr(opened, f"set_{name}"), 0) == "invalid-argument"
            assert getattr(opened, name)() > 0


# -- permits, sizes and counts -------------------------------------------------------------------------


def test_a_permit_is_for_so_many_datagrams(peer: socket.socket) -> None:
    port = port_of(peer)
    with guest(f"udp://127.0.0.1:{port}") as made:
        _, outgoing = udp(made).stream(at(port))
        datagram = OutgoingDatagram(b"x", None)
        permit = outgoing.check_send()
        assert outgoing.send([]) == 0
        assert outgoing.send([datagram] * permit) == permit
        with pytest.raises(GuestTrap, match=r"/0 datagrams\): call check-send before"):
            outgoing.send([datagram])
        permit = outgoing.check_send()
        with pytest.raises(GuestTrap, match=f"/{permit} datagrams"):
            outgoing.send([datagram] * (permit + 1))


class Full:
    """A socket whose system accepts one datagram and then has no buffer space."""

    def __init__(self, inner: socket.socket) -> None:
        self.inner, self.taken = inner, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def sendto(self, data: bytes, address: Any) -> None:
        if self.taken:
            raise BlockingIOError(errno.EAGAIN, "no room")
        self.taken += 1


def test_a_datagram_without_buffer_space_is_not_sent_and_no_error(peer: socket.socket) -> None:
    port = port_of(peer)
    with guest(f"udp://127.0.0.1:{port}") as made:
        opened = udp(made)
        _, outgoing = opened.stream(at(port))
        outgoing.shared.socket = Full(outgoing.shared.socket)
        datagram = OutgoingDatagram(b"x", None)
        assert outgoing.check_send() >= 3
        assert [outgoing.send([datagram] * count) for count in (2, 1)] == [1, 0]


def test_a_datagram_is_as_large_as_one_can_be_and_no_larger(peer: socket.socket) -> None:
    port = port_of(peer)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    with guest(f"udp://127.0.0.1:{port}") as made:
        opened = udp(made)
        opened.set_send_buffer_size(1 << 20)
        _, outgoing = opened.stream(at(port))
        for size in (0, 65_507):
            assert send(outgoing, OutgoingDatagram(bytes(size), None)) == 1
            assert len(peer.recv(100_000)) == size
        assert refusal(send, outgoing, OutgoingDatagram(bytes(65_508), None)) == "datagram-too-large"
        assert refusal(send, outgoing, OutgoingDatagram(bytes(1 << 20), None)) == "datagram-too-large"
        assert heard_nothing(peer)


def test_receiving_takes_no_more_than_was_asked_for_and_never_waits(peer: socket.socket) -> None:
    with guest("udp://127.0.0.1:*") as made:
        opened = udp(made)
        incoming, _ = opened.stream(None)
        assert incoming.receive(10) == []
        assert not incoming.subscribe().ready()
        for n in range(40):
            peer.sendto(bytes([n]), ("127.0.0.1", opened.local_address().value.port))
        assert incoming.receive(0) == []
        assert [d.data for d in incoming.receive(3)] == [b"\0", b"\1", b"\2"]
        many = incoming.receive(2**64 - 1)
        assert 0 < len(many) <= 37
        assert {d.remote_address for d in many} == {at(port_of(peer))}


def test_a_flood_from_strangers_ends_the_call() -> None:
    with guest("udp://127.0.0.2:1") as made, peer_socket() as stranger:
        opened = udp(made)
        incoming, _ = opened.stream(None)
        for _ in range(100):
            stranger.sendto(b"flood", ("127.0.0.1", opened.local_address().value.port))
        assert incoming.receive(10) == []
        assert incoming.subscribe().ready(), "the rest is for the next calls"


def test_bytes_count_both_ways(peer: socket.socket) -> None:
    port = port_of(peer)
    with guest(f"udp://127.0.0.1:{port}", limits={"network_bytes": 100}) as made:
        opened = udp(made)
        incoming, outgoing = opened.stream(at(port))
        send(outgoing, OutgoingDatagram(bytes(60), None))
        with pytest.raises(QuotaExceeded):
            send(outgoing, OutgoingDatagram(bytes(60), None))
        assert len(peer.recv(100)) == 60
        assert heard_nothing(peer)
        peer.sendto(bytes(60), ("127.0.0.1", opened.local_address().value.port))
        with pytest.raises(QuotaExceeded):
            received(incoming, 1)


# -- ends ----------------------------------------------------------------------------------------------


def test_a_wait_for_a_datagram_ends_at_the_deadline() -> None:
    with guest("udp://127.0.0.1:*", timeout=0.2) as made:
        incoming, _ = udp(made).stream(None)
        with pytest.raises(DeadlineExceeded):
            incoming.subscribe().block()


def test_streams_outlive_their_socket_and_pollables_their_streams(peer: socket.socket) -> None:
    with guest("udp://127.0.0.1:*", limits={"sockets": 1}) as made:
        opened = udp(made)
        incoming, outgoing = opened.stream(at(port_of(peer)))
        waiting, writable = incoming.subscribe(), outgoing.subscribe()
        opened.__drop__()
        assert send(outgoing, OutgoingDatagram(b"on", None)) == 1
        assert peer.recv(9) == b"on"
        assert not waiting.ready()
        outgoing.__drop__()
        assert refusal(udp, made) == "new-socket-limit"
        incoming.__drop__()
        assert made.of("wasi:io/poll").poll([waiting, writable]) == [0, 1]
        udp(made)


def test_ipv6_datagrams_go_both_ways() -> None:
    try:
        server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        server.bind(("::1", 0))
    except OSError:
        pytest.skip("the system has no IPv6")
    with server, guest("udp://[::1]:*") as made:
        server.settimeout(20)
        opened = made.of("wasi:sockets/udp-create-socket").create_udp_socket(V6)
        opened.start_bind(None, at6(0))
        opened.finish_bind()
        port = server.getsockname()[1]
        incoming, outgoing = opened.stream(at6(port, 1))
        assert send(outgoing, OutgoingDatagram(b"six", None)) == 1
        data, sender = server.recvfrom(9)
        assert data == b"six"
        server.sendto(b"back", sender)
        assert received(incoming, 1) == [b"back"]
        assert opened.remote_address() == at6(port, 1)
