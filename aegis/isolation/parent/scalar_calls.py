"""The parent's side of calls by fixed frames (:mod:`aegis.isolation.protocol.scalar_frames`).

A call takes these steps, in this order: check that the sandbox is free, set the deadline, check the exact classes of
the arguments, pack, send, receive, compare the answer's length and number, update the counters if they changed, check
the deadline. The byte budget is reset only before an operation that charges it.

Everything unusual leaves this path for the general one. Arguments of other classes are sent in a general message. Data
that is not exactly the expected frame is decoded as general messages, where a fixed answer is a protocol violation: a
worker that sent other messages during the call must answer with a general message.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence

from aegis.engine.call.caller import Elsewhere
from aegis.engine.threads.ticker import TICK, ticker
from aegis.isolation.parent.calls import ArgumentsRejected
from aegis.isolation.protocol.budgets import message_budget
from aegis.isolation.protocol.channel import NO_SIGNAL, ProtocolError
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.isolation.parent.calling_store import CallingStore
    from aegis.isolation.parent.calls import ExportCalls
    from aegis.isolation.protocol.scalar_frames import ScalarFrames

__all__ = ["scalar_call"]

_PACK_ERRORS = (struct.error, TypeError, ValueError, OverflowError, KeyError)
"""Errors of packing an argument that has the right class but is out of range."""
_CHUNK_BYTES = 1024
"""Bytes received at once; no fixed answer is longer."""
_CALL_NUMBERS = 1 << 32


def scalar_call(store: CallingStore, calls: ExportCalls, frames: ScalarFrames, number: int) -> Callable[..., Any]:
    """Return the function that calls the export with the number ``number``, from outside of host functions."""
    channel, door, alone, outside = store.worker.channel, store.door, store.calls_no_python, store.outside
    send, receive = channel.socket.send, channel.recv_bytes
    # Overlapping work takes the general path: this one would not see answers that come later.
    waiting = channel.waiting if store.overlapping is None else store.overlapping.waiting
    take, give, timeout, now = store.token.pop, store.token.append, store.timeout, time.monotonic
    kinds, lower, lift = frames.kinds, frames.lower_params, frames.lift_results
    pack, head, size = frames.call.pack, frames.call_head, frames.call.size
    unpack, answer_size = frames.answer_with_account.unpack, frames.answer_with_account.size
    answer_head = frames.answer_head
    single = len(calls.results) == 1
    record = None if store.services.lookups is None else store.services.record

    def call(*values: Any) -> Any:
        if store.closed or not (alone or outside()):
            raise Elsewhere
        try:
            take()
        except IndexError:
            raise store.busy() from None
        except BaseException:  # a signal handler raised right after the token was taken
            give(None)
            raise
        try:
            store.armed = door.entered_at = begun = now()
            door.deadline = begun + timeout
            if not begun - ticker.now <= TICK:  # ticker.now is NaN while the ticker rests
                ticker.awake()
            if tuple(map(type, values)) != kinds or waiting():
                return general(values)
            store.asked = call_number = (store.asked + 1) % _CALL_NUMBERS
            try:
                frame = pack(head, call_number, number, *(values if lower is None else lower(values)))
            except _PACK_ERRORS:
                return general(values)
            try:
                sent = send(frame, NO_SIGNAL)
            except OSError:
                sent = 0
            if sent != size:
                _push(store, frame[sent:])
            try:
                data = receive(_CHUNK_BYTES)
            except OSError:
                data = b""
            if not data:  # nothing arrived before the socket's timeout, or the worker closed the socket
                data = _received(store)
            if len(data) != answer_size or not data.startswith(answer_head):
                channel.unread(data)
                return calls.result(_general_answer(store))
            found = unpack(data)
            if found[1] != call_number:
                raise store.worker_failed(ProtocolError("an answer to another call"))
            if found[2] != store.account:
                _count(store, found[2])
            if record is not None:
                record(door)
            door.returned_at = left = now()
            if door.stop is not None or left >= door.deadline:
                store.in_time()
            if lift is not None:
                found = _lifted(store, lift, found)
            return found[3] if single else found[3:] or None
        finally:
            give(None)

    def general(values: Sequence[Any]) -> Any:
        door.begin()
        return calls.call(values)

    return call


def _push(store: CallingStore, rest: bytes) -> None:
    """Send the part of a frame that the socket did not accept at once."""
    with store.translate_failures():
        store.worker.channel.push(rest, until=store.until(), stopped=store.stopped)


def _received(store: CallingStore) -> bytes:
    """Return the next bytes from the worker; wait for them as long as the call may take."""
    with store.translate_failures():
        data: bytes = store.receive_with_grace(store.worker.channel.receive, store.until())
    return data


def _general_answer(store: CallingStore) -> Any:
    """Serve messages until a general answer arrives; return its value. The arguments are known to have their types."""
    mark = 0 if store.handles is None else store.handles.lent
    store.door.begin()
    with store.translate_failures():
        kind, value = store.answer_to(message_budget(store.plan.limits), mark)
    try:
        return store.result_of("call", kind, value)
    except ArgumentsRejected:
        raise store.worker_failed(ProtocolError("rejection of valid arguments")) from None


def _count(store: CallingStore, account: bytes) -> None:
    """Update the counters from an answer whose account changed."""
    store.door.begin()
    store.validated(lambda: store.count(account))


def _lifted(store: CallingStore, lift: Callable[[Sequence[Any]], Sequence[Any]], found: Sequence[Any]) -> Any:
    """Convert the results in an answer's fields to Python values; kill the worker if a result is out of range."""
    try:
        return (*found[:3], *lift(found[3:]))
    except ProtocolError as reason:
        raise store.worker_failed(reason) from None
