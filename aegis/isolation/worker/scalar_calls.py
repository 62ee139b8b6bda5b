"""The worker's side of calls by fixed frames (:mod:`aegis.isolation.protocol.scalar_frames`).

The first such call of an export prepares the functions that unpack arguments, enter the guest and pack the answer. A
general message answers a call that failed, or during which the worker sent other messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from aegis.engine.call.caller import Elsewhere
from aegis.isolation.protocol.channel import NO_SIGNAL
from aegis.isolation.protocol.frames import CALL
from aegis.isolation.protocol.scalar_frames import EXPORT, KIND, ScalarFrames, is_call
from aegis.support.lean import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from aegis.isolation.protocol.channel import Channel
    from aegis.isolation.protocol.late_calls import LateCalls
    from aegis.isolation.protocol.specs import SandboxSpec
    from aegis.isolation.worker.streams import RemoteStreams

__all__ = ["ScalarExports"]

_CHUNK_BYTES = 1024
"""Bytes received at once; no fixed call is longer."""


class CallSession(Protocol):
    """The part of :class:`aegis.isolation.worker.session.Session` that calls by fixed frames use."""

    channel: Channel
    late: LateCalls
    spec: SandboxSpec
    streams: RemoteStreams | None
    denials_sent: int

    @property
    def run(self) -> Any: ...
    def counter(self) -> Callable[[], tuple[int | float, ...]]: ...
    def signature_of(self, name: str) -> tuple[Sequence[Any], Sequence[Any], Callable[[Any], Any]]: ...
    def answer(self, operation: Callable[[], Any]) -> None: ...


class ScalarExports:
    """The exports of a session's sandbox that the parent calls by fixed frames."""

    def __init__(self, session: CallSession) -> None:
        self._session = session
        self._names: dict[int, str] = {}
        self._calls: dict[bytes, tuple[int, Callable[[bytes], None]]] = {}
        """The size in bytes of an export's calls and the function that serves them, by the bytes of its number."""

    def learn(self, number: int, name: str) -> None:
        """Store the number that the parent will use for an export."""
        self._names[number] = name

    def serve_all(self) -> None:
        """Serve calls by fixed frames until another message arrives, which is returned to the channel's buffer."""
        channel, calls = self._session.channel, self._calls
        receive, waiting = channel.recv_bytes, channel.waiting
        while not waiting():
            data = receive(_CHUNK_BYTES) or channel.receive()
            size, call = calls.get(data[EXPORT], _NONE)
            if len(data) == size and data[KIND] == CALL:
                call(data)
            elif is_call(data):
                self.serve(data)
            else:
                channel.unread(data)
                return

    def serve(self, frame: bytes) -> None:
        """Serve a call; prepare the export if this is its first call by a fixed frame."""
        key = frame[EXPORT]
        made = self._calls.get(key)
        if made is None:
            made = self._calls[key] = len(frame), self._made(self._names[int.from_bytes(key, "little")])
        made[1](frame)

    def _made(self, name: str) -> Callable[[bytes], None]:
        """Return the function that serves calls of the export ``name``."""
        session = self._session
        channel, late, counters = session.channel, session.late, session.counter()
        params, results, general = session.signature_of(name)
        frames, invoke = ScalarFrames(params, results), self._invoker(name)
        unpack, pack, head, size = frames.call.unpack, frames.answer.pack, frames.answer_head, frames.answer.size
        send = channel.socket.send
        lift, lower, single, nothing = frames.lift_params, frames.lower_results, len(results) == 1, not results

        def call(frame: bytes) -> None:
            _, mine, _, *values = unpack(frame)
            session.denials_sent, before = 0, channel.frames
            late.entered += 1  # inlined from LateCalls.__enter__ and __exit__: this path must be fast
            try:
                value = invoke(*values) if lift is None else invoke(*lift(values))
            except BaseException as error:
                late.__exit__()
                session.answer(partial(_fail, error))
                return
            late.entered -= 1
            late.late_ticks = 0
            if channel.frames != before:
                session.answer(lambda: general(value))
                return
            if session.streams is not None:
                session.streams.forget()
            row: Sequence[Any] = (value,) if single else () if nothing else value
            answer = pack(head, mine, *counters(), *(row if lower is None else lower(row)))
            try:
                sent = send(answer, NO_SIGNAL)
            except OSError:
                sent = 0
            if sent != size:
                channel.push(answer[sent:])

        return call

    def _invoker(self, name: str) -> Callable[..., Any]:
        """Return the function that calls the export: the store's closure, unless a subscriber observes calls."""
        run: Any = self._session.run
        if self._session.spec.observed:
            return partial(run.call, name)
        enter = run.live().closure_here(name)

        def invoke(*values: Any) -> Any:
            nonlocal enter
            if run.state != "ready":
                run.live()
            try:
                return enter(*values)
            except Elsewhere:
                enter = run.live().closure_here(name)
                return run.call(name, *values)
            except BaseException as error:
                run.failed(name, values, error)
                raise

        return invoke


def _nothing(frame: bytes) -> None:
    """Serve an export that is not prepared; never called, because no frame has the size -1."""


_NONE = -1, _nothing


def _fail(error: BaseException) -> None:
    raise error
