"""Converts errors to plain data and back. A worker can report only classes from a fixed table, with checked fields."""

from __future__ import annotations

from collections.abc import Callable

from aegis import errors
from aegis.errors import AegisError, Frame, GuestExit, LinkError, MemoryExceeded, MissingImport
from aegis.isolation.protocol.channel import ProtocolError
from aegis.policy.remedies import denied_reading
from aegis.support.lean import Any
from aegis.text import printable

__all__ = ["from_plain", "out_of_memory", "to_plain"]

_FIELDS: dict[str, tuple[str, ...]] = {
    "PolicyError": ("source", "line"),
    "CallError": (),
    "ExportNotFound": ("name", "near"),
    "SandboxStateError": ("state",),
    "Cancelled": (),
    "ArtifactError": (),
    "ArtifactNotFound": (),
    "LinkError": ("missing",),
    "GuestTrap": ("code", "frames"),
    "CapabilityDenied": ("capability",),
    "LimitExceeded": ("limit", "used", "allowed"),
    "OutOfFuel": ("limit", "used", "allowed"),
    "DeadlineExceeded": ("limit", "used", "allowed"),
    "MemoryExceeded": ("limit", "phase", "used", "allowed"),
    "StackExhausted": ("limit", "used", "allowed"),
    "OutputExceeded": ("limit", "used", "allowed"),
    "QuotaExceeded": ("limit", "used", "allowed"),
    "HostError": (),
    "AegisInternalError": (),
    "GuestExit": ("code",),
}
"""The error classes that can be sent, with their fields; others are sent as their nearest base class in this table."""
_MAX_MESSAGE_CHARACTERS = 8192


def out_of_memory(allowed: int | None = None) -> MemoryExceeded:
    """Return the error of a worker that ran out of memory; ``allowed`` is its limit in bytes, if known."""
    amount = "" if allowed is None else f" ({allowed:,}/{allowed:,} bytes)"
    message = (
        f"worker-memory limit exceeded{amount}: raise it with overhead of isolation, or with value_bytes or "
        "--value-bytes, if you trust the guest's origin"
    )
    return MemoryExceeded(message, limit="overhead", phase="grown", used=allowed, allowed=allowed)


def _without_paths(error: BaseException) -> str:
    """Return the class and text of an unexpected error, without the host paths that an ``OSError`` may contain."""
    text = error.strerror if isinstance(error, OSError) else str(error)
    return f"{type(error).__name__}: {text}"


def to_plain(error: BaseException) -> list[Any]:
    """Encode an error as its class name, message and fields."""
    if isinstance(error, MemoryError):
        error = out_of_memory()
    name = next((c.__name__ for c in type(error).__mro__ if c.__name__ in _FIELDS), None)
    if name is None:
        return ["AegisInternalError", printable(_without_paths(error), _MAX_MESSAGE_CHARACTERS), {}]
    message = str(getattr(error, "reason", None) or str(error))[:_MAX_MESSAGE_CHARACTERS]
    return [name, message, {field: _plain(getattr(error, field)) for field in _FIELDS[name]}]


def _plain(value: Any) -> Any:
    return [list(item) if isinstance(item, tuple) else item for item in value] if isinstance(value, tuple) else value


def from_plain(data: Any) -> AegisError:
    """Decode an error; raise :class:`ProtocolError` if ``data`` does not encode one."""
    try:
        name, message, fields = data
        wanted = _FIELDS[name]
        given = {field: _CHECKS[field](fields[field]) for field in wanted}
        if not isinstance(message, str) or len(message) > _MAX_MESSAGE_CHARACTERS:
            raise ProtocolError("an error without a valid message")
        message = "".join(c if c.isprintable() else printable(c) for c in message)
        if name == "GuestExit":
            return GuestExit(_index(given["code"]))
        if name == "CapabilityDenied":
            return denied_reading(given["capability"])
        if name == "LinkError":
            return LinkError("the worker found imports that nothing provides", missing=given["missing"])
        made: AegisError = getattr(errors, name)(message, **given)
        return made
    except (TypeError, ValueError, KeyError, AttributeError):
        raise ProtocolError("malformed error") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return printable(value, 1000)


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _number(value: Any) -> int | float | None:
    if value is not None and type(value) not in (int, float):
        raise TypeError
    return value  # type: ignore[no-any-return]


def _code(value: Any) -> Any:
    return value if type(value) is int else _text(value)


def _frames(value: Any) -> tuple[Frame, ...]:
    return tuple(Frame(_index(i), _optional_text(name), _index(offset)) for i, name, offset in value[:64])


def _index(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _missing(value: Any) -> tuple[MissingImport, ...]:
    """Decode missing imports, without a remedy: the parent had linked every import, so the worker's claim is wrong."""
    return tuple(MissingImport(_text(m), _text(n), _text(t), "") for m, n, t, _ in value[:4096])


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "source": _optional_text, "line": _number, "name": _text, "near": lambda value: [_text(v) for v in value[:64]],
    "state": _text, "missing": _missing, "code": _code, "frames": _frames, "capability": _text, "target": _text,
    "limit": _text, "used": _number, "allowed": _number, "phase": _text,
}  # fmt: skip
