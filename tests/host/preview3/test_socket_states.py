"""``wasi:sockets`` 0.3 called as the engine would call it: states, options, error codes, limits that 0.2 shares."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from aegis.bindings import wasi_sockets_ip_name_lookup_0_3 as lookups
from aegis.bindings import wasi_sockets_network as two
from aegis.bindings import wasi_sockets_types_0_3 as three
from aegis.bindings.index import INDEX
from aegis.errors import QuotaExceeded
from aegis.host.net.network import LOOKUPS_AT_ONCE
from aegis.host.net.sockets import MAX_DATAGRAM_BYTES
from aegis.host.preview2 import socket_address as types_of_two
from aegis.host.preview3 import socket_types as types_of_three
from aegis.policy import NetworkCapability
from aegis.values import Ended, Interest
from aegis.wit.values import Err, Ok
from tests.host.network import wire
from tests.host.preview2.guest import Guest, refusal
from tests.host.preview3.test_versions import spelled

V4, V6 = three.IpAddressFamily.IPV4, three.IpAddressFamily.IPV6
LOCAL = ("tcp://127.0.0.1:*", "udp://127.0.0.1:*")


def guest(*allow: str, listen: tuple[str, ...] = (), deny: tuple[str, ...] = (), **more: Any) -> Guest:
    return Guest(network=NetworkCapability(allow=allow, listen=listen, deny=deny), **more)


def of(made: Guest, interface: str) -> Any:
    return made.wasi.implementation(next(r for r in INDEX.rows if r.name == f"wasi:sockets/{interface}@0.3.0"))


def tcp(made: Guest, family: three.IpAddressFamily = V4) -> Any:
    return of(made, "types").TcpSocket.create(family)


def udp(made: Guest, family: three.IpAddressFamily = V4) -> Any:
    return of(made, "types").UdpSocket.create(family)


def at(port: int, host: str = "127.0.0.1") -> Any:
    return three.IpSocketAddressIpv4(three.Ipv4SocketAddress(port, tuple(map(int, host.split(".")))))  # type: ignore[arg-type]


def at6(port: int, *words: int) -> Any:
    filled = (*[0] * (8 - len(words)), *words)
    return three.IpSocketAddressIpv6(three.Ipv6SocketAddress(port, 0, filled, 0))  # type: ignore[arg-type]


def code(function: Any, *arguments: Any) -> str:
    """Return the error of a call, or of what it waits for."""
    with pytest.raises(Err) as caught:
        finished(function(*arguments))
    return spelled(caught.value.value)


def finished(later: Any) -> Any:
    """Wait for the result of an asynchronous function as the scheduler does."""
    if not hasattr(later, "interest"):
        return later
    while not later.ready():
        interest = later.interest()
        assert interest != Interest()
        left = 20.0 if interest.host_time is None else max(0.0, interest.host_time - time.monotonic())
        assert any(select.select(interest.read, interest.write, [], left)) or interest.host_time is not None
    return later.result()


def outcome(promise: Any) -> Any:
    values: list[Any] = []
    promise.attach(values.append)
    return values


class Unread:
    """A stream of a guest, which must not be read."""

    closed = False

    def pump(self, sink: Any) -> None:
        raise AssertionError("it was read")

    def close(self) -> None:
        self.closed = True


# -- states --------------------------------------------------------------------------------------------

STATES = ("unbound", "bound", "listening", "connecting", "connected", "closed")
ALLOWED_IN: dict[str, tuple[str, ...]] = {
    "bind": ("unbound",), "connect": ("unbound", "bound"), "listen": ("unbound", "bound"),
    "get_local_address": ("bound", "listening", "connecting", "connected"), "get_remote_address": ("connected",),
    "set_listen_backlog_size": ("unbound", "bound", "listening"),
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made.getsockname()[1]


def in_state(made: Guest, state: str, port: int) -> Any:
    opened = tcp(made)
    if state == "closed":
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        assert code(opened.connect, at(port)) == "connection-refused"
    elif state in ("connecting", "connected"):
        later = opened.connect(at(port))
        if state == "connected":
            finished(later)
    elif state != "unbound":
        opened.bind(at(0))
        if state == "listening":
            opened.listen()
    assert opened.state == state
    return opened


@pytest.mark.parametrize("state", STATES)
def test_a_call_in_the_wrong_state_is_refused_and_changes_nothing(state: str, server: int) -> None:
    arguments = {"bind": (at(0),), "connect": (at(server),), "set_listen_backlog_size": (5,)}
    with guest(*LOCAL, listen=LOCAL) as made:
        opened = in_state(made, state, server)
        for name, states in ALLOWED_IN.items():
            if state not in states:
                assert code(getattr(opened, name), *arguments.get(name, ())) == "invalid-state", name
        if state != "connected":
            given = Unread()
            assert outcome(opened.send(given)) == [Err(three.ErrorCodeInvalidState())]
            assert given.closed
            source, end = opened.receive()
            assert (source, outcome(end)) == ((), [Err(three.ErrorCodeInvalidState())])
        assert opened.state == state
        assert opened.get_is_listening() == (state == "listening")
        assert opened.get_address_family() is V4
        assert code(opened.set_listen_backlog_size, 0) == "invalid-argument"
        opened.__drop__()


def test_a_refused_call_leaves_the_socket_as_it_was(server: int) -> None:
    with guest(f"tcp://127.0.0.1:{server}", limits={"connections": 1}) as made:
        opened = tcp(made)
        for _ in range(3):
            assert code(opened.connect, at(server ^ 1)) == "access-denied"
            assert code(opened.bind, at(8080)) == "access-denied"
            for wrong in (at(0), at(80, "0.0.0.0"), at(80, "224.0.0.1"), at(80, "255.255.255.255"), at6(80, 1)):
                assert code(opened.connect, wrong) == "invalid-argument"
        finished(opened.connect(at(server)))
        assert opened.get_remote_address() == at(server)
        with pytest.raises(QuotaExceeded):
            tcp(made).connect(at(server))


def test_an_unbound_listener_gets_a_free_port_of_all_addresses() -> None:
    with guest(listen=("tcp://0.0.0.0:*",)) as made:
        opened = tcp(made)
        source = opened.listen()
        address = opened.get_local_address().value
        assert address.port
        assert address.address == (0, 0, 0, 0)
        assert not source.ready()
        assert source.take(1) is None
        source.close()


def test_dropping_the_last_user_closes_the_socket(server: int) -> None:
    """The limit ``sockets`` allows one at a time."""
    with guest(*LOCAL, listen=LOCAL, limits={"sockets": 1}) as made:
        opened = tcp(made)
        finished(opened.connect(at(server)))
        source, end = opened.receive()
        opened.__drop__()
        assert code(tcp, made) == "other"
        source.close()
        assert outcome(end) == [Ok(None)]
        opened = in_state(made, "bound", server)
        accepting = opened.listen()
        opened.__drop__()
        assert code(tcp, made) == "other"
        accepting.close()
        tcp(made).__drop__()


@pytest.mark.parametrize(
    ("number", "ends"), [(errno.EMFILE, False), (errno.ECONNABORTED, False), (errno.EPROTO, False), (errno.EBADF, True)]
)
def test_an_error_of_accept_ends_the_stream_only_if_it_lasts(
    number: int, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lack of descriptors is checked again after a while, and not at once: the listener stays readable."""
    with guest(listen=LOCAL) as made:
        opened = in_state(made, "bound", 0)
        source = opened.listen()
        port = opened.get_local_address().value.port
        with socket.create_connection(("127.0.0.1", port)):
            while not source.ready():
                time.sleep(0)
            monkeypatch.setattr(opened, "next_connection", lambda: (_ for _ in ()).throw(OSError(number, "no")))
            if ends:
                with pytest.raises(Ended):
                    source.take(1)
            else:
                assert source.take(1) is None
                assert source.ready() == (number != errno.EMFILE)
                assert (source.interest().host_time is not None) == (number == errno.EMFILE)


