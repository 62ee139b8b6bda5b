"""Work that overlaps in an isolated sandbox, in the parent: calls and reads under way, and answers that come later.

The thread that waits for the worker does all of it: it calls what other threads post, sends answers when they are
there, and serves the worker's messages (:mod:`aegis.isolation.protocol.turn_messages`). A worker can end only an
operation that the parent has started, and once; it can have as many pending requests as its guest may have handles and
tasks.
"""

from __future__ import annotations

import math
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import get_ident
from typing import Any, Protocol

from aegis.component.tasks.task import CANCELLED
from aegis.engine.threads.guest_thread import NESTED, thread_state
from aegis.errors import AegisError, Cancelled, DeadlineExceeded
from aegis.isolation.protocol import turn_messages
from aegis.isolation.protocol.channel import ChannelTimeout, ProtocolError
from aegis.isolation.protocol.errors import from_plain
from aegis.values import Interest

__all__ = ["OverlappingWork", "PendingAnswer", "RemoteOperation"]


class PendingAnswer(Protocol):
    """An answer that the parent does not have yet."""

    wakes_door: bool
    """Whether it wakes the door when it may be ready, so that it need not be checked before."""

    def ready(self) -> bool:
        """Return whether :meth:`finish` may return it."""

    def interest(self) -> Interest:
        """Return the events to wait for while it is not ready."""

    def finish(self) -> tuple[bool, Any] | None:
        """Return whether the request failed, and its encoded result or error; ``None`` if it takes longer."""

    def cancel(self) -> None:
        """Give the answer up, because the guest does not wait for it any more."""

    def waits_in(self, call: object) -> bool:
        """Return whether this is the answer of the host function ``call``, which runs on a thread of its own."""


class RemoteOperation:
    """A call or read that the worker has: ``unpack`` validates its result, and ``settle`` takes it.

    The guest was given the objects with the numbers ``given``, if it was entered, and has the loans ``lent`` until the
    end. An operation of the ``background``, a read by a host function on a thread of its own, may outlast a turn.
    """

    def __init__(
        self, unpack: Callable[[Any], Any], settle: Callable[[Any, BaseException | None], None],
        given: tuple[int, int] = (0, 0), lent: tuple[int, ...] = (), *, background: bool = False,
    ) -> None:  # fmt: skip
        self.unpack, self.settle, self.given, self.lent, self.background = unpack, settle, given, lent, background
        self.cancelled = False
        self.begun = True
        self.deadline = math.inf


