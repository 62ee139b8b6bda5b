"""Attacks on the network: sockets that the worker creates itself, and requests to its parent."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from typing import Any

from aegis.isolation.protocol.channel import decode
from tests.isolation.attacks.registry import attack, call, succeeds

# -- names ----------------------------------------------------------------------------------------


@attack
def look_up(order: dict[str, Any]) -> dict[str, Any]:
    """Look a name up as the host's code does."""
    network = order["session"].run.grants.network
    lookup = network.look_up(order["name"])
    while not lookup.done:
        network.scope.wait(read=(lookup.descriptor,))
    error, withheld = lookup.error, lookup.withheld
    return {"found": network.answered(lookup), "error": error and error.errno, "withheld": withheld}


@attack
def ask_for_names(order: dict[str, Any]) -> list[Any]:
    """Let the parent look names up, whatever the policy says, and return the packets that come back."""
    session = order["session"]
    for number, name in order["names"]:
        session.resolve(number, name)
    descriptor = session.descriptors[session.spec.resolver]
    packets = []
    for _ in range(order["answers"]):
        session.run.door.wait(20, read=(descriptor,))
        packets.append(decode(os.read(descriptor, 1 << 17)))
    return packets


@attack
def resolve_blindly(order: dict[str, Any]) -> None:
    """Ask for a name without a socket for the answer."""
    order["session"].resolve(1, order["name"])


@attack
def known_roots(order: dict[str, Any]) -> int:
    """Return the number of root certificates with which this process verifies servers."""
    from aegis.host.net.http.transport import roots

    return int(roots().cert_store_stats()["x509_ca"])


@attack
def begin_look_ups(order: dict[str, Any]) -> None:
    """Ask for names, and do not wait for the answers."""
    for name in order["names"]:
        order["session"].run.grants.network.look_up(name)


@attack
def connect_held_sockets(order: dict[str, Any]) -> list[str]:
    """Connect or bind each socket that the worker holds to a path, or send to one; return those that succeed."""
    found = []
    for held in [d for d in range(3, 100) if succeeds(os.fstat, d)]:
        try:
            end = socket.socket(fileno=os.dup(held))
        except OSError:
            continue
        with end:
            for way in ("connect", "bind"):
                if succeeds(getattr(end, way), order["path"] + ("" if way == "connect" else ".bound")):
                    found.append(f"{way} {held}")
            if end.type != socket.SOCK_STREAM:
                succeeds(end.sendto, b"x", order["path"])
    return found


# -- what the parent does with sockets ----------------------------------------------------------------


@attack
def direct_sockets(order: dict[str, Any]) -> list[Any]:
    """Ask the parent for each of these steps, a verb and its words; return its answers.

    A word ``["made", n]`` stands for the number of the socket that step ``n`` created.
    """
    answers: list[Any] = []
    for verb, *words in order["steps"]:
        meant = [answers[word[1]][0] if isinstance(word, list) and word[:1] == ["made"] else word for word in words]
        answers.append(order["session"].ask_sockets(verb, *meant))
    return answers


class Line:
    """A TCP connection that the parent created, held by the worker."""

    def __init__(self, session: Any) -> None:
        self.session = session
        way = socket.socket(fileno=os.dup(session.descriptors[session.spec.sockets]))
        self.number = session.ask_sockets("open", socket.AF_INET, socket.SOCK_STREAM)[0]
        self.end = socket.socket(fileno=socket.recv_fds(way, 8, 4)[1][0])

    def connect(self, host: str, port: int, purpose: list[Any]) -> int:
        """Let the parent connect it; return the error number, 0 if it is open."""
        number = int(self.session.ask_sockets("connect", self.number, *purpose, [host, port]))
        if number != errno.EINPROGRESS:
            return number
        self.session.run.door.wait(20, write=(self.end.fileno(),))
        return self.end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def ask(self, text: str) -> str:
        """Write bytes and return the reply; empty at the end of the connection."""
        try:
            self.end.sendall(text.encode())
            self.session.run.door.wait(20, read=(self.end.fileno(),))
            return self.end.recv(1000).decode()
        except ConnectionError:
            return ""


LINES: dict[str, Line] = {}
"""Connections that outlive the attack that opened them, by the names given by the test."""


@attack
def reach_by_parent(order: dict[str, Any]) -> Any:
    """Let the parent connect to an address, for the purpose in the order; return the error number, or the reply."""
    line = LINES[order.get("name", "")] = Line(order["session"])
    failed = line.connect(order["host"], order["port"], order.get("purpose", ["tcp", "", None]))
    return failed or line.ask(order.get("text", "ping"))


@attack
def use_again(order: dict[str, Any]) -> str:
    """Write on a connection that an earlier attack opened, and return the reply."""
    return LINES[order["name"]].ask("ping")


