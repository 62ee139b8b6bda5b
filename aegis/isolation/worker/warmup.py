"""A worker plays one sandbox through before it waits for a real one.

What a process does for the first time after a fork costs it copies of pages, a few microseconds each, and there are
hundreds on the way from the first message to the first result. They are made while nobody waits.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

from aegis.engine.compile.code import Artifact
from aegis.engine.compile.config import EngineConfig
from aegis.engine.threads.guest_thread import DIRECT, thread_state
from aegis.engine.threads.ticker import ticker
from aegis.isolation.parent.code import Code, own_code
from aegis.isolation.parent.pool import REGION
from aegis.isolation.protocol.channel import MAX_DESCRIPTORS, Broken, Channel, Region
from aegis.isolation.protocol.setup import Setup, pack, unpack
from aegis.policy import Policy
from aegis.support.lean import Any, NamedTuple

__all__ = ["Scene", "Script", "rehearse", "scene_of", "script_of"]

_KNOWN = Policy()


class Scene(NamedTuple):
    """One sandbox with one call: what the parent would say, and the code that it would hand over."""

    setup: bytes
    code: Code
    call: list[Any]


class Script(NamedTuple):
    """What workers play, and the shared memory for it."""

    scenes: tuple[Scene, ...]
    shared: int

    def close(self) -> None:
        """Close the descriptors. Every worker has them from the fork server, so they are a way to other workers."""
        for scene in self.scenes:
            for file in scene.code.distinct:
                file.close()
        os.close(self.shared)


def script_of(scenes: Sequence[Scene]) -> Script:
    """Return the script of these scenes; made in the fork server."""
    return Script(tuple(scenes), Region.new(REGION))


def scene_of(artifact: Artifact, config: EngineConfig, function: str, *values: Any) -> Scene:
    """Return the scene of a sandbox of ``artifact``, compiled in this process, in which ``function`` is called."""
    code = own_code(artifact, config)
    shape = code.shape(artifact)
    assert isinstance(shape, bytes)  # it is small
    setup = Setup(
        policy=_KNOWN, config=config, kind=artifact.kind, digest=artifact.digest, shape=shape, code=code.places,
        shared=len(code.distinct), stdout="capture",
    )  # fmt: skip
    return Scene(pack(setup, _KNOWN), code, ["call", function, list(values)])


def rehearse(script: Script) -> None:
    """Play it, in a worker's only thread: everything but the closing of doors."""
    before, thread_state.mode, ticker.now = thread_state.mode, DIRECT, time.monotonic()
    for scene in script.scenes:
        _play(scene, script.shared)
    thread_state.mode, ticker.now = before, math.nan


def _play(scene: Scene, shared: int) -> None:
    from aegis.isolation.worker.session import Session

    parent, worker = socket.socketpair()
    mine = Channel(parent)
    mine.send(["setup", scene.setup], [*(file.descriptor for file in scene.code.distinct), shared])
    for message in (scene.call, ["finish"]):
        mine.send(message)
    parent.shutdown(socket.SHUT_WR)
    channel = Channel(worker, views=True, patient=True)
    message, descriptors = channel.recv_with(MAX_DESCRIPTORS)
    setup = unpack(message[1], _KNOWN)
    assert isinstance(setup, Setup)
    session = Session(channel, setup, descriptors, _KNOWN)
    session.prepare()
    with suppress(Broken):
        session.serve_all()
    parent.close()
    worker.close()
    os.close(descriptors[setup.shared])  # a session keeps it for the next sandbox