# -- datagrams -----------------------------------------------------------------------------------------


def test_a_datagram_socket_in_the_wrong_state_or_with_a_wrong_address() -> None:
    with guest(*LOCAL, listen=LOCAL) as made:
        opened = udp(made)
        for name in ("receive", "get_local_address", "get_remote_address", "disconnect"):
            assert code(getattr(opened, name)) == "invalid-state", name
        for wrong in (at(0), at(80, "0.0.0.0"), at6(80, 1)):
            assert code(opened.connect, wrong) == "invalid-argument"
            assert code(opened.send, b"x", wrong) == "invalid-argument"
        assert code(opened.send, b"x", None) == "invalid-argument"
        assert code(opened.send, bytes(MAX_DATAGRAM_BYTES + 1), at(9)) == "datagram-too-large"
        assert code(opened.get_local_address) == "invalid-state"
        opened.bind(at(0))
        assert code(opened.bind, at(0)) == "invalid-state"
        finished(opened.send(b"x", at(opened.get_local_address().value.port)))
        data, sender = finished(opened.receive())
        assert (data, sender) == (b"x", opened.get_local_address())
    with guest() as made:
        opened = udp(made)
        assert code(opened.connect, at(9)) == "access-denied"
        assert code(opened.get_local_address) == "invalid-state"
        assert code(opened.send, b"x", at(9)) == "access-denied"
        assert code(opened.bind, at(9)) == "access-denied"


