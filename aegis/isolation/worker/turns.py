"""Turns in a worker: calls that overlap, and reads of the guest's streams, that the parent starts by notices.

A notice may arrive in the middle of guest code, so the scheduler handles it when it runs next.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

from aegis.component.tasks.task import CANCELLED
from aegis.errors import AegisError, CallError
from aegis.isolation.protocol import turn_messages
from aegis.isolation.protocol.errors import to_plain
from aegis.sandbox.local_guest import LocalGuest
from aegis.sandbox.turn_operations import Start, TurnOperation, TurnOperations
from aegis.values import Interest
from aegis.wit.types import has_ends

if TYPE_CHECKING:
    from aegis.isolation.protocol.channel import Channel
    from aegis.isolation.worker.component_host_calls import WorkerHandles
    from aegis.isolation.worker.late_answers import LateAnswers

__all__ = ["ParentMessages", "WorkerTurns"]


class _TurnSession(Protocol):
    """The parts of a session that its turns use."""

    channel: Channel
    handles: WorkerHandles | None
    answers_later: LateAnswers

    @property
    def run(self) -> Any: ...
    def account(self) -> bytes: ...
    def handle(self, message: Any) -> bool: ...
    def signature(self, name: str) -> Any: ...


class ParentMessages:
    """Receives what the parent sends while the scheduler waits; an operation that is never complete."""

    def __init__(self, session: _TurnSession) -> None:
        self._channel, self._handle = session.channel, session.handle
        self._poller = select.poll()
        self._poller.register(self._channel.fileno(), select.POLLIN)
        self._interest = Interest(read=(self._channel.fileno(),))

    def ready(self) -> bool:
        """Return whether a message has arrived."""
        return self._channel.waiting() or bool(self._poller.poll(0))

    def interest(self) -> Interest:
        """Return the channel as the descriptor to wait for, after sending all that the parent may wait for."""
        self._channel.flush()
        return self._interest

    def complete(self) -> None:
        """Receive all messages that have arrived."""
        while self.ready():
            self._handle(self._channel.recv())

    def cancel(self) -> None:
        """Do nothing: the session receives messages until its end."""


class _SentOperation(TurnOperation):
    """A call or read whose end is reported to the parent."""

    def __init__(self, start: Start, report: Callable[[Any, BaseException | None], None]) -> None:
        super().__init__(start)
        self._report = report

    def pass_on(self, value: Any, error: BaseException | None) -> None:
        self._report(value, error)


class WorkerTurns:
    """The operations that the parent of a session has started in its guest."""

    def __init__(self, session: _TurnSession) -> None:
        store = session.run.live()
        self._session, self._guest = session, LocalGuest(ref(store))
        self._tasks = store.state.tasks
        self._operations = TurnOperations(self._guest)
        self._known: dict[int, _SentOperation] = {}
        self._heard = self._told = 0
        """The number of notices received, and the number that the latest ``idle`` named."""
        self._deadlocked = False

    @property
    def _handles(self) -> WorkerHandles:
        handles = self._session.handles
        assert handles is not None
        return handles

    def note(self, message: list[Any]) -> None:
        """Have the scheduler handle a notice."""
        self._heard += 1
        kind, *rest = message
        if kind == "deadlock":
            self._heard -= 1
            self._deadlocked = rest[0] == self._heard
            self._tasks.post_here(_nothing)  # so that a wait that begins now returns
            return
        if kind == "gave":
            self._tasks.post_here(self._session.answers_later.give(*rest))
            return
        handle: dict[str, Callable[..., None]] = {
            "start": self._start, "want": self._want, "cancel": self._cancel, "close-end": self._close,
        }  # fmt: skip
        self._tasks.post_here(partial(handle[kind], *rest))

    def run(self) -> None:
        """Run the guest until no operation is left."""
        store = self._session.run.live()
        turn = store.turn()
        try:
            turn(lambda: self._guest.run(_nothing, self._idle, self._may_hear))
        except BaseException as error:
            self._session.run.failed("(tasks)", (), error)
            raise

    def _idle(self) -> bool:
        if not self._operations.live and not self._tasks.has_posts():
            return True
        self._session.channel.flush()
        return False

    def _may_hear(self) -> bool:
        """Return whether to wait for the parent: it knows which calls the application may still make."""
        if self._deadlocked:
            return False
        if self._told != self._heard and not self._operations.may_hear():
            self._told = self._heard
            self._session.channel.send(["idle", self._heard], notice=True)
        return True

    # -- the operations ------------------------------------------------------------------------

    def _begin(
        self, number: int, start: Start, pack: Callable[[Any], Any], owned: Sequence[int] = (), *,
        reports: bool, early: bool = False, background: bool = False,
    ) -> None:  # fmt: skip
        def report(value: Any, error: BaseException | None) -> None:
            del self._known[number]
            if isinstance(error, AegisError):
                end: list[Any] = [turn_messages.REFUSED, to_plain(error)]
            elif value is CANCELLED:
                end = [turn_messages.CANCELLED, None]
            else:
                end = [turn_messages.DONE, pack(value)]
            taken = self._handles.taken_of(owned)
            message = ["settled", number, *end, taken, self._session.account()]
            if self._operations.live or early:
                self._session.channel.send(message, notice=True)
            else:  # the answer to the request for the turn follows
                self._session.channel.hold(message)

        made = self._known[number] = _SentOperation(start, report)
        if reports:
            self._session.channel.send(["begun", number], notice=True)
        if not background:
            self._operations.live[made] = None
        self._operations.started(made)

    def _start(self, number: int, reports: bool, name: str, values: list[Any]) -> None:
        session, handles = self._session, self._handles
        signature = session.signature(name)
        mistake: CallError | None = None
        arguments: tuple[Any, ...] = ()
        try:
            arguments = tuple(signature.unpack(values))
        except CallError as error:  # a handle that an earlier call has moved
            mistake = error
        owned = handles.take_owned()

        def start(operation: _SentOperation) -> Callable[[], Any]:
            if mistake is not None:
                raise mistake
            self._guest.check_room()
            return self._guest.call(name, arguments, self._operations.settler(operation))

        self._begin(number, start, signature.pack_result, owned, reports=reports, early=_is_early(signature))

    def _want(self, number: int, reports: bool, end: int, count: int, request: int | None) -> None:
        ends, stuck = self._handles.ends, self._tasks.stuck
        caller = self._session.answers_later.find(request)

        def start(operation: _SentOperation) -> Callable[[], Any]:
            def done(values: Any) -> None:
                stuck.discard(caller)
                self._operations.settle(operation, values)

            if caller is not None:  # the host function that waits is no reason for the guest to wait
                stuck.add(caller)
                caller.settled = lambda: stuck.discard(caller)
            cancel = ends.start(end, count, done)

            def give_up() -> None:
                cancel()
                stuck.discard(caller)
                self._operations.settle(operation, CANCELLED)

            return give_up

        pack = partial(ends.packed, end)
        self._begin(number, start, pack, reports=reports, early=True, background=request is not None)

    def _cancel(self, number: int) -> None:
        operation = self._known.get(number)
        if operation is not None:  # otherwise its end and this notice have crossed
            self._operations.cancelled(operation)

    def _close(self, end: int) -> None:
        self._handles.ends.drop(end)


def _is_early(signature: Any) -> bool:
    """Return whether a call has its result, which has streams, while its code may still run."""
    of = signature.function.result
    return of is not None and has_ends(of)


def _nothing() -> None:
    pass
