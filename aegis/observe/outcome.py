"""The outcome of a call, and its resource usage."""

from __future__ import annotations

from aegis.errors import AegisError, CapabilityDenied, GuestExit, GuestTrap, LimitExceeded
from aegis.support.lean import TYPE_CHECKING, Any, dataclass, field
from aegis.text import last_lines, printable
from aegis.values import Decision

if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from aegis.errors import Kind

    Status: TypeAlias = Literal["returned"] | Kind

__all__ = ["Outcome", "OutcomeCheck", "Usage"]

_SUCCESSES = ("returned", "exited")
_CAPABILITIES = ("clock", "config", "environment", "filesystem", "logging", "network", "random", "stdio")
_ANY: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The resources used by one call, or by a sandbox so far. Times are in seconds, sizes in bytes."""

    fuel: int | None = None
    """Units of guest work; ``None`` if fuel is not limited."""
    seconds: float = 0.0
    """Wall-clock time, including host calls."""
    host_seconds: float | None = None
    """Time spent in host calls; ``None`` if it was not measured."""
    host_calls: int = 0
    bytes_in: int = 0
    """Copied from guest memory to the host: memory that host functions read, and strings and lists of components.

    ``host_bytes`` limits both directions of one call together. Numbers are passed without a copy.
    """
    bytes_out: int = 0
    """Copied from the host to guest memory."""
    peak_memory: int = 0
    """Peak size of all linear memories of the sandbox together.

    Exact if the sandbox has subscribers or is ``measured``, with ``exact_memory``, on the command line, and for core
    modules that export each memory that can grow. Otherwise, in particular for components, it is a lower bound:
    memories that are not exported count with their initial size.
    """
    denials: int = 0
    stdout: int = 0
    """Written by the guest, whether or not it was delivered."""
    stderr: int = 0

    @property
    def guest_seconds(self) -> float | None:
        """Wall-clock time outside host calls; ``None`` if it was not measured."""
        return None if self.host_seconds is None else max(0.0, self.seconds - self.host_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one call, successful or not.

    ``status`` is ``returned``, ``exited`` or the ``kind`` of ``error``. ``exit_code`` is 0 for a success and from 1 to
    255 for a failure; any other code of a failure is replaced by that of the error. ``value`` is the result of the
    call, ``stdout`` and ``stderr`` are the captured output.

    The methods :meth:`returned`, :meth:`exited`, :meth:`trapped`, :meth:`exceeded` and :meth:`denied` are for tests:
    ``assert outcome.trapped("unreachable")`` shows the actual outcome when it fails.

    >>> Outcome(value=7).returned(7)
    returned 7
    >>> Outcome(value=7).trapped()
    not trapped: it returned 7
    """

    status: Status = "returned"
    value: Any = None
    exit_code: int = 0
    error: AegisError | None = None
    usage: Usage = field(default_factory=Usage)
    stdout: bytes = b""
    stderr: bytes = b""
    denials: tuple[Decision, ...] = ()
    """The first 16 requests that the policy denied; ``usage.denials`` counts all."""

    def __post_init__(self) -> None:
        if self.error is None and (self.status not in _SUCCESSES or self.exit_code != 0):
            raise ValueError(f"status {self.status!r} with exit code {self.exit_code} needs an error")
        if self.error is not None and self.status != self.error.kind:
            raise ValueError(f"status {self.status!r} is not {self.error.kind!r}, the kind of its error")
        if self.error is not None and not 0 < self.exit_code < 256:
            object.__setattr__(self, "exit_code", _exit_code(self.error))

    @classmethod
    def from_error(
        cls, error: AegisError, *, usage: Usage | None = None, stdout: bytes = b"", stderr: bytes = b"",
        denials: tuple[Decision, ...] = (),
    ) -> Outcome:  # fmt: skip
        """Return the outcome for ``error``; an exit with code 0 is a success."""
        succeeded = isinstance(error, GuestExit) and error.code == 0
        return cls(
            status=error.kind,
            exit_code=0 if succeeded else _exit_code(error),
            error=None if succeeded else error,
            usage=usage or Usage(),
            stdout=stdout,
            stderr=stderr,
            denials=denials,
        )

    @property
    def ok(self) -> bool:
        """Whether the guest returned, or exited with code 0."""
        return self.error is None

    def unwrap(self) -> Any:
        """Return the value; raise the error of a failed call."""
        if self.error is not None:
            raise self.error
        return self.value

    # -- checks for tests ---------------------------------------------------------------------------

    def returned(self, value: Any = _ANY) -> OutcomeCheck:
        """Check that the guest returned, with ``value`` if given; a declared error is compared as ``Err``."""
        wanted = "" if value is _ANY else f" {printable(repr(value), 200)}"
        good = self.status == "returned" and (value is _ANY or self.value == value)
        return OutcomeCheck(good, f"returned{wanted}", self)

    def exited(self, code: int | None = None) -> OutcomeCheck:
        """Check that the guest exited, with ``code`` if given."""
        own = self.error.code if isinstance(self.error, GuestExit) else 0
        good = self.status == "exited" and code in (None, own)
        return OutcomeCheck(good, "exited" if code is None else f"exited with {code}", self)

    def trapped(self, code: str | None = None) -> OutcomeCheck:
        """Check that the guest trapped, with a trap code such as ``unreachable`` or ``memory-out-of-bounds`` if given.

        A trap caused by a limit does not count; use :meth:`exceeded`.
        """
        good = isinstance(self.error, GuestTrap) and code in (None, self.error.code)
        return OutcomeCheck(good, "trapped" if code is None else f"trapped with {code}", self)

    def exceeded(self, limit: str | None = None) -> OutcomeCheck:
        """Check that a limit ended the call; ``limit`` is its name, such as ``fuel``, ``timeout`` or ``memory``."""
        wanted = None if limit is None else limit.replace("-", "_")
        good = isinstance(self.error, LimitExceeded) and wanted in (None, self.error.limit.replace("-", "_"))
        return OutcomeCheck(good, "exceeded a limit" if limit is None else f"exceeded {limit}", self)

    def denied(self, capability: str | None = None, target: str = "") -> OutcomeCheck:
        """Check that the policy denied a request, however the call ended.

        ``capability`` is a name or an unambiguous prefix, such as ``net``; ``target`` is a part of the target.
        Only the first 16 denials are compared. Raise ``ValueError`` for an unknown capability.
        """
        asked = [(d.capability, d.target) for d in self.denials]
        if isinstance(self.error, CapabilityDenied):
            asked.append((self.error.capability, self.error.target))
        name = None if capability is None else _capability(capability, [each for each, _ in asked])
        good = any(name in (None, each) and target in aim for each, aim in asked)
        return OutcomeCheck(good, " ".join(filter(None, ("denied", name, target))), self)


