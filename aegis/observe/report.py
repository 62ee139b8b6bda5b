"""The report of a run: its outcome, usage, grants and limits, as text or as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from aegis.limits import format_bytes, format_count, format_seconds
from aegis.observe.encode import dump, plain
from aegis.observe.outcome import Usage
from aegis.text import count, visible

if TYPE_CHECKING:
    from aegis.errors import AegisError

__all__ = ["SCHEMA_VERSION", "ExecutionReport", "OutcomeLike", "error_data"]

SCHEMA_VERSION = 1
"""The version of the JSON documents. A key that is removed, or changes its meaning, increments it."""


def __dir__() -> list[str]:
    return sorted(__all__)


_ERROR_FIELDS = (
    "capability", "code", "limit", "used", "allowed", "phase", "line", "source", "name", "near", "remedy", "signal",
    "state", "target",
)  # fmt: skip


class OutcomeLike(Protocol):
    """The attributes of an outcome that a report reads."""

    @property
    def status(self) -> str: ...
    @property
    def value(self) -> Any: ...
    @property
    def exit_code(self) -> int: ...
    @property
    def error(self) -> AegisError | None: ...
    @property
    def usage(self) -> Usage: ...
    @property
    def stdout(self) -> bytes: ...
    @property
    def stderr(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionReport:
    """The report of one run. Create it with :meth:`of`, show it with :meth:`to_text` or :meth:`to_json`.

    Strings from the guest are escaped in text and JSON.
    """

    status: str
    exit_code: int
    value: Any = None
    error: Mapping[str, Any] | None = None
    usage: Usage = field(default_factory=Usage)
    stdout: bytes = b""
    stderr: bytes = b""
    artifact: str | None = None
    """The path or name of the artifact, as given by the caller."""
    digest: str | None = None
    function: str | None = None
    granted: tuple[str, ...] = ()
    """One line for each grant, from :meth:`aegis.Policy.describe`."""
    proposals: tuple[str, ...] = ()
    """The WebAssembly proposals that were enabled beyond the default."""
    limits: Mapping[str, float | None] = field(default_factory=dict)
    """The limits by name; ``None`` is a limit that is off."""
    layers: tuple[tuple[str, bool, str], ...] = ()
    """The confinement layers of an isolated run: name, whether it was active, and a description or the reason."""
    subscribers_failed: int = 0
    """Subscribers that raised an exception and missed the later events."""
    events_lost: int = 0
    """Events that were not delivered, because a subscriber did not return or caused too many."""
    engine: Mapping[str, Any] | None = None
    """The engine's versions, and the published advisories that it has no fix for, if the caller passed them."""

    @classmethod
    def of(
        cls,
        outcome: OutcomeLike,
        *,
        artifact: str | None = None,
        digest: str | None = None,
        function: str | None = None,
        granted: Sequence[str] = (),
        proposals: Sequence[str] = (),
        limits: Mapping[str, float | None] | None = None,
        layers: Sequence[tuple[str, bool, str]] = (),
        subscribers_failed: int = 0,
        events_lost: int = 0,
        engine: Mapping[str, Any] | None = None,
    ) -> ExecutionReport:
        """Return the report of ``outcome``.

        Pass ``policy.describe()`` as ``granted``, ``policy.proposals`` as ``proposals``,
        ``dataclasses.asdict(policy.limits)`` as ``limits``, ``sandbox.layers`` as ``layers``,
        ``len(sandbox.events.failures)`` as ``subscribers_failed``, ``sandbox.events.lost`` as ``events_lost``, and the
        dictionary of :func:`aegis.engine.native.advisories.engine_facts` as ``engine``.
        """
        return cls(
            status=outcome.status,
            exit_code=outcome.exit_code,
            value=plain(outcome.value),
            error=None if outcome.error is None else error_data(outcome.error),
            usage=outcome.usage,
            stdout=outcome.stdout,
            stderr=outcome.stderr,
            artifact=None if artifact is None else str(artifact),
            digest=digest,
            function=None if function is None else str(function),
            granted=tuple(granted),
            proposals=tuple(proposals),
            limits=dict(limits or {}),
            layers=tuple(layers),
            subscribers_failed=subscribers_failed,
            events_lost=events_lost,
            engine=engine,
        )

    @property
    def lifted(self) -> tuple[str, ...]:
        """The names of the limits that are on by default and were off."""
        return tuple(name for name, value in self.limits.items() if value is None and name != "fuel")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types, with the same keys for every outcome.

        ``stdout_encoding`` is ``utf-8``, or ``base64`` if the output is not UTF-8; ``stderr_encoding`` likewise.
        """
        return {
            "schema_version": SCHEMA_VERSION,
            "status": self.status,
            "exit_code": self.exit_code,
            "artifact": self.artifact,
            "digest": self.digest,
            "function": self.function,
            "value": self.value,
            "error": None if self.error is None else dict(self.error),
            "usage": _usage(self.usage),
            "granted": list(self.granted),
            "proposals": list(self.proposals),
            "limits": dict(self.limits),
            "lifted": list(self.lifted),
            "subscribers_failed": self.subscribers_failed,
            "events_lost": self.events_lost,
            "isolation": [{"layer": name, "active": on, "detail": text} for name, on, text in self.layers],
            "engine": None if self.engine is None else dict(self.engine),
            **_output("stdout", self.stdout),
            **_output("stderr", self.stderr),
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return the report as a strict ASCII JSON document; on one line with ``indent=None``."""
        return dump(self.to_dict(), indent=indent)

    def to_text(self) -> str:
        """Return the report as some ten lines of text for people."""
        return "\n".join(f"{label:<9} {text}".rstrip() for label, text in self._lines())

    def _lines(self) -> list[tuple[str, str]]:
        return [*self._ending(), *self._used(), *self._allowed()]

    def _ending(self) -> list[tuple[str, str]]:
        lines = [("status", f"{self.status}, exit code {self.exit_code}")]
        if self.error is not None:
            message = str(self.error.get("message", "")).split("\n")
            lines += [("error" if n == 0 else "", visible(line)) for n, line in enumerate(message)]
            lines += [("", visible(line)) for note in self.error.get("notes", ()) for line in str(note).split("\n")]
        if self.value is not None:
            lines.append(("value", visible(str(self.value))))
        named = (("artifact", self.artifact), ("digest", self.digest), ("function", self.function))
        return lines + [(label, visible(text)) for label, text in named if text is not None]

    def _used(self) -> list[tuple[str, str]]:
        usage = self.usage
        host = "" if usage.host_seconds is None else f", {format_seconds(usage.host_seconds)}"
        crossed = f"{_size(usage.bytes_in)} in, {_size(usage.bytes_out)} out"
        lines = [
            ("time", self._of(format_seconds(usage.seconds), "timeout", format_seconds)),
            ("memory", self._of(format_bytes(usage.peak_memory), "memory", format_bytes)),
            ("host", f"{count(usage.host_calls, 'call')}{host}, {crossed}"),
            ("output", f"{_size(usage.stdout)} to stdout, {_size(usage.stderr)} to stderr"),
        ]
        if usage.fuel is not None:
            lines.insert(1, ("fuel", self._of(format_count(usage.fuel), "fuel", format_count)))
        elif self.limits.get("fuel", 0) is None:
            lines.insert(1, ("fuel", "not counted"))
        if usage.denials:
            lines.append(("denied", count(usage.denials, "request")))
        if self.subscribers_failed:
            lines.append(("events", f"incomplete: {count(self.subscribers_failed, 'subscriber')} failed"))
        if self.events_lost:
            lines.append(("events", f"incomplete: {count(self.events_lost, 'event')} lost"))
        return lines

    def _of(self, used: str, limit: str, show: Any) -> str:
        allowed = self.limits.get(limit)
        return used if allowed is None else f"{used} of {show(allowed)}"

    def _allowed(self) -> list[tuple[str, str]]:
        granted = self.granted or ("nothing",)
        lines = [("granted" if n == 0 else "", visible(line)) for n, line in enumerate(granted)]
        if self.proposals:
            lines.append(("enabled", ", ".join(self.proposals)))
        if self.lifted:
            lines.append(("lifted", ", ".join(self.lifted)))
        return lines + self._isolation() + self._engine()

    def _engine(self) -> list[tuple[str, str]]:
        if self.engine is None:
            return []
        known = self.engine["advisories"]
        reachable = [one["id"] for one in known if one["reachable"]]
        shown = f"reachable here: {', '.join(reachable)}" if reachable else "none reachable here"
        version = self.engine["version"] or self.engine["package"]
        return [("engine", f"{self.engine['name']} {version}, advisories: {len(known)}, {shown}")]

    def _isolation(self) -> list[tuple[str, str]]:
        if not self.layers:
            return []
        missing = [f"without {name}: {text}" for name, on, text in self.layers if not on]
        head = f"in a worker process, {count(len(self.layers) - len(missing), 'layer')}"
        return [("isolated", head), *(("", visible(line)) for line in missing)]


def _size(size: int) -> str:
    return count(size, "byte") if size < 1024 else format_bytes(size)


def error_data(error: AegisError) -> dict[str, Any]:
    """Return an error as JSON types: kind, blame and message, then the fields of its class."""
    data: dict[str, Any] = {"kind": error.kind, "blame": error.blame, "message": plain(str(error))}
    for name in _ERROR_FIELDS:
        value = getattr(error, name, None)
        if value is not None:
            data[name] = plain(value)
    for name in ("frames", "missing"):
        items = getattr(error, name, ())
        if items:
            data[name] = [plain(item._asdict()) for item in items[:64]]
    notes = getattr(error, "__notes__", ())
    if notes:
        data["notes"] = [plain(note) for note in notes[:8]]
    return data


def _usage(usage: Usage) -> dict[str, Any]:
    data = {name: getattr(usage, name) for name in usage.__slots__}
    return {**data, "guest_seconds": usage.guest_seconds}


def _output(name: str, data: bytes) -> dict[str, str]:
    try:
        return {name: data.decode("utf-8"), f"{name}_encoding": "utf-8"}
    except UnicodeDecodeError:
        from base64 import b64encode

        return {name: b64encode(data).decode("ascii"), f"{name}_encoding": "base64"}
