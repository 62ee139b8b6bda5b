"""The standard streams of a guest: nothing to read unless granted, and bounds on what it writes."""

from __future__ import annotations

import errno
import io
import os
import stat

from aegis.errors import OutputExceeded, PolicyError
from aegis.limits import Limits, format_bytes
from aegis.policy import StdioCapability
from aegis.values import CallScope

__all__ = ["Input", "Output", "Stdio", "acquire_stdio"]

_PIECE = 65536
_PIPE_ATOMIC = 4096  # the least that POSIX lets a writable pipe take at once is 512; Linux and macOS take this


class Input:
    """A standard input: bytes, a file, or the host's own. ``descriptor`` is what to wait for, if any."""

    def __init__(self, source: bytes | int, scope: CallScope, *, owned: bool = False) -> None:
        self._scope = scope
        self._bytes = io.BytesIO(source) if isinstance(source, bytes) else None
        self.descriptor = source if isinstance(source, int) else None
        self._owned = owned

    def read(self, count: int) -> bytes:
        """Return up to ``count`` bytes, none at the end; wait for them no longer than the deadline."""
        if self._bytes is not None:
            return self._bytes.read(count)
        assert self.descriptor is not None
        self._scope.wait(read=(self.descriptor,))
        return os.read(self.descriptor, min(count, _PIECE))

    def is_terminal(self) -> bool:
        return self.descriptor is not None and os.isatty(self.descriptor)

    def close(self) -> None:
        if self._owned and self.descriptor is not None:
            os.close(self.descriptor)


class Output:
    """A standard output with a bound. ``written`` counts what the guest gave, kept or not."""

    def __init__(self, name: str, mode: str, descriptor: int, limit: int | None, scope: CallScope) -> None:
        self.name, self.mode, self.descriptor, self.limit = name, mode, descriptor, limit
        self.written = 0
        self.failure: OSError | None = None
        """Why something could not be delivered. The guest was told, but may not have cared."""
        self._kept = bytearray()
        self._scope = scope

    def write(self, data: bytes) -> int:
        """Take ``data``; what fits the limit is delivered, then ``OutputExceeded`` is raised."""
        room = len(data) if self.limit is None else self.limit - self.written
        taken = data if room >= len(data) else data[: max(room, 0)]
        count = self._deliver(taken)
        self.written += count
        if room < len(data):
            assert self.limit is not None
            raise OutputExceeded(
                f"the guest wrote more than {format_bytes(self.limit)} to {self.name}, all it may",
                limit=self.name, used=self.written + len(data) - count, allowed=self.limit,
            )  # fmt: skip
        return count

    def _deliver(self, data: bytes) -> int:
        if self.mode == "capture":
            self._kept += data
            return len(data)
        if self.mode == "discard":
            return len(data)
        done = 0
        try:
            while done < len(data):
                self._scope.wait(write=(self.descriptor,))
                done += os.write(self.descriptor, data[done : done + _PIPE_ATOMIC])
        except OSError as error:
            self.failure = self.failure or error
            raise
        return done

    def captured(self) -> bytes:
        return bytes(self._kept)

    def is_terminal(self) -> bool:
        return self.mode == "inherit" and os.isatty(self.descriptor)


class Stdio:
    """The three streams of one sandbox."""

    def __init__(self, stdin: Input, stdout: Output, stderr: Output) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr

    def written(self, stream: int) -> int:
        """Bytes written to stdout (1) or stderr (2)."""
        return (self.stdout if stream == 1 else self.stderr).written

    def stdout_bytes(self) -> bytes:
        """What was captured of stdout."""
        return self.stdout.captured()

    def stderr_bytes(self) -> bytes:
        """What was captured of stderr."""
        return self.stderr.captured()

    def failure(self) -> tuple[str, OSError] | None:
        """The stream whose output could not be delivered, and why; ``None`` when all was."""
        for output in (self.stdout, self.stderr):
            if output.failure is not None:
                return output.name, output.failure
        return None

    def close(self) -> None:
        self.stdin.close()


def acquire_stdio(capability: StdioCapability, limits: Limits, scope: CallScope) -> Stdio:
    """Open what ``capability`` names. Raise ``PolicyError`` for an input file that cannot be read."""
    return Stdio(
        _acquire_input(capability, scope),
        Output("stdout", capability.stdout, 1, limits.stdout, scope),
        Output("stderr", capability.stderr, 2, limits.stderr, scope),
    )


def _acquire_input(capability: StdioCapability, scope: CallScope) -> Input:
    source = capability.stdin
    if isinstance(source, bytes):
        return Input(source, scope)
    if source == "inherit":
        return Input(0, scope) if _is_open(0) else Input(b"", scope)
    if source == "empty":
        return Input(b"", scope)
    path = source.removeprefix("file:")
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PolicyError(f"stdin: {path!r} cannot be read: {(reason or 'error').lower()}") from None
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PolicyError(f"stdin: {path!r} is a directory; name a file")
    return Input(descriptor, scope, owned=True)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError as error:
        if error.errno == errno.EBADF:
            return False
        raise
    return True
