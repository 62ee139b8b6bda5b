"""A resolver for tests of isolated sandboxes that replaces the system's."""

from __future__ import annotations

import gc
import os
import socket
import threading
from contextlib import suppress
from typing import Any

__all__ = ["Names", "sockets_and_files"]


class Names:
    """A replacement for ``socket.getaddrinfo``. ``aliases`` maps names to their canonical names."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.known = {"db.example": ["93.184.216.34"], "inner.example": ["10.0.0.7"], "public.test": ["1.1.1.1"]}
        self.aliases: dict[str, str] = {}
        self.go = threading.Event()
        self.go.set()

    def __call__(self, name: str, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(name)
        self.go.wait()
        if name not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        canonical = self.aliases.get(name, "")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, canonical, (address, 0)) for address in self.known[name]]


def sockets_and_files() -> int:
    """Return the number of descriptors of this process, except those of memory, in which artifacts keep their code."""
    gc.collect()
    links = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return sum(not link.startswith("/memfd:") for link in links)
