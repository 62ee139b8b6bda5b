"""A guest's side of ``wasi:http``: it makes requests and reads responses as the engine would for a guest."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest

from aegis.bindings import wasi_http_types as types
from aegis.bindings.wasi_io_streams import StreamErrorLastOperationFailed
from aegis.engine.call.door import Door
from aegis.host.grants import acquire
from aegis.host.net.network import Resolver
from aegis.host.wasi import Wasi
from aegis.limits import Limits
from aegis.policy import NetworkCapability, Policy
from aegis.policy.remedies import explained
from aegis.values import Decision
from aegis.wit.values import Err
from tests.host.http.servers import raw_server
from tests.host.preview2.guest import provided

__all__ = ["Answer", "Client", "answering", "code", "read_all", "silent", "wait_for", "write_all"]


class Answer(NamedTuple):
    """The result of a request."""

    status: int
    headers: dict[str, bytes]
    body: bytes
    trailers: list[tuple[str, bytes]] | None


class Client:
    """A guest's side of ``wasi:http`` under one policy."""

    def __init__(
        self,
        *allow: str,
        tls: ssl.SSLContext | None = None,
        timeout: float = 20,
        resolver: Resolver | None = None,
        deny: tuple[str, ...] = (),
        **limits: Any,
    ) -> None:
        made = Limits(timeout=timeout, **limits)
        self.policy = Policy(limits=made, network=NetworkCapability(allow=allow, deny=deny))
        self.door = Door(made)
        self.door.deadline = time.monotonic() + timeout
        self.decisions: list[Decision] = []
        self.door.on_decision = self.decisions.append
        self.door.explain = partial(explained, self.policy)
        self.grants = acquire(self.policy, scope=self.door)
        self.grants.network.tls = tls
        if resolver is not None:
            self.grants.network.resolver = resolver
        self.wasi = Wasi(self.grants, self.door, made)
        self.types: Any = self.wasi.implementation(provided("wasi:http/types"))
        self.handler: Any = self.wasi.implementation(provided("wasi:http/outgoing-handler"))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.grants.close()
        self.door.close()
        assert not self.grants.network._open
        assert not self.grants.network.exchanges

    def request(self, url: str, method: Any = None, headers: dict[str, bytes] | None = None) -> Any:
        scheme, _, rest = url.partition("://")
        authority, _, path = rest.partition("/")
        fields = self.types.Fields.from_list(list((headers or {}).items()))
        request = self.types.OutgoingRequest(fields)
        request.set_scheme(types.SchemeHttps() if scheme == "https" else types.SchemeHttp())
        request.set_authority(authority)
        request.set_path_with_query(f"/{path}")
        if method is not None:
            request.set_method(method)
        return request

    def send(self, request: Any, body: bytes | None = None, options: Any = None, trailers: Any = None) -> Answer:
        outgoing = request.body() if body is not None else None
        future = self.handler.handle(request, options)
        if outgoing is not None:
            stream = outgoing.write()
            write_all(stream, body or b"")
            stream.__drop__()
            self.types.OutgoingBody.finish(outgoing, trailers)
        return self.receive(future)

    def receive(self, future: Any) -> Answer:
        response = wait_for(future)
        future.__drop__()
        body = response.consume()
        stream = body.stream()
        data = read_all(stream)
        stream.__drop__()
        waiting = self.types.IncomingBody.finish(body)
        trailers = wait_for(waiting)
        waiting.__drop__()
        response.__drop__()
        headers = {name.lower(): value for name, value in response.headers().entries()}
        return Answer(response.status(), headers, data, None if trailers is None else trailers.entries())


def wait_for(future: Any) -> Any:
    """Return the value of a future, or raise its error code."""
    while (found := future.get()) is None:
        future.subscribe().block()
    if isinstance(found.value, Err):
        raise found.value
    return found.value.value


def write_all(stream: Any, data: bytes) -> None:
    at = 0
    while at < len(data):
        room = stream.check_write()
        if room:
            stream.write(data[at : at + room])
            at += room
        else:
            stream.subscribe().block()
    stream.blocking_flush()


def read_all(stream: Any) -> bytes:
    data = bytearray()
    while True:
        try:
            data += stream.blocking_read(1 << 40)
        except Err as end:
            if isinstance(end.value, StreamErrorLastOperationFailed):
                raise Err(end.value.value.code) from None
            return bytes(data)


def code(caught: pytest.ExceptionInfo[Err[Any]]) -> str:
    return type(caught.value.value).__name__.removeprefix("ErrorCode")


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """Accept connections and send nothing until the test ends."""
    over = threading.Event()
    try:
        with raw_server(lambda connection: over.wait() and None) as port:
            yield port
            over.set()
    finally:
        over.set()


def answering(*pieces: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        for piece in pieces:
            connection.sendall(piece)

    return serve
