"""Everything that Aegis raises.

The exception classes *are* the outcome kinds, the exit codes of the command line and the labels of
the metrics (design, D8). Three class variables tell a caller what to do without reading prose:

``blame``
    who can put it right: ``embedder``, ``guest``, ``host`` or ``aegis``.
``kind``
    the stable kebab-case label, the same in reports, events and metrics.
``exit_code``
    what ``aegis run`` exits with.

Messages may hold text that a guest wrote. They are cut and escaped where they are made, with
:func:`aegis.text.printable`, so that no terminal or log ever sees a raw control byte.
"""

from __future__ import annotations

from collections.abc import Sequence

from aegis.support.lean import TYPE_CHECKING, Any, ClassVar, NamedTuple
from aegis.text import printable

if TYPE_CHECKING:
    from array import array

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
    "SandboxStateError",
    "StackExhausted",
    "WorkerCrashed",
]


class Frame(NamedTuple):
    """One guest stack frame of a trap, innermost first; ``name`` is escaped and cut."""

    function_index: int
    name: str | None
    module_offset: int


class MissingImport(NamedTuple):
    """An import that nothing provides, with the line that would provide it."""

    module: str
    name: str
    type: str
    remedy: str


class AegisError(Exception):
    """The root of everything that Aegis raises on purpose.

    Of a call over columns, ``row`` is the row under way, from 0, and ``partial`` an array of the results before it
    where the caller gave no ``out``; both are ``None`` otherwise.
    """

    row: int | None = None
    partial: array[Any] | None = None
    blame: ClassVar[str] = "aegis"
    kind: ClassVar[str] = "aegis-error"
    exit_code: ClassVar[int] = 125


# --- the embedder's mistakes ---------------------------------------------------------------------


class PolicyError(AegisError, ValueError):
    """A policy, limit or grant that means nothing. ``source`` and ``line`` (from 1) say where."""

    blame: ClassVar[str] = "embedder"
    kind: ClassVar[str] = "policy-error"

    def __init__(self, message: str, *, source: str | None = None, line: int | None = None) -> None:
        self.reason = message
        self.source = source
        self.line = line
        where = printable(source, 400) if source else ""
        if line is not None:
            where = f"{where or 'policy'}:{line}"
        super().__init__(f"{where}: {message}" if where else message)


class CallError(AegisError, TypeError):
    """A call that does not fit the export's signature: its count, a type or a range."""

    blame: ClassVar[str] = "embedder"
    kind: ClassVar[str] = "usage"
    exit_code: ClassVar[int] = 2


class ExportNotFound(CallError, LookupError):
    """The artifact exports nothing callable of this name; ``near`` holds similar names."""

    kind: ClassVar[str] = "not-found"
    exit_code: ClassVar[int] = 127

    def __init__(self, message: str, *, name: str, near: Sequence[str] = ()) -> None:
        self.name = name
        self.near = tuple(near)
        super().__init__(message)


class SandboxStateError(AegisError, RuntimeError):
    """The sandbox cannot do this now; ``state`` is poisoned, closed, busy, loaded or empty.

    It does not say that the guest misbehaved in *this* call: a poisoned sandbox failed earlier.
    """

    blame: ClassVar[str] = "embedder"
    kind: ClassVar[str] = "sandbox-state"

    def __init__(self, message: str, *, state: str) -> None:
        self.state = state
        super().__init__(message)


class Cancelled(AegisError):
    """Someone with the right to do so stopped the run: ``cancel()`` or Ctrl-C."""

    blame: ClassVar[str] = "embedder"
    kind: ClassVar[str] = "interrupted"
    exit_code: ClassVar[int] = 130


# --- the artifact's ------------------------------------------------------------------------------


class ArtifactError(AegisError, ValueError):
    """The bytes are not an artifact that Aegis admits: invalid, too large, or of a refused kind."""

    blame: ClassVar[str] = "guest"
    kind: ClassVar[str] = "refused"
    exit_code: ClassVar[int] = 126