def test_a_datagram_without_room_waits_and_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with guest(*LOCAL, listen=LOCAL, limits={"network_bytes": 100}) as made:
        opened = udp(made)
        opened.bind(at(0))
        here = opened.get_local_address()
        sends, attempts = type(opened).send_to, []

        def full(*arguments: Any) -> None:
            attempts.append(arguments)
            if len(attempts) < 50:
                made.grants.network._opener = Full()
            else:
                made.grants.network._opener = opener
            sends(*arguments)

        class Full:
            room = staticmethod(lambda opened: ((), (opened.fileno(),)))
            send = staticmethod(lambda *_: (_ for _ in ()).throw(BlockingIOError()))

        opener = made.grants.network._opener
        monkeypatch.setattr(type(opened), "send_to", full)
        finished(opened.send(bytes(40), here))
        assert len(attempts) == 50
        assert finished(opened.receive())[0] == bytes(40)
        with pytest.raises(QuotaExceeded):
            finished(opened.send(bytes(40), here))


@pytest.mark.parametrize("denied", [(), ("tracker.example",)])
def test_a_datagram_that_waited_is_judged_again(denied: tuple[str, ...]) -> None:
    """While it waits, a look-up finds that its address belongs to a denied name; without the rule it is sent."""

    class Full:
        room = staticmethod(lambda opened: ((), (opened.fileno(),)))
        send = staticmethod(lambda *_: (_ for _ in ()).throw(BlockingIOError()))

    known = wire.names(alias_org=["127.0.0.1", "tracker.example"])
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
        wire.guest("local:*", "alias.org:*", deny=denied, resolver=known) as made,
    ):
        peer.bind(("127.0.0.1", 0))
        network = made.grants.network
        opener, sending = network._opener, udp(made).send(b"x", at(peer.getsockname()[1]))
        network._opener = Full()  # type: ignore[assignment]
        assert not sending.ready()
        network._opener = opener
        if denied:
            assert refusal(wire.look_up, made, "alias.org") == "name-unresolvable"
            with pytest.raises(Err) as caught:
                finished(sending)
            assert spelled(caught.value.value) == "access-denied"
            peer.setblocking(False)
            with pytest.raises(BlockingIOError):
                peer.recv(9)
        else:
            assert wire.look_up(made, "alias.org")
            finished(sending)
            assert peer.recv(9) == b"x"


