"""The standard streams as streams of WASI for components: a read or write takes place only when it does not block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.values import Ended, Interest

if TYPE_CHECKING:
    from aegis.host.stdio import StandardInput, StandardOutput
    from aegis.values import CallScope

__all__ = ["InputReader", "OutputWriter"]

_CHUNK_BYTES = 65536
_PIPE_BUFFER_BYTES = 4096  # a pipe that is ready takes so much at once (PIPE_BUF); a longer write could block


class InputReader:
    """Reads a standard input."""

    def __init__(self, source: StandardInput, scope: CallScope) -> None:
        self._source, self._scope = source, scope

    def take(self, count: int) -> bytes | None:
        """Return up to ``count`` bytes, ``None`` if there are none yet; raise ``Ended``, or ``OSError``."""
        if not self.ready():
            return None
        data = self._source.read(count)
        if not data:
            raise Ended
        return data

    def ready(self) -> bool:
        """Return whether there are bytes, or the stream has ended or failed."""
        descriptor = self._source.awaited()
        return descriptor is None or bool(self._scope.wait(0, read=(descriptor,))[0])

    def interest(self) -> Interest:
        """Return the events to wait for while it is not ready."""
        descriptor = self._source.awaited()
        return Interest() if descriptor is None else Interest(read=(descriptor,))

    def close(self) -> None:
        """Release nothing: the sandbox owns the stream."""


class OutputWriter:
    """Writes a standard output."""

    def __init__(self, sink: StandardOutput, scope: CallScope) -> None:
        self._sink, self._scope = sink, scope

    @property
    def name(self) -> str:
        return self._sink.name

    def room(self) -> int:
        """Return how many bytes the stream accepts now, 0 for none yet."""
        descriptor = self._sink.awaited()
        if descriptor is None:
            return _CHUNK_BYTES
        return _PIPE_BUFFER_BYTES if self._scope.wait(0, write=(descriptor,))[1] else 0

    def give(self, data: bytes) -> None:
        """Write ``data``, no more than :meth:`room` returned; raise ``OSError`` if that fails."""
        self._sink.write(data)

    def interest(self) -> Interest:
        """Return the events to wait for while there is no room."""
        descriptor = self._sink.awaited()
        return Interest() if descriptor is None else Interest(write=(descriptor,))

    def close(self) -> None:
        """Release nothing: the sandbox owns the stream."""
