"""In the parent: calls by fixed frames (:mod:`aegis.isolation.scalar_frames`).

A call does, in this order: are the arguments of the exact classes, pack, send, receive, compare length and number of
the answer, take over the account if it changed, unpack, look at the deadline. Whatever is out of the ordinary leaves
this path and is as in any call: arguments of other classes are sent by a general message; what arrives and is not the
one frame that is due is read as general messages, among which a fixed answer means nothing and ends the worker.
"""

from __future__ import annotations

import _socket
import struct
import time
from collections.abc import Callable, Sequence

from aegis.isolation.scalar_frames import ScalarFrames, are_scalars
from aegis.isolation.wire import Broken
from aegis.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.isolation.store import IsolatedStore

__all__ = ["Way", "scalar_call"]

_MISFIT = (struct.error, TypeError, ValueError, OverflowError, KeyError)
"""Raised for an argument of the right class that its type does not have."""
_NOSIGNAL = getattr(_socket, "MSG_NOSIGNAL", 0)
_RECEIVED = 1024
"""Bytes received at once; more than any fixed answer has."""
_NUMBERS = 1 << 32


class Way:
    """How one export is called by general messages: ``call`` takes the arguments, ``result`` the answer's value.

    ``name`` is the export's on the wire.
    """

    __slots__ = ("call", "name", "params", "result", "results", "scalar")

    def __init__(
        self, name: str, call: Callable[[Sequence[Any]], Any], result: Callable[[Any], Any] = lambda value: value,
        signature: tuple[Sequence[Any], Sequence[Any]] | None = None,
    ) -> None:  # fmt: skip
        self.name, self.call, self.result = name, call, result
        self.params, self.results = signature or ((), ())
        self.scalar = signature is not None and are_scalars(*signature)
        """Whether fixed frames can call it."""


def scalar_call(store: IsolatedStore, way: Way, number: int) -> Callable[[Sequence[Any]], Any]:
    """Return what calls the export, which the worker knows by ``number``, with a row of arguments."""
    frames = ScalarFrames(way.params, way.results)
    channel, door = store.worker.channel, store.door
    send, receive, waiting = channel.socket.send, channel.socket.recv, channel.waiting
    kinds, lower, lift = frames.kinds, frames.lower_params, frames.lift_results
    pack, head, size = frames.call.pack, frames.call_head, frames.call.size
    unpack, due, answer_size = frames.told.unpack, frames.answer_head, frames.told.size

    def call(values: Sequence[Any]) -> Any:
        if tuple(map(type, values)) != kinds or waiting():
            return way.call(values)
        store.asked = mine = (store.asked + 1) % _NUMBERS
        try:
            frame = pack(head, mine, number, *(values if lower is None else lower(values)))
        except _MISFIT:
            return way.call(values)
        try:
            sent = send(frame, _NOSIGNAL)
        except OSError:
            sent = 0
        if sent != size:
            store.push(frame[sent:])
        try:
            data = receive(_RECEIVED)
        except OSError:
            data = b""
        if not data:  # nothing came for a while, or nothing will
            data = store.hear()
        if len(data) != answer_size or not data.startswith(due):
            channel.unread(data)
            return way.result(store.listen())
        _, theirs, account, *found = unpack(data)
        if theirs != mine:
            raise store.worker_failed(Broken("an answer to another call"))
        store.counted(account)
        if lift is not None:
            found = _lifted(store, lift, found)
        if door.stop is not None or time.monotonic() >= door.deadline:
            store.in_time()
        return found[0] if len(found) == 1 else tuple(found) or None

    return call


def _lifted(store: IsolatedStore, lift: Callable[[Sequence[Any]], Sequence[Any]], found: Sequence[Any]) -> Any:
    """Return results as Python has them; end a worker whose results are not of their types."""
    try:
        return lift(found)
    except Broken as reason:
        raise store.worker_failed(reason) from None
