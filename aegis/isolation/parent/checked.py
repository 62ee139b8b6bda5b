"""In the parent: what a worker tells beside its answers, believed as far as it can be true."""

from __future__ import annotations

import math
from struct import error

from aegis.errors import AegisError
from aegis.isolation.protocol.channel import Broken
from aegis.isolation.protocol.setup import ACCOUNT
from aegis.support.lean import TYPE_CHECKING, Any, NamedTuple
from aegis.text import printable
from aegis.values import Decision

if TYPE_CHECKING:
    from aegis.engine.call.door import Door

__all__ = ["Kind", "Used", "account", "decision", "farewell", "layers", "line", "log", "observed", "text"]

_LONGEST = 4096
_CAPABILITIES = ("filesystem", "network", "clock", "random")
_ACTIONS = ("open", "read", "write", "look at", "connect to", "listen at", "look up", "request", "accept")
_MOST_BYTES = 1 << 48


class Used(NamedTuple):
    """What an account says beside what the door counts. Memory and output in bytes."""

    fuel: int
    memory: int
    stdout: int
    stderr: int


class Kind(AegisError):
    """Stands for a host function's error in events: its kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind  # type: ignore[misc]


def account(raw: Any, door: Door, fuel: int, memory: int | None) -> Used:
    """Take over the counters that a worker tells; what is left never grows, what was used never shrinks."""
    try:
        calls, left, bytes_in, bytes_out, denials, seconds, fuel_left, size, out, err = ACCOUNT.unpack(raw)
    except (TypeError, error):
        raise Broken("an account that cannot be read") from None
    door.calls_left = min(door.calls_left, max(calls, -1))
    door.bytes_left = min(door.bytes_left, max(left, 0))
    door.bytes_in, door.bytes_out = max(door.bytes_in, bytes_in), max(door.bytes_out, bytes_out)
    door.denials = max(door.denials, denials)
    if math.isfinite(seconds):
        door.host_seconds = max(door.host_seconds, seconds)
    most = _MOST_BYTES if memory is None else memory
    return Used(_within(fuel_left, fuel), _within(size, most), _within(out, _MOST_BYTES), _within(err, _MOST_BYTES))


def _within(value: int, most: int) -> int:
    return min(max(value, 0), most)


def text(value: Any, longest: int = _LONGEST) -> str:
    """Return text that may be shown; raise :class:`Broken` for anything else."""
    if type(value) is not str:
        raise Broken("something other than text")
    if len(value) <= longest and value.isprintable():
        return value
    return printable(value, longest)


def _fields(message: list[Any], count: int) -> list[Any]:
    if len(message) != count + 1:
        raise Broken("a message with too much or too little in it")
    return message[1:]


def observed(message: list[Any]) -> tuple[str, str, float, Kind | None]:
    """Return what is told of a host call: module, name, seconds, and what it failed with."""
    module, name, seconds, failed = _fields(message, 4)
    if type(seconds) is not float or not 0 <= seconds < math.inf:
        raise Broken("a host call that took no time that there is")
    return text(module), text(name), seconds, None if failed is None else Kind(text(failed))


def decision(message: list[Any]) -> Decision:
    """Return what is told of a decision about a grant.

    Target and remedy are the guest's text; the door explains them as it does those of a guest in this process.
    """
    capability, action, target, allowed, rule, remedy = _fields(message, 6)
    if type(allowed) is not bool:
        raise Broken("a decision that decides nothing")
    if capability not in _CAPABILITIES or action not in _ACTIONS:
        raise Broken("a decision about nothing that Aegis decides")
    if type(target) is not str or type(remedy) is not str:
        raise Broken("a decision about something other than text")
    return Decision(capability, action, target[:_LONGEST], allowed, text(rule), remedy[:_LONGEST])


def line(message: list[Any]) -> tuple[str, str]:
    """Return the level and the text of a line that the guest logged."""
    level, said = _fields(message, 2)
    return text(level, 32), text(said)


def log(message: list[Any]) -> tuple[str, str]:
    """Log a line of the guest in this process; return its level and its text."""
    import logging

    level, said = line(message)
    logging.getLogger("aegis.guest").log(_LEVELS.get(level, 20), "%s", said, extra={"guest_level": level})
    return level, said


_LEVELS = {"trace": 5, "debug": 10, "info": 20, "warn": 30, "error": 40, "critical": 50}


def layers(value: Any) -> tuple[tuple[str, bool, str], ...]:
    """Return the layers that a worker says confine it."""
    if type(value) is not list or any(type(layer) is not list or len(layer) != 3 for layer in value):
        raise Broken("layers that cannot be read")
    return tuple((text(name), active is True, text(detail)) for name, active, detail in value[:100])


def farewell(reply: list[Any]) -> bool:
    """Tell whether a worker ended its sandbox as it should."""
    return reply[0] == "done" and len(reply) >= 2 and reply[1] is None
