"""A compromised worker has no network access of its own: the parent looks names up and connects, by the policy.

Each attack is tried with the grant that permits it and without. Servers are on loopback, at several of its addresses.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from aegis import FilesystemCapability, NetworkCapability, WorkerCrashed
from tests.isolation.names import Names, sockets_and_files
from tests.isolation.peers import echo
from tests.isolation.takeover import Captive, captive

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers need Linux")

NETWORK = NetworkCapability(allow=["tcp://*.example:80", "https://public.example", "public:443"])
INET, INET6, UNIX, STREAM, DGRAM = 2, 10, 1, 1, 2
TCP: list[Any] = ["tcp", "", None]
MADE = ["made", 0]


@pytest.fixture(autouse=True, scope="module")
def _fork_server() -> None:
    """Start the fork server, whose socket stays open, before descriptors are counted."""
    with captive():
        pass


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path


@contextmanager
def datagrams() -> Iterator[tuple[int, socket.socket]]:
    """Yield the port of a UDP socket at every loopback address, and the socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", 0))
        server.setblocking(False)
        yield server.getsockname()[1], server


def rules_of(events: list[Any]) -> list[str]:
    """Return the rules in the denials among events."""
    return [event.rule for event in events if event.kind == "capability_checked" and not event.allowed]


# -- sockets of its own --------------------------------------------------------------------------------------


GRANTS: dict[str, NetworkCapability | None] = {
    "nothing": None,
    "tcp": NetworkCapability(allow=["tcp://127.0.0.1:*"]),
    "udp": NetworkCapability(allow=["udp://127.0.0.1:*"]),
    "listen": NetworkCapability(allow=["127.0.0.1:*"], listen=["127.0.0.1:*"]),
}


@pytest.mark.parametrize("grant", GRANTS)
def test_no_grant_gives_a_worker_a_call_that_makes_binds_or_connects_a_socket(grant: str) -> None:
    with captive(network=GRANTS[grant]) as attacker:
        assert attacker("calls_of_sockets", port=9) == []
        assert attacker("connect", port=9).errno == errno.EPERM
        assert attacker("connect_fast", port=9).errno == errno.EPERM
        assert attacker("bind", port=0).errno == errno.EPERM


@pytest.mark.parametrize("grant", GRANTS)
def test_a_worker_cannot_query_the_peers_of_its_sockets(grant: str) -> None:
    with captive(network=GRANTS[grant]) as attacker:
        assert attacker("peers") == {}


@pytest.mark.parametrize("grant", GRANTS)
def test_a_worker_is_in_a_network_of_its_own_whatever_is_granted(grant: str) -> None:
    with captive(network=GRANTS[grant]) as attacker:
        details = {name: detail for name, _, detail in attacker.sandbox.layers}
    assert details["namespaces"].startswith("own net, ipc, uts")
    assert "no TCP bind or connect" in details["landlock-net"]


def test_the_sockets_that_a_worker_holds_reach_no_other_socket(tree: Path) -> None:
    path = str(tree / "server")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        os.chmod(path, 0o777)
        policy = {"filesystem": FilesystemCapability.read_write(f"{tree}::/all"), "network": NETWORK}
        with captive(**policy) as attacker:
            assert attacker("connect_held_sockets", path="/server") == []
        with pytest.raises(BlockingIOError):
            server.recv(1, socket.MSG_DONTWAIT)


# -- connections --------------------------------------------------------------------------------------------


def test_the_parent_connects_to_exactly_the_allowed_addresses() -> None:
    events: list[Any] = []
    with echo() as (port, heard):
        allowed = NetworkCapability(allow=[f"tcp://127.0.0.1:{port}"])
        with captive(network=allowed, subscribers=[events.append]) as attacker:
            assert attacker("reach_by_parent", host="127.0.0.1", port=port, text="allowed") == "allowed"
            for host in ("127.0.0.2", "127.1.2.3", "0.0.0.0", "10.0.0.1", "169.254.169.254", "255.255.255.255"):
                assert attacker("reach_by_parent", host=host, port=port) == errno.EACCES
            for other in (port - 1, port + 1, 1, 65535, 0):
                assert attacker("reach_by_parent", host="127.0.0.1", port=other) == errno.EACCES
        assert heard == [b"allowed"]
    denied = rules_of(events)
    assert len(denied) == 11
    assert f"nothing allows tcp://127.0.0.2:{port}" in denied


