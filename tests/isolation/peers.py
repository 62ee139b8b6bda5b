"""Loopback servers for isolated guests and their workers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["echo"]


@contextmanager
def echo(host: str = "0.0.0.0") -> Iterator[tuple[int, list[bytes]]]:
    """Serve TCP echoes at every loopback address; yield the port, and a list of the received data."""
    heard: list[bytes] = []
    with socket.create_server((host, 0)) as server:

        def serve(client: socket.socket) -> None:
            with client:
                try:
                    while data := client.recv(1000):
                        heard.append(data)
                        client.sendall(data)
                except OSError:
                    return

        def accept() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(client,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
