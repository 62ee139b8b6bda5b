"""In a worker: calls by fixed frames (:mod:`aegis.isolation.scalar_frames`).

An export is prepared at the first such call: what unpacks its arguments, the closure that enters the guest, what packs
the answer. A call that fails, or during which this side said something else, is answered by a general message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aegis.engine.caller import Elsewhere
from aegis.isolation.scalar_frames import EXPORT, ScalarFrames
from aegis.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.isolation.worker import Session

__all__ = ["ScalarExports"]


class ScalarExports:
    """The exports of a session's sandbox that the parent calls by fixed frames."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._names: dict[int, str] = {}
        self._calls: dict[bytes, Callable[[bytes], None]] = {}

    def learn(self, number: int, name: str) -> None:
        """Note the number by which the parent calls an export from now on."""
        self._names[number] = name

    def serve(self, frame: bytes) -> None:
        """Serve a call."""
        key = frame[EXPORT]
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = self._made(self._names[int.from_bytes(key, "little")])
        call(frame)

    def _made(self, name: str) -> Callable[[bytes], None]:
        """Return what serves calls of the export ``name``."""
        session = self._session
        channel, counters, late = session.channel, session.counters, session.late
        params, results, general = session.signature_of(name)
        frames, invoke = ScalarFrames(params, results), self._invoker(name)
        unpack, pack, head = frames.call.unpack, frames.answer.pack, frames.answer_head
        lift, lower, single, nothing = frames.lift_params, frames.lower_results, len(results) == 1, not results

        def call(frame: bytes) -> None:
            _, mine, _, *values = unpack(frame)
            session.told = 0
            before = channel.frames
            try:
                with late:
                    value = invoke(values if lift is None else lift(values))
            except BaseException as error:
                session.answer(_raising(error))
                return
            if channel.frames != before:
                session.answer(lambda: general(value))
                return
            if session.streams is not None:
                session.streams.forget()
            row: Sequence[Any] = (value,) if single else () if nothing else value
            channel.push(pack(head, mine, *counters(), *(row if lower is None else lower(row))))

        return call

    def _invoker(self, name: str) -> Callable[[Sequence[Any]], Any]:
        """Return what calls the export: the store's closure, where nobody observes calls and the guest is sound."""
        sandbox: Any = self._session.sandbox
        if self._session.setup.observed:
            return lambda values: sandbox.call(name, *values)
        enter = sandbox._live().closure_here(name)

        def invoke(values: Sequence[Any]) -> Any:
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


def _raising(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail
