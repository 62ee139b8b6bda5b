"""The worker process: receives its specification, confines itself irreversibly, and serves its parent.

The main thread only waits for cancellations and for the end of the parent. The guest runs on a guest thread of Aegis,
which is the only one that uses the channel.
"""

from __future__ import annotations

import _socket
import os

from aegis.engine.threads.guest_thread import run_on_guest_thread
from aegis.engine.threads.ticker import ticker
from aegis.isolation.confine import EarlyConfinement
from aegis.isolation.protocol.channel import MAX_DESCRIPTORS, Channel, ProtocolError
from aegis.isolation.protocol.errors import to_plain
from aegis.isolation.protocol.pickled import loads
from aegis.isolation.protocol.specs import SPEC_SIZE_BYTES, Compile, SandboxSpec, WorkerSpec, unpack
from aegis.isolation.worker.confinement import begin_confinement, confine_compiler, confine_sandbox, kept_finders
from aegis.isolation.worker.session import Session
from aegis.support.lean import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from aegis.isolation.worker.warmup import Warmup

__all__ = ["main"]

_TRUSTED_BYTES = 1 << 62
"""The budget of a message from the parent: none, because the parent has counted the values in it."""

_HTTP_LIBRARIES = ("h11", "h2", "certifi")
"""The libraries of the extra ``http``."""


def main(channel_end: int, cancel: int, stderr: int, spec: bytes | None, warmup: Warmup | None) -> NoReturn:
    """Serve on the socket ``channel_end``; cancellations arrive on the socket ``cancel``.

    The file ``stderr`` becomes standard error. ``spec`` is the pickled :class:`WorkerSpec`; if it is ``None``, its size
    and the specification are the first bytes on the socket. Run ``warmup`` unless the parent is already waiting.
    """
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1):
        os.dup2(null, number)
    os.close(null)
    os.dup2(stderr, 2)
    os.close(stderr)
    end = _socket.socket(fileno=channel_end)
    spec = _received_spec(end) if spec is None else spec
    if not spec:  # the parent closed the socket: no sandbox will come
        os._exit(0)
    worker_spec: WorkerSpec = loads(spec)
    early = begin_confinement(worker_spec)
    if warmup is not None:
        if not _has_message(end):
            from aegis.isolation.worker.warmup import warm_up

            warm_up(warmup)
        warmup.close()
    channel = Channel(end, views=True, patient=True)
    channel.budget = _TRUSTED_BYTES
    try:
        message, descriptors = channel.recv_with(MAX_DESCRIPTORS)
    except ProtocolError:
        os._exit(0)
    wanted = unpack(message[1], worker_spec.known)
    if isinstance(wanted, Compile):
        _compile(channel, wanted, descriptors, early)
    _run(Session(channel, wanted, descriptors, worker_spec.known), early, cancel)


def _received_spec(end: _socket.socket) -> bytes:
    """Receive the worker's specification, and not a byte of the following message, which carries descriptors."""
    size = int.from_bytes(end.recv(SPEC_SIZE_BYTES, _socket.MSG_WAITALL), "little")
    return end.recv(size, _socket.MSG_WAITALL) if size else b""


def _has_message(end: _socket.socket) -> bool:
    """Return whether the parent has already sent a message."""
    try:
        end.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return True


def _compile(channel: Channel, wanted: Compile, descriptors: list[int], early: EarlyConfinement) -> NoReturn:
    """Compile one artifact, send the answer, which contains a component's world, and exit."""
    from aegis.isolation.worker.compiling import compile_here

    try:
        layers = confine_compiler(wanted, early)
        channel.send(["done", compile_here(wanted, descriptors), layers])
    except BaseException as error:
        channel.send(["fail", to_plain(error), []])
    os._exit(0)


def _run(session: Session, early: EarlyConfinement, cancel: int) -> NoReturn:
    try:
        if session.spec.kind == "component":
            for finder in kept_finders:
                finder.add_components()
        for name in (*session.spec.modules, *_needed(session.spec)):
            _import(name)
        session.prepare()
        session.layers = confine_sandbox(session.spec, session.descriptors, early)
    except BaseException as error:
        session.refuse(error)
    ticker.at_tick.append(session.late.check)
    job = run_on_guest_thread(session.serve_all, lambda job: os._exit(0 if job.error is None else 71))
    listener = _socket.socket(fileno=cancel)
    while listener.recv(1):
        session.cancel()
    del job  # referenced until here: the guest thread runs it
    os._exit(0)


def _import(name: str) -> None:
    """Import a module; skip one that needs a library of the extra ``http`` if it is not installed.

    Requests then fail before they need the module.
    """
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _HTTP_LIBRARIES:
            raise


def _needed(spec: SandboxSpec) -> list[str]:
    """Return the modules that the granted capabilities need, to import before confinement."""
    found = []
    if spec.folders:
        found += ["aegis.host.files.preopens", "aegis.host.files.single_file"]
    if spec.resolver is not None:
        found += ["aegis.host.net.network", "aegis.isolation.worker.sockets"]
    if spec.observed:
        found.append("aegis.observe.events")
    if spec.policy.logging.enabled:
        found.append("logging")
    return found