def test_a_flood_of_denied_datagrams_ends_no_wait_and_keeps_no_check_busy() -> None:
    with guest("udp://127.0.0.2:*") as made, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        opened = udp(made)
        finished(opened.send(b"x", at(9, "127.0.0.2")))
        port = opened.get_local_address().value.port
        for _ in range(40):
            stranger.sendto(b"flood", ("127.0.0.1", port))
        waiting = opened.receive()
        assert [waiting.ready() for _ in range(4)] == [False] * 4
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.2", 0))
            peer.sendto(b"heard", ("127.0.0.1", port))
            assert finished(waiting)[0] == b"heard"


# -- options and errors --------------------------------------------------------------------------------


def test_options_are_kept_and_zero_is_refused() -> None:
    with guest() as made, guest("tcp://127.0.0.1:1") as reaching:
        for place in (made, reaching):
            options: dict[Any, dict[str, int]] = {
                tcp(place): {
                    "keep_alive_idle_time": 5_000_000_000, "keep_alive_interval": 7_000_000_000, "keep_alive_count": 3,
                    "hop_limit": 9, "receive_buffer_size": 65536, "send_buffer_size": 65536,
                },
                udp(place): {"unicast_hop_limit": 9, "receive_buffer_size": 65536, "send_buffer_size": 65536},
            }  # fmt: skip
            for opened, values in options.items():
                for name, value in values.items():
                    getattr(opened, f"set_{name}")(value)
                    assert getattr(opened, f"get_{name}")() == value, name
                    assert code(getattr(opened, f"set_{name}"), 0) == "invalid-argument", name
            opened = next(iter(options))
            opened.set_keep_alive_enabled(True)
            assert opened.get_keep_alive_enabled()
            for name in ("keep_alive_idle_time", "keep_alive_interval"):
                getattr(opened, f"set_{name}")((1 << 64) - 1)  # clamped
                assert getattr(opened, f"get_{name}")() == 32767 * 10**9
                getattr(opened, f"set_{name}")(1)  # rounded up
                assert getattr(opened, f"get_{name}")() == 10**9


@pytest.mark.parametrize("number", sorted(set(errno.errorcode) | {0, 4000}))
def test_an_error_of_the_system_has_the_same_code_as_in_the_version_before(number: int) -> None:
    error = OSError(number, "x")
    expected, made = types_of_two.code_of(error).value, types_of_three.code_of(error)
    new = {errno.EPIPE: "connection-broken", errno.EALREADY: "invalid-state", errno.EAFNOSUPPORT: "invalid-argument"}
    if number in new:
        assert spelled(made) == new[number]
    elif expected == "unknown":
        assert made == three.ErrorCodeOther(None)
    elif expected in ("new-socket-limit", "would-block"):
        assert made == three.ErrorCodeOther(expected)
    else:
        assert spelled(made) == expected


# -- limits and names ----------------------------------------------------------------------------------


def test_the_sockets_of_both_versions_count_together(server: int) -> None:
    with guest(*LOCAL, limits={"sockets": 2, "connections": 2}) as made:
        older, newer = wire.tcp(made), tcp(made)
        assert code(tcp, made) == code(udp, made) == "other"
        with pytest.raises(Err) as caught:
            wire.tcp(made)
        assert caught.value.value is two.ErrorCode.NEW_SOCKET_LIMIT
        older.start_connect(None, wire.at(server))
        finished(newer.connect(at(server)))
        older.__drop__()
        with pytest.raises(QuotaExceeded, match="connections"):
            tcp(made).connect(at(server))


