"""The warm-up of a worker: it runs small sandboxes before it waits for a real one.

After a fork, the first write to each page copies the page, which takes a few microseconds. There are hundreds of such
pages on the way from the first message to the first result. The warm-up copies them before a caller waits.
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
from aegis.isolation.protocol.channel import MAX_DESCRIPTORS, REGION_BYTES, Channel, ProtocolError, SharedRegion
from aegis.isolation.protocol.specs import SandboxSpec, pack, unpack
from aegis.policy import Policy
from aegis.support.lean import Any, NamedTuple

__all__ = ["Warmup", "WarmupSandbox", "warm_up", "warmup_of", "warmup_sandbox"]

_KNOWN = Policy()


class WarmupSandbox(NamedTuple):
    """A sandbox for the warm-up: the messages and the code that a parent would send, with a single call."""

    spec: bytes
    code: Code
    call: list[Any]


class Warmup(NamedTuple):
    """The sandboxes that a worker runs to warm up, and the descriptor of shared memory for them."""

    sandboxes: tuple[WarmupSandbox, ...]
    shared: int

    def close(self) -> None:
        """Close the descriptors, through which workers could communicate: all inherit them from the fork server."""
        for sandbox in self.sandboxes:
            for file in sandbox.code.distinct:
                file.close()
        os.close(self.shared)


def warmup_of(sandboxes: Sequence[WarmupSandbox]) -> Warmup:
    """Return the warm-up with these sandboxes; called in the fork server."""
    return Warmup(tuple(sandboxes), SharedRegion.new(REGION_BYTES))


def warmup_sandbox(artifact: Artifact, config: EngineConfig, function: str, *values: Any) -> WarmupSandbox:
    """Return a sandbox that calls ``function`` of ``artifact``, which this process has compiled."""
    code = own_code(artifact, config)
    shape = code.shape(artifact)
    assert isinstance(shape, bytes)  # a description as small as this one is not put in a file
    spec = SandboxSpec(
        policy=_KNOWN, config=config, kind=artifact.kind, digest=artifact.digest, shape=shape, code=code.places,
        shared=len(code.distinct), stdout="capture",
    )  # fmt: skip
    return WarmupSandbox(pack(spec, _KNOWN), code, ["call", function, list(values)])


def warm_up(warmup: Warmup) -> None:
    """Run the sandboxes in the worker's only thread, without confinement."""
    before, thread_state.mode, ticker.now = thread_state.mode, DIRECT, time.monotonic()
    for sandbox in warmup.sandboxes:
        _run(sandbox, warmup.shared)
    thread_state.mode, ticker.now = before, math.nan


def _run(sandbox: WarmupSandbox, shared: int) -> None:
    from aegis.isolation.worker.session import Session

    parent, worker = socket.socketpair()
    sender = Channel(parent)
    sender.send(["setup", sandbox.spec], [*(file.descriptor for file in sandbox.code.distinct), shared])
    for message in (sandbox.call, ["finish"]):
        sender.send(message)
    parent.shutdown(socket.SHUT_WR)
    channel = Channel(worker, views=True, patient=True)
    message, descriptors = channel.recv_with(MAX_DESCRIPTORS)
    spec = unpack(message[1], _KNOWN)
    assert isinstance(spec, SandboxSpec)
    session = Session(channel, spec, descriptors, _KNOWN)
    session.prepare()
    with suppress(ProtocolError):
        session.serve_all()
    parent.close()
    worker.close()
    os.close(descriptors[spec.shared])  # the session left it open for its next sandbox
