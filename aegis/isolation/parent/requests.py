"""Requests and reports of a worker that are not answers: host calls, streams, sockets, events, and overlapping work."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident

from aegis.engine.threads.guest_thread import NESTED, thread_state
from aegis.errors import Cancelled, DeadlineExceeded, ReaderGone
from aegis.isolation.parent import checked
from aegis.isolation.parent.columns import serve_rows
from aegis.isolation.parent.host_calls import RESULT_REJECTED, TOO_DEEP
from aegis.isolation.parent.streams import STREAM_MESSAGES
from aegis.isolation.protocol.channel import ChannelTimeout, ProtocolError
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.isolation.parent.calling_store import CallingStore

__all__ = ["serve_request"]

_MAX_CALL_DEPTH = 40
"""Maximum nesting of host calls. Each takes a dozen Python frames, and a RecursionError must not occur inside Aegis."""


def serve_request(store: CallingStore, message: Any, until: float) -> bool:
    """Serve a message that is not an answer; return whether it was one. Raise :class:`ProtocolError` if unknown."""
    kind = message[0] if isinstance(message, list) and message else None
    work = store.overlapping
    if kind == "host" or (kind == "later" and work is not None):
        _host(store, message)
    elif type(kind) is str and kind in STREAM_MESSAGES:
        _stream(store, message, until)
    elif kind == "called":
        call = checked.observed(message)
        if store.door.observe_call is not None:
            store.door.observe_call(*call)
    elif kind == "decided":
        store.door.decided(checked.decision(message))
    elif kind == "log":
        store.door.logged(*checked.log(message))
    elif kind == "rows":
        serve_rows(store.columns, message, _answering(store))
    elif kind == "resolve":
        store.services.resolve(message, store.door)
    elif kind == "socket":
        _socket(store, message)
    elif kind == "times":
        _set_times(store, message)
    elif kind in ("done", "fail", "fault", "rejected") and len(message) == 4:
        return False
    elif work is None or type(kind) is not str or not work.serve(message):
        raise ProtocolError("unknown kind of message")
    return True


def _host(store: CallingStore, message: list[Any]) -> None:
    """Call one of the embedder's functions on this thread, and send the result or error."""
    if len(message) != 4 or type(message[1]) is not int:
        raise ProtocolError("malformed host call")
    kind, request, number, values = message
    if kind == "later":
        store.overlapping.check_room(request)
    before, owner = thread_state.mode, store.owner
    thread_state.mode, store.owner = NESTED, get_ident()
    store.depth += 1
    if store.depth > _MAX_CALL_DEPTH:
        number, values = TOO_DEEP, []
    try:
        failed, answer = store.host.call(store.door, number, values, later=kind == "later")
        if not failed and hasattr(answer, "finish"):
            _answer_later(store, request, answer)
            return
        try:
            _answer(store, request, failed, answer)
        except TypeError:  # the result is not plain data: coerce it, or report its error
            _answer(store, request, *store.host.call(store.door, RESULT_REJECTED, []))
    finally:
        thread_state.mode, store.owner = before, owner
        store.depth -= 1


def _answer(store: CallingStore, request: int, failed: bool, answer: Any) -> None:
    store.sender(store.door.deadline + store.grace)(["answer", request, failed, answer])


def _answering(store: CallingStore) -> Callable[[int, bool, Any], None]:
    return lambda request, failed, answer: _answer(store, request, failed, answer)


def _answer_later(store: CallingStore, request: int, answer: Any) -> None:
    store.overlapping.answer_later(request, answer)
    store.sender(store.door.deadline + store.grace)(["pending", request])


def _stream(store: CallingStore, message: list[Any], until: float) -> None:
    try:
        store.delivery.serve(message, store.sender(until))
    except ReaderGone:
        raise
    except (DeadlineExceeded, Cancelled):
        raise ChannelTimeout from None  # the stream did not accept the output in time


def _socket(store: CallingStore, message: list[Any]) -> None:
    request, answer = store.services.direct_socket(message, store.door)
    if request is not None:
        _answer(store, request, False, answer)


def _set_times(store: CallingStore, message: list[Any]) -> None:
    store.door.calls_left -= 1
    if store.door.calls_left < 0:
        raise ProtocolError("host-call limit exceeded by requests to set file times")
    request, failed = store.services.set_times(message)
    _answer(store, request, False, failed)
