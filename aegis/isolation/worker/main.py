"""A worker process: it is told what to run, closes every door behind itself, and serves its parent.

Its main thread only listens for a cancellation, and for the parent's end; the guest runs on a thread of ours,
which is the one that talks.
"""

from __future__ import annotations

import _socket
import os

from aegis.engine.threads.guest_thread import run_on_guest_thread
from aegis.engine.threads.ticker import ticker
from aegis.isolation.confine import Begun
from aegis.isolation.parent.pool import BRIEF_SIZE_BYTES
from aegis.isolation.protocol.channel import MAX_DESCRIPTORS, Broken, Channel
from aegis.isolation.protocol.errors import to_plain
from aegis.isolation.protocol.pickled import loads
from aegis.isolation.protocol.setup import Brief, Compile, Setup, unpack
from aegis.isolation.worker.confinement import begin_closing, close_doors, close_for_compiling, kept_imports
from aegis.isolation.worker.session import Session
from aegis.support.lean import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from aegis.isolation.worker.warmup import Script

__all__ = ["main"]

_TRUSTED = 1 << 62
"""What a message of the parent may take: it counted what it sends."""


def main(conversation: int, cancel: int, said: int, brief: bytes | None, script: Script | None) -> NoReturn:
    """Serve on the socket ``conversation``; ``cancel`` is listened to, and ``said`` is standard error from now on.

    Until there is something to serve, get ready for it. Without a ``brief`` it comes first on the
    socket, after its size.
    """
    nothing = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1):
        os.dup2(nothing, number)
    os.close(nothing)
    os.dup2(said, 2)
    os.close(said)
    end = _socket.socket(fileno=conversation)
    brief = _brief(end) if brief is None else brief
    if not brief:  # nothing is to be run after all
        os._exit(0)
    told: Brief = loads(brief)
    begun = begin_closing(told)
    if script is not None:
        if not _awaited(end):
            from aegis.isolation.worker.warmup import rehearse

            rehearse(script)
        script.close()
    channel = Channel(end, views=True, patient=True)
    channel.budget = _TRUSTED
    try:
        message, descriptors = channel.recv_with(MAX_DESCRIPTORS)
    except Broken:
        os._exit(0)
    wanted = unpack(message[1], told.known)
    if isinstance(wanted, Compile):
        _compile(channel, wanted, descriptors, begun)
    _run(Session(channel, wanted, descriptors, told.known), begun, cancel)


def _brief(end: _socket.socket) -> bytes:
    """Return the brief that comes first: that alone, for the message behind it has descriptors."""
    size = int.from_bytes(end.recv(BRIEF_SIZE_BYTES, _socket.MSG_WAITALL), "little")
    return end.recv(size, _socket.MSG_WAITALL) if size else b""


def _awaited(end: _socket.socket) -> bool:
    """Tell whether somebody waits for this worker already."""
    try:
        end.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return True


def _compile(channel: Channel, wanted: Compile, descriptors: list[int], begun: Begun) -> NoReturn:
    """Compile one artifact and end; its world is told with the answer."""
    from aegis.isolation.parent.compiling import compile_here

    try:
        layers = close_for_compiling(wanted, begun)
        channel.send(["done", compile_here(wanted, descriptors), layers])
    except BaseException as error:
        channel.send(["fail", to_plain(error), []])
    os._exit(0)


def _run(session: Session, begun: Begun, cancel: int) -> NoReturn:
    try:
        if session.setup.kind == "component":
            for finder in kept_imports:
                finder.add_components()
        for name in (*session.setup.modules, *_needed(session.setup)):
            __import__(name)
        session.prepare()
        session.layers = close_doors(session.setup, session.descriptors, begun)
    except BaseException as error:
        session.refuse(error)
    ticker.at_tick.append(session.late.look)
    ended = run_on_guest_thread(session.serve_all, lambda job: os._exit(0 if job.error is None else 71))
    listener = _socket.socket(fileno=cancel)
    while listener.recv(1):
        session.cancel()
    del ended
    os._exit(0)


def _needed(setup: Setup) -> list[str]:
    """Return the modules that what is granted needs, and that are imported while they still can be."""
    found = []
    if setup.folders:
        found += ["aegis.host.files.preopens", "aegis.host.files.single_file"]
    if setup.resolver is not None:
        found += ["aegis.host.net.network", "aegis.isolation.worker.sockets"]
    if setup.observed:
        found.append("aegis.observe.events")
    if setup.policy.logging.enabled:
        found.append("logging")
    return found
