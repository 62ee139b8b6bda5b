"""Ready-made subscribers. Each may serve any number of sandboxes and threads at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from aegis.limits import MIB

if TYPE_CHECKING:
    from aegis.observe.events import Event

__all__ = ["CollectingSubscriber", "JsonLinesWriter", "TextStream"]

E = TypeVar("E", bound="Event")
_CLOSING = frozenset({"execution_completed", "error"})


class CollectingSubscriber:
    """It keeps the latest ``limit`` events, oldest first, and counts the ones it let go in ``dropped``."""

    __slots__ = ("_events", "_lock", "_seen")

    def __init__(self, limit: int = 10_000) -> None:
        if limit < 1:
            raise ValueError(f"limit: {limit} events is not a limit; it must be more than zero")
        self._events: deque[Event] = deque(maxlen=limit)
        self._seen = 0
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._events.append(event)
            self._seen += 1

    @property
    def events(self) -> tuple[Event, ...]:
        """The events kept, oldest first."""
        with self._lock:
            return tuple(self._events)

    @property
    def dropped(self) -> int:
        """How many events were let go for newer ones."""
        with self._lock:
            return self._seen - len(self._events)

    def of(self, event: type[E]) -> list[E]:
        """Return the kept events of one class."""
        return [e for e in self.events if isinstance(e, event)]

    def clear(self) -> None:
        """Forget everything, the count of dropped events too."""
        with self._lock:
            self._events.clear()
            self._seen = 0

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self._events)


class TextStream(Protocol):
    """What a writer needs of a stream: an open text file, ``io.StringIO``, ``sys.stderr``."""

    def write(self, text: str, /) -> Any: ...
    def flush(self) -> Any: ...


class JsonLinesWriter:
    """It writes each event as one line of JSON to a text stream, which stays the caller's to close.

    A guest that calls the host a million times would fill a disk: beyond ``limit`` bytes only the
    ends of calls and errors are written, the rest is counted in ``dropped`` (``None`` lifts it).
    The stream is flushed at the end of each call.
    """

    __slots__ = ("_left", "_lock", "_stream", "dropped")

    def __init__(self, stream: TextStream, *, limit: int | None = 64 * MIB) -> None:
        self.dropped = 0
        self._stream = stream
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
            if closing:
                self._stream.flush()
            if self._left is not None:
                self._spend(len(line), event)

    def _spend(self, size: int, event: Event) -> None:
        """Charge a line; say once, in the stream itself, that lines will be missing."""
        before = self._left or 0
        self._left = before - size
        if before > 0 >= self._left:
            from aegis.observe.events import Custom

            notice = Custom(name="events_cut", data={"after_seq": event.seq}, ts=event.ts, run=event.run, seq=event.seq)
            self._stream.write(notice.to_json() + "\n")