@attack
def close_and_keep(order: dict[str, Any]) -> str:
    """Tell the parent that a connection was closed, use a copy of it, and return the reply."""
    line = LINES[order["name"]]
    line.session.ask_sockets("close", line.number)
    return line.ask("ping")


@attack
def connect_blocking(order: dict[str, Any]) -> int:
    """Make the socket shared by parent and worker blocking, and let the parent connect it."""
    line = Line(order["session"])
    line.end.setblocking(True)
    return int(line.session.ask_sockets("connect", line.number, "tcp", "", None, ["127.0.0.1", order["port"]]))


@attack
def send_past_the_parent(order: dict[str, Any]) -> list[str]:
    """Try to send a datagram to an address with each held descriptor; return those that are datagram sockets."""
    target = ("127.0.0.1", order["port"])
    found = []
    for number in range(3, 200):
        try:
            end = socket.socket(fileno=os.dup(number))
        except OSError:
            continue
        with end:
            if end.type == socket.SOCK_DGRAM:
                found.append(f"{number} is {end.family}")
            if end.family != socket.AF_UNIX:
                found += [f"{number} sends" for args in ((), ([], 0)) if succeeds(_send_to, end, target, *args)]
    return found


def _send_to(end: socket.socket, target: Any, *message: Any) -> None:
    if message:
        end.sendmsg([b"past"], *message, target)
    else:
        end.sendto(b"past", target)


@attack
def accept_one(order: dict[str, Any]) -> str:
    """Let the parent create a server, accept a connection in the worker, and return the data of the client."""
    session = order["session"]
    line = Line(session)
    for verb, *words in (["bind", [order["host"], order["port"]]], ["listen", 5]):
        failed = session.ask_sockets(verb, line.number, *words)
        if failed:
            return errno.errorcode[failed]
    session.run.door.wait(20, read=(line.end.fileno(),))
    with line.end.accept()[0] as client:
        session.run.door.wait(20, read=(client.fileno(),))
        return client.recv(100).decode()


# -- sockets of its own ------------------------------------------------------------------------------


@attack
def open_socket(order: dict[str, Any]) -> str:
    with socket.socket(*order["socket"]):
        return "opened"


@attack
def connect(order: dict[str, Any]) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
        opened.settimeout(10)
        opened.connect(("127.0.0.1", order["port"]))
        return "connected"


@attack
def connect_fast(order: dict[str, Any]) -> int:
    """Connect without connect(2)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
        return opened.sendto(b"x", 0x20000000, ("127.0.0.1", order["port"]))


@attack
def connect_abstract(order: dict[str, Any]) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened:
        opened.connect("\0" + order["name"])
        return "connected"


@attack
def bind(order: dict[str, Any]) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
        opened.bind(("127.0.0.1", order["port"]))
        opened.listen()
        return "bound"


@attack
def attach_filter(order: dict[str, Any]) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        instructions = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0), 8)
        opened.setsockopt(
            socket.SOL_SOCKET, 26, struct.pack("@HxxxxxxP", 1, ctypes.addressof(instructions))
        )  # SO_ATTACH_FILTER
        return "attached"


@attack
def resolve(order: dict[str, Any]) -> int:
    return len(socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM))


@attack
def calls_of_sockets(order: dict[str, Any]) -> list[str]:
    """Make each call that creates, binds or connects a socket, on held sockets too; return those that succeed."""
    port = order["port"]
    inet = struct.pack("=H", socket.AF_INET) + port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
    vector = ctypes.create_string_buffer(b"x")
    found = []
    for family, kind in ((2, 1), (2, 2), (10, 1), (10, 2), (1, 1), (16, 3), (17, 3)):
        if succeeds(call, "socket", family, kind, 0):
            found.append(f"socket {family} {kind}")
    for number in range(200):
        for name, arguments in {
            "connect": (number, inet, len(inet)),
            "bind": (number, inet, len(inet)),
            "listen": (number, 5),
            "sendmmsg": (number, vector, 0, 0),
            "recvmmsg": (number, vector, 0, 0, None),
        }.items():
            if succeeds(call, name, *arguments):
                found.append(f"{name} {number}")
    return found


@attack
def peers(order: dict[str, Any]) -> dict[str, list[int]]:
    """Ask each held socket for its peer; return the queries that were answered."""
    own = list(socket.socketpair()) if order.get("own") else []
    questions = {"SO_PEERCRED": 17, "SO_PEERSEC": 31, "SO_PEERGROUPS": 59, "SO_PEERPIDFD": 77, "SO_COOKIE": 57}
    room = 256
    found: dict[str, list[int]] = {}
    for number in [end.fileno() for end in own] or range(200):
        for name, option in questions.items():
            length = ctypes.c_uint32(room)
            answer = ctypes.create_string_buffer(room)
            if succeeds(call, "getsockopt", number, socket.SOL_SOCKET, option, answer, ctypes.byref(length)):
                found.setdefault(name, []).append(number)
    return found
