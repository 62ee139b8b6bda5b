"""A worker plays one sandbox through before it waits for a real one.

What a process does for the first time after a fork costs it copies of pages, a few microseconds each, and there are
hundreds on the way from the first message to the first result. They are made while nobody waits.
"""

from __future__ import annotations

import math
import os
import socket
import time
from contextlib import suppress
from typing import NamedTuple

from aegis.engine.code import Artifact
from aegis.engine.config import EngineConfig
from aegis.engine.threads import DIRECT, where
from aegis.engine.ticker import ticker
from aegis.isolation.pool import REGION, sealed_copy
from aegis.isolation.setup import Setup, pack, unpack
from aegis.isolation.wire import Broken, Channel, Region
from aegis.policy import Policy

__all__ = ["Script", "rehearse", "script_of"]


_KNOWN = Policy()


class Script(NamedTuple):
    """What the parent would say, and the descriptors that it would hand over."""

    setup: bytes
    code: int
    shared: int
    function: str

    def close(self) -> None:
        """Close the descriptors. Every worker has them from the fork server, so they are a way to other workers."""
        os.close(self.code)
        os.close(self.shared)


def script_of(artifact: Artifact, config: EngineConfig, function: str) -> Script:
    """Return the script of a sandbox of ``artifact`` in which ``function`` is called; made in the fork server."""
    code = sealed_copy(artifact._serialise(artifact.code(config).pointer or 0))
    setup = Setup(
        policy=_KNOWN, config=config, kind="module", digest=artifact.digest,
        shape=artifact.info,  # type: ignore[attr-defined]
        code=0, shared=1, stdout="capture",
    )  # fmt: skip
    return Script(pack(setup, _KNOWN), code, Region.new(REGION), function)


def rehearse(script: Script) -> None:
    """Play it, in a worker's only thread: everything but the closing of doors."""
    from aegis.isolation.worker import Session

    parent, worker = socket.socketpair()
    before, where.mode, ticker.now = where.mode, DIRECT, time.monotonic()
    mine = Channel(parent)
    mine.send(["setup", script.setup], (script.code, script.shared))
    for message in (["call", script.function, []], ["finish"]):
        mine.send(message)
    parent.shutdown(socket.SHUT_WR)
    channel = Channel(worker, views=True, patient=True)
    message, descriptors = channel.recv_with(2)
    setup = unpack(message[1], _KNOWN)
    assert isinstance(setup, Setup)
    session = Session(channel, setup, descriptors, _KNOWN)
    session.prepare()
    with suppress(Broken):
        session.serve_all()
    parent.close()
    worker.close()
    os.close(descriptors[setup.shared])  # a session keeps it for the next sandbox
    where.mode, ticker.now = before, math.nan
