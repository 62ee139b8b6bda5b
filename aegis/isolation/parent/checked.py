"""Validates in the parent the reports that a worker sends in addition to its answers: counters, events, log lines.

A compromised worker can send anything. Values out of range are clamped or rejected, and texts are escaped.
"""

from __future__ import annotations

import math
from struct import error

from aegis.errors import AegisError
from aegis.isolation.protocol.channel import ProtocolError
from aegis.isolation.protocol.specs import ACCOUNT
from aegis.support.lean import TYPE_CHECKING, Any, NamedTuple
from aegis.text import printable
from aegis.values import Decision

if TYPE_CHECKING:
    from aegis.engine.call.door import Door

__all__ = ["Kind", "Used", "account", "decision", "final_report", "layers", "line", "log", "observed", "text"]

_MAX_TEXT_CHARACTERS = 4096
_CAPABILITIES = ("filesystem", "network", "clock", "random")
_ACTIONS = ("open", "read", "write", "look at", "connect to", "listen at", "look up", "request", "accept")
_MAX_BYTES = 1 << 48


class Used(NamedTuple):
    """Resources that a worker reports in addition to the door's counters: fuel, and memory and output in bytes."""

    fuel: int
    memory: int
    stdout: int
    stderr: int


class Kind(AegisError):
    """Represents a host function's error in events; only its kind is known in the parent."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind  # type: ignore[misc, assignment]


def account(raw: Any, door: Door, fuel: int, memory: int | None) -> Used:
    """Update the door's counters from a worker's report; a remainder never grows and a usage never shrinks."""
    try:
        calls, left, bytes_in, bytes_out, denials, seconds, fuel_left, size, out, err = ACCOUNT.unpack(raw)
    except (TypeError, error):
        raise ProtocolError("malformed counters") from None
    door.calls_left = min(door.calls_left, max(calls, -1))
    door.bytes_left = min(door.bytes_left, max(left, 0))
    door.bytes_in, door.bytes_out = max(door.bytes_in, bytes_in), max(door.bytes_out, bytes_out)
    door.denials = max(door.denials, denials)
    if math.isfinite(seconds):
        door.host_seconds = max(door.host_seconds, seconds)
    most = _MAX_BYTES if memory is None else memory
    return Used(_within(fuel_left, fuel), _within(size, most), _within(out, _MAX_BYTES), _within(err, _MAX_BYTES))


def _within(value: int, most: int) -> int:
    return min(max(value, 0), most)


def text(value: Any, longest: int = _MAX_TEXT_CHARACTERS) -> str:
    """Return a text, truncated and escaped for display; raise :class:`ProtocolError` if it is not a text."""
    if type(value) is not str:
        raise ProtocolError("expected a text")
    if len(value) <= longest and value.isprintable():
        return value
    return printable(value, longest)


def _fields(message: list[Any], count: int) -> list[Any]:
    if len(message) != count + 1:
        raise ProtocolError(f"wrong number of fields in a message ({len(message) - 1}, expected {count})")
    return message[1:]


def observed(message: list[Any]) -> tuple[str, str, float, Kind | None]:
    """Return the record of a host call: module, name, seconds, and its error."""
    module, name, seconds, failed = _fields(message, 4)
    if type(seconds) is not float or not 0 <= seconds < math.inf:
        raise ProtocolError("invalid duration in a host-call record")
    return text(module), text(name), seconds, None if failed is None else Kind(text(failed))


def decision(message: list[Any]) -> Decision:
    """Return the record of a decision about a grant.

    ``target`` and ``wanted`` are text of the guest and are not escaped here: the door treats them like those of an
    in-process guest.
    """
    capability, action, target, allowed, rule, wanted = _fields(message, 6)
    if type(allowed) is not bool:
        raise ProtocolError("decision without a boolean verdict")
    if capability not in _CAPABILITIES or action not in _ACTIONS:
        raise ProtocolError("decision about an unknown capability or action")
    if type(target) is not str or type(wanted) is not str:
        raise ProtocolError("decision whose target or missing grant is not a text")
    return Decision(
        capability, action, target[:_MAX_TEXT_CHARACTERS], allowed, text(rule), wanted=wanted[:_MAX_TEXT_CHARACTERS]
    )


def line(message: list[Any]) -> tuple[str, str]:
    """Return the level and text of a line that the guest logged."""
    level, content = _fields(message, 2)
    return text(level, 32), text(content)


def log(message: list[Any]) -> tuple[str, str]:
    """Log a line of the guest to the logger ``aegis.guest``; return its level and text."""
    import logging

    level, content = line(message)
    logging.getLogger("aegis.guest").log(_LEVELS.get(level, 20), "%s", content, extra={"guest_level": level})
    return level, content


_LEVELS = {"trace": 5, "debug": 10, "info": 20, "warn": 30, "error": 40, "critical": 50}


def layers(value: Any) -> tuple[tuple[str, bool, str], ...]:
    """Return the confinement layers that a worker reports: name, whether active, detail."""
    if type(value) is not list or any(type(layer) is not list or len(layer) != 3 for layer in value):
        raise ProtocolError("malformed confinement layers")
    return tuple((text(name), active is True, text(detail)) for name, active, detail in value[:100])


def final_report(reply: list[Any]) -> bool:
    """Return whether a worker's final reply reports that it closed its sandbox without error."""
    return reply[0] == "done" and len(reply) >= 2 and reply[1] is None
