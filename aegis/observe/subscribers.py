"""Ready-made subscribers. Each may serve several sandboxes and threads at the same time."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from aegis.limits import MIB
from aegis.observe.append import AppendedFile

if TYPE_CHECKING:
    from aegis.observe.events import Event

__all__ = ["CollectingSubscriber", "JsonLinesWriter", "TextStream"]

E = TypeVar("E", bound="Event")
_CLOSING = frozenset({"execution_completed", "error", "run_ended"})


class CollectingSubscriber:
    """A subscriber that keeps the latest ``limit`` events.

    >>> events = CollectingSubscriber(limit=100)
    >>> events.events, events.dropped
    ((), 0)
    """

    __slots__ = ("_events", "_lock", "_seen")

    def __init__(self, limit: int = 10_000) -> None:
        if limit < 1:
            raise ValueError(f"limit: {limit} events is not a limit: give a positive value")
        self._events: deque[Event] = deque(maxlen=limit)
        self._seen = 0
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._events.append(event)
            self._seen += 1

    @property
    def events(self) -> tuple[Event, ...]:
        """The kept events, oldest first."""
        with self._lock:
            return tuple(self._events)

    @property
    def dropped(self) -> int:
        """The number of events that newer ones replaced."""
        with self._lock:
            return self._seen - len(self._events)

    def of(self, event: type[E]) -> list[E]:
        """Return the kept events of one class."""
        return [e for e in self.events if isinstance(e, event)]

    def clear(self) -> None:
        """Discard all events, and reset ``dropped``."""
        with self._lock:
            self._events.clear()
            self._seen = 0

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self._events)


class TextStream(Protocol):
    """The methods that a writer needs: those of an open text file, ``io.StringIO`` or ``sys.stderr``."""

    def write(self, text: str, /) -> Any: ...
    def flush(self) -> Any: ...


class JsonLinesWriter:
    """A subscriber that writes each event as one line of JSON, at once.

    ``target`` is the path of a log, or a text stream. A path is opened for appending and never truncated; each line is
    written by one ``write`` without a buffer, so that it survives the end of this process by a signal, and several
    processes may share the file (:class:`aegis.observe.append.AppendedFile`). :meth:`close` closes it. The caller opens
    and closes a stream, which is flushed after each line.

    After ``limit`` bytes only the events ``execution_completed``, ``error`` and ``run_ended`` are written, so that a
    guest cannot fill a disk; ``dropped`` counts the others. ``None`` lifts the limit.

    Raise ``OSError`` if the file cannot be opened.

    >>> import io
    >>> writer = JsonLinesWriter(io.StringIO(), limit=None)
    >>> writer.dropped
    0
    """

    __slots__ = ("_left", "_lock", "_own", "_stream", "dropped")

    def __init__(self, target: TextStream | str | os.PathLike[str], *, limit: int | None = 64 * MIB) -> None:
        self.dropped = 0
        self._own: AppendedFile | None = None
        if isinstance(target, (str, os.PathLike)):
            self._own = target = AppendedFile(target)
        self._stream: TextStream = target
        self._left = limit
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        closing = event.kind in _CLOSING
        with self._lock:
            if self._left is not None and self._left <= 0 and not closing:
                self.dropped += 1
                return
            line = event.to_json() + "\n"
            self._stream.write(line)
            self._stream.flush()
            if self._left is not None:
                self._spend(len(line), event)

    def _spend(self, size: int, event: Event) -> None:
        """Count a line; at the limit, write an event to the stream that announces missing lines."""
        before = self._left or 0
        self._left = before - size
        if before > 0 >= self._left:
            from aegis.observe.events import Custom

            notice = Custom(name="events_cut", data={"after_seq": event.seq}, ts=event.ts, run=event.run, seq=event.seq)
            self._stream.write(notice.to_json() + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Close the file that this writer opened; do nothing for a stream of the caller."""
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> JsonLinesWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
