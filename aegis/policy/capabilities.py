"""The small capabilities: environment, clocks, randomness, the log, and the standard streams."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from aegis.errors import PolicyError
from aegis.limits import parse_seconds
from aegis.support.lean import Any, dataclass

__all__ = [
    "LOG_LEVELS",
    "ClockCapability",
    "ConfigCapability",
    "EnvironmentCapability",
    "LoggingCapability",
    "RandomCapability",
    "StdioCapability",
]

LOG_LEVELS = ("trace", "debug", "info", "warn", "error", "critical")
"""The levels of ``wasi:logging``, least first."""

_CLOCKS = ("virtual", "system", "coarse", "fixed", "deny")
_RANDOMS = ("seed", "system", "deny")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentCapability:
    """The environment variables that a guest sees: some set, some passed on from the host's.

    A variable of ``pass_`` that the host lacks is left out; one in both has the value of ``set``.
    """

    set: tuple[tuple[str, str], ...] = ()
    pass_: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        pairs = {_variable(name): _value(name, value) for name, value in _pairs(self.set)}
        passed = dict.fromkeys(map(_variable, _strings(self.pass_, "environment.pass")))
        object.__setattr__(self, "set", tuple(pairs.items()))
        object.__setattr__(self, "pass_", tuple(passed))

    @classmethod
    def parse(cls, text: str) -> EnvironmentCapability:
        """Parse ``NAME=VALUE``, which sets, or ``NAME``, which passes on."""
        text = _text(text, "environment")
        name, mark, value = text.partition("=")
        return cls(set=((name, value),)) if mark else cls(pass_=(name,))

    def __add__(self, other: EnvironmentCapability) -> EnvironmentCapability:
        values = {**dict(self.set), **dict(other.set)}
        return EnvironmentCapability(set=tuple(values.items()), pass_=tuple(dict.fromkeys((*self.pass_, *other.pass_))))


def _pairs(value: object, where: str = "environment") -> Iterable[tuple[object, object]]:
    items = value.items() if isinstance(value, Mapping) else value
    pairs: list[Any] = list(items) if isinstance(items, Iterable) else [None]
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise PolicyError(f'{where}.set: expected names with their values, such as {{"TZ": "UTC"}}')
    return pairs


def _whole(value: object, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise PolicyError(f"{what} must be a whole number, not {type(value).__name__}")


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise PolicyError(f"{what}: expected text, not {type(value).__name__}")
    return value


def _strings(value: object, what: str) -> Iterable[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise PolicyError(f'{what}: expected a list of names, such as ["LANG"]')
    return value


def _variable(name: object) -> str:
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise PolicyError(
            f"environment: {name!r} is not a variable's name; it needs a letter at least, and no '=' or NUL"
        )
    return _unicode(name, "a name")


def _value(name: object, value: object) -> str:
    if not isinstance(value, str):
        raise PolicyError(f"environment: the value of {name!r} must be a string, not {type(value).__name__}")
    if "\0" in value:
        raise PolicyError(f"environment: the value of {name!r} holds a NUL")
    return _unicode(value, f"the value of {name!r}")


def _unicode(text: str, what: str, where: str = "environment") -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PolicyError(f"{where}: {what} is not Unicode, and a guest takes no other") from None
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigCapability:
    """The values that a component finds in ``wasi:config/store``; none unless stated."""

    set: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        pairs: dict[str, str] = {}
        for name, value in _pairs(self.set, "config"):
            if not isinstance(name, str) or not name:
                raise PolicyError(f"config: {name!r} is not a key; it is text, and not empty")
            if not isinstance(value, str):
                raise PolicyError(f"config: the value of {name!r} must be a string, not {type(value).__name__}")
            pairs[_unicode(name, "a key", "config")] = _unicode(value, f"the value of {name!r}", "config")
        object.__setattr__(self, "set", tuple(pairs.items()))

    @classmethod
    def parse(cls, text: str) -> ConfigCapability:
        """Parse ``KEY=VALUE``."""
        text = _text(text, "config")
        name, mark, value = text.partition("=")
        if not mark:
            raise PolicyError(f"config: {text!r} states no value; write KEY=VALUE")
        return cls(set=((name, value),))

    def __add__(self, other: ConfigCapability) -> ConfigCapability:
        return ConfigCapability(set=tuple({**dict(self.set), **dict(other.set)}.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockCapability:
    """Which clocks a guest reads.

    ``virtual``, the default, starts at the Unix epoch and advances only by what the guest does;
    ``system`` is the host's; ``coarse`` the host's, cut to ``resolution_ns``; ``fixed`` stands at
    ``instant_ns`` since the epoch and advances as the virtual one; with ``deny`` a reading ends the run.
    """

    mode: str = "virtual"
    resolution_ns: int = 1
    instant_ns: int = 0

    def __post_init__(self) -> None:
        if self.mode not in _CLOCKS:
            raise PolicyError(
                f"clock: {self.mode!r} is not a mode; use system, coarse:1ms, fixed:2026-01-01T00:00:00Z, "
                "virtual or deny"
            )
        _whole(self.resolution_ns, "clock: the resolution")
        _whole(self.instant_ns, "clock: the instant")
        if not 0 < self.resolution_ns < 1 << 63:
            raise PolicyError("clock: the resolution must be at least a nanosecond, and less than 2^63 of them")
        if not 0 <= self.instant_ns < 1 << 63:
            raise PolicyError("clock: the instant must lie between 1970 and 2262")

    @classmethod
    def parse(cls, text: str) -> ClockCapability:
        """Parse ``system``, ``coarse:1ms``, ``fixed:2026-01-01T00:00:00Z``, ``virtual`` or ``deny``."""
        text = _text(text, "clock")
        mode, mark, detail = text.partition(":")
        if mode == "coarse":
            seconds = parse_seconds(detail or "1ms", "clock: the resolution")
            return cls(mode="coarse", resolution_ns=max(1, round(seconds * 1e9)))
        if mode == "fixed":
            return cls(mode="fixed", instant_ns=_instant(detail))
        if mark:
            raise PolicyError(f"clock: {mode!r} takes nothing after a colon")
        return cls(mode=mode)


def _instant(text: str) -> int:
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PolicyError(f"clock: {text!r} is not an instant; write it like fixed:2026-01-01T00:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    span = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return ((span.days * 86400 + span.seconds) * 1_000_000 + span.microseconds) * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomCapability:
    """Where a guest's random bytes come from: a generator of ``seed`` (default), the system, or nowhere."""

    mode: str = "seed"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in _RANDOMS:
            raise PolicyError(f"random: {self.mode!r} is not a mode; use system, seed:42 or deny")
        _whole(self.seed, "random: the seed")
        if not 0 <= self.seed < 1 << 64:
            raise PolicyError("random: the seed must be a whole number below 2^64")

    @classmethod
    def parse(cls, text: str) -> RandomCapability:
        """Parse ``system``, ``seed:42`` or ``deny``."""
        text = _text(text, "random")
        mode, mark, detail = text.partition(":")
        if mode == "seed":
            if not detail.isascii() or not detail.isdigit():
                raise PolicyError(f"random: {detail!r} is not a seed; write it like seed:42")
            return cls(seed=int(detail[:40]))
        if mark:
            raise PolicyError(f"random: {mode!r} takes nothing after a colon")
        return cls(mode=mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingCapability:
    """Whether a guest's log lines are kept, and from which level on."""

    enabled: bool = False
    min_level: str = "info"

    def __post_init__(self) -> None:
        if not isinstance(self.enabled, bool):
            raise PolicyError(f"logging: enabled must be true or false, not {self.enabled!r}")
        if self.min_level not in LOG_LEVELS:
            raise PolicyError(f"logging: {self.min_level!r} is not a level; use one of {', '.join(LOG_LEVELS)}")

    @classmethod
    def production(cls) -> LoggingCapability:
        """Keep lines of level ``info`` and above."""
        return cls(enabled=True, min_level="info")

    @classmethod
    def development(cls) -> LoggingCapability:
        """Keep every line."""
        return cls(enabled=True, min_level="trace")

    @classmethod
    def parse(cls, text: str) -> LoggingCapability:
        """Parse a level, which enables the log from there on."""
        text = _text(text, "logging")
        return cls(enabled=True, min_level=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class StdioCapability:
    """What the standard streams of a guest are.

    ``stdin`` is ``empty``, ``inherit``, ``file:PATH`` or bytes. ``stdout`` and ``stderr`` are
    ``capture`` (kept for the embedder, up to their limits), ``inherit`` or ``discard``.
    """

    stdin: str | bytes = "empty"
    stdout: str = "capture"
    stderr: str = "capture"

    def __post_init__(self) -> None:
        stdin = self.stdin
        if not isinstance(stdin, (str, bytes)):
            raise PolicyError(f"stdio: stdin is empty, inherit, file:PATH or bytes, not {type(stdin).__name__}")
        if isinstance(stdin, str) and stdin not in ("empty", "inherit") and not stdin.startswith("file:"):
            raise PolicyError(f"stdio: stdin {stdin!r} is neither empty, inherit nor file:PATH")
        if stdin == "file:":
            raise PolicyError("stdio: stdin names no file; write file:PATH")
        if isinstance(stdin, str) and "\0" in stdin:
            raise PolicyError("stdio: the path of stdin holds a NUL")
        for name in ("stdout", "stderr"):
            if getattr(self, name) not in ("capture", "inherit", "discard"):
                raise PolicyError(f"stdio: {name} {getattr(self, name)!r} is neither capture, inherit nor discard")

    @property
    def stdin_file(self) -> str | None:
        """The path of the file that stdin is read from; ``None`` for any other stdin."""
        named = isinstance(self.stdin, str) and self.stdin.startswith("file:")
        return self.stdin[5:] if named else None  # type: ignore[return-value]

    def resolved(self, base: str) -> StdioCapability:
        """Return this with a relative stdin file made absolute from ``base``."""
        if isinstance(self.stdin, str) and self.stdin.startswith("file:"):
            path = os.path.abspath(os.path.join(base, self.stdin[5:]))
            return StdioCapability(stdin=f"file:{path}", stdout=self.stdout, stderr=self.stderr)
        return self
