"""A sandbox's store whose guest is in a worker: calls become messages, and the deadline a kill."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident

from aegis.engine.call.caller import Elsewhere
from aegis.engine.call.classify import own_failure
from aegis.engine.threads.guest_thread import MAIN, NESTED, thread_state
from aegis.engine.threads.ticker import ticker
from aegis.errors import (
    AegisError,
    Cancelled,
    DeadlineExceeded,
    GuestExit,
    MemoryExceeded,
    OutputExceeded,
    SandboxStateError,
    WorkerCrashed,
)  # fmt: skip
from aegis.isolation.parent import checked
from aegis.isolation.parent.calls import ComponentCalls, CoreCalls, ExportCalls, MisfitArguments
from aegis.isolation.parent.host_calls import DEEP, UNFIT, are_of
from aegis.isolation.parent.memory import RemoteMemory
from aegis.isolation.parent.pool import REGION
from aegis.isolation.parent.scalar_calls import scalar_call
from aegis.isolation.parent.streams import STREAM_MESSAGES, Delivery
from aegis.isolation.protocol.budgets import message_budget
from aegis.isolation.protocol.channel import Broken, Gone, Late
from aegis.isolation.protocol.columns import ColumnCalls, call_rows, serve_rows
from aegis.isolation.protocol.errors import from_plain, out_of_memory
from aegis.isolation.protocol.late_calls import forget_account, left_account
from aegis.isolation.protocol.scalar_frames import ScalarFrames
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.values import MemoryFault, Rows

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.isolation.parent.handles import ParentHandles
    from aegis.isolation.parent.host_calls import HostFunctions
    from aegis.isolation.parent.pool import Worker
    from aegis.isolation.parent.services import Services
    from aegis.wit.values import ResourceHandle

__all__ = ["IsolatedStore"]

_CLOSING, _SETTLING, _SETTLING_MOST = 1.0, 1.0, 30.0
"""Seconds that a worker has to end; and at least, and at most, to get ready."""
_DEEPEST = 40
"""Host calls inside one another. Each is a dozen frames of Python, and its stack must never end in our own code."""


class IsolatedStore:
    """What :class:`aegis.engine.store.store.ModuleStore` is, for a guest in a worker. One call at a time."""

    armed, owner, spent = 0.0, 0, False

    def __init__(
        self, worker: Worker, plan: Any, door: Door, host: HostFunctions, end: Callable[[Worker, bool], None],
        delivery: Delivery, services: Services, *, data_bytes: int | None = None, farewell: bool = True,
    ) -> None:  # fmt: skip
        self.worker, self.plan, self.door = worker, plan, door
        self.host, self.delivery, self.services = host, delivery, services
        self.handles: ParentHandles | None = host.handles
        self.token: list[None] = [None]
        self.alone = not host.any
        self.layers: tuple[tuple[str, bool, str], ...] = ()
        # The pool of event loops' calls looks at its queue when the clock ticks, which it does for calls under way.
        ticker.tokens[id(self.token)] = self.token
        self._ended = weakref.finalize(self, _end, end, worker, id(self.token), clean=False)
        self._closed = False
        self.timeout: float = math.inf if plan.limits.timeout is None else plan.limits.timeout
        self._fuel = plan.limits.fuel or 0
        self._memory = 0
        self.written = {1: 0, 2: 0}
        self._scalars: dict[Any, ScalarFrames] = {}
        """Exports that fixed frames call; a first call is by a general message, which gives the export a number.
        No closure is kept: it would keep alive a sandbox that is dropped without being closed."""
        self._numbers: dict[str, int] = {}
        self.asked = 0
        """The number of the latest call by a fixed frame."""
        self.account: Any = None
        """The latest account, as the worker told it."""
        self._grace = 0.1
        self._farewell, self._data_bytes = farewell, data_bytes
        self._settling = False
        """Whether the worker is still getting ready."""
        self._depth = 0
        self.columns = ColumnCalls()
        self._crash: AegisError = WorkerCrashed("the worker process is gone", signal=0)

    # -- life ----------------------------------------------------------------------------------

    def begin(self, setup: bytes, descriptors: Sequence[int], grace: float) -> None:
        """Hand the setup over and wait until the guest is instantiated, its start function included.

        The worker has as long to get ready as a call may take, within bounds. The guest's own time begins after that.
        """
        self._grace = grace
        if self.worker.served:
            forget_account(self.worker.shared, REGION)
        self.token.pop()
        try:
            self.arm()
            self._settling = True
            answer = self.ask(["setup", setup], descriptors)
            self.layers = self.understood(lambda: checked.layers(answer))
        except BaseException:
            self._let_go(clean=False)
            raise
        finally:
            self._settling = False
        self.token.append(None)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """End the sandbox, and its worker unless that can serve another sandbox."""
        if self._closed:
            return
        clean = False
        if not self._farewell:
            self._let_go(clean=False)
            return
        try:
            until = time.monotonic() + _CLOSING
            self.worker.channel.send(["finish"], until=until)
            clean = checked.farewell(self._reply(until))
        except (Broken, Late):
            pass
        self._let_go(clean=clean)

    def _let_go(self, *, clean: bool) -> None:
        self._closed = True
        self.services.close()
        found = self._ended.detach()
        if found is not None:
            _, end, arguments, _ = found
            end(*arguments, clean=clean)

    def abandon(self) -> None:
        """The call under way does not return: its worker goes, its thread stays where it is."""
        self.worker.kill()

    # -- calls ---------------------------------------------------------------------------------

    def take_token(self) -> bool:
        try:
            self.token.pop()
        except IndexError:
            return False
        except BaseException:  # a signal's handler raised as soon as the token was taken
            self.token.append(None)
            raise
        return True

    def in_call(self) -> bool:
        return not self.token

    def entered_here(self) -> bool:
        return self.owner == get_ident()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep calls and ``close`` away while the embedder reads; inside a host function they are."""
        if self.entered_here():
            yield
            return
        if not self.take_token():
            raise _busy()
        try:
            yield
        finally:
            self.token.append(None)

    def arm(self) -> None:
        """Set the deadline of the call that begins now."""
        ticker.awake()
        self.armed = now = time.monotonic()
        self.door.begin()
        self.door.deadline = now + self.timeout

    def closure_here(self, name: Any) -> Callable[..., Any] | None:
        """Return what calls the exported function ``name``, or ``None`` if this thread may not wait for it."""
        mode = thread_state.mode or thread_state.detect_mode()
        if mode == NESTED:
            return self._inner(name) if self.owner == get_ident() else None
        if mode == MAIN and not self.alone:
            return None
        return self.closure(name)

    def closure(self, name: Any) -> Callable[..., Any]:
        """Return what calls ``name`` in the worker: by fixed frames from the second call on, where those can."""
        if isinstance(name, Rows):
            return self._outer(self._rows_call(name))
        calls, frames = self._calls(name), self._scalars.get(name)
        if frames is not None:
            return scalar_call(self, calls, frames, self._numbers[calls.name])
        outer = self._outer(calls.call)
        return self._first(name, calls, outer) if calls.scalar else outer

    def _first(self, name: str, calls: ExportCalls, outer: Callable[..., Any]) -> Callable[..., Any]:
        """Return what makes the first call of an export, after which fixed frames call it."""
        used = False

        def first(*values: Any) -> Any:
            nonlocal used
            if used and name in self._scalars:
                raise Elsewhere
            used = True
            self._numbers.setdefault(calls.name, len(self._numbers))
            value = outer(*values)
            self._scalars[name] = ScalarFrames(calls.params, calls.results)
            return value

        return first

    def _outer(self, call: Callable[[Sequence[Any]], Any]) -> Callable[..., Any]:
        """Return what makes a call of the embedder's with ``call``."""

        def outer(*values: Any) -> Any:
            if self._closed or not (self.alone or self.outside()):
                raise Elsewhere
            if not self.take_token():
                raise self.busy()
            try:
                self.arm()
                return call(values)
            finally:
                self.token.append(None)

        return outer

    def _inner(self, name: Any) -> Callable[..., Any]:
        call = self._rows_call(name) if isinstance(name, Rows) else self._calls(name).call
        return lambda *values: call(values)

    def _rows_call(self, name: Rows) -> Callable[[Sequence[Any]], Any]:
        entry = self.plan.entry(name)
        whole = str(name) if self.handles is None else entry.name
        return lambda values: call_rows(self, whole, *values)

    def _calls(self, name: str) -> ExportCalls:
        entry = self.plan.entry(name)
        if self.handles is None:
            return CoreCalls(self, name, entry)
        return ComponentCalls(self, self.handles, entry.name, entry.function)

    def busy(self) -> Exception:
        """Return why a call cannot begin. One inside a host function of the sandbox goes another way."""
        return Elsewhere() if self.entered_here() else _busy()

    def outside(self) -> bool:
        """Tell whether this thread may wait for a guest with host functions, and is in none."""
        return (thread_state.mode or thread_state.detect_mode()) not in (MAIN, NESTED)

    def call_message(self, name: str, values: list[Any]) -> list[Any]:
        """Return the message that calls an export; with its number, if fixed frames call it later."""
        number = self._numbers.get(name)
        return ["call", name, values] if number is None else ["call", name, values, number]

    def in_time(self) -> None:
        """Refuse a result that came after the deadline, whatever the worker thought of the time."""
        reason = self.door.stop_reason()
        if reason is not None:
            raise reason

    def cancel(self) -> None:
        """Stop the call under way, from any thread; one that ends at this very moment has won."""
        self.door.cancel()
        if not self.in_call():
            self.door.stop = None
            return
        self.worker.cancel()

    # -- messages --------------------------------------------------------------------------------

    def ask(self, message: list[Any], descriptors: Sequence[int] = (), *, mark: int = 0) -> Any:
        """As :meth:`converse`, for what is of its types for certain: whoever denies that is not believed."""
        try:
            return self.converse(message, descriptors, mark=mark)
        except MisfitArguments:
            raise self.worker_failed(Broken("arguments refused that fit")) from None

    def converse(self, message: list[Any], descriptors: Sequence[int] = (), *, mark: int = 0) -> Any:
        """Ask the worker for something and serve what it asks meanwhile; return its answer or raise what it says."""
        if self._closed:
            raise SandboxStateError("the sandbox is closed", state="closed")
        more = max(message[3], 0) if message[0] == "read" else 0  # the embedder asked for so many bytes
        with self.conversation():
            self._say(message, descriptors, self.until())
            if self._settling and self.worker.pid:  # the fork server may just have been started
                self.arm()
            kind, value = self.answer_to(message_budget(self.plan.limits, more), mark)
        return self.said(message[0], kind, value)

    @contextmanager
    def conversation(self) -> Iterator[None]:
        """Raise how a call ends whose worker is late, says what cannot be, or says too much."""
        try:
            yield
        except Late:
            raise self._killed() from None
        except Broken as reason:
            raise self.worker_failed(reason) from None
        except OutputExceeded as error:
            raise self._overrun(error) from None

    def answer_to(self, budget: int, mark: int) -> tuple[str, Any]:
        """Serve what the worker asks until it answers; return the kind of its answer, and the value."""
        until = self.until()
        while True:
            self.worker.channel.budget = budget  # a call inside this one has one of its own
            reply = self._next(until)
            self.services.record(self.door)
            if reply == ["settled"] and self._settling:
                self._settling = False
                self.arm()
                until = self.until()
                continue
            if self._served(reply, until):
                until = self._pressed(until)
                continue
            kind, value, account, taken = reply
            self._note(account, taken, mark)
            self.delivery.forget()
            return kind, value

    def _say(self, message: list[Any], descriptors: Sequence[int], until: float) -> None:
        try:
            self.worker.channel.send(message, descriptors, until=until, stopped=self.stopped)
        except TypeError:
            raise MisfitArguments from None  # it is not plain data, so it is not of its type

    def until(self) -> float:
        """Return when the worker is killed if it has not answered, and tell it to those who wait for the call."""
        end = self.door.deadline
        if self._settling:
            self.door.ready_by = end = min(max(end, self.armed + _SETTLING), self.armed + _SETTLING_MOST)
        return end + self._grace

    def _pressed(self, until: float) -> float:
        """Return until when to listen to a worker that talks and does not answer; raise :class:`Late` by then."""
        now = time.monotonic()
        if self.door.stop is not None:
            until = min(until, now + self._grace)
        if now >= until:
            raise Late
        return until

    def said(self, asked: str, kind: str, value: Any) -> Any:
        """Return what a reply says, or raise it."""
        if kind == "done":
            return value
        if kind == "unfit":
            raise MisfitArguments
        if kind == "fault":
            if asked not in ("read", "write"):
                raise self.worker_failed(Broken("a memory's fault where there is no memory"))
            raise MemoryFault(self.understood(lambda: checked.text(value)))
        failure = own_failure(self.door)
        error = self.understood(lambda: from_plain(value))
        if isinstance(error, MemoryExceeded) and error.limit == "overhead":
            error = out_of_memory(self._data_bytes)  # the worker does not know how much it may have
        if isinstance(error, GuestExit):
            self.in_time()
        raise failure if failure is not None and failure is not self.door.stop else error

    def _reply(self, until: float) -> Any:
        while True:
            reply = self.worker.channel.recv(until)
            if time.monotonic() >= until:
                raise Late
            if not isinstance(reply, list) or not reply:
                raise Broken("a message that says nothing")
            if reply[0] in ("done", "fail"):
                return reply

    def _next(self, until: float) -> Any:
        """Return the next message. A cancellation that is not answered in time is :class:`Late` too."""
        channel, door = self.worker.channel, self.door
        while self.delivery.pending and not self.delivery.wait(channel, self._sayer(until)):
            if door.stop is not None or time.monotonic() >= until:
                break
        return self.patiently(channel.recv, until)

    def patiently(self, receive: Callable[..., Any], until: float) -> Any:
        """Return what comes; a call that was cancelled has a while to end by itself."""
        try:
            return receive(until, self.stopped)
        except Late:
            if self.door.stop is None or time.monotonic() >= until:
                raise
        return receive(min(until, time.monotonic() + self._grace))

    def _served(self, message: Any, until: float) -> bool:
        """Serve a message that is no answer; tell whether it was one to serve."""
        kind = message[0] if isinstance(message, list) and message else None
        if kind == "host":
            self._host(message)
        elif type(kind) is str and kind in STREAM_MESSAGES:
            self._stream(message, until)
        elif kind == "called":
            call = checked.observed(message)
            if self.door.observe_call is not None:
                self.door.observe_call(*call)
        elif kind == "decided":
            self.door.decided(checked.decision(message))
        elif kind == "log":
            said = checked.log(message)
            self.door.logged(*said)
        elif kind == "rows":
            serve_rows(self.columns, message, self._answer)
        elif kind == "resolve":
            self.services.resolve(message, self.door)
        elif kind == "socket":
            self._socket(message)
        elif kind == "times":
            self._set_times(message)
        elif kind in ("done", "fail", "fault", "unfit") and len(message) == 4:
            return False
        else:
            raise Broken("a message of unknown kind")
        return True

    def _stream(self, message: list[Any], until: float) -> None:
        try:
            self.delivery.serve(message, self._sayer(until))
        except (DeadlineExceeded, Cancelled):
            raise Late from None  # the stream did not take the output in time

    def _sayer(self, until: float) -> Callable[[list[Any]], None]:
        """Return what sends to the worker, no longer than the call lasts: a worker need not read what it is sent."""
        return lambda message: self.worker.channel.send(message, until=until, stopped=self.stopped)

    def stopped(self) -> bool:
        return self.door.stop is not None

    def _host(self, message: list[Any]) -> None:
        """Call one of the embedder's functions, on this thread, and answer what came of it."""
        if len(message) != 4 or type(message[1]) is not int:
            raise Broken("a host call that cannot be read")
        _, mine, number, values = message
        before, owner = thread_state.mode, self.owner
        thread_state.mode, self.owner = NESTED, get_ident()
        self._depth += 1
        if self._depth > _DEEPEST:
            number, values = DEEP, []
        try:
            failed, answer = self.host.call(self.door, number, values)
            try:
                self._answer(mine, failed, answer)
            except TypeError:  # what the function returned is not plain data: it is told what is wrong with it
                self._answer(mine, *self.host.call(self.door, UNFIT, []))
        finally:
            thread_state.mode, self.owner = before, owner
            self._depth -= 1

    def _answer(self, mine: int, failed: bool, answer: Any) -> None:
        self._sayer(self.door.deadline + self._grace)(["answer", mine, failed, answer])

    def _socket(self, message: list[Any]) -> None:
        mine, answer = self.services.direct_socket(message, self.door)
        if mine is not None:
            self._answer(mine, False, answer)

    def _set_times(self, message: list[Any]) -> None:
        self.door.calls_left -= 1
        if self.door.calls_left < 0:
            raise Broken("more files changed than host calls")
        mine, failed = self.services.set_times(message)
        self._answer(mine, False, failed)

    def _note(self, account: Any, taken: Any, mark: int) -> None:
        """Take over the counters that the worker tells, and which handles the guest took."""
        self.count(account)
        if type(taken) is not list:
            raise Broken("handles that cannot be read")
        if self.handles is not None:
            self.handles.release_loans(taken, mark)

    def count(self, account: Any) -> None:
        """Take over the counters that the worker tells."""
        used = checked.account(account, self.door, self.plan.limits.fuel or 0, self.plan.limits.memory)
        self._fuel, self._memory, self.written[1], self.written[2] = used
        self.account = account

    def _left(self) -> bool:
        """Take over the counters that a worker left which told no more; tell whether it ended its late call itself."""
        account, ended = left_account(self.worker.shared, REGION)
        if account is not None:
            self.count(account)
        return ended

    def understood(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except Broken as reason:
            raise self.worker_failed(reason) from None

    def _overrun(self, error: AegisError) -> AegisError:
        """End the worker, which went past a limit; return ``error``, in which every later request ends too."""
        self._let_go(clean=False)
        self._crash = error
        return error

    def _killed(self) -> AegisError:
        """The worker did not end its call in time."""
        self.worker.kill()
        self._left()
        self.delivery.last_words(self.worker.channel)
        return self._overrun(self.door.stop_reason() or self.door.timeout())

    def worker_failed(self, reason: Exception) -> AegisError:
        """End a worker that died or gave an impossible answer; return the error of the call."""
        if self._closed:
            return self._crash  # it was found out in a call inside this one
        if not isinstance(reason, Gone):
            self.worker.kill()
        crash = self.worker.crashed()
        if isinstance(reason, Gone):
            self.delivery.last_words(self.worker.channel)
            if self._left() and self.door.stop is None:
                self.door.stop = self.door.timeout()
        if self.door.stop is not None:
            return self._overrun(self.door.stop)
        if crash.signal == 9 and not isinstance(reason, Gone):
            crash = WorkerCrashed(f"the worker process broke the protocol: {reason}", signal=0)
        starved = self.worker.starved(crash)
        self._let_go(clean=False)
        self._crash = out_of_memory(self._data_bytes) if starved else crash
        return self._crash

    # -- what the instance holds -------------------------------------------------------------------

    def request(self, *message: Any) -> Any:
        """Ask for something that is no call: it has a deadline of its own where no call is under way."""
        if not self.entered_here():
            self.arm()
        return self.ask(list(message))

    def dropper(self) -> Callable[[ResourceHandle], None] | None:
        """Return what drops a handle from the current thread, or ``None`` if it may not wait for that."""
        mode = thread_state.mode or thread_state.detect_mode()
        if mode == MAIN and not self.alone:
            return None

        def drop(handle: ResourceHandle) -> None:
            assert self.handles is not None
            with self.held():
                self.request("drop", handle._native)
            self.handles.forget(handle)

        return drop

    def bare_memory(self) -> RemoteMemory:
        """Return access to the guest's memory that charges nothing."""
        return RemoteMemory(self, charged=False)

    def fuel_left(self) -> int:
        """Return what is left of the latest call's fuel; 0 where it is not counted."""
        return self._fuel

    def memory_size(self) -> int:
        return self._memory

    def global_get(self, name: str, kind: Any) -> int | float:
        """Return the value of an exported global."""
        value = self.request("get", name)
        if not are_of([kind.value], [value]):
            raise self.worker_failed(Broken("a global of another type"))
        return value  # type: ignore[no-any-return]

    def global_set(self, name: str, kind: Any, number: int | float) -> None:
        """Set an exported mutable global to a value already checked."""
        self.request("set", name, number)


def _end(end: Callable[[Worker, bool], None], worker: Worker, token: int, *, clean: bool) -> None:
    ticker.tokens.pop(token, None)
    end(worker, clean)


def _busy() -> SandboxStateError:
    return SandboxStateError("the sandbox is busy: another thread has a call under way in it", state="busy")