class ArtifactNotFound(ArtifactError, FileNotFoundError):
    """There is no file of this name, or it cannot be read."""

    blame: ClassVar[str] = "embedder"
    kind: ClassVar[str] = "not-found"
    exit_code: ClassVar[int] = 127

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class LinkError(AegisError):
    """The artifact imports what nothing provides. ``missing`` lists every such import at once."""

    blame: ClassVar[str] = "embedder"
    kind: ClassVar[str] = "refused"
    exit_code: ClassVar[int] = 126

    def __init__(self, message: str, *, missing: Sequence[MissingImport] = ()) -> None:
        self.missing = tuple(missing)
        super().__init__(message)


# --- the guest's ---------------------------------------------------------------------------------


class GuestError(AegisError):
    """What a guest did, or had done to it."""

    blame: ClassVar[str] = "guest"
    kind: ClassVar[str] = "guest-error"


class GuestTrap(GuestError):
    """The guest trapped. ``code`` is the kebab-case trap code, ``frames`` the guest's stack."""

    kind: ClassVar[str] = "trap"
    exit_code: ClassVar[int] = 134

    def __init__(self, message: str, *, code: str, frames: Sequence[Frame] = ()) -> None:
        self.code = code
        self.frames = tuple(frames)
        super().__init__(message)


class CapabilityDenied(GuestError):
    """The guest asked for what no grant covers and could not be told in-band."""

    kind: ClassVar[str] = "denied"
    exit_code: ClassVar[int] = 126

    def __init__(self, message: str, *, capability: str, target: str, remedy: str) -> None:
        self.capability = capability
        self.target = target
        self.remedy = remedy
        super().__init__(message)


class GuestExit(GuestError):
    """The guest ended itself with ``code`` (preview 1 ``proc_exit``). Zero is success."""

    kind: ClassVar[str] = "exited"
    exit_code: ClassVar[int] = 1

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"the guest exited with code {code}")


class LimitExceeded(GuestError):
    """The guest reached ``limit``: it ``used`` so much of what was ``allowed`` (the limit's unit)."""

    kind: ClassVar[str] = "quota-exceeded"
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
    """The guest executed more than the fuel of one call."""

    kind: ClassVar[str] = "out-of-fuel"
    exit_code: ClassVar[int] = 152


class DeadlineExceeded(LimitExceeded):
    """The call outlived its deadline, in guest code, in a host call or in the compiler."""

    kind: ClassVar[str] = "timeout"
    exit_code: ClassVar[int] = 124


class MemoryExceeded(LimitExceeded):
    """The guest asked for more memory or table elements; ``phase`` is ``initial`` or ``grown``."""

    kind: ClassVar[str] = "memory-exceeded"
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
    """The guest recursed deeper than its stack."""

    kind: ClassVar[str] = "stack-exhausted"
    exit_code: ClassVar[int] = 134


class OutputExceeded(LimitExceeded):
    """The guest wrote more than it may to stdout or stderr."""

    kind: ClassVar[str] = "output-exceeded"


class QuotaExceeded(LimitExceeded):
    """The guest used up a count: host calls, bytes through them, open files, bytes on disk."""


# --- the host's and our own ----------------------------------------------------------------------


class HostError(AegisError):
    """A host function of the embedder raised; the original, with its traceback, is ``__cause__``."""

    blame: ClassVar[str] = "host"
    kind: ClassVar[str] = "host-error"


class WorkerCrashed(AegisError):
    """The worker process of an isolated sandbox died of ``signal``."""

    blame: ClassVar[str] = "guest"
    kind: ClassVar[str] = "worker-crashed"
    exit_code: ClassVar[int] = 134

    def __init__(self, message: str, *, signal: int) -> None:
        self.signal = signal
        super().__init__(message)


class AegisInternalError(AegisError):
    """A defect of Aegis. It should never happen; please report it."""

    kind: ClassVar[str] = "internal-error"
