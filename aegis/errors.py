"""The exceptions that Aegis raises.

Each exception class is also an outcome kind, an exit code of the command line and a label of the metrics (D8).
Three class variables classify an error without its message:

``blame``
    The party that can fix the cause: ``embedder``, ``guest``, ``host`` or ``aegis``.
``kind``
    The stable kebab-case label, the same in reports, events and metrics.
``exit_code``
    The exit code of ``aegis run``.

A message may quote text from a guest. :func:`aegis.text.printable` truncates and escapes that text when the message
is built, so that no control character reaches a terminal or a log.
"""

from __future__ import annotations

from collections.abc import Sequence

from aegis.support.lean import TYPE_CHECKING, Any, ClassVar, NamedTuple
from aegis.text import printable

if TYPE_CHECKING:
    from array import array
    from typing import Literal, TypeAlias

    Kind: TypeAlias = Literal[
        "aegis-error",
        "denied",
        "exited",
        "guest-error",
        "host-error",
        "internal-error",
        "interrupted",
        "memory-exceeded",
        "not-found",
        "out-of-fuel",
        "output-exceeded",
        "policy-error",
        "quota-exceeded",
        "refused",
        "sandbox-state",
        "stack-exhausted",
        "timeout",
        "trap",
        "usage",
        "worker-crashed",
    ]
    Blame: TypeAlias = Literal["embedder", "guest", "host", "aegis"]

__all__ = [
    "AegisError",
    "AegisInternalError",
    "ArtifactError",
    "ArtifactNotFound",
    "CallError",
    "Cancelled",
    "CapabilityDenied",
    "DeadlineExceeded",
    "ExportNotFound",
    "Frame",
    "GuestError",
    "GuestExit",
    "GuestTrap",
    "HostError",
    "LimitExceeded",
    "LinkError",
    "MemoryExceeded",
    "MissingImport",
    "OutOfFuel",
    "OutputExceeded",
    "PolicyError",
    "QuotaExceeded",
    "ReaderGone",
    "SandboxStateError",
    "StackExhausted",
    "WorkerCrashed",
]


def __dir__() -> list[str]:
    return sorted(__all__)


class Frame(NamedTuple):
    """One guest stack frame of a trap; a sequence of frames starts with the innermost.

    ``name`` is the function's name from the name section, escaped and truncated, or ``None``. ``module_offset`` is
    the byte offset of the instruction in the module.
    """

    function_index: int
    name: str | None
    module_offset: int


class MissingImport(NamedTuple):
    """An import without a provider; ``remedy`` is the line of code or option that would provide it."""

    module: str
    name: str
    type: str
    remedy: str


class AegisError(Exception):
    """The base class of all errors that Aegis raises.

    When a call over columns fails, ``row`` is the index of the failed row, from 0, and ``partial`` is an array of the
    results before that row, unless the caller passed ``out``. Otherwise both are ``None``.
    """

    row: int | None = None
    partial: array[Any] | None = None
    blame: ClassVar[Blame] = "aegis"
    kind: ClassVar[Kind] = "aegis-error"
    exit_code: ClassVar[int] = 125


# --- errors of the embedder ----------------------------------------------------------------------


class PolicyError(AegisError, ValueError):
    """A policy, limit or grant is invalid.

    ``source`` is the policy file and ``line`` its line, from 1, if the value came from a file. ``reason`` is the
    message without that position.
    """

    blame: ClassVar[Blame] = "embedder"
    kind: ClassVar[Kind] = "policy-error"

    def __init__(self, message: str, *, source: str | None = None, line: int | None = None) -> None:
        self.reason = message
        self.source = source
        self.line = line
        where = printable(source, 400) if source else ""
        if line is not None:
            where = f"{where or 'policy'}:{line}"
        super().__init__(f"{where}: {message}" if where else message)


class CallError(AegisError, TypeError):
    """The arguments of a call do not fit the export's signature: their number, a type or a range."""

    blame: ClassVar[Blame] = "embedder"
    kind: ClassVar[Kind] = "usage"
    exit_code: ClassVar[int] = 2


class ExportNotFound(CallError, LookupError):
    """The artifact exports no function called ``name``; ``near`` holds similar names, best match first."""

    kind: ClassVar[Kind] = "not-found"
    exit_code: ClassVar[int] = 127

    def __init__(self, message: str, *, name: str, near: Sequence[str] = ()) -> None:
        self.name = name
        self.near = tuple(near)
        super().__init__(message)


class SandboxStateError(AegisError, RuntimeError):
    """The sandbox is in the wrong state; ``state`` is ``poisoned``, ``closed``, ``busy``, ``loaded`` or ``empty``.

    This error does not mean that the guest failed in this call: a poisoned sandbox failed in an earlier one.
    """

    blame: ClassVar[Blame] = "embedder"
    kind: ClassVar[Kind] = "sandbox-state"

    def __init__(self, message: str, *, state: str) -> None:
        self.state = state
        super().__init__(message)


class Cancelled(AegisError):
    """The embedder stopped the run with ``cancel()``, or the user with Ctrl-C."""

    blame: ClassVar[Blame] = "embedder"
    kind: ClassVar[Kind] = "interrupted"
    exit_code: ClassVar[int] = 130


