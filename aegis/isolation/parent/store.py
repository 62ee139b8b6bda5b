"""The store of a sandbox whose guest runs in a worker: calls become messages, and the deadline kills the worker."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident

from aegis.engine.call.caller import Elsewhere
from aegis.engine.call.classify import own_failure
from aegis.engine.store.token import TokenHolder, busy_error
from aegis.engine.threads.guest_thread import MAIN, NESTED, thread_state
from aegis.engine.threads.ticker import ticker
from aegis.errors import (
    AegisError,
    GuestExit,
    MemoryExceeded,
    OutputExceeded,
    ReaderGone,
    SandboxStateError,
    WorkerCrashed,
)  # fmt: skip
from aegis.isolation.parent import checked
from aegis.isolation.parent.calls import ArgumentsRejected, ComponentCalls, CoreCalls, ExportCalls
from aegis.isolation.parent.columns import ColumnCalls, call_rows
from aegis.isolation.parent.host_calls import are_of
from aegis.isolation.parent.memory import RemoteMemory
from aegis.isolation.parent.requests import serve_request
from aegis.isolation.parent.scalar_calls import scalar_call
from aegis.isolation.parent.streams import Delivery
from aegis.isolation.protocol.budgets import message_budget
from aegis.isolation.protocol.channel import REGION_BYTES, ChannelTimeout, Disconnected, ProtocolError
from aegis.isolation.protocol.errors import from_plain, out_of_memory
from aegis.isolation.protocol.late_calls import forget_account, left_account
from aegis.isolation.protocol.scalar_frames import ScalarFrames
from aegis.support.lean import TYPE_CHECKING, Any, late
from aegis.values import MemoryFault, Rows

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.engine.store.memory import LinearMemory
    from aegis.isolation.parent import overlapping
    from aegis.isolation.parent.handles import ParentHandles
    from aegis.isolation.parent.host_calls import HostFunctions
    from aegis.isolation.parent.pool import Worker
    from aegis.isolation.parent.services import Services
    from aegis.wit.values import ResourceHandle
else:  # needed only for asynchronous components
    overlapping = late("aegis.isolation.parent.overlapping")

__all__ = ["IsolatedStore"]

_CLOSE_SECONDS, _MIN_PREPARE_SECONDS, _MAX_PREPARE_SECONDS = 1.0, 1.0, 30.0
"""Seconds for a worker to close its sandbox; the minimum and maximum for preparing it."""


class IsolatedStore(TokenHolder):
    """The store of a guest in a worker; the counterpart of :class:`aegis.engine.store.store.ModuleStore`."""

    armed, spent = 0.0, False

    def __init__(
        self, worker: Worker, plan: Any, door: Door, host: HostFunctions, end: Callable[[Worker, bool], None],
        delivery: Delivery, services: Services, *, data_bytes: int | None = None, final_report: bool = True,
    ) -> None:  # fmt: skip
        self.worker, self.plan, self.door = worker, plan, door
        self.host, self.delivery, self.services = host, delivery, services
        host.store = weakref.ref(self)
        self.handles: ParentHandles | None = host.handles
        self.token: list[None] = [None]
        self.calls_no_python = not host.any
        self.layers: tuple[tuple[str, bool, str], ...] = ()
        # The thread pool of asynchronous calls checks its queue at ticks: the ticker runs while a token is taken.
        ticker.tokens[id(self.token)] = self.token
        self._ended = weakref.finalize(self, _end, end, worker, id(self.token), clean=False)
        self._closed = False
        self.timeout: float = math.inf if plan.limits.timeout is None else plan.limits.timeout
        self._fuel = plan.limits.fuel or 0
        self._memory = 0
        self.written = {1: 0, 2: 0}
        self._scalars: dict[Any, ScalarFrames] = {}
        """Frames of exports that have been called once: the first call is a general message, which assigns a number.
        Closures are not cached: they would keep a sandbox alive that is dropped without being closed."""
        self._numbers: dict[str, int] = {}
        self.asked = 0
        """The number of the latest call by a fixed frame."""
        self.account: Any = None
        """The latest account, as the worker sent it."""
        self.grace = 0.1
        self._final_report, self._data_bytes = final_report, data_bytes
        self.preparing = False
        """Whether the worker is still preparing the sandbox or a loop."""
        self.depth = 0
        self.columns = ColumnCalls()
        self.overlapping: overlapping.OverlappingWork | None = None
        """Calls, reads and answers that overlap, of an asynchronous component."""
        if plan.is_async:
            self.overlapping = overlapping.OverlappingWork(self)
        self._crash: AegisError = WorkerCrashed("the worker process is gone", signal=0)

    # -- life ----------------------------------------------------------------------------------

    def begin(self, spec: bytes, descriptors: Sequence[int], grace: float) -> None:
        """Send the specification and wait until the guest is instantiated and its start function has returned.

        The worker may prepare the sandbox for as long as a call may take, within bounds; then the guest's time begins.
        """
        self.grace = grace
        if self.worker.served:
            forget_account(self.worker.shared, REGION_BYTES)
        self.token.pop()
        try:
            self.arm()
            self.preparing = True
            answer = self.ask(["setup", spec], descriptors)
            self.layers = self.validated(lambda: checked.layers(answer))
        except BaseException:
            self._release_worker(clean=False)
            raise
        finally:
            self.preparing = False
        self.token.append(None)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Close the sandbox, and end its worker unless the worker can serve another sandbox."""
        if self._closed:
            return
        clean = False
        if not self._final_report:
            self._release_worker(clean=False)
            return
        try:
            until = time.monotonic() + _CLOSE_SECONDS
            self.worker.channel.send(["finish"], until=until)
            clean = checked.final_report(self._reply(until))
        except (ProtocolError, ChannelTimeout):
            pass
        self._release_worker(clean=clean)

    def _release_worker(self, *, clean: bool) -> None:
        self._closed = True
        if self.overlapping is not None:
            self.overlapping.close()
        self.services.close()
        found = self._ended.detach()
        if found is not None:
            _, end, arguments, _ = found
            end(*arguments, clean=clean)

    def abandon(self) -> None:
        """Kill the worker of a call that does not return; the thread of the call is left behind."""
        self.worker.kill()

    # -- calls ---------------------------------------------------------------------------------

    def arm(self) -> None:
        """Set the deadline of a call that begins now."""
        ticker.awake()
        self.armed = self.door.entered_at = now = time.monotonic()
        self.door.begin()
        self.door.deadline = now + self.timeout

    def closure_here(self, name: Any) -> Callable[..., Any] | None:
        """Return a function that calls the export ``name``, or ``None`` if this thread must not wait for the guest."""
        mode = thread_state.mode or thread_state.detect_mode()
        if mode == NESTED:
            return self._inner(name) if self.owner == get_ident() else None
        if mode == MAIN and not self.calls_no_python:
            return None
        return self.closure(name)

    def closure(self, name: Any) -> Callable[..., Any]:
        """Return a function that calls the export ``name``: with fixed frames from the second call on, if possible."""
        if isinstance(name, Rows):
            return self._outer(self._rows_call(name))
        calls, frames = self._calls(name), self._scalars.get(name)
        if frames is not None:
            return scalar_call(self, calls, frames, self._numbers[calls.name])
        outer = self._outer(calls.call)
        return self._first(name, calls, outer) if calls.scalar else outer

    def _first(self, name: str, calls: ExportCalls, outer: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that makes the first call of an export; later calls use fixed frames."""
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
        """Return a function that makes a call from outside of host functions, by ``call``."""

        def outer(*values: Any) -> Any:
            if self._closed or not (self.calls_no_python or self.outside()):
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

        def inner(*values: Any) -> Any:
            outer, self.door.serving = self.door.serving, None
            try:
                return call(values)
            finally:
                self.door.serving = outer

        return inner

    def _rows_call(self, name: Rows) -> Callable[[Sequence[Any]], Any]:
        entry = self.plan.entry(name)
        whole = str(name) if self.handles is None else entry.name
        return lambda values: call_rows(self, self.columns, whole, *values)

    def _calls(self, name: str) -> ExportCalls:
        entry = self.plan.entry(name)
        if self.handles is None:
            return CoreCalls(self, name, entry)
        return ComponentCalls(self, self.handles, entry.name, entry.function)

    def busy(self) -> Exception:
        """Return the error of a call in a busy sandbox: ``Elsewhere`` inside one of the sandbox's host functions."""
        return Elsewhere() if self.entered_here() else busy_error()

    def outside(self) -> bool:
        """Return whether this thread may wait for a guest with host functions, and is not inside one."""
        return (thread_state.mode or thread_state.detect_mode()) not in (MAIN, NESTED)

    def call_message(self, name: str, values: list[Any]) -> list[Any]:
        """Return the message that calls an export; it assigns a number if fixed frames will call the export later."""
        number = self._numbers.get(name)
        return ["call", name, values] if number is None else ["call", name, values, number]

    def in_time(self) -> None:
        """Raise the error of a call that is past its deadline or cancelled, even if the worker sent a result."""
        self.door.returned_at = time.monotonic()
        reason = self.door.stop_reason()
        if reason is not None:
            raise reason

    def cancel(self) -> None:
        """Stop the running call, from any thread. A call that ends at the same moment returns normally."""
        self.door.cancel()
        if not self.in_call():
            self.door.stop = None
            return
        self.worker.cancel()

    # -- messages --------------------------------------------------------------------------------

    def ask(self, message: list[Any], descriptors: Sequence[int] = (), *, mark: int = 0) -> Any:
        """Send a request as :meth:`converse` does. Its values have their types, so a rejection is a violation."""
        try:
            return self.converse(message, descriptors, mark=mark)
        except ArgumentsRejected:
            raise self.worker_failed(ProtocolError("rejection of valid arguments")) from None

    def converse(self, message: list[Any], descriptors: Sequence[int] = (), *, mark: int = 0) -> Any:
        """Send a request and serve the worker's requests until it answers; return its result or raise its error.

        ``mark`` is the number of loans before the call, which remain. Raise ``ArgumentsRejected`` if the worker rejects
        the arguments' types.
        """
        if self._closed:
            raise SandboxStateError("the sandbox is closed", state="closed")
        more = max(message[3], 0) if message[0] == "read" else 0  # bytes of memory that the embedder requests
        with self.translate_failures():
            self._send(message, descriptors, self.until())
            if self.preparing and self.worker.pid:  # reading pid may have waited for the fork server to start
                self.arm()
            kind, value = self.answer_to(message_budget(self.plan.limits, more), mark)
        return self.result_of(message[0], kind, value)

    @contextmanager
    def translate_failures(self) -> Iterator[None]:
        """Translate failures of the channel to the error of the call, and end the worker."""
        try:
            yield
        except ChannelTimeout:
            raise self._kill_late_worker() from None
        except ProtocolError as reason:
            raise self.worker_failed(reason) from None
        except (OutputExceeded, ReaderGone) as error:
            raise self._release_with(error) from None

    def answer_to(self, budget: int, mark: int) -> tuple[str, Any]:
        """Serve the worker's requests until it answers; return the kind and value of the answer.

        ``budget`` is the memory in bytes that a message may take.
        """
        until = self.until()
        while True:
            self.worker.channel.budget = budget  # in each turn, because a nested call sets its own
            reply = self._next(until)
            self.services.record(self.door)
            if reply == ["prepared"] and self.preparing:
                self.preparing = False
                self.arm()
                until = self.until()
                continue
            if serve_request(self, reply, until):
                until = self._give_up_time(self._current(until))
                continue
            kind, value, account, taken = reply
            self._update(account, taken, mark)
            self.delivery.forget()
            return kind, value

    def _send(self, message: list[Any], descriptors: Sequence[int], until: float) -> None:
        try:
            self.worker.channel.send(message, descriptors, until=until, stopped=self.stopped)
        except TypeError:
            raise ArgumentsRejected from None  # a value that is not plain data does not have its type

    def until(self) -> float:
        """Return when the worker is killed unless it has answered (monotonic); set ``ready_by`` of the door."""
        end = self.door.deadline
        if self.preparing:
            end = min(max(end, self.armed + _MIN_PREPARE_SECONDS), self.armed + _MAX_PREPARE_SECONDS)
            self.door.ready_by = end
        return end + self.grace

    def _give_up_time(self, until: float) -> float:
        """Return when to give up on a worker that sends messages but no answer; raise :class:`ChannelTimeout` then."""
        now = time.monotonic()
        if self.door.stop is not None:
            until = min(until, now + self.grace)
        if now >= until:
            raise ChannelTimeout
        return until

    def result_of(self, request: str, kind: str, value: Any) -> Any:
        """Return the result in an answer, or raise the error in it; ``request`` is the kind of the request."""
        if kind == "done":
            return value
        if kind == "rejected":
            raise ArgumentsRejected
        if kind == "fault":
            if request not in ("read", "write"):
                raise self.worker_failed(ProtocolError("memory fault in answer to another request"))
            raise MemoryFault(self.validated(lambda: checked.text(value)))
        failure = own_failure(self.door)
        if failure is not None:
            self.spent = True  # a host function raised it, so the guest was entered, whatever its class
        error = self.validated(lambda: from_plain(value))
        if isinstance(error, MemoryExceeded) and error.limit == "overhead":
            error = out_of_memory(self._data_bytes)  # the worker does not know its limit
        if isinstance(error, GuestExit):
            self.in_time()
        raise failure if failure is not None and failure is not self.door.stop else error

    def _reply(self, until: float) -> Any:
        while True:
            reply = self.worker.channel.recv(until)
            if time.monotonic() >= until:
                raise ChannelTimeout
            if not isinstance(reply, list) or not reply:
                raise ProtocolError("empty message")
            if reply[0] in ("done", "fail"):
                return reply

    def _next(self, until: float) -> Any:
        """Return the next message; serve stdin and overlapping work meanwhile.

        Raise as :meth:`receive_with_grace` does.
        """
        channel, door, work = self.worker.channel, self.door, self.overlapping
        while True:
            if work is not None and work.outstanding:
                arrived = work.wait()
                if not arrived and self.delivery.pending:
                    arrived = self.delivery.wait(channel, self.sender(until), 0)
            elif self.delivery.pending:
                arrived = self.delivery.wait(channel, self.sender(until))
            else:
                break
            until = self._current(until)
            if arrived or door.stop is not None or time.monotonic() >= until:
                break
        return self.receive_with_grace(channel.recv, until)

    def _current(self, until: float) -> float:
        """Return when to give up, which changes in a turn with its operations; ``until`` otherwise."""
        work = self.overlapping
        return until if work is None or not work.in_turn else self.until()

    def receive_with_grace(self, receive: Callable[..., Any], until: float) -> Any:
        """Return the result of ``receive``; after a cancellation, wait up to the grace period for the call to end."""
        try:
            return receive(until, self.stopped)
        except ChannelTimeout:
            if self.door.stop is None or time.monotonic() >= until:
                raise
        return receive(min(until, time.monotonic() + self.grace))

    def sender(self, until: float) -> Callable[[list[Any]], None]:
        """Return a function that sends a message to the worker; it gives up at the end of the call if the worker does
        not receive."""
        return lambda message: self.worker.channel.send(message, until=until, stopped=self.stopped)

    def stopped(self) -> bool:
        return self.door.stop is not None

    def _update(self, account: Any, taken: Any, mark: int) -> None:
        """Update the counters and the handle table from an answer; ``taken`` are handles that the guest took back."""
        self.count(account)
        if type(taken) is not list:
            raise ProtocolError("malformed list of handles")
        if self.handles is not None:
            self.handles.release_loans(taken, mark)

    def count(self, account: Any) -> None:
        """Update the counters from a worker's account."""
        used = checked.account(account, self.door, self.plan.limits.fuel or 0, self.plan.limits.memory)
        self._fuel, self._memory, self.written[1], self.written[2] = used
        self.account = account

    def _count_left_account(self) -> bool:
        """Update the counters from those that a late worker left; return whether it ended its process itself."""
        account, ended = left_account(self.worker.shared, REGION_BYTES)
        if account is not None:
            self.count(account)
        return ended

    def validated(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except ProtocolError as reason:
            raise self.worker_failed(reason) from None

    def end_with(self, error: AegisError) -> AegisError:
        """End a worker in the middle of a call, because of ``error``; return the error of the call."""
        if self._closed:
            return self._crash
        self.worker.kill()
        self.spent = True
        return self._release_with(error)

    def _release_with(self, error: AegisError) -> AegisError:
        """Release a worker that exceeded a limit; return ``error``, which all later requests raise too."""
        self._release_worker(clean=False)
        self._crash = error
        return error

    def _kill_late_worker(self) -> AegisError:
        """Kill a worker that did not end its call in time; return the error of the call."""
        self.worker.kill()
        self._count_left_account()
        self.delivery.deliver_rest(self.worker.channel)
        return self._release_with(self.door.stop_reason() or self.door.timeout())

    def worker_failed(self, reason: Exception) -> AegisError:
        """Release a worker that died or violated the protocol; return the error of the call."""
        if self._closed:
            return self._crash  # a nested call has already released it
        if not isinstance(reason, Disconnected):
            self.worker.kill()
        crash = self.worker.crashed()
        if isinstance(reason, Disconnected):
            self.delivery.deliver_rest(self.worker.channel)
            if self._count_left_account() and self.door.stop is None:
                self.door.stop = self.door.timeout()
        if self.door.stop is not None:
            return self._release_with(self.door.stop)
        if crash.signal == 9 and not isinstance(reason, Disconnected):
            crash = WorkerCrashed(f"the worker process broke the protocol: {reason}", signal=0)
        starved = self.worker.starved(crash)
        self._release_worker(clean=False)
        self._crash = out_of_memory(self._data_bytes) if starved else crash
        return self._crash

    # -- state of the instance ---------------------------------------------------------------------

    def request(self, *message: Any) -> Any:
        """Send a request that is not a call. It has a deadline of its own unless a call is running on this thread."""
        if not self.entered_here():
            self.arm()
        return self.ask(list(message), mark=0 if self.handles is None else self.handles.lent)

    def turn(self) -> Callable[[Callable[[], Any]], Any] | None:
        """Return a function that calls a function of the host in the guest's turn; see :meth:`.ComponentStore.turn`."""
        mode = thread_state.mode or thread_state.detect_mode()
        if mode == NESTED or (mode == MAIN and not self.calls_no_python):
            return None
        return self._outer(lambda values: values[0]())

    def dropper(self) -> Callable[[ResourceHandle], None] | None:
        """Return a function that drops a handle, or ``None`` if this thread must not wait for the guest."""
        mode = thread_state.mode or thread_state.detect_mode()
        if mode == MAIN and not self.calls_no_python:
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

    def added_memories(self) -> tuple[LinearMemory, ...]:
        return ()

    def fuel_left(self) -> int:
        """Return the fuel left by the latest call; 0 if fuel is not metered."""
        return self._fuel

    def memory_size(self) -> int:
        return self._memory

    def tally_reader(self, run: Any, otherwise: Callable[[], Any]) -> Callable[[], Any]:
        """Return ``otherwise``: the worker sends its counters after each call, so there is nothing faster."""
        return otherwise

    def global_get(self, name: str, kind: Any) -> int | float:
        """Return the value of an exported global."""
        value = self.request("get", name)
        if not are_of([kind.value], [value]):
            raise self.worker_failed(ProtocolError("global value of another type"))
        return value  # type: ignore[no-any-return]

    def global_set(self, name: str, kind: Any, number: int | float) -> None:
        """Set an exported mutable global; ``number`` is already checked against its type."""
        self.request("set", name, number)


def _end(end: Callable[[Worker, bool], None], worker: Worker, token: int, *, clean: bool) -> None:
    ticker.tokens.pop(token, None)
    end(worker, clean)
