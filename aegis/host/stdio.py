"""The standard streams of a guest: empty input unless granted, and limits on the output."""

from __future__ import annotations

import errno
import io
import os
import stat
import weakref
from collections.abc import Callable

from aegis.errors import OutputExceeded, PolicyError, ReaderGone
from aegis.limits import Limits, exceeded
from aegis.policy import StdioCapability
from aegis.support.descriptors import can_read, can_write, inherited, is_socket, unblocked
from aegis.text import quoted
from aegis.values import CallScope

__all__ = ["StandardInput", "StandardOutput", "Stdio", "acquire_stdio", "opens_nothing"]

_CHUNK_BYTES = 65536
_RETRY_SECONDS = 0.01
"""Seconds between two attempts at a write that would block."""
_PIPE_BUFFER_BYTES = 4096  # a writable pipe takes so much at once on Linux and macOS; POSIX promises 512


class StandardInput:
    """A standard input: bytes, a file, or the host's own. ``descriptor`` is that of a file or stream, to wait for."""

    descriptor: int | None = None
    _bytes: io.BytesIO | None = None
    _close: Callable[[], object] | None = None

    def __init__(self, source: bytes | int, scope: CallScope, *, owned: bool = False) -> None:
        self._scope = scope
        if isinstance(source, bytes):
            self._bytes = io.BytesIO(source)
            return
        self.descriptor = source
        if owned:
            self._own(source)

    def _own(self, descriptor: int) -> None:
        self.close()
        self.descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)  # also when the sandbox is dropped and never closed

    def unblock(self) -> None:
        """Never block in a read, even if other processes read from the same pipe or terminal."""
        own = None if self.descriptor is None else unblocked(self.descriptor, os.O_RDONLY)
        if own is not None:
            self._own(own)

    def read(self, count: int) -> bytes:
        """Return up to ``count`` bytes, none at the end; wait for them no longer than until the deadline."""
        if self._bytes is not None:
            return self._bytes.read(count)
        assert self.descriptor is not None
        self._scope.wait(read=(self.descriptor,))
        return os.read(self.descriptor, min(count, _CHUNK_BYTES))

    def awaited(self) -> int | None:
        """Return the descriptor that becomes readable when a read no longer blocks; ``None`` if reads never block."""
        return self.descriptor

    def is_terminal(self) -> bool:
        return self.descriptor is not None and os.isatty(self.descriptor)

    def close(self) -> None:
        if self._close is not None:
            self._close()


class StandardOutput:
    """A standard output with a limit. ``written`` counts all bytes that the guest wrote, discarded ones too."""

    written = 0
    failure: OSError | None = None
    """The first error of delivery. The guest got an error for its write, and may have ignored it."""
    sigpipe = False
    """Whether a write without a reader ends the run."""
    _close: Callable[[], object] | None = None

    def __init__(self, name: str, mode: str, descriptor: int, limit: int | None, scope: CallScope) -> None:
        self.name, self.mode, self.descriptor, self.limit = name, mode, descriptor, limit
        self.scope = scope
        self._kept = bytearray()

    def unblock(self) -> None:
        """Never block in a write, even if other processes write to the same pipe or terminal."""
        own = unblocked(self.descriptor, os.O_WRONLY) if self.mode == "inherit" else None
        if own is not None:
            self.descriptor = own
            self._close = weakref.finalize(self, os.close, own)

    def close(self) -> None:
        """Close the descriptor that :meth:`unblock` opened."""
        if self._close is not None:
            self._close()

    def enough(self) -> int | None:
        """Return how many bytes of one write suffice to exceed the limit; ``None`` without a limit."""
        return None if self.limit is None else max(self.limit - self.written, 0) + 1

    def write(self, data: bytes) -> int:
        """Deliver ``data`` and return its length; raise ``OutputExceeded`` after the part that fits the limit."""
        limit, total = self.limit, self.written + len(data)
        if self.mode == "capture" and limit is not None and total <= limit:
            self._kept += data
            self.written = total
            return len(data)
        room = len(data) if self.limit is None else self.limit - self.written
        taken = data if room >= len(data) else data[: max(room, 0)]
        count = self._deliver(taken)
        self.written += count
        if room < len(data):
            used = self.written + len(data) - count
            raise OutputExceeded(exceeded(self.name, used, self.limit), limit=self.name, used=used, allowed=self.limit)
        return count

    def _deliver(self, data: bytes) -> int:
        if self.mode == "capture":
            self._kept += data
            return len(data)
        if self.mode == "discard":
            return len(data)
        try:
            return self.send(data)
        except OSError as error:
            self.failure = self.failure or error
            if self.sigpipe and isinstance(error, BrokenPipeError):
                raise ReaderGone(f"the reader of {self.name} is gone: write to a file, or keep the reader") from None
            raise

    def send(self, data: bytes) -> int:
        """Write all of ``data`` to the host's stream, waiting no longer than until the deadline."""
        if not can_write(self.descriptor):  # poll(2) never reports such a descriptor as ready
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        done = 0
        # A socket may be ready and have less room than this; write(2) would block for the rest.
        write: Callable[[int, bytes], int] = os.write
        if is_socket(self.descriptor):
            from aegis.host.net.sending import send_now as write  # imported here: only sockets need ctypes
        while done < len(data):
            self.scope.wait(write=(self.descriptor,))
            try:
                done += write(self.descriptor, data[done : done + _PIPE_BUFFER_BYTES])
            except BlockingIOError:  # another process wrote first, or a stopped terminal counts as ready
                self.scope.wait(_RETRY_SECONDS)
        return done

    def awaited(self) -> int | None:
        """Return the descriptor that becomes writable when a write does not block; ``None`` if writes never block."""
        return self.descriptor if self.mode == "inherit" and can_write(self.descriptor) else None

    def captured(self) -> bytes:
        return bytes(self._kept)

    def is_terminal(self) -> bool:
        return self.mode == "inherit" and os.isatty(self.descriptor)


