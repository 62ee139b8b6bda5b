"""How a call ended and what it used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aegis.errors import AegisError, GuestExit

__all__ = ["Outcome", "Usage"]

_SUCCESSES = ("returned", "exited")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was used, by one call or by a sandbox so far. Times in seconds, sizes in bytes."""

    fuel: int | None = None
    """Units of guest work; ``None`` when fuel is not metered."""
    seconds: float = 0.0
    """Wall-clock time, host calls included."""
    host_seconds: float | None = None
    """The part of it spent in host calls; ``None`` when it was not measured."""
    host_calls: int = 0
    bytes_in: int = 0
    """Copied from guest memory to the host."""
    bytes_out: int = 0
    """Copied from the host to guest memory."""
    peak_memory: int = 0
    """The most that all linear memories had together, the sandbox's so far.

    Exact for whoever observes or measures the sandbox, with ``exact_memory``, at the command line, and wherever each
    memory that can grow is exported by a core module. Of others, components above all, it is a lower bound: hidden
    memories count with the size that they began with.
    """
    denials: int = 0
    stdout: int = 0
    """Written by the guest, delivered or not."""
    stderr: int = 0

    @property
    def guest_seconds(self) -> float | None:
        """Wall-clock time outside host calls; ``None`` when it was not measured."""
        return None if self.host_seconds is None else max(0.0, self.seconds - self.host_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of one call, whatever it was.

    ``status`` is ``returned``, ``exited`` or the ``kind`` of ``error``. A call that failed never has
    exit code 0; an ``exit_code`` that says otherwise, or that no process could report, is corrected.
    """

    status: str = "returned"
    value: Any = None
    exit_code: int = 0
    error: AegisError | None = None
    usage: Usage = field(default_factory=Usage)
    stdout: bytes = b""
    stderr: bytes = b""

    def __post_init__(self) -> None:
        if self.error is None and (self.status not in _SUCCESSES or self.exit_code != 0):
            raise ValueError(f"status {self.status!r} with exit code {self.exit_code} needs an error")
        if self.error is not None and self.status != self.error.kind:
            raise ValueError(f"status {self.status!r} is not {self.error.kind!r}, the kind of its error")
        if self.error is not None and not 0 < self.exit_code < 256:
            object.__setattr__(self, "exit_code", _exit_code(self.error))

    @classmethod
    def from_error(
        cls, error: AegisError, *, usage: Usage | None = None, stdout: bytes = b"", stderr: bytes = b""
    ) -> Outcome:
        """Return the outcome of a call that ended with ``error``; an exit with code 0 is a success."""
        succeeded = isinstance(error, GuestExit) and error.code == 0
        return cls(
            status=error.kind,
            exit_code=0 if succeeded else _exit_code(error),
            error=None if succeeded else error,
            usage=usage or Usage(),
            stdout=stdout,
            stderr=stderr,
        )

    @property
    def ok(self) -> bool:
        """Whether the guest returned, or exited with code 0."""
        return self.error is None

    def unwrap(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


def _exit_code(error: AegisError) -> int:
    """Return what a process reports for ``error``: a guest's own code in its low eight bits, never 0."""
    code = error.code & 0xFF if isinstance(error, GuestExit) else error.exit_code
    return code or 1
