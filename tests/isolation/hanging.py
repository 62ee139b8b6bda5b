"""A compromised compile worker that closes its connection and keeps running. The fork server imports this module."""

from __future__ import annotations

import threading
from typing import Any

from aegis.isolation.worker import main


def compile_and_hang(channel: Any, *_: Any) -> None:
    """Replace the work of a compile worker: close the connection, and keep running."""
    channel.socket.close()
    threading.Event().wait()


main._compile = compile_and_hang  # type: ignore[assignment]
