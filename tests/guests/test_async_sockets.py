"""A program for WASI 0.3 that uses the network, in process and isolated: each grant is needed, and enough."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

import aegis
from aegis import NetworkCapability, Outcome
from aegis.errors import QuotaExceeded
from aegis.observe.events import Event
from tests.guests import catalogue
from tests.host.http.servers import raw_server
from tests.host.network.wire import echo

pytestmark = [
    pytest.mark.parametrize("isolate", [False, True], ids=["in process", "isolated"]),
    pytest.mark.usual(one_of="isolate"),
]
LOCAL = "tcp://127.0.0.1:*"


def run(
    isolate: bool, *args: object, allow: tuple[str, ...] = (), listen: tuple[str, ...] = (), **policy: Any
) -> Outcome:
    network = NetworkCapability(allow=allow, listen=listen)
    return aegis.run(
        catalogue.built("py-async-sockets"), args=[str(word) for word in args], fuel=None, isolation=isolate or None,
        network=network, **({"timeout": "60s", "sockets": 100} | policy),
    )  # fmt: skip


def test_a_client_needs_its_rule(isolate: bool) -> None:
    with raw_server(echo) as port:
        denied = run(isolate, "client", "127.0.0.1", port, "text")
        assert denied.stdout == b"refused: AccessDenied\n"
        assert [d.remedy for d in denied.denials] == [f"--allow-net tcp://127.0.0.1:{port}"]
        granted = run(isolate, "client", "127.0.0.1", port, "text", allow=(f"tcp://127.0.0.1:{port}",))
        assert granted.stdout == b"got b'text'\n"


def test_many_clients_wait_at_once(isolate: bool) -> None:
    """The server answers no one before all are connected: clients that waited for each other would never end."""
    count = 30
    everybody = threading.Barrier(count)

    def answer(connection: socket.socket) -> None:
        data = connection.recv(100)
        everybody.wait(60)
        connection.sendall(data)

    with raw_server(answer) as port:
        ended = run(isolate, "clients", "127.0.0.1", port, count, allow=(LOCAL,))
        assert ended.stdout == b"%d right\n" % count


def test_a_server_and_its_clients_in_one_program(isolate: bool) -> None:
    assert run(isolate, "both", 20, allow=(LOCAL,), listen=(LOCAL,)).stdout == b"20 right\n"
    assert run(isolate, "both", 1, allow=(LOCAL,)).stdout == b"refused: AccessDenied\n"


def test_bytes_arrive_intact_in_both_directions_at_once(isolate: bool) -> None:
    with raw_server(echo) as port:
        assert run(isolate, "bulk", "127.0.0.1", port, 8 << 20, allow=(LOCAL,)).stdout == b"intact True\n"
        ended = run(isolate, "bulk", "127.0.0.1", port, 8 << 20, allow=(LOCAL,), network_bytes=1 << 20)
        assert isinstance(ended.error, QuotaExceeded)
        assert ended.error.limit == "network_bytes"


def test_a_server_answers_all_its_connections(isolate: bool) -> None:
    """The clients begin when the event of the call ``listen`` is seen."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answers: list[bytes] = []

    def client(n: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"text %d" % n)
            connection.shutdown(socket.SHUT_WR)
            answers.append(connection.recv(100, socket.MSG_WAITALL))

    clients = [threading.Thread(target=client, args=(n,)) for n in range(5)]

    def watch(event: Event) -> None:
        if event.kind == "host_function_called" and "tcp-socket.listen" in getattr(event, "name", ""):
            for one in clients:
                one.start()

    ended = run(isolate, "server", port, 5, listen=(f"tcp://127.0.0.1:{port}",), subscribers=[watch])
    for one in clients:
        one.join()
    assert ended.stdout == f"listening at {port}\nserved\n".encode()
    assert sorted(answers) == [b"TEXT %d" % n for n in range(5)]
    denied = run(isolate, "server", port, 5, allow=(LOCAL,))
    assert denied.stdout == b"refused: AccessDenied\n"


def test_a_datagram_needs_its_rule(isolate: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(60)
        port = peer.getsockname()[1]

        def answer() -> None:
            data, sender = peer.recvfrom(100)
            peer.sendto(data.upper(), sender)

        assert run(isolate, "datagram", "127.0.0.1", port).stdout == b"refused: AccessDenied\n"
        answering = threading.Thread(target=answer)
        answering.start()
        ended = run(isolate, "datagram", "127.0.0.1", port, allow=(f"udp://127.0.0.1:{port}",))
        answering.join()
        assert ended.stdout == b"got b'PING' from %d\n" % port


def test_names_are_looked_up_at_once_with_their_rule(isolate: bool) -> None:
    """More names than a sandbox may look up at the same time: the others wait."""
    names = ["localhost"] * 7
    assert run(isolate, "lookup", *names).stdout == b"refused: AccessDenied\n"
    ended = run(isolate, "lookup", *names, "127.0.0.2", allow=("tcp://localhost:*", LOCAL))
    assert ended.stdout == f"{[[(127, 0, 0, 1)]] * 7 + [[(127, 0, 0, 2)]]}\n".encode()


def test_sockets_of_both_versions_work_at_once(isolate: bool) -> None:
    with raw_server(echo) as port:
        ended = run(isolate, "mixed", "127.0.0.1", port, allow=(LOCAL,))
        assert ended.stdout == b"got b'older' and b'newer'\n"
        assert b"refused" in run(isolate, "mixed", "127.0.0.1", port).stdout