class ReaderGone(Cancelled):
    """The reader of the guest's standard output or error is gone, and the policy ends such runs, as SIGPIPE would."""

    exit_code: ClassVar[int] = 141


# --- errors of the artifact ----------------------------------------------------------------------


class ArtifactError(AegisError, ValueError):
    """Aegis rejected the artifact: it is invalid, exceeds a limit, or uses an unsupported feature."""

    blame: ClassVar[Blame] = "guest"
    kind: ClassVar[Kind] = "refused"
    exit_code: ClassVar[int] = 126


class ArtifactNotFound(ArtifactError, FileNotFoundError):
    """The file of the artifact does not exist or cannot be read."""

    blame: ClassVar[Blame] = "embedder"
    kind: ClassVar[Kind] = "not-found"
    exit_code: ClassVar[int] = 127

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class LinkError(AegisError):
    """The artifact has imports without a provider; ``missing`` lists all of them."""

    blame: ClassVar[Blame] = "embedder"
    kind: ClassVar[Kind] = "refused"
    exit_code: ClassVar[int] = 126

    def __init__(self, message: str, *, missing: Sequence[MissingImport] = ()) -> None:
        self.missing = tuple(missing)
        super().__init__(message)


# --- errors of the guest -------------------------------------------------------------------------


class GuestError(AegisError):
    """The base class of errors that end a run because of the guest's behaviour."""

    blame: ClassVar[Blame] = "guest"
    kind: ClassVar[Kind] = "guest-error"


class GuestTrap(GuestError):
    """The guest trapped. ``code`` is the kebab-case trap code, ``frames`` the guest's stack, innermost frame first."""

    kind: ClassVar[Kind] = "trap"
    exit_code: ClassVar[int] = 134

    def __init__(self, message: str, *, code: str, frames: Sequence[Frame] = ()) -> None:
        self.code = code
        self.frames = tuple(frames)
        super().__init__(message)


class CapabilityDenied(GuestError):
    """The guest requested something without a grant, through an interface that cannot return an error code."""

    kind: ClassVar[Kind] = "denied"
    exit_code: ClassVar[int] = 126

    def __init__(self, message: str, *, capability: str, target: str, remedy: str) -> None:
        self.capability = capability
        self.target = target
        self.remedy = remedy
        super().__init__(message)


class GuestExit(GuestError):
    """The guest exited with ``code`` (``proc_exit`` of preview 1, ``wasi:cli/exit``). Zero is success."""

    kind: ClassVar[Kind] = "exited"
    exit_code: ClassVar[int] = 1

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"the guest exited with code {code}")


class LimitExceeded(GuestError):
    """The guest exceeded ``limit``; ``used`` and ``allowed`` are in the unit of that limit."""

    kind: ClassVar[Kind] = "quota-exceeded"
    exit_code: ClassVar[int] = 153

    def __init__(
        self,
        message: str,
        *,
        limit: str,
        used: int | float | None = None,
        allowed: int | float | None = None,
    ) -> None:
        self.limit = limit
        self.used = used
        self.allowed = allowed
        super().__init__(message)


class OutOfFuel(LimitExceeded):
    """The guest used up the fuel of one call."""

    kind: ClassVar[Kind] = "out-of-fuel"
    exit_code: ClassVar[int] = 152


class DeadlineExceeded(LimitExceeded):
    """The call did not finish before its deadline, in guest code, in a host call or in the compiler."""

    kind: ClassVar[Kind] = "timeout"
    exit_code: ClassVar[int] = 124


class MemoryExceeded(LimitExceeded):
    """The guest exceeded the limit on memory or table elements.

    ``phase`` is ``initial`` when the declared minimum exceeds the limit, ``grown`` when a growth does.
    """

    kind: ClassVar[Kind] = "memory-exceeded"
    exit_code: ClassVar[int] = 137

    def __init__(
        self,
        message: str,
        *,
        limit: str,
        phase: str,
        used: int | float | None = None,
        allowed: int | float | None = None,
    ) -> None:
        self.phase = phase
        super().__init__(message, limit=limit, used=used, allowed=allowed)


class StackExhausted(LimitExceeded):
    """The guest's calls nested deeper than its stack allows."""

    kind: ClassVar[Kind] = "stack-exhausted"
    exit_code: ClassVar[int] = 134


class OutputExceeded(LimitExceeded):
    """The guest exceeded the limit on bytes written to stdout or stderr."""

    kind: ClassVar[Kind] = "output-exceeded"


class QuotaExceeded(LimitExceeded):
    """The guest exceeded a quota, such as host calls, bytes copied by them, or bytes written to disk."""


# --- errors of the host and of Aegis -------------------------------------------------------------


class HostError(AegisError):
    """A host function raised an exception; ``__cause__`` is that exception with its traceback."""

    blame: ClassVar[Blame] = "host"
    kind: ClassVar[Kind] = "host-error"


class WorkerCrashed(AegisError):
    """The worker process of an isolated sandbox was killed by ``signal``."""

    blame: ClassVar[Blame] = "guest"
    kind: ClassVar[Kind] = "worker-crashed"
    exit_code: ClassVar[int] = 134

    def __init__(self, message: str, *, signal: int) -> None:
        self.signal = signal
        super().__init__(message)


class AegisInternalError(AegisError):
    """Aegis has a bug; please report it with the message and the traceback."""

    kind: ClassVar[Kind] = "internal-error"
