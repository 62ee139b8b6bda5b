"""In the parent: calls by fixed frames (:mod:`aegis.isolation.protocol.scalar_frames`).

A call does, in this order: is the sandbox free, arm the deadline, are the arguments of the exact classes, pack, send,
receive, compare length and number of the answer, take over the account if it changed, look at the deadline. The budget
of bytes is begun anew only before something that counts them.

Whatever is out of the ordinary leaves this path and is as in any call. Arguments of other classes go by a general
message. What arrives and is not the one frame that is due is read as general messages, among which a fixed answer means
nothing and ends the worker: a worker that had something else to say answers by a general message.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence

from aegis.engine.call.caller import Elsewhere
from aegis.engine.threads.ticker import TICK, ticker
from aegis.isolation.parent.calls import Unfit
from aegis.isolation.protocol.budgets import message_budget
from aegis.isolation.protocol.channel import NO_SIGNAL, Broken
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.isolation.parent.calls import ExportCalls
    from aegis.isolation.parent.store import IsolatedStore
    from aegis.isolation.protocol.scalar_frames import ScalarFrames

__all__ = ["scalar_call"]

_MISFIT = (struct.error, TypeError, ValueError, OverflowError, KeyError)
"""Raised for an argument of the right class that its type does not have."""
_RECEIVED = 1024
"""Bytes received at once; more than any fixed answer has."""
_NUMBERS = 1 << 32


def scalar_call(store: IsolatedStore, calls: ExportCalls, frames: ScalarFrames, number: int) -> Callable[..., Any]:
    """Return what makes calls of the export that the worker knows by ``number``, from outside of host functions."""
    channel, door, alone, outside = store.worker.channel, store.door, store.alone, store.outside
    send, receive, waiting = channel.socket.send, channel.socket.recv, channel.waiting
    take, give, timeout, now = store.token.pop, store.token.append, store.timeout, time.monotonic
    kinds, lower, lift = frames.kinds, frames.lower_params, frames.lift_results
    pack, head, size = frames.call.pack, frames.call_head, frames.call.size
    unpack, due, answer_size = frames.told.unpack, frames.answer_head, frames.told.size
    single = len(calls.results) == 1
    record = None if store.services.lookups is None else store.services.record

    def call(*values: Any) -> Any:
        if store.closed or not (alone or outside()):
            raise Elsewhere
        try:
            take()
        except IndexError:
            raise store.busy() from None
        except BaseException:  # a signal's handler raised as soon as the token was taken
            give(None)
            raise
        try:
            store.armed = begun = now()
            door.deadline = begun + timeout
            if not begun - ticker.now <= TICK:  # which is not a number at rest
                ticker.awake()
            if tuple(map(type, values)) != kinds or waiting():
                return general(values)
            store.asked = mine = (store.asked + 1) % _NUMBERS
            try:
                frame = pack(head, mine, number, *(values if lower is None else lower(values)))
            except _MISFIT:
                return general(values)
            try:
                sent = send(frame, NO_SIGNAL)
            except OSError:
                sent = 0
            if sent != size:
                _push(store, frame[sent:])
            try:
                data = receive(_RECEIVED)
            except OSError:
                data = b""
            if not data:  # nothing came for a while, or nothing will
                data = _heard(store)
            if len(data) != answer_size or not data.startswith(due):
                channel.unread(data)
                return calls.result(_listened(store))
            found = unpack(data)
            if found[1] != mine:
                raise store.worker_failed(Broken("an answer to another call"))
            if found[2] != store.account:
                _count(store, found[2])
            if record is not None:
                record(door)
            if door.stop is not None or now() >= door.deadline:
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


def _push(store: IsolatedStore, rest: bytes) -> None:
    """Send the part of a frame that the socket did not take at once."""
    with store.conversation():
        store.worker.channel.push(rest, until=store.until(), stopped=store.stopped)


def _heard(store: IsolatedStore) -> bytes:
    """Return the first bytes that the worker sends, which may take as long as the call."""
    with store.conversation():
        data: bytes = store.patiently(store.worker.channel.receive, store.until())
    return data


def _listened(store: IsolatedStore) -> Any:
    """Return the answer as a general message has it, to a call whose arguments are of their types."""
    mark = 0 if store.handles is None else store.handles.lent
    store.door.begin()
    with store.conversation():
        kind, value = store.answer_to(message_budget(store.plan.limits), mark)
    try:
        return store.said("call", kind, value)
    except Unfit:
        raise store.worker_failed(Broken("arguments refused that fit")) from None


def _count(store: IsolatedStore, account: bytes) -> None:
    """Take over the counters of an answer that differ from those before."""
    store.door.begin()
    store.understood(lambda: store.count(account))


def _lifted(store: IsolatedStore, lift: Callable[[Sequence[Any]], Sequence[Any]], found: Sequence[Any]) -> Any:
    """Return the fields of an answer with results as Python has them; end a worker whose results are not of their
    types."""
    try:
        return (*found[:3], *lift(found[3:]))
    except Broken as reason:
        raise store.worker_failed(reason) from None