class Stdio:
    """The three streams of one sandbox."""

    def __init__(self, stdin: StandardInput, stdout: StandardOutput, stderr: StandardOutput) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr

    def written(self, stream: int) -> int:
        """Return how many bytes the guest wrote to stdout (1) or stderr (2)."""
        return (self.stdout if stream == 1 else self.stderr).written

    def stdout_bytes(self) -> bytes:
        """Return the captured bytes of stdout."""
        return self.stdout.captured()

    def stderr_bytes(self) -> bytes:
        """Return the captured bytes of stderr."""
        return self.stderr.captured()

    def failure(self) -> tuple[str, OSError] | None:
        """Return the name and error of the first stream that could not deliver its output, ``None`` if all did."""
        for output in (self.stdout, self.stderr):
            if output.failure is not None:
                return output.name, output.failure
        return None

    def unblock(self) -> None:
        """Never block in a read or write, even if other processes use the same pipes and terminals."""
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.unblock()

    def close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()


def opens_nothing(capability: StdioCapability) -> bool:
    """Return whether no stream opens or closes a descriptor, as is most common."""
    return capability.stdin == "empty" and capability.stdout != "inherit" and capability.stderr != "inherit"


def acquire_stdio(capability: StdioCapability, limits: Limits, scope: CallScope) -> Stdio:
    """Open the streams of ``capability``. Raise ``PolicyError`` for an input file that cannot be read."""
    if opens_nothing(capability):
        stdout = StandardOutput("stdout", capability.stdout, 1, limits.stdout, scope)
        return Stdio(
            StandardInput(b"", scope), stdout, StandardOutput("stderr", capability.stderr, 2, limits.stderr, scope)
        )
    return Stdio(
        _acquire_input(capability, scope),
        _acquire_output("stdout", capability, 1, limits.stdout, scope),
        _acquire_output("stderr", capability, 2, limits.stderr, scope),
    )


def _acquire_output(
    name: str, capability: StdioCapability, number: int, limit: int | None, scope: CallScope
) -> StandardOutput:
    mode: str = getattr(capability, name)
    if mode == "inherit" and inherited(number) is None:
        mode = "discard"
    output = StandardOutput(name, mode, number, limit, scope)
    output.sigpipe = capability.sigpipe
    return output


def _acquire_input(capability: StdioCapability, scope: CallScope) -> StandardInput:
    source = capability.stdin
    if isinstance(source, bytes):
        return StandardInput(source, scope)
    if source == "inherit":
        return StandardInput(0, scope) if inherited(0) is not None and can_read(0) else StandardInput(b"", scope)
    if source == "empty":
        return StandardInput(b"", scope)
    path = source.removeprefix("file:")
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PolicyError(
            f"stdin: {quoted(path)} cannot be read: {(reason or 'error').lower()}: name a file that this user can read"
        ) from None
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PolicyError(f"stdin: {quoted(path)} is a directory: name a file")
    return StandardInput(descriptor, scope, owned=True)
