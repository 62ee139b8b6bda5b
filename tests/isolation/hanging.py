"""A compile worker that was taken over hangs up and goes on. The fork server imports this module (:mod:`.takeover`)."""

from __future__ import annotations

import threading
from typing import Any

from aegis.isolation.worker import main


def compile_and_hang(channel: Any, *_: Any) -> None:
    """Stand for the work of a compile worker: hang up, and go on."""
    channel.socket.close()
    threading.Event().wait()


main._compile = compile_and_hang  # type: ignore[assignment]
