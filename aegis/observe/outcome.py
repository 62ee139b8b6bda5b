"""How a call ended and what it used."""

from __future__ import annotations

from aegis.errors import AegisError, CapabilityDenied, GuestExit, GuestTrap, LimitExceeded
from aegis.support.lean import Any, dataclass, field
from aegis.text import printable
from aegis.values import Decision

__all__ = ["Outcome", "Usage", "Verdict"]

_SUCCESSES = ("returned", "exited")
_CAPABILITIES = ("clock", "config", "environment", "filesystem", "logging", "network", "random", "stdio")
_ANY: Any = object()


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
        """Return the outcome of a call that ended with ``error``; an exit with code 0 is a success."""
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
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value

    # -- what tests ask: `assert outcome.trapped("unreachable")` says what happened instead ---------

    def returned(self, value: Any = _ANY) -> Verdict:
        """Tell whether the guest returned, and returned ``value`` if one is given; declared errors compare too."""
        wanted = "" if value is _ANY else f" {printable(repr(value), 200)}"
        good = self.status == "returned" and (value is _ANY or self.value == value)
        return Verdict(good, f"returned{wanted}", self)

    def exited(self, code: int | None = None) -> Verdict:
        """Tell whether the guest ended itself, with ``code`` if one is given."""
        own = self.error.code if isinstance(self.error, GuestExit) else 0
        good = self.status == "exited" and code in (None, own)
        return Verdict(good, "exited" if code is None else f"exited with {code}", self)

    def trapped(self, code: str | None = None) -> Verdict:
        """Tell whether the guest trapped, with a trap code (``unreachable``, ``memory-out-of-bounds``) if one is given.

        A trap by which the guest met a limit is none: :meth:`exceeded` tells that.
        """
        good = isinstance(self.error, GuestTrap) and code in (None, self.error.code)
        return Verdict(good, "trapped" if code is None else f"trapped with {code}", self)

    def exceeded(self, limit: str | None = None) -> Verdict:
        """Tell whether a limit ended the call; ``limit`` is its name: ``fuel``, ``timeout``, ``memory``, ``stack`` …"""
        wanted = None if limit is None else limit.replace("-", "_")
        good = isinstance(self.error, LimitExceeded) and wanted in (None, self.error.limit.replace("-", "_"))
        return Verdict(good, "exceeded a limit" if limit is None else f"exceeded {limit}", self)

    def denied(self, capability: str | None = None, target: str = "") -> Verdict:
        """Tell whether the policy denied something, whatever the guest made of that.

        ``capability`` is a name or what only one begins with (``net``); ``target`` is part of what was asked for. Of
        more than 16 denials the first 16 are looked at. Raise ``ValueError`` for a capability that there is not.
        """
        asked = [(d.capability, d.target) for d in self.denials]
        if isinstance(self.error, CapabilityDenied):
            asked.append((self.error.capability, self.error.target))
        name = None if capability is None else _capability(capability, [each for each, _ in asked])
        good = any(name in (None, each) and target in aim for each, aim in asked)
        return Verdict(good, " ".join(filter(None, ("denied", name, target))), self)


def _exit_code(error: AegisError) -> int:
    """Return what a process reports for ``error``: a guest's own code in its low eight bits, never 0."""
    code = error.code & 0xFF if isinstance(error, GuestExit) else error.exit_code
    return code or 1


class Verdict:
    """Whether an outcome is what was asked for; as text, what it is instead."""

    __slots__ = ("_good", "_outcome", "_wanted")

    def __init__(self, good: bool, wanted: str, outcome: Outcome) -> None:
        self._good, self._wanted, self._outcome = good, wanted, outcome

    def __bool__(self) -> bool:
        return self._good

    def __repr__(self) -> str:
        return self._wanted if self._good else f"not {self._wanted}: {_told(self._outcome)}"


def _told(outcome: Outcome) -> str:
    """Return how a call ended, and what was denied to it, in a line."""
    error = outcome.error
    if error is not None:
        told = f"it ended with {outcome.status}: {printable(str(error), 300)}"
        told += f" ({printable(error.code, 60)})" if isinstance(error, GuestTrap) else ""
    else:
        told = (
            f"it returned {printable(repr(outcome.value), 200)}" if outcome.status == "returned" else "it exited with 0"
        )
    denied = [f"{d.capability} {d.action} {printable(d.target, 100)}" for d in outcome.denials[:3]]
    return told + (f"; denied: {', '.join(denied)}" if denied else "")


def _capability(word: str, asked: list[str]) -> str:
    """Return the capability that a word means."""
    names = sorted({*_CAPABILITIES, *asked})
    found = [name for name in names if name.startswith(word)]
    if word in found or len(found) == 1:
        return word if word in found else found[0]
    which = ", ".join(found or names)
    raise ValueError(f"{printable(word, 60)!r} is {'more than one' if found else 'no'} capability: {which}")