@pytest.mark.parametrize("deny", ["127.0.0.2", "tcp://127.0.0.2/31:1-65535", "https://127.0.0.2"])
def test_a_denied_address_within_an_allowed_network_is_not_reached(deny: str) -> None:
    with echo() as (port, heard):
        rules = NetworkCapability(allow=["tcp://127.0.0.0/8:*", "tcp://[::]/0:*", "tcp://0.0.0.0/0:*"], deny=[deny])
        with captive(network=rules) as attacker:
            order = {"host": "127.0.0.2", "port": port}
            assert attacker("reach_by_parent", host="127.0.0.1", port=port, text="one") == "one"
            assert attacker("reach_by_parent", **order) == errno.EACCES
            for spelling in ("::ffff:127.0.0.2", "64:ff9b::7f00:2", "2002:7f00:2::"):
                where = [str(ip_address(spelling)), port, 0, 0]
                steps = [["open", INET6, STREAM], ["connect", MADE, *TCP, where]]
                assert attacker("direct_sockets", steps=steps)[1] == errno.EACCES, spelling
        with captive(network=NetworkCapability(allow=rules.allow)) as attacker:
            assert attacker("reach_by_parent", **order) == "ping"
        assert heard == [b"one", b"ping"]


@pytest.mark.parametrize("spelling", ["0.0.0.0", "::", "::ffff:0.0.0.0"])
def test_an_unspecified_address_is_no_other_name_of_loopback(spelling: str) -> None:
    with echo() as (port, heard):
        rules = NetworkCapability(allow=["0.0.0.0/0:*", "[::]/0:*"], deny=["local"])
        with captive(network=rules) as attacker:
            family, rest = (INET6, [0, 0]) if ":" in spelling else (INET, [])
            where = [str(ip_address(spelling)), port, *rest]
            steps = [["open", family, STREAM], ["connect", MADE, *TCP, where]]
            assert attacker("direct_sockets", steps=steps)[1] == errno.EACCES
        assert heard == []


def test_an_alias_of_a_denied_name_closes_its_address_for_open_and_later_sockets(names: Names) -> None:
    names.known |= {"alias.localhost": ["127.0.0.1"]}
    names.aliases["alias.localhost"] = "tracker.example"
    with echo() as (port, heard):
        rules = NetworkCapability(allow=[f"local:{port}"], deny=["https://tracker.example"])
        with captive(network=rules) as attacker:
            order = {"host": "127.0.0.1", "port": port}
            assert attacker("reach_by_parent", name="first", **order) == "ping"
            found = attacker("ask_for_names", names=[(0, "alias.localhost")], answers=1)
            assert found == [[0, [], True, None]], "nor does the worker receive the address"
            assert attacker("use_again", name="first") == "", "the parent hung up"
            assert attacker("reach_by_parent", **order) == errno.EACCES
        assert heard == [b"ping"]


def test_a_worker_that_accepts_receives_the_denied_addresses(names: Names) -> None:
    names.known |= {"alias.localhost": ["127.0.0.1"]}
    names.aliases["alias.localhost"] = "tracker.example"
    rules = NetworkCapability(allow=["local:9"], listen=["tcp://127.0.0.1:9"], deny=["https://tracker.example"])
    with captive(network=rules) as attacker:
        found = attacker("ask_for_names", names=[(0, "alias.localhost")], answers=1)
    assert found == [[0, ["127.0.0.1", "tracker.example"], True, None]]


def test_a_copy_of_a_connection_that_was_said_to_be_closed_is_of_no_use() -> None:
    with echo() as (port, heard), captive(network=NetworkCapability(allow=[f"tcp://127.0.0.1:{port}"])) as attacker:
        assert attacker("reach_by_parent", name="one", host="127.0.0.1", port=port, text="before") == "before"
        assert attacker("close_and_keep", name="one") == ""
        assert heard == [b"before"]


