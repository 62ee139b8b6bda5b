"""Addresses and names as guests may write them: each has a single meaning, for the rules and for the system."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest

from aegis.bindings.wasi_sockets_network import IpAddressIpv4, IpAddressIpv6, IpSocketAddressIpv6, Ipv6SocketAddress
from aegis.bindings.wasi_sockets_udp import OutgoingDatagram
from aegis.host.net.network import Network
from aegis.host.preview2.socket_address import endpoint_of
from aegis.policy import NetworkCapability
from tests.host.network.wire import V4, V6, at, at6, guest, look_up, names, tcp, udp
from tests.host.preview2.guest import refusal

MANY = [at(80, "224.0.0.1"), at(80, "239.255.255.250"), at(80, "255.255.255.255"), at6(80, 0xFF02, 1)]


@pytest.mark.parametrize("address", MANY, ids=["multicast", "ssdp", "broadcast", "multicast 6"])
def test_no_connection_is_with_many(address: Any) -> None:
    with guest("0.0.0.0/0:*", "[::]/0:*", listen=("0.0.0.0/0:*", "[::]/0:*")) as made:
        opened = tcp(made, V6 if isinstance(address, IpSocketAddressIpv6) else V4)
        assert refusal(opened.start_connect, None, address) == "invalid-argument"
        assert refusal(opened.start_bind, None, address) == "invalid-argument"
        assert made.decisions == []


@pytest.mark.skipif(sys.platform != "linux", reason="what Linux tells twofold")
def test_a_buffers_size_reads_as_it_was_set() -> None:
    with guest() as made:
        for opened in (tcp(made), udp(made)):
            for name in ("receive_buffer_size", "send_buffer_size"):
                getattr(opened, f"set_{name}")(65536)
                assert getattr(opened, name)() == 65536


def test_flow_and_scope_reach_the_system_and_no_rule() -> None:
    address = IpSocketAddressIpv6(Ipv6SocketAddress(80, 7, (0xFE80, 0, 0, 0, 0, 0, 0, 1), 3))
    assert endpoint_of(address, V6).system() == ("fe80::1", 80, 7, 3)
    assert endpoint_of(at(80), V4).system() == ("127.0.0.1", 80)
    with guest("local:80") as made:
        too_much = IpSocketAddressIpv6(Ipv6SocketAddress(80, 1 << 20, (0, 0, 0, 0, 0, 0, 0, 1), 0))
        assert refusal(tcp(made, V6).start_connect, None, too_much) == "invalid-argument"


def test_of_the_streams_of_a_socket_only_the_latest_work() -> None:
    with guest("udp://127.0.0.1:*") as made, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        port = peer.getsockname()[1]
        opened = udp(made)
        heard, said = opened.stream(at(port))
        assert said.check_send() > 0
        _, latest = opened.stream(None)
        for call in (lambda: heard.receive(1), said.check_send, lambda: said.send([OutgoingDatagram(b"x", None)])):
            assert refusal(call) == "invalid-state"
        assert latest.check_send() > 0
        assert latest.send([OutgoingDatagram(b"now", at(port))]) == 1


# -- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["::ffff:127.0.0.1", "[::ffff:7f00:1]", "0x7f.1", "127.0.0.1"])
def test_no_answer_is_an_ipv4_address_in_ipv6_clothes(text: str) -> None:
    loopback = IpAddressIpv4((127, 0, 0, 1))
    with guest() as made:
        assert look_up(made, text) == [loopback]
    with guest("local:*", resolver=names(localhost=[text, "127.0.0.1", "::1"])) as made:
        assert look_up(made, "localhost") == [loopback, IpAddressIpv6((0, 0, 0, 0, 0, 0, 0, 1))]
        assert made.grants.network.may_connect("tcp", "127.0.0.1", 1)


@pytest.mark.parametrize(
    "name", ["a b", "a..example", "-a.example", "http://a.example", "1.2.3.999", "a\0", "y." * 127]
)
def test_an_invalid_name_is_an_invalid_argument(name: str) -> None:
    with guest("public:*") as made:
        assert refusal(look_up, made, name) == "invalid-argument"
        assert made.decisions == []


LOOKUPS = [
    ("local:*", "localhost", True),
    ("local:*", "db.localhost", True),
    ("local:*", "secret.evil.example", False),
    ("private:*", "secret.evil.example", False),
    ("10.0.0.0/8:*", "secret.evil.example", False),
    ("public:*", "any.example", True),
]


@pytest.mark.parametrize(("rule", "name", "asked"), LOOKUPS)
def test_a_rule_for_internal_addresses_permits_no_external_look_up(rule: str, name: str, asked: bool) -> None:
    heard: list[str] = []
    with guest(rule, resolver=lambda n: heard.append(n) or ["1.1.1.1", "127.0.0.1"]) as made:  # type: ignore[func-returns-value]
        if asked:
            assert look_up(made, name)
        else:
            assert refusal(look_up, made, name) == "access-denied"
            assert made.denied == [f"--allow-net tcp://{name}:PORT"]
    assert heard == [name] * asked


def test_remembered_names_are_bounded() -> None:
    with guest() as made:
        network = Network(NetworkCapability(allow=["*.example:1"]), made.wasi.limits, made.door)
        judge = network._judge
        for n in range(5000):
            judge.permitted("a.example", [f"1.1.{n // 250}.{n % 250}"], 64)
        for n in range(100):
            judge.permitted(f"n{n}.example", ["8.8.8.8"], 64)
        assert len(judge._names) == 4096
        assert len(judge._names["8.8.8.8"]) == 16
        assert not network.may_connect("tcp", "1.1.0.0", 1)
        assert network.may_connect("tcp", "8.8.8.8", 1)
        assert network.may_connect("tcp", "1.1.19.249", 1)