class OverlappingWork:
    """The overlapping work of one sandbox. It refers to the store weakly, which owns it."""

    def __init__(self, store: Any) -> None:
        self._ref = weakref.ref(store)
        limits = store.plan.limits
        self._timeout = math.inf if limits.timeout is None else limits.timeout
        self._most = None if None in (limits.handles, limits.tasks) else limits.handles + limits.tasks
        """Pending requests that the guest may have: each is a subtask or the only call of a task."""
        self._posts: deque[Callable[[], None]] = deque()
        self._operations: dict[int, RemoteOperation] = {}
        self._next = 1
        self._pending: dict[int, PendingAnswer] = {}
        self._checked: dict[int, PendingAnswer] = {}
        """Those among them that must be checked, because they do not wake the door."""
        self._seen = -1
        """The number of wake-ups when all were checked."""
        self._failures: dict[int, BaseException | None] = {}
        """The exceptions by which answers failed, which end the guest unless it gave the request up before."""
        self._next_check = 0.0
        self._sent = 0
        """The number of notices sent to the worker."""
        self._idle = -1
        """The number of notices that the worker had received when it waited for the application alone."""
        self._may_hear: Callable[[], bool] | None = None
        self._holds = False
        """Whether a turn is about to begin."""
        self.stuck: set[Any] = set()
        """Host functions on threads of their own that wait for the guest to write; the worker counts them."""

    @property
    def _store(self) -> Any:
        store = self._ref()
        assert store is not None  # the thread that runs the guest refers to it
        return store

    @property
    def in_turn(self) -> bool:
        """Whether a turn is under way, whose deadline changes with its operations."""
        return self._may_hear is not None

    @property
    def outstanding(self) -> bool:
        """Whether there is anything to do beside waiting for the worker."""
        return self._may_hear is not None or bool(self._pending) or bool(self._posts)

    def waiting(self) -> bool:
        """Return whether a call must not use fixed frames: there is more to do, or a message has arrived."""
        return self.outstanding or self._store.worker.channel.waiting()

    # -- the thread that runs the guest --------------------------------------------------------

    def post(self, function: Callable[[], None]) -> None:
        """Have the thread that runs the guest call ``function``; for any thread."""
        self._posts.append(function)
        store = self._ref()
        if store is not None:
            store.door.wake()

    def turn(self, may_hear: Callable[[], bool] | None) -> None:
        """Note that a turn begins, or with ``None`` that it has ended.

        The request for the turn takes the notices before it along.
        """
        self._may_hear, self._idle = may_hear, -1
        self._holds = may_hear is not None
        store = self._store
        if may_hear is None and not store.closed:
            with store.translate_failures():
                store.worker.channel.flush(until=store.until(), stopped=store.stopped)

    def wait(self) -> bool:
        """Do what is due, and wait for more, or for the worker; return whether a message has arrived.

        Also return at the deadline and after a cancellation.
        """
        store = self._store
        channel, door, delivery = store.worker.channel, store.door, store.delivery
        number = channel.fileno()
        try:
            self.do_posts()
            if channel.waiting():
                return True
            if self._checked or (self._pending and self._seen != door.wakes):
                arrived = channel.readable()
                if not arrived or time.monotonic() >= self._next_check:
                    self._give()
                if arrived:
                    return True
            read = (number, *((delivery.descriptor,) if delivery.pending else ()))
            ready = door.wait_for([Interest(read=read), *(answer.interest() for answer in self._checked.values())])
        except (DeadlineExceeded, Cancelled) as error:
            if error is not door.stop:
                raise store.end_with(error) from None
            return False
        except AegisError as error:
            raise store.end_with(error) from None
        return number in ready

    def do_posts(self) -> None:
        """Call the functions that were posted."""
        for _ in range(len(self._posts)):
            self._posts.popleft()()
        self._check_deadlock()

    def _give(self) -> None:
        """Send the answers that are there. The checks take a tenth of the time at most, however many there are."""
        begun, door = time.monotonic(), self._store.door
        serving, wakes = door.serving, door.wakes
        answers = self._checked if self._seen == wakes else self._pending
        self._seen = wakes
        for request, answer in list(answers.items()):
            if not answer.ready():
                continue
            with _inside_host_function(self._store):
                found = answer.finish()
            if request in self._pending and found is not None:
                self._drop(request)
                if found[0]:
                    self._failures[request] = door.failure
                else:
                    door.serving = serving
                self.send(["gave", request, *found])
        now = time.monotonic()
        self._next_check = now + 10 * (now - begun)

    def send(self, message: list[Any]) -> None:
        """Send a notice."""
        store = self._store
        if message[0] != "deadlock":
            self._sent += 1
        if self._holds:
            store.worker.channel.hold(message)
            return
        with store.translate_failures():
            store.worker.channel.send(message, until=store.until(), stopped=store.stopped, notice=True)

    def _check_deadlock(self) -> None:
        """Tell a worker that waits for the application if that does nothing more."""
        if self._idle == self._sent and self._may_hear is not None and not self._may_hear():
            self.send(["deadlock", self._idle])
            self._idle = -1

    # -- operations ----------------------------------------------------------------------------

    def begin(self, operation: RemoteOperation, kind: str, *words: Any) -> Callable[[], bool]:
        """Have the worker start a call or read; return the function that cancels it, whose result is to come then."""
        number, self._next = self._next, self._next + 1
        if not operation.background:
            operation.begun = self._first() is None  # otherwise guest code of another one may be running
        self._operations[number] = operation
        self._set_deadline()
        self.send([kind, number, not operation.begun, *words])

        def cancel() -> bool:
            if number in self._operations and not operation.cancelled:
                operation.cancelled = True
                self.send(["cancel", number])
            return True

        return cancel

    def _first(self) -> RemoteOperation | None:
        return next((one for one in self._operations.values() if not one.background), None)

    def _set_deadline(self) -> None:
        """The turn ends at the deadline of its first operation, because the worker starts them in order.

        The time of the first one runs even if the worker does not report its start. Without an operation the turn is
        about to end.
        """
        first = self._first()
        if first is not None and self._may_hear is not None:
            if first.deadline == math.inf:
                first.deadline = time.monotonic() + self._timeout
            self._store.door.deadline = first.deadline

    def _begun(self, message: list[Any]) -> None:
        """Count the time of an operation from now."""
        operation = self._operations.get(message[1]) if len(message) == 2 and type(message[1]) is int else None
        if operation is None or operation.begun:
            raise ProtocolError("start of a call or read that does not wait for it")
        operation.begun = True
        operation.deadline = time.monotonic() + self._timeout
        self._set_deadline()

    def ask_for_turn(self, mark: int) -> None:
        """Have the worker run the guest until no operation is left, also none of those that it has been sent now."""
        store, sent = self._store, self._next
        self._holds = False
        store.ask(["turn"], mark=mark)
        if any(number < sent and not one.background for number, one in self._operations.items()):
            raise store.worker_failed(ProtocolError("a turn ended before its calls and reads"))

    def _settled(self, message: list[Any]) -> None:
        """Pass on the end of an operation; raise :class:`ProtocolError` for one that is not under way."""
        store = self._store
        match message:
            case [_, int(number), str(kind), value, list(taken), account] if type(number) is int:
                operation = self._operations.pop(number, None)
            case _:
                raise ProtocolError("malformed end of a call or read")
        if operation is None:
            raise ProtocolError("end of a call or read that is not under way")
        self._set_deadline()
        store.count(account)
        handles = store.handles
        handles.take_back(taken)
        handles.end_loans(operation.lent)
        if store.door.stop_reason() is not None:
            raise ChannelTimeout  # the turn ends as a whole
        if kind == turn_messages.DONE:
            found = operation.unpack(value)
            handles.taken.clear()
            operation.settle(found, None)
        elif kind == turn_messages.CANCELLED and operation.cancelled:
            operation.settle(CANCELLED, None)
        elif kind == turn_messages.REFUSED:
            error = from_plain(value)
            handles.withdraw(*operation.given)
            operation.settle(None, error)
        else:
            raise ProtocolError("a call or read ended in an unknown way")

    # -- answers that come later ---------------------------------------------------------------

    def check_room(self, request: int) -> None:
        """Raise :class:`ProtocolError` if the answer to a request must not come later."""
        most, kept = self._most, len(self._pending) + len(self._failures)
        if request in self._pending or (most is not None and kept >= most):
            raise ProtocolError("more pending requests than the guest may have")

    def answer_later(self, request: int, answer: PendingAnswer) -> None:
        """Send the answer to a request when it is there."""
        self._pending[request] = answer
        self._seen = -1  # it may have become ready before it was pending
        if not answer.wakes_door:
            self._checked[request] = answer

    def _drop(self, request: int) -> PendingAnswer | None:
        self._checked.pop(request, None)
        return self._pending.pop(request, None)

    def request_of(self, call: object) -> int | None:
        """Return the request that waits for a host function, if there is one."""
        return next((request for request, answer in self._pending.items() if answer.waits_in(call)), None)

    def _forget(self, message: list[Any]) -> None:
        """Give up an answer that the guest does not wait for, unless it is on its way already."""
        if len(message) != 2 or type(message[1]) is not int:
            raise ProtocolError("malformed cancellation of a request")
        failure = self._failures.pop(message[1], None)
        if failure is not None and failure is self._store.door.failure:
            self._store.door.failure = None
        answer = self._drop(message[1])
        if answer is not None:
            answer.cancel()
            self.send(["gave", message[1], None, None])

    # -- messages ------------------------------------------------------------------------------

    def serve(self, message: list[Any]) -> bool:
        """Serve a message of the worker; return whether it is about overlapping work."""
        kind = message[0]
        if kind not in ("settled", "begun", "forget", "idle"):
            return False
        try:
            if kind == "settled":
                self._settled(message)
            elif kind == "begun":
                self._begun(message)
            elif kind == "forget":
                self._forget(message)
            elif len(message) != 2 or type(message[1]) is not int:
                raise ProtocolError("malformed report of a guest that waits")
            else:
                self._idle = message[1]
                self._check_deadlock()
        except AegisError as error:  # a limit, or an iterator of the application that raises as it is closed
            raise self._store.end_with(error) from None
        return True

    def close(self) -> None:
        """Give up all answers, because the sandbox ends."""
        self._may_hear = None
        self._operations.clear()
        self._failures.clear()
        self._checked.clear()
        while self._pending:
            with suppress(Exception):  # of the application's iterator, which does not keep the others open
                self._pending.popitem()[1].cancel()
        for call in list(self.stuck):
            call.cancel()


@contextmanager
def _inside_host_function(store: Any) -> Iterator[None]:
    """Run code of the application on this thread as a host function of the store runs."""
    before, owner = thread_state.mode, store.owner
    thread_state.mode, store.owner = NESTED, get_ident()
    try:
        yield
    finally:
        thread_state.mode, store.owner = before, owner