def test_no_connection_outlives_its_sandbox_in_a_worker_that_serves_another() -> None:
    with echo() as (port, heard):
        policy = {"network": NetworkCapability(allow=[f"tcp://127.0.0.1:{port}"]), "isolation": {"recycle": 3}}
        with captive(**policy) as attacker:
            runtime, artifact = attacker.runtime, attacker.artifact
            assert attacker("reach_by_parent", name="kept", host="127.0.0.1", port=port, text="one") == "one"
            attacker.sandbox.close()
            with runtime.sandbox(artifact) as following:
                assert Captive(following, runtime, artifact)("use_again", name="kept") == ""
        assert heard == [b"one"]


def test_a_socket_that_the_worker_lets_block_does_not_hold_up_its_parent() -> None:
    """The server's queue is full, so no connection is established: connect(2) on a blocking socket would wait."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        waiting = []
        for _ in range(8):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        with captive(network=NetworkCapability(allow=[f"tcp://127.0.0.1:{port}"])) as attacker:
            assert attacker("connect_blocking", port=port) == errno.EINPROGRESS
        for client in waiting:
            client.close()


# -- HTTP ---------------------------------------------------------------------------------------------------


OTHER_REQUESTS = [
    ["http", "127.0.0.1", "POST"], ["http", "127.0.0.1", ""], ["https", "127.0.0.1", "GET"],
    ["http", "evil.example", "GET"], ["http", "localhost", "GET"], ["http", "127.0.0.2", "GET"],
]  # fmt: skip


def test_a_rule_for_http_lets_the_parent_connect_for_a_request_that_it_allows() -> None:
    with echo() as (port, heard):
        rules = NetworkCapability(allow=[f"GET http://127.0.0.1:{port}"])
        with captive(network=rules) as attacker:
            order = {"host": "127.0.0.1", "port": port}
            for purpose in (TCP, *OTHER_REQUESTS):
                assert attacker("reach_by_parent", **order, purpose=purpose) == errno.EACCES, purpose
            other = {"host": "127.0.0.2", "port": port}
            assert attacker("reach_by_parent", **other, purpose=["http", "127.0.0.1", "GET"]) == errno.EACCES
            assert heard == []
            assert attacker("reach_by_parent", **order, purpose=["http", "127.0.0.1", "GET"], text="GET /") == "GET /"


def test_on_an_allowed_connection_a_worker_writes_any_bytes() -> None:
    """A limit of the isolation: neither method nor framing is enforced for a compromised worker."""
    request = "POST / HTTP/1.1\r\nHost: other.example\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello"
    with echo() as (port, heard):
        order = {"host": "127.0.0.1", "port": port, "purpose": ["http", "127.0.0.1", "GET"], "text": request}
        with captive(network=NetworkCapability(allow=[f"GET http://127.0.0.1:{port}"])) as attacker:
            assert attacker("reach_by_parent", **order) == request
        with captive(network=NetworkCapability(allow=[f"GET http://127.0.0.2:{port}"])) as attacker:
            assert attacker("reach_by_parent", **order) == errno.EACCES
        assert heard == [request.encode()]


def test_a_request_to_a_name_is_connected_to_addresses_of_that_name_alone(names: Names) -> None:
    names.known |= {"a.localhost": ["127.0.0.1"], "b.localhost": ["127.0.0.2"]}
    with echo() as (port, _):
        rules = NetworkCapability(allow=[f"local:{port}"], deny=["127.0.0.9"])
        with captive(network=rules) as attacker:
            order = {"host": "127.0.0.1", "port": port}
            assert attacker("reach_by_parent", **order, purpose=["http", "a.localhost", "GET"]) == errno.EACCES
            attacker("ask_for_names", names=[(0, "a.localhost"), (1, "b.localhost")], answers=2)
            assert attacker("reach_by_parent", **order, purpose=["http", "a.localhost", "GET"]) == "ping"
            assert attacker("reach_by_parent", **order, purpose=["http", "A.LOCALHOST.", "GET"]) == "ping"
            assert attacker("reach_by_parent", **order, purpose=["http", "b.localhost", "GET"]) == errno.EACCES


# -- datagrams ----------------------------------------------------------------------------------------------


def test_the_parent_sends_datagrams_to_exactly_the_allowed_addresses() -> None:
    with datagrams() as (port, server):
        with captive(network=NetworkCapability(allow=[f"udp://127.0.0.1:{port}"], deny=["127.0.0.3"])) as attacker:
            targets = ["127.0.0.2", "127.0.0.3", "0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1"]
            steps = [["open", INET, DGRAM], *(["send", MADE, b"to " + t.encode(), [t, port]] for t in targets)]
            assert attacker("direct_sockets", steps=steps)[1:] == [errno.EACCES] * 5 + [0]
            assert attacker("send_past_the_parent", port=port) == []
            assert server.recv(100) == b"to 127.0.0.1"
            with pytest.raises(BlockingIOError):
                server.recv(100)
        with captive(network=NetworkCapability(allow=[f"tcp://127.0.0.1:{port}"])) as attacker:
            assert attacker("direct_sockets", steps=[steps[0], steps[-1]])[1] == errno.EACCES
        with pytest.raises(BlockingIOError):
            server.recv(100)


def test_a_datagram_of_a_stranger_does_not_reach_a_worker() -> None:
    with datagrams() as (port, server):
        rules = NetworkCapability(allow=[f"udp://127.0.0.1:{port}"])
        with captive(network=rules) as attacker:
            made = [["open", INET, DGRAM], ["send", MADE, b"hello", ["127.0.0.1", port]], ["name", MADE]]
            number, _, name = attacker("direct_sockets", steps=made)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(b"a secret", ("127.0.0.1", name[1]))
                receive = [["receive", number[0]]]
                assert attacker("direct_sockets", steps=receive) == [[8, None, None]]
            server.sendto(b"an answer", ("127.0.0.1", name[1]))
            assert attacker("direct_sockets", steps=receive) == [[9, ["127.0.0.1", port], b"an answer"]]
            assert attacker("direct_sockets", steps=receive) == [errno.EAGAIN]


# -- servers ------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("kind", [STREAM, DGRAM])
def test_the_parent_binds_exactly_the_addresses_that_a_rule_lets_listen(kind: int) -> None:
    port = free_port()
    with captive(network=NetworkCapability(allow=["127.0.0.1:9"], listen=[f"127.0.0.1:{port}"])) as attacker:
        places = [["127.0.0.2", port], ["0.0.0.0", port], ["127.0.0.1", port + 1], ["127.0.0.1", 0]]
        places.append(["127.0.0.1", port])
        steps = [["open", INET, kind], *(["bind", MADE, place] for place in places)]
        assert attacker("direct_sockets", steps=steps)[1:] == [errno.EACCES] * 4 + [0]
    with captive(network=NetworkCapability(allow=["127.0.0.1:9"])) as attacker:
        assert attacker("direct_sockets", steps=[steps[0], steps[-1]])[1] == errno.EACCES


def test_a_worker_listens_at_no_port_that_the_kernel_chooses() -> None:
    port = free_port()
    with captive(network=NetworkCapability(listen=[f"tcp://127.0.0.1:{port}"])) as attacker:
        unbound = [["open", INET, STREAM], ["listen", MADE, 5]]
        assert attacker("direct_sockets", steps=unbound)[1] == errno.EACCES
        anywhere = [["open", INET, STREAM], ["bind", MADE, ["0.0.0.0", 0]], ["listen", MADE, 5]]
        assert attacker("direct_sockets", steps=anywhere)[1:] == [0, errno.EACCES]


def test_a_worker_that_may_listen_accepts_connections_and_one_that_may_not_does_not() -> None:
    port = free_port()

    def client() -> None:
        for _ in range(1000):  # until the server is listening
            with socket.socket() as end:
                if not end.connect_ex(("127.0.0.1", port)):
                    end.sendall(b"client")
                    return
            done.wait(0.01)

    done = threading.Event()
    thread = threading.Thread(target=client)
    thread.start()
    with captive(network=NetworkCapability(listen=[f"tcp://127.0.0.1:{port}"])) as attacker:
        assert attacker("accept_one", host="127.0.0.1", port=port) == "client"
    thread.join()
    with captive(network=NetworkCapability(allow=[f"tcp://127.0.0.1:{port}"])) as attacker:
        assert attacker("accept_one", host="127.0.0.1", port=port) == "EACCES"


# -- requests that no worker makes ---------------------------------------------------------------------------


LIES: list[list[Any]] = [
    [["open", UNIX, STREAM]],
    [["open", 16, 3]],
    [["open", INET, 3]],
    [["open", INET, STREAM, 262]],
    [["open", "2", 1]],
    [["open", [], {}]],
    [["shut", 0]],
    [[7]],
    [["open", INET, STREAM], ["connect", 99, *TCP, ["127.0.0.1", 9]]],
    [["open", INET, STREAM], ["connect", -1, *TCP, ["127.0.0.1", 9]]],
    [["open", INET, STREAM], ["connect", MADE, *TCP, ["localhost", 9]]],
    [["open", INET, STREAM], ["connect", MADE, *TCP, ["127.1", 9]]],
    [["open", INET, STREAM], ["connect", MADE, *TCP, ["::1", 9, 0, 0]]],
    [["open", INET, STREAM], ["connect", MADE, *TCP, ["127.0.0.1", 65536]]],
    [["open", INET, STREAM], ["connect", MADE, *TCP, ["127.0.0.1", "9"]]],
    [["open", INET, STREAM], ["connect", MADE, *TCP, "127.0.0.1"]],
    [["open", INET6, STREAM], ["connect", MADE, *TCP, ["::1", 9]]],
    [["open", INET6, STREAM], ["connect", MADE, *TCP, ["::1%lo", 9, 0, 0]]],
    [["open", INET6, STREAM], ["connect", MADE, *TCP, ["::1", 9, 0, 1 << 40]]],
    [["open", INET, STREAM], ["connect", MADE, "udp", "", None, ["127.0.0.1", 9]]],
    [["open", INET, STREAM], ["connect", MADE, "tcp", "a.example", None, ["127.0.0.1", 9]]],
    [["open", INET, STREAM], ["connect", MADE, "http", "", "GET", ["127.0.0.1", 9]]],
    [["open", INET, STREAM], ["connect", MADE, "http", "a" * 300, "GET", ["127.0.0.1", 9]]],
    [["open", INET, STREAM], ["connect", MADE, "http", "a.example", 5, ["127.0.0.1", 9]]],
    [["open", INET, STREAM], ["send", MADE, b"x", ["127.0.0.1", 9]]],
    [["open", INET, STREAM], ["receive", MADE]],
    [["open", INET, DGRAM], ["connect", MADE, *TCP, ["127.0.0.1", 9]]],
    [["open", INET, DGRAM], ["listen", MADE, 5]],
    [["open", INET, DGRAM], ["send", MADE, "text", ["127.0.0.1", 9]]],
    [["open", INET, DGRAM], ["send", MADE, b"x" * 65508, ["127.0.0.1", 9]]],
    [["open", INET, DGRAM], ["set", MADE, 1, 26, 1]],
    [["open", INET, DGRAM], ["set", MADE, 1, 8, 1 << 31]],
    [["open", INET, DGRAM], ["get", MADE, 1, 17]],
    [["open", INET, STREAM], ["listen", MADE, 1 << 20]],
    [["open", INET, STREAM], ["close", MADE], ["close", MADE]],
]


@pytest.mark.parametrize("steps", LIES, ids=str)
def test_a_request_about_sockets_that_no_worker_makes_ends_it(steps: list[Any]) -> None:
    before = sockets_and_files()
    rules = NetworkCapability(allow=["127.0.0.1:9", "[::1]:9"], listen=["127.0.0.1:9"])
    with captive(network=rules) as attacker, pytest.raises(WorkerCrashed, match="broke the protocol"):
        attacker("direct_sockets", steps=steps)
    assert sockets_and_files() == before


@pytest.mark.parametrize("number", [1, None])
def test_a_worker_without_a_network_cannot_have_sockets_created(number: int | None) -> None:
    messages = [["socket", number, "open", INET, STREAM]]
    with captive() as attacker, pytest.raises(WorkerCrashed, match="no network grant"):
        attacker("say", messages=messages)


def test_the_parent_makes_no_more_sockets_than_the_limit() -> None:
    with captive(network=NETWORK, sockets=3) as attacker:
        steps = [["open", INET, STREAM], ["open", INET, DGRAM], *[["open", INET6, STREAM]] * 3, ["close", MADE]]
        answers = attacker("direct_sockets", steps=[*steps, ["open", INET, STREAM]])
    assert answers == [[0], [1], [2], errno.EMFILE, errno.EMFILE, None, [3]]


def test_a_worker_that_does_not_take_its_sockets_gets_no_more_of_them() -> None:
    """Few packets are in flight, because the kernel bounds them for all sandboxes of a user together."""
    steps = [step for n in range(0, 40, 2) for step in (["open", INET, STREAM], ["close", ["made", n]])]
    with (
        captive(network=NETWORK) as attacker,
        pytest.raises(WorkerCrashed, match="does not receive the descriptors of its sockets"),
    ):
        attacker("direct_sockets", steps=steps)


def test_the_parent_makes_no_more_connections_than_the_limit() -> None:
    with captive(network=NETWORK, connections=3) as attacker:
        steps = [["open", INET, STREAM], *[["connect", MADE, *TCP, ["10.0.0.1", 80]]] * 4]
        with pytest.raises(WorkerCrashed, match="connection limit exceeded"):
            attacker("direct_sockets", steps=steps)


def test_the_parent_passes_no_more_bytes_in_datagrams_than_the_limit() -> None:
    with datagrams() as (port, _):
        steps = [["open", INET, DGRAM], *[["send", MADE, b"x" * 60_000, ["127.0.0.1", port]]] * 4]
        rules = NetworkCapability(allow=[f"udp://127.0.0.1:{port}"])
        with (
            captive(network=rules, network_bytes=100_000) as attacker,
            pytest.raises(WorkerCrashed, match="datagram bytes exceed network_bytes"),
        ):
            attacker("direct_sockets", steps=steps)


def test_the_sockets_of_a_sandbox_end_with_it() -> None:
    before = sockets_and_files()
    with captive(network=NetworkCapability(allow=["127.0.0.1:9"])) as attacker:
        attacker("reach_by_parent", host="127.0.0.1", port=9)
        attacker("direct_sockets", steps=[["open", INET, DGRAM], ["open", INET6, STREAM]])
        assert sockets_and_files() >= before + 3
    assert sockets_and_files() == before


# -- ports --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 65, 4096, 30_000])
def test_the_ports_of_a_rule_are_kept_however_many_they_are(count: int) -> None:
    with echo() as (port, _):
        low, high = (port, port + count - 1) if port + count < 65535 else (port - count + 1, port)
        other = low - 1 if low > 1024 else high + 1
        with captive(network=NetworkCapability(allow=[f"tcp://127.0.0.0/8:{low}-{high}"])) as attacker:
            assert attacker("reach_by_parent", host="127.0.0.1", port=port) == "ping"
            assert attacker("reach_by_parent", host="127.0.0.1", port=other) == errno.EACCES


@pytest.mark.parametrize("rule", ["udp://127.0.0.1:*", "udp://127.0.0.1:1-60000"])
def test_ports_of_datagrams_open_no_tcp_port(rule: str) -> None:
    with echo() as (port, _), captive(network=NetworkCapability(allow=[rule])) as attacker:
        assert attacker("reach_by_parent", host="127.0.0.1", port=port) == errno.EACCES


def test_a_name_opens_no_port_for_a_resolver() -> None:
    with captive(network=NETWORK) as attacker:
        assert attacker("reach_by_parent", host="127.0.0.53", port=53) == errno.EACCES
