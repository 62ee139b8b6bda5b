"""In a worker: calls by fixed frames (:mod:`aegis.isolation.protocol.scalar_frames`).

An export is prepared at the first such call: what unpacks its arguments, the closure that enters the guest, what packs
the answer. A call that fails, or during which this side said something else, is answered by a general message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from aegis.engine.call.caller import Elsewhere
from aegis.isolation.protocol.channel import NO_SIGNAL
from aegis.isolation.protocol.frames import CALL
from aegis.isolation.protocol.scalar_frames import EXPORT, KIND, ScalarFrames, is_call
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.isolation.worker.session import Session

__all__ = ["ScalarExports"]

_RECEIVED = 1024
"""Bytes received at once; more than any fixed call has."""


class ScalarExports:
    """The exports of a session's sandbox that the parent calls by fixed frames."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._names: dict[int, str] = {}
        self._calls: dict[bytes, tuple[int, Callable[[bytes], None]]] = {}
        """The size of an export's calls and what serves them, by the bytes of its number."""

    def learn(self, number: int, name: str) -> None:
        """Note the number by which the parent calls an export from now on."""
        self._names[number] = name

    def serve_all(self) -> None:
        """Serve calls, each a frame of its own, until something else comes, which the channel then has."""
        channel, calls = self._session.channel, self._calls
        receive, waiting = channel.socket.recv, channel.waiting
        while not waiting():
            data = receive(_RECEIVED) or channel.receive()
            size, call = calls.get(data[EXPORT], _NONE)
            if len(data) == size and data[KIND] == CALL:
                call(data)
            elif is_call(data):
                self.serve(data)
            else:
                channel.unread(data)
                return

    def serve(self, frame: bytes) -> None:
        """Serve a call, of an export that may not have been called so before."""
        key = frame[EXPORT]
        made = self._calls.get(key)
        if made is None:
            made = self._calls[key] = len(frame), self._made(self._names[int.from_bytes(key, "little")])
        made[1](frame)

    def _made(self, name: str) -> Callable[[bytes], None]:
        """Return what serves calls of the export ``name``."""
        session = self._session
        channel, late, counters = session.channel, session.late, session.counter()
        params, results, general = session.signature_of(name)
        frames, invoke = ScalarFrames(params, results), self._invoker(name)
        unpack, pack, head, size = frames.call.unpack, frames.answer.pack, frames.answer_head, frames.answer.size
        send = channel.socket.send
        lift, lower, single, nothing = frames.lift_params, frames.lower_results, len(results) == 1, not results

        def call(frame: bytes) -> None:
            _, mine, _, *values = unpack(frame)
            session.told, before = 0, channel.frames
            late.entered += 1  # as in `with late`, which would take two calls
            try:
                value = invoke(*values) if lift is None else invoke(*lift(values))
            except BaseException as error:
                late.__exit__()
                session.answer(partial(_fail, error))
                return
            late.entered -= 1
            late.seen = 0
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
        """Return what calls the export: the store's closure, where no subscriber observes calls."""
        sandbox: Any = self._session.sandbox
        if self._session.setup.observed:
            return partial(sandbox.call, name)
        enter = sandbox._live().closure_here(name)

        def invoke(*values: Any) -> Any:
            nonlocal enter
            if sandbox._state != "ready":
                sandbox._live()
            try:
                return enter(*values)
            except Elsewhere:
                enter = sandbox._live().closure_here(name)
                return sandbox.call(name, *values)
            except BaseException as error:
                sandbox._failed(name, values, error)
                raise

        return invoke


def _nothing(frame: bytes) -> None:
    """Stand for a call where there is none."""


_NONE = -1, _nothing


def _fail(error: BaseException) -> None:
    raise error