def _exit_code(error: AegisError) -> int:
    """Return the exit code for ``error``: the low eight bits of a guest's own code, and never 0."""
    code = error.code & 0xFF if isinstance(error, GuestExit) else error.exit_code
    return code or 1


class OutcomeCheck:
    """The result of a check; its repr describes the actual outcome if the check failed."""

    __slots__ = ("_good", "_outcome", "_wanted")

    def __init__(self, good: bool, wanted: str, outcome: Outcome) -> None:
        self._good, self._wanted, self._outcome = good, wanted, outcome

    def __bool__(self) -> bool:
        return self._good

    def __repr__(self) -> str:
        return self._wanted if self._good else f"not {self._wanted}: {_summary(self._outcome)}"


def _summary(outcome: Outcome) -> str:
    """Return the end of a call and its denials on one line."""
    error = outcome.error
    if error is not None:
        end = f"it ended with {outcome.status}: {printable(str(error), 300)}"
        end += f" ({printable(error.code, 60)})" if isinstance(error, GuestTrap) else ""
        last = last_lines(outcome.stderr, 1, 200)
        end += f"; its last line on stderr: {last[0]}" if last else ""
    else:
        end = (
            f"it returned {printable(repr(outcome.value), 200)}" if outcome.status == "returned" else "it exited with 0"
        )
    denied = [f"{d.capability} {d.action} {printable(d.target, 100)}" for d in outcome.denials[:3]]
    return end + (f"; denied: {', '.join(denied)}" if denied else "")


def _capability(word: str, asked: list[str]) -> str:
    """Return the capability with this name or prefix."""
    names = sorted({*_CAPABILITIES, *asked})
    found = [name for name in names if name.startswith(word)]
    if word in found or len(found) == 1:
        return word if word in found else found[0]
    which = ", ".join(found or names)
    problem = "matches several capabilities" if found else "is not a capability"
    raise ValueError(f"{printable(word, 60)!r} {problem}: use one of {which}")
