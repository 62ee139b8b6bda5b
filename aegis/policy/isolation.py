"""How a guest is kept in a process of its own, where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aegis.errors import PolicyError
from aegis.limits import (
    GIB,
    MIB,
    format_bytes,
    format_count,
    format_seconds,
    parse_bytes,
    parse_count,
    parse_seconds,
)
from aegis.support.lean import Any, dataclass, fields
from aegis.text import near

__all__ = ["FIELDS", "LAYERS", "Isolation"]

LAYERS = (
    "private-tmp", "oom-score", "environment", "descriptors", "namespaces", "unprivileged", "no-dump", "no-new-privs",
    "landlock-files", "landlock-net", "rlimits", "seccomp",
)  # fmt: skip
"""The layers of a worker's confinement, in the order of application."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """A worker process for each sandbox, confined by the operating system, and killed at the deadline.

    ``strict`` refuses to run where a layer of the confinement cannot be had. ``workers`` are kept warm, ready
    for the next sandboxes. ``recycle`` more sandboxes of the same artifact may be served by a worker; with none it
    is discarded after one. ``compile_time`` (seconds) and ``compile_memory`` (bytes) bound compiling, which has a
    worker of its own; ``overhead`` (bytes) is what a worker may use besides the guest's memory. ``grace`` (seconds)
    is how long a worker has to end a call at its deadline before it is killed. ``without`` names layers of the
    confinement (:data:`LAYERS`) to leave out, for a system where one of them stands in the way.

    A worker to which a directory was granted serves one sandbox, whatever ``recycle`` says.
    """

    strict: bool = False
    workers: int = 2
    recycle: int = 0
    without: tuple[str, ...] = ()
    compile_time: float | None = 60.0
    compile_memory: int | None = 2 * GIB
    overhead: int = 256 * MIB
    grace: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.strict, bool):
            raise PolicyError(f"isolation: strict is true or false, not {self.strict!r}")
        object.__setattr__(self, "without", _layers(self.without))
        if self.strict and self.without:
            raise PolicyError("isolation: strict asks for every layer, without leaves some out; choose one of them")
        for name, parse, low, high in _NUMBERS:
            value = getattr(self, name)
            if value is None and name in ("compile_time", "compile_memory"):
                continue
            parsed = value if value == 0 and low == 0 and type(value) is int else parse(value, f"isolation: {name}")
            if not low <= parsed <= high:
                shown, least, most = map(_FORMATS[parse], (parsed, low, high))
                raise PolicyError(f"isolation: {name} is {shown}; the least is {least}, the most {most}")
            object.__setattr__(self, name, parsed)

    def lifted(self) -> tuple[str, ...]:
        """Return the names of its limits that are off."""
        return tuple(name for name in ("compile_time", "compile_memory") if getattr(self, name) is None)

    def describe(self) -> list[str]:
        """Return one line for each of its protections that is lifted."""
        lines = [f"isolation without {layer}" for layer in self.without]
        return lines + [f"no limit on {name}" for name in self.lifted()]

    @classmethod
    def of(cls, value: object) -> Isolation | None:
        """Return what a keyword means: an ``Isolation``, ``True``, ``"strict"``, its fields, or nothing."""
        if value is None or value is False:
            return None
        if isinstance(value, cls):
            return value
        if value is True:
            return cls()
        if value == "strict":
            return cls(strict=True)
        if isinstance(value, dict):
            return cls(**_known(value))
        raise PolicyError(f"isolation: expected true, false, 'strict' or its fields, not {value!r}")


FIELDS = tuple(field.name for field in fields(Isolation))
"""The names of its fields, which are keys of a policy file too."""


def _layers(names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise PolicyError(f"isolation: without is a list of layers, not {names!r}")
    found = tuple(names)
    for name in found:
        if name not in LAYERS:
            hint = "".join(f"; did you mean {n}?" for n in near(str(name), LAYERS, 1))
            raise PolicyError(f"isolation: {name!r} is no layer{hint or '; they are ' + ', '.join(LAYERS)}")
    return found


def _known(values: dict[str, Any]) -> dict[str, Any]:
    for name in values:
        if name not in FIELDS:
            hint = "".join(f"; did you mean {n}?" for n in near(str(name), FIELDS, 1))
            raise PolicyError(f"isolation: {name!r} is not one of its fields{hint}")
    return values


_FORMATS: dict[Any, Callable[[float], str]] = {
    parse_count: format_count, parse_bytes: format_bytes, parse_seconds: format_seconds
}  # fmt: skip
_NUMBERS: tuple[tuple[str, Any, float, float], ...] = (
    ("workers", parse_count, 0, 256),
    ("recycle", parse_count, 0, 1_000_000),
    ("compile_time", parse_seconds, 0.1, 86_400),
    ("compile_memory", parse_bytes, 64 * MIB, 1 << 46),
    ("overhead", parse_bytes, 64 * MIB, 1 << 46),
    ("grace", parse_seconds, 0.01, 60),
)
