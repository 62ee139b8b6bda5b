"""The log of ``--events``: every event of one command as a line, from the start of the run to its end.

The events of the sandbox and those of the command have one ``run`` and one sequence. A run that is refused has events
too: ``run_started`` and ``run_ended``, with the reason.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence

from aegis.errors import AegisError, PolicyError, ReaderGone
from aegis.support.lean import TYPE_CHECKING, Any, replace
from aegis.text import printable, quoted

if TYPE_CHECKING:
    from aegis.observe.append import AppendedFile
    from aegis.observe.bus import EventBus, Failure
    from aegis.observe.events import Event
    from aegis.observe.outcome import Outcome
    from aegis.observe.subscribers import JsonLinesWriter
    from aegis.policy import FilesystemCapability

__all__ = ["EventLog"]

_WAIT_SECONDS = 0.1
"""Longest wait for a thread that does not return from writing an event."""


class EventLog:
    """The target of ``--events``: a file, stderr for ``-``, or nothing for ``None``."""

    def __init__(self, target: str | None, path: str, function: str | None) -> None:
        self._target, self._path, self._function = target, path, function
        self._file: AppendedFile | None = None
        self._writer: JsonLinesWriter | None = None
        self._bus: EventBus | None = None
        self._lock = threading.Lock()
        self._seq = 0
        self._stop: tuple[AegisError, int] | None = None
        self._ended = False
        self.subscribers: tuple[Any, ...] = ()

    # -- opening -------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the log and record the start of the run; raise ``PolicyError`` if that is impossible.

        Raise ``ReaderGone`` if the log is stderr and nothing reads from it.

        Call it only after every grant is checked: a guest with a grant may have left a link on the way to the file.
        """
        if self._target is None:
            return
        import sys

        from aegis.observe.append import AppendedFile

        if self._target == "-":
            self._begin(sys.stderr)
            return
        try:
            self._file = AppendedFile(self._target)
        except (OSError, ValueError) as error:
            raise PolicyError(_unwritable(self._target, error)) from None
        self._begin(self._file)

    def refuse(self, error: AegisError, granted: FilesystemCapability | None) -> None:
        """Record a run that was refused before its grants were checked, if no guest can have chosen the file.

        A guest of an earlier run may have left a symbolic link on the way to it, or write in its directory now by a
        grant of ``granted``: then nothing is recorded.
        """
        if self._target is None:
            return
        try:
            if self._target == "-":
                self.open()
            else:
                self._file = _opened_safely(self._target, granted)
                self._begin(self._file)
        except (OSError, ValueError, AegisError):
            return  # the reason of the refusal is reported; a second error would hide it
        self.end_with(error)

    def _begin(self, stream: Any) -> None:
        import warnings

        from aegis.observe.bus import EventBus, SubscriberWarning
        from aegis.observe.events import RunStarted
        from aegis.observe.subscribers import JsonLinesWriter

        warnings.simplefilter("ignore", SubscriberWarning)  # lost() reports the failure as an error
        self._writer = JsonLinesWriter(stream)
        self._bus = EventBus(f"{os.getpid():x}-{os.urandom(6).hex()}", (self._write,))
        self._bus.emit(RunStarted, path=self._path, function=self._function)
        if self._bus.failures:
            error = self._bus.failures[0].error
            assert isinstance(error, (OSError, ValueError))
            if self._target == "-" and isinstance(error, BrokenPipeError):
                raise ReaderGone("--events: the reader of stderr is gone")
            raise PolicyError(_unwritable(self._target or "-", error))
        self.subscribers = (self._write,)

    # -- events --------------------------------------------------------------------------------

    def stopping(self, error: AegisError, code: int) -> None:
        """Note why the run is stopped, before it is: the guest's call knows only that it was cancelled."""
        self._stop = (error, code)
        if self._file is not None:
            self._file.stop_waiting()  # the reader of a pipe must not delay the end

    def _write(self, event: Event) -> None:
        if not self._lock.acquire(timeout=-1 if self._stop is None else _WAIT_SECONDS):
            raise TimeoutError(errno.ETIMEDOUT, "a thread does not return from writing")
        try:
            assert self._writer is not None
            assert self._bus is not None
            self._seq += 1
            self._writer(replace(self._explained(event), run=self._bus.run, seq=self._seq))
        finally:
            self._lock.release()

    def _explained(self, event: Any) -> Any:
        """Return an event of the end of a call; for a cancelled call, with the reason that the report gives."""
        if self._stop is not None:
            error, code = self._stop
            if event.kind == "execution_completed" and event.status == "interrupted":
                return replace(event, status=error.kind, exit_code=code)
            if event.kind == "error" and event.error_kind == "interrupted":
                return replace(event, error_kind=error.kind, blame=error.blame, message=str(error))
        return event

    def end(self, outcome: Outcome, code: int, function: str | None) -> None:
        """Record the end of the run, with the exit code of the report."""
        if self._bus is None or self._ended:
            return
        from aegis.observe.events import RunEnded

        self._ended = True
        message = None if outcome.error is None else str(outcome.error)
        self._bus.emit(
            RunEnded, path=self._path, status=outcome.status, exit_code=code, function=function, message=message
        )

    def end_with(self, error: AegisError, function: str | None = None) -> None:
        """Record the end of a run that did not start, with the reason."""
        if self._bus is not None:
            from aegis.observe.outcome import Outcome

            outcome = Outcome.from_error(error)
            self.end(outcome, outcome.exit_code, function or self._function)

    # -- closing -------------------------------------------------------------------------------

    def lost(self, failures: Sequence[Failure]) -> tuple[BaseException, str] | None:
        """Return the error and a message if events could not be written, else ``None``.

        ``failures`` are those of the sandbox's bus.
        """
        failed = failures or (self._bus.failures if self._bus is not None else ())
        if not failed:
            return None
        error = failed[0].error
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        missing = "the last events are missing"
        return error, f"--events: {self._target!r} cannot be written: {printable(reason, 200).lower()}; {missing}"

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, kind: object, exception: BaseException | None, trace: object) -> None:
        if exception is not None:
            self.end_with(_as_error(exception))
        self.close()


def _as_error(exception: BaseException) -> AegisError:
    """Return the error for an exception that ends the command, as the command line reports it."""
    from aegis.errors import AegisInternalError, Cancelled

    if isinstance(exception, AegisError):
        return exception
    if isinstance(exception, KeyboardInterrupt):
        return Cancelled("interrupted")
    return AegisInternalError(f"internal error of aegis: {type(exception).__name__}")


def _opened_safely(target: str, granted: FilesystemCapability | None) -> AppendedFile:
    """Open a log whose path crosses no symbolic link and no directory granted for writing, else raise ``OSError``."""
    from aegis.host.files.file_id import identity
    from aegis.host.files.walk import walk
    from aegis.observe.append import AppendedFile

    path = os.path.abspath(target)
    place = walk(path, must_exist=False)
    try:
        hosts = [grant.host for grant in granted.paths if grant.write] if granted is not None else []
        written = {identity(os.stat(host)) for host in hosts if os.path.exists(host)}
        if place.links or place.real != path or not written.isdisjoint(place.crossed):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return AppendedFile(place.name, folder=place.parent, follow=False)
    finally:
        place.close()


def _unwritable(target: str, error: OSError | ValueError) -> str:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    remedy = "name a file that this user can write"
    if isinstance(error, OSError) and error.errno == errno.ENXIO:
        reason, remedy = "no process reads from it", "start its reader first"
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "name a file on a disk with free space"
    return f"--events: {quoted(target)} cannot be written: {(reason or 'error').lower()}: {remedy}"
