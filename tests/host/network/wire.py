"""A guest's sockets on loopback: create, connect, listen, and read and write until they end."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from aegis.bindings.wasi_sockets_network import (
    IpAddressFamily,
    IpSocketAddressIpv4,
    IpSocketAddressIpv6,
    Ipv4SocketAddress,
    Ipv6SocketAddress,
)
from aegis.policy import NetworkCapability
from aegis.wit.values import Err
from tests.host.http.servers import raw_server
from tests.host.preview2.guest import Guest

__all__ = [
    "V4", "V6", "at", "at6", "connect", "echo", "guest", "listen", "look_up", "names", "read_all", "silent", "tcp",
    "udp", "write_all",
]  # fmt: skip

V4, V6 = IpAddressFamily.IPV4, IpAddressFamily.IPV6


def at(port: int, host: str = "127.0.0.1") -> IpSocketAddressIpv4:
    return IpSocketAddressIpv4(Ipv4SocketAddress(port, tuple(map(int, host.split(".")))))  # type: ignore[arg-type]


def at6(port: int, *words: int) -> IpSocketAddressIpv6:
    filled = (*words[:-1], *[0] * (8 - len(words)), *words[-1:]) if words else (0,) * 8
    return IpSocketAddressIpv6(Ipv6SocketAddress(port, 0, filled, 0))  # type: ignore[arg-type]


def guest(*allow: str, listen: tuple[str, ...] = (), deny: tuple[str, ...] = (), **more: Any) -> Guest:
    return Guest(network=NetworkCapability(allow=allow, listen=listen, deny=deny), **more)


def tcp(made: Guest, family: IpAddressFamily = V4) -> Any:
    return made.of("wasi:sockets/tcp-create-socket").create_tcp_socket(family)


def udp(made: Guest) -> Any:
    opened = made.of("wasi:sockets/udp-create-socket").create_udp_socket(V4)
    opened.start_bind(None, at(0, "0.0.0.0"))
    opened.finish_bind()
    return opened


def connect(made: Guest, port: int) -> tuple[Any, Any, Any]:
    opened = tcp(made)
    opened.start_connect(None, at(port))
    opened.subscribe().block()
    return opened, *opened.finish_connect()


def listen(made: Guest, port: int = 0) -> tuple[Any, int]:
    opened = tcp(made)
    opened.start_bind(None, at(port))
    opened.finish_bind()
    opened.start_listen()
    opened.finish_listen()
    return opened, opened.local_address().value.port


def read_all(stream: Any) -> bytes:
    data = b""
    with contextlib.suppress(Err):
        while True:
            data += stream.blocking_read(65536)
    return data


def write_all(stream: Any, data: bytes) -> None:
    for n in range(0, len(data), 4096):
        stream.blocking_write_and_flush(data[n : n + 4096])


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


@contextlib.contextmanager
def silent() -> Iterator[int]:
    over = threading.Event()
    with raw_server(lambda connection: over.wait() and None) as port:
        try:
            yield port
        finally:
            over.set()


def names(**known: list[str]) -> Callable[[str], list[str]]:
    def resolve(name: str) -> list[str]:
        if name.replace(".", "_") not in known:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return known[name.replace(".", "_")]

    return resolve


def look_up(made: Guest, name: str) -> list[Any]:
    stream = made.of("wasi:sockets/ip-name-lookup").resolve_addresses(None, name)
    stream.subscribe().block()
    found = []
    while (address := stream.resolve_next_address()) is not None:
        found.append(address)
    return found