@pytest.mark.parametrize("family", ["4", "6"])
def test_decisions_are_those_of_the_version_before(family: str) -> None:
    """The same calls under the same rules cause the same decisions, whichever version makes them."""
    types = (wire.at6(9, 1), wire.at6(0)) if family == "6" else (wire.at(9, "10.0.0.2"), wire.at(0))
    far, near = (at6(9, 1), at6(0)) if family == "6" else (at(9, "10.0.0.2"), at(0))
    rules: Any = {"listen": ("127.0.0.1:0",)}
    with guest("10.0.0.1:5", **rules) as older, guest("10.0.0.1:5", **rules) as newer:
        first = wire.tcp(older, wire.V6 if family == "6" else wire.V4)
        second = tcp(newer, V6 if family == "6" else V4)
        with contextlib.suppress(Err):
            first.start_connect(None, types[0])
        with contextlib.suppress(Err):
            second.connect(far)
        with contextlib.suppress(Err):
            first.start_bind(None, types[1])
        with contextlib.suppress(Err):
            second.bind(near)
        seen = older.decisions, newer.decisions
    assert seen[0] == seen[1]
    assert seen[0]


def look_up(made: Guest, name: str) -> Any:
    return of(made, "ip-name-lookup").resolve_addresses(name)


def test_names_are_judged_and_bounded_as_in_the_version_before() -> None:
    known = wire.names(a_example=["9.9.9.9", "1.1.1.1", "8.8.8.8"], none_example=[])
    with guest("tcp://a.example:*", "*.example:*", resolver=known, limits={"resolver_answers": 2}) as made:
        found = finished(look_up(made, "A.example"))
        assert found == [three.IpAddressIpv4((9, 9, 9, 9)), three.IpAddressIpv4((1, 1, 1, 1))]
        assert code(look_up, made, "none.example") == code(look_up, made, "unknown.example") == "name-unresolvable"
        for wrong in ("", "a b", "x" * 300, "a..b"):
            assert code(look_up, made, wrong) == "invalid-argument", wrong
        assert code(look_up, made, "elsewhere.test") == "access-denied"
        assert finished(look_up(made, "::1")) == [three.IpAddressIpv6((0, 0, 0, 0, 0, 0, 0, 1))]


def test_more_names_than_can_be_looked_up_at_once_wait_for_each_other() -> None:
    go, under_way, most = threading.Event(), [0], [0]
    lock = threading.Lock()

    def resolve(name: str) -> list[str]:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        go.wait(20)
        with lock:
            under_way[0] -= 1
        return ["9.9.9.9"]

    try:
        with guest("*.example:*", resolver=resolve) as made:
            all_names = [look_up(made, f"n{n}.example") for n in range(3 * LOOKUPS_AT_ONCE)]
            assert not any(one.ready() for one in all_names)
            given_up = all_names.pop(0)
            given_up.cancel()
            go.set()
            assert [finished(one) for one in all_names] == [[three.IpAddressIpv4((9, 9, 9, 9))]] * len(all_names)
            assert most[0] <= LOOKUPS_AT_ONCE
    finally:
        go.set()


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (socket.EAI_NONAME, lookups.ErrorCodeNameUnresolvable),
        (socket.EAI_FAIL, lookups.ErrorCodePermanentResolverFailure),
        (socket.EAI_AGAIN, lookups.ErrorCodeTemporaryResolverFailure),
    ],
)  # fmt: skip
def test_an_error_of_the_resolver_has_its_code(number: int, expected: Any) -> None:
    def resolve(name: str) -> list[str]:
        raise socket.gaierror(number, "x")

    with guest("*.example:*", resolver=resolve) as made, pytest.raises(Err) as caught:
        finished(look_up(made, "a.example"))
    assert caught.value.value == expected()


def test_at_the_limit_of_sockets_no_name_is_looked_up() -> None:
    with guest("*.example:*", resolver=lambda name: ["9.9.9.9"], limits={"sockets": 1}) as made:
        opened = tcp(made)
        with pytest.raises(Err) as caught:
            look_up(made, "a.example")
        assert caught.value.value == lookups.ErrorCodeOther("new-socket-limit")
        opened.__drop__()
        assert finished(look_up(made, "a.example"))
