"""Loopback servers for HTTP tests: plain and TLS, HTTP/1.1 and HTTP/2, and one that is scripted by the test."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import h2.config
import h2.connection
import h2.events
import trustme

__all__ = ["AUTHORITY", "http2_answers", "http2_server", "raw_server", "server", "server_context", "tls_context"]

AUTHORITY = trustme.CA()


def tls_context() -> ssl.SSLContext:
    """Return a client's TLS context that trusts the tests' certificate authority alone.

    The roots of the system, of which a default context reads all, would take most of a test's time.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(context)
    return context


def server_context(*protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("x-path", self.path)
        self.send_header("x-sent", self.headers.get("x-sent", ""))
        self.end_headers()
        for _ in range(3):
            self.wfile.write(b"5\r\nhello\r\n")
        self.wfile.write(b"0\r\nx-trailer: done\r\n\r\n")

    def do_POST(self) -> None:
        data, trailers = self._chunks() if "transfer-encoding" in self.headers else (self._plain(), b"")
        self.send_response(201)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("x-trailers", trailers.decode())
        self.end_headers()
        self.wfile.write(data)

    def _plain(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", "0")))

    def _chunks(self) -> tuple[bytes, bytes]:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        trailers = b""
        while line := self.rfile.readline().strip():
            trailers += line
        return b"".join(parts), trailers

    def log_message(self, *words: Any) -> None:
        """Log nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *words: Any) -> None:
        """Ignore clients that disconnect, which some tests provoke."""


@contextlib.contextmanager
def server(*, tls: bool = False, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve HTTP/1.1; yield the port."""
    made = _Server((host, 0), _Handler)
    if tls:
        made.socket = server_context("http/1.1").wrap_socket(made.socket, server_side=True)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made.server_port
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


@contextlib.contextmanager
def raw_server(serve: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Pass each connection to ``serve`` on a new thread; yield the port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secured = connection if context is None else context.wrap_socket(connection, server_side=True)
            with secured:
                serve(secured)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listening.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def _serve_http2(connection: socket.socket) -> None:
    """Echo the data of a stream, with its path in a header and a trailer."""
    protocol = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    protocol.initiate_connection()
    connection.sendall(protocol.data_to_send())
    body = bytearray()
    while data := connection.recv(65536):
        for event in protocol.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                headers = dict(event.headers or ())
                protocol.send_headers(event.stream_id or 1, [(":status", "200"), ("x-path", str(headers[":path"]))])
            elif isinstance(event, h2.events.DataReceived):
                body += event.data or b""
                protocol.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 1)
            elif isinstance(event, h2.events.StreamEnded):
                _answer(connection, protocol, event.stream_id or 1, bytes(body) or b"hello")
        connection.sendall(protocol.data_to_send())


def _answer(connection: socket.socket, protocol: Any, stream: int, body: bytes) -> None:
    at = 0
    while at < len(body):
        size = min(len(body) - at, protocol.local_flow_control_window(stream), protocol.max_outbound_frame_size)
        if size:
            protocol.send_data(stream, body[at : at + size])
            at += size
            connection.sendall(protocol.data_to_send())
        else:
            protocol.receive_data(connection.recv(65536))
    protocol.send_headers(stream, [("x-trailer", "done")], end_stream=True)


def http2_answers(answer: Callable[[socket.socket, Any, int], None]) -> Any:
    """Serve HTTP/2 over TLS, answering each request by ``answer(connection, protocol, stream)``; yield the port."""

    def serve(connection: socket.socket) -> None:
        protocol = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        protocol.initiate_connection()
        connection.sendall(protocol.data_to_send())
        while data := connection.recv(65536):
            for event in protocol.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    answer(connection, protocol, event.stream_id or 1)
            connection.sendall(protocol.data_to_send())

    return raw_server(serve, server_context("h2"))


def http2_server() -> Any:
    """Serve HTTP/2 over TLS; a context manager that yields the port."""
    return raw_server(_serve_http2, server_context("h2"))
