"""The options of process isolation: worker processes, and the layers that confine them."""

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
from aegis.text import similar_names

__all__ = ["FIELDS", "LAYERS", "Isolation"]

LAYERS = (
    "private-tmp", "oom-score", "environment", "descriptors", "namespaces", "unprivileged", "no-dump", "no-new-privs",
    "landlock-files", "landlock-net", "rlimits", "seccomp",
)  # fmt: skip
"""The layers of a worker's confinement, in the order in which they are applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """Options for running each sandbox in a worker process that the operating system confines.

    ``strict``
        Raise an error if a layer of the confinement is not available, instead of running without it.
    ``workers``
        Number of idle workers kept ready for the next sandboxes.
    ``recycle``
        Number of further sandboxes of the same artifact that a worker may serve; 0 ends it after one. A worker that
        received a filesystem grant always serves one sandbox.
    ``without``
        Names of layers (:data:`LAYERS`) not to apply, for systems on which they do not work.
    ``compile_time``, ``compile_memory``
        Seconds and bytes for compiling one artifact, which happens in a separate worker; ``None`` lifts the limit.
    ``overhead``
        Bytes that a worker may use in addition to the guest's memory.
    ``grace``
        Seconds that a worker gets to end a call after its deadline; then Aegis kills it.

    Raise :class:`~aegis.errors.PolicyError` for an unknown layer or a value out of range.

    >>> Isolation(strict=True, workers=4).grace
    0.1
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
            raise PolicyError(f"isolation: strict must be true or false, not {self.strict!r}")
        object.__setattr__(self, "without", _layers(self.without))
        if self.strict and self.without:
            raise PolicyError(
                f"isolation: `strict` requires every layer, but `without` names {', '.join(self.without)}: "
                "leave out one of the two"
            )
        for name, parse, low, high in _NUMBERS:
            value = getattr(self, name)
            if value is None and name in ("compile_time", "compile_memory"):
                continue
            parsed = value if value == 0 and low == 0 and type(value) is int else parse(value, f"isolation: {name}")
            if not low <= parsed <= high:
                shown, least, most = map(_FORMATS[parse], (parsed, low, high))
                raise PolicyError(f"isolation: {name} {shown} is out of range: give a value from {least} to {most}")
            object.__setattr__(self, name, parsed)

    def lifted(self) -> tuple[str, ...]:
        """Return the names of the limits on compilation that are ``None``."""
        return tuple(name for name in ("compile_time", "compile_memory") if getattr(self, name) is None)

    def describe(self) -> list[str]:
        """Return one line for each layer and each limit that is off."""
        lines = [f"isolation without {layer}" for layer in self.without]
        return lines + [f"no limit on {name}" for name in self.lifted()]

    @classmethod
    def of(cls, value: object) -> Isolation | None:
        """Return the options for a keyword: an ``Isolation``, ``True``, ``"strict"``, a dict of fields or ``None``."""
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
        raise PolicyError(f"isolation: expected true, false, 'strict' or a dict of fields, not {value!r}")


FIELDS = tuple(field.name for field in fields(Isolation))
"""The names of the options, which are also the keys of ``[isolation]`` in a policy file."""


def _layers(names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise PolicyError(f"isolation: `without` must be a list such as ['seccomp'], not {names!r}")
    found = tuple(names)
    for name in found:
        if name not in LAYERS:
            hint = "".join(f": did you mean {n}?" for n in similar_names(str(name), LAYERS, 1))
            raise PolicyError(f"isolation: {name!r} is not a layer{hint or ': use ' + ', '.join(LAYERS)}")
    return found


def _known(values: dict[str, Any]) -> dict[str, Any]:
    for name in values:
        if name not in FIELDS:
            hint = "".join(f": did you mean {n}?" for n in similar_names(str(name), FIELDS, 1))
            raise PolicyError(f"isolation: {name!r} is not an option{hint or ': use ' + ', '.join(FIELDS)}")
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
