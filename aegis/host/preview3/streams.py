"""Streams of the host for a guest and of a guest for the host, each with a future that says how the stream ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from aegis.values import Ended, Interest, Promise
from aegis.wit.values import Err, Ok

__all__ = [
    "ElementReader", "ElementWriter", "FlushingWriter", "GivenStream", "receive", "refused_source", "refused_stream",
    "source",
]  # fmt: skip

CodeOf = Callable[[OSError], object]
"""Returns the ``error-code`` for an error of the system."""


class GivenStream(Protocol):
    """A stream of the guest, as a host function receives it."""

    def pump(self, sink: Any) -> None:
        """Pass all elements to a sink as the guest writes them."""

    def close(self) -> None:
        """Read nothing: the guest learns of it at its next write."""


class ElementReader(Protocol):
    """An origin of elements that never blocks."""

    def take(self, count: int) -> Any:
        """Return up to ``count`` elements, ``None`` if there are none yet; raise ``Ended``, or ``OSError``."""

    def ready(self) -> bool:
        """Return whether :meth:`take` would return elements or raise."""

    def interest(self) -> Interest:
        """Return the events to wait for while it is not ready."""

    def close(self) -> None:
        """Release what it holds."""


class ElementWriter(Protocol):
    """A destination of elements that never blocks."""

    def room(self) -> int:
        """Return how many elements it accepts now, 0 for none yet."""

    def give(self, data: Any) -> None:
        """Accept elements, no more than :meth:`room` returned; raise ``OSError`` if that fails."""

    def interest(self) -> Interest:
        """Return the events to wait for while there is no room."""

    def close(self) -> None:
        """Release what it holds."""


@runtime_checkable
class FlushingWriter(ElementWriter, Protocol):
    """A writer that accepts elements before it has passed them on."""

    def flushed(self) -> bool:
        """Pass on what is possible now; return whether nothing is left. Raise ``OSError`` if that fails."""


class _ReaderSource:
    """The elements of a reader as a stream for the guest. ``outcome`` has its end: ``Ok``, or the error."""

    def __init__(self, reader: ElementReader, code_of: CodeOf) -> None:
        self._reader, self._code_of = reader, code_of
        self.outcome = Promise()

    def take(self, count: int) -> Any:
        try:
            return self._reader.take(count)
        except OSError as error:
            self.outcome.set(Err(self._code_of(error)))
            raise Ended from None

    def ready(self) -> bool:
        return self._reader.ready()

    def interest(self) -> Interest:
        return self._reader.interest()

    def close(self) -> None:
        """Release the reader: its end was read, or the guest reads no more."""
        self._reader.close()
        self.outcome.set(Ok(None))


class _WriterSink:
    """A writer as the receiver of the guest's stream. ``outcome`` has its end: ``Ok``, or the error."""

    def __init__(self, writer: ElementWriter, code_of: CodeOf) -> None:
        self._writer, self._code_of = writer, code_of
        self._flushing = writer if isinstance(writer, FlushingWriter) else None
        self._end: Ok[None] | Err[Any] = Ok(None)
        self.outcome = Promise()

    def room(self) -> int:
        found = self._room()
        if isinstance(self._end, Err):
            raise Ended
        return found

    def _room(self) -> int:
        """Return how many elements the writer accepts; note its failure."""
        try:
            return 0 if isinstance(self._end, Err) else self._writer.room()
        except OSError as error:
            self._end = Err(self._code_of(error))
            return 0

    def give(self, values: Any) -> None:
        try:
            self._writer.give(values)
        except OSError as error:
            self._end = Err(self._code_of(error))

    def ready(self) -> bool:
        return self._room() > 0 or isinstance(self._end, Err)

    def flushed(self) -> bool:
        """Return whether the writer has passed on all that it accepted, or failed."""
        try:
            return self._flushing is None or isinstance(self._end, Err) or self._flushing.flushed()
        except OSError as error:
            self._end = Err(self._code_of(error))
            return True

    def interest(self) -> Interest:
        return self._writer.interest()

    def close(self) -> None:
        """Release the writer: the guest's stream has ended, or the writer failed."""
        self._writer.close()
        self.outcome.set(self._end)


def source(reader: ElementReader, code_of: CodeOf) -> tuple[object, Promise]:
    """Return a stream of a reader's elements, and the future of its end."""
    made = _ReaderSource(reader, code_of)
    return made, made.outcome


def refused_source(code: object) -> tuple[object, Promise]:
    """Return a stream that has ended already, and the future with its error."""
    return (), _failed(code)


def receive(data: GivenStream, writer: ElementWriter, code_of: CodeOf) -> Promise:
    """Pass the elements of a guest's stream to a writer; return the future of its end."""
    made = _WriterSink(writer, code_of)
    data.pump(made)
    return made.outcome


def refused_stream(data: GivenStream, code: object) -> Promise:
    """Read nothing from a guest's stream; return the future with the error."""
    data.close()
    return _failed(code)


def _failed(code: object) -> Promise:
    made = Promise()
    made.set(Err(code))
    return made
