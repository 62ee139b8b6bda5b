"""A fake worker that sends invalid messages: a thread of the test speaks for it on a real socket and shared memory."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aegis import Aegis, Module, Sandbox, WorkerCrashed
from aegis.isolation.protocol.channel import REGION_BYTES, Channel, ProtocolError, SharedRegion
from aegis.isolation.protocol.specs import ACCOUNT
from tests.isolation.isolated import isolated

__all__ = ["GOOD", "Liar", "Peer", "account", "done", "host", "lying", "said"]

Peer = Channel
Script = Callable[[Peer, Any], None]
"""Answers one message."""


def account(
    calls: int = 1000, left: int = 1 << 20, taken: int = 0, out: int = 0, denials: int = 0, seconds: float = 0.0,
    fuel: int = 1000, memory: int = 65536, stdout: int = 0, stderr: int = 0,
) -> bytes:  # fmt: skip
    return ACCOUNT.pack(calls, left, taken, out, denials, seconds, fuel, memory, stdout, stderr)


GOOD = account()


def host(*message: Any) -> list[Any]:
    """Return a message that requests a host call."""
    return ["host", *message]


def done(value: Any, *rest: Any) -> list[Any]:
    """Return an answer."""
    return ["done", value, *(rest or (GOOD, []))]


class Liar:
    """The object that the parent takes for a worker. It is ready at once; ``script`` answers everything after that."""

    pid = 0
    served = 0

    def __init__(self, script: Script, *, begins: Script | None = None) -> None:
        near, far = socket.socketpair()
        self.shared = SharedRegion.new(REGION_BYTES)
        self.channel = Channel(near, *SharedRegion.pair(self.shared, REGION_BYTES, parent=True))
        self._peer = Channel(far, *SharedRegion.pair(self.shared, REGION_BYTES, parent=False), views=True, patient=True)
        self._begins, self._script = begins or ready, script
        self.killed = threading.Event()
        self.thread = threading.Thread(target=self._speak, daemon=True)
        self.thread.start()

    def _speak(self) -> None:
        with suppress(ProtocolError, OSError):
            message, descriptors = self._peer.recv_with(200)
            for descriptor in descriptors:
                os.close(descriptor)
            self._begins(self._peer, message)
            while True:
                self._script(self._peer, self._peer.recv())
        with suppress(OSError):
            self._peer.socket.shutdown(socket.SHUT_RDWR)

    def cancel(self) -> None:
        """Ignore the message."""

    def kill(self) -> None:
        self.killed.set()
        with suppress(OSError):
            self._peer.socket.shutdown(socket.SHUT_RDWR)

    def starved(self, crash: WorkerCrashed) -> bool:
        return False

    def waits(self) -> bool:
        return True

    def crashed(self) -> WorkerCrashed:
        return WorkerCrashed("the worker process died of signal 9 (SIGKILL)", signal=9)

    def said(self) -> str:
        return ""

    def discard(self) -> None:
        if self.shared >= 0:
            self.kill()
            self.thread.join(10)
            assert not self.thread.is_alive()
            self.channel.close()
            self._peer.close()
            os.close(self.shared)
            self.shared = -1


def ready(peer: Peer, message: Any) -> None:
    peer.send(["done", [], GOOD, []])


def said(*messages: Any) -> Script:
    """Return a script that answers with these messages; bytes are sent unchanged."""

    def script(peer: Peer, message: Any) -> None:
        for each in messages:
            if isinstance(each, bytes):
                peer.socket.sendall(each)
            else:
                peer.send(each)

    return script


def lying(
    text: str, script: Script, imports: Any = None, *, begins: Script | None = None, subscribers: Any = (),
    answer: Any = None, **policy: Any,
) -> tuple[Sandbox, Liar]:  # fmt: skip
    """Return a sandbox with a fake worker, and the fake worker."""
    aegis: Aegis = isolated(**{"isolation": {"workers": 0}, "timeout": "10s", **policy})
    module: Module = aegis.load_wat(text)  # type: ignore[assignment]
    liar = Liar(script, begins=begins)
    pool = aegis._isolated.pool  # type: ignore[union-attr]
    pool.take = lambda: liar  # type: ignore[method-assign, assignment, return-value]
    try:
        return aegis.sandbox(module, imports=imports, subscribers=subscribers, answer=answer), liar
    finally:
        pool.take = lambda: (_ for _ in ()).throw(AssertionError("one is enough"))  # type: ignore[method-assign]
