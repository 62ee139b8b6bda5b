"""The capabilities that every policy has a value of: environment, configuration, clocks, random bytes, log, streams.

Each has a module of its own with its declaration. The classes share this one because every run imports them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from aegis.errors import PolicyError
from aegis.limits import parse_nanoseconds
from aegis.support.lean import TYPE_CHECKING, Any, dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Collection

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
"""The levels of ``wasi:logging``, lowest first."""

_CLOCKS = ("virtual", "system", "coarse", "fixed", "deny")
_RANDOMS = ("seed", "system", "deny")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentCapability:
    """The environment variables of a guest (``wasi:cli/environment``, ``environ_get``). The default is none.

    ``set`` holds names and values, as pairs or a mapping. ``pass_`` names variables whose values are copied from the
    host; names that the host does not have are omitted. For a name in both, ``set`` wins. Raise
    :class:`~aegis.errors.PolicyError` for an invalid name or a value that is not Unicode.

    >>> EnvironmentCapability(set={"TZ": "UTC"}, pass_=["LANG"]).pass_
    ('LANG',)
    """

    set: tuple[tuple[str, str], ...] = ()
    pass_: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        values = {_variable(name): _value(name, value) for name, value in _pairs(self.set)}
        passed = dict.fromkeys(map(_variable, _strings(self.pass_, "environment.pass")))
        object.__setattr__(self, "set", tuple(values.items()))
        object.__setattr__(self, "pass_", tuple(passed))

    @classmethod
    def parse(cls, text: str) -> EnvironmentCapability:
        """Parse ``NAME=VALUE``, which sets a variable, or ``NAME``, which copies it from the host."""
        text = _text_of(text, "environment")
        name, mark, value = text.partition("=")
        return cls(set=((name, value),)) if mark else cls(pass_=(name,))

    def __add__(self, other: EnvironmentCapability) -> EnvironmentCapability:
        values = {**dict(self.set), **dict(other.set)}
        return EnvironmentCapability(set=tuple(values.items()), pass_=tuple(dict.fromkeys((*self.pass_, *other.pass_))))

    def merged(self, other: EnvironmentCapability, named: Collection[str] = ()) -> EnvironmentCapability:
        """Return the variables of both. For a name in both, ``other`` wins, whether it sets the name or passes it."""
        kept = tuple((name, value) for name, value in self.set if name not in other.pass_)
        return EnvironmentCapability(set=kept, pass_=self.pass_) + other

    def describe(self) -> list[str]:
        """Return one line for each variable; values are not shown."""
        lines = [f"environment {name} set" for name, _ in self.set]
        return lines + [f"environment {name} passed on" for name in self.pass_]


def _variable(name: object) -> str:
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise PolicyError(f"environment: {name!r} is not a variable name: write a non-empty name without '=' and NUL")
    return _unicode_text(name, "a name")


def _value(name: object, value: object) -> str:
    if not isinstance(value, str):
        raise PolicyError(f"environment: the value of {name!r} must be a string, not {type(value).__name__}")
    if "\0" in value:
        raise PolicyError(f"environment: the value of {name!r} contains a NUL: remove it")
    return _unicode_text(value, f"the value of {name!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigCapability:
    """The values that a component reads from ``wasi:config/store``. The default is none.

    ``set`` holds keys and values, as pairs or a mapping; both are text.

    >>> ConfigCapability(set={"mode": "fast"}).set
    (('mode', 'fast'),)
    """

    set: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        values: dict[str, str] = {}
        for name, value in _pairs(self.set, "config"):
            if not isinstance(name, str) or not name:
                raise PolicyError(f"config: {name!r} is not a key: write a non-empty string")
            if not isinstance(value, str):
                raise PolicyError(f"config: the value of {name!r} must be a string, not {type(value).__name__}")
            values[_unicode_text(name, "a key", "config")] = _unicode_text(value, f"the value of {name!r}", "config")
        object.__setattr__(self, "set", tuple(values.items()))

    @classmethod
    def parse(cls, text: str) -> ConfigCapability:
        """Parse ``KEY=VALUE``."""
        text = _text_of(text, "config")
        name, mark, value = text.partition("=")
        if not mark:
            raise PolicyError(f"config: {text!r} has no value: write KEY=VALUE")
        return cls(set=((name, value),))

    def __add__(self, other: ConfigCapability) -> ConfigCapability:
        return ConfigCapability(set=tuple({**dict(self.set), **dict(other.set)}.items()))

    def merged(self, other: ConfigCapability, named: Collection[str] = ()) -> ConfigCapability:
        """Return the values of both. For a key in both, ``other`` wins."""
        return self + other

    def describe(self) -> list[str]:
        """Return one line for each key; values are not shown."""
        return [f"config {name}" for name, _ in self.set]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockCapability:
    """The clocks of a guest (``wasi:clocks``, ``clock_time_get``), selected by ``mode``.

    ``virtual``
        The default: starts at the Unix epoch and advances only when the guest reads it or sleeps.
    ``system``
        The clocks of the host.
    ``coarse``
        The clocks of the host, rounded down to ``resolution_ns`` nanoseconds.
    ``fixed``
        Starts at ``instant_ns`` nanoseconds since the Unix epoch and advances like ``virtual``.
    ``deny``
        Reading a clock ends the run with :class:`~aegis.errors.CapabilityDenied`.

    >>> ClockCapability.parse("coarse:1ms").resolution_ns
    1000000
    """

    mode: str = "virtual"
    resolution_ns: int = 1
    instant_ns: int = 0

    def __post_init__(self) -> None:
        if self.mode not in _CLOCKS:
            raise PolicyError(
                f"clock: {self.mode!r} is not a mode: use system, coarse:1ms, fixed:2026-01-01T00:00:00Z, "
                "virtual or deny"
            )
        _whole_number(self.resolution_ns, "clock: the resolution")
        _whole_number(self.instant_ns, "clock: the instant")
        if not 0 < self.resolution_ns < 1 << 63:
            raise PolicyError("clock: the resolution must be at least 1 ns and less than 2^63 ns")
        if not 0 <= self.instant_ns < 1 << 63:
            raise PolicyError("clock: the instant must be between 1970 and 2262")

    @classmethod
    def parse(cls, text: str) -> ClockCapability:
        """Parse ``system``, ``coarse:1ms``, ``fixed:2026-01-01T00:00:00Z``, ``virtual`` or ``deny``."""
        text = _text_of(text, "clock")
        mode, mark, detail = text.partition(":")
        if mode == "coarse":
            resolution = parse_nanoseconds(detail or "1ms", "clock: the resolution")
            return cls(mode="coarse", resolution_ns=max(1, resolution))
        if mode == "fixed":
            return cls(mode="fixed", instant_ns=_instant(detail))
        if mark:
            raise PolicyError(f"clock: {mode!r} takes no value: leave out the colon")
        return cls(mode=mode)

    def merged(self, other: ClockCapability, named: Collection[str] = ()) -> ClockCapability:
        """Return ``other`` if it names its mode or is not the default, and this one otherwise."""
        return other if "mode" in named or other != ClockCapability() else self

    def describe(self) -> list[str]:
        """Return a line with the mode, none for the default."""
        return [] if self.mode == "virtual" else [f"clock {self.mode}"]


def _instant(text: str) -> int:
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PolicyError(f"clock: {text!r} is not an instant: write it like fixed:2026-01-01T00:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    span = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return ((span.days * 86400 + span.seconds) * 1_000_000 + span.microseconds) * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomCapability:
    """The source of a guest's random bytes (``wasi:random``, ``random_get``).

    ``mode`` is ``seed`` (the default: a deterministic generator seeded with ``seed``, below 2^64), ``system`` (the
    host's ``os.urandom``), or ``deny`` (a request ends the run with :class:`~aegis.errors.CapabilityDenied`).

    >>> RandomCapability.parse("seed:42").seed
    42
    """

    mode: str = "seed"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in _RANDOMS:
            raise PolicyError(f"random: {self.mode!r} is not a mode: use system, seed:42 or deny")
        _whole_number(self.seed, "random: the seed")
        if not 0 <= self.seed < 1 << 64:
            raise PolicyError("random: the seed must be a whole number below 2^64")

    @classmethod
    def parse(cls, text: str) -> RandomCapability:
        """Parse ``system``, ``seed:42`` or ``deny``."""
        text = _text_of(text, "random")
        mode, mark, detail = text.partition(":")
        if mode == "seed":
            if not detail.isascii() or not detail.isdigit():
                raise PolicyError(f"random: {detail!r} is not a seed: write it like seed:42")
            return cls(seed=int(detail[:40]))
        if mark:
            raise PolicyError(f"random: {mode!r} takes no value: leave out the colon")
        return cls(mode=mode)

    def merged(self, other: RandomCapability, named: Collection[str] = ()) -> RandomCapability:
        """Return ``other`` if it names its mode or is not the default, and this one otherwise."""
        return other if "mode" in named or other != RandomCapability() else self

    def describe(self) -> list[str]:
        """Return a line with the mode, none for the default."""
        return [] if self == RandomCapability() else [f"random {self.mode}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingCapability:
    """Access to ``wasi:logging``: whether log lines are recorded, and from which level on.

    Lines below ``min_level`` (one of :data:`LOG_LEVELS`) are discarded; so are all lines unless ``enabled``. Recorded
    lines are :class:`aegis.observe.GuestLogged` events.

    >>> LoggingCapability.parse("warn")
    LoggingCapability(enabled=True, min_level='warn')
    """

    enabled: bool = False
    min_level: str = "info"

    def __post_init__(self) -> None:
        if not isinstance(self.enabled, bool):
            raise PolicyError(f"logging: enabled must be true or false, not {self.enabled!r}")
        if self.min_level not in LOG_LEVELS:
            raise PolicyError(f"logging: {self.min_level!r} is not a level: use one of {', '.join(LOG_LEVELS)}")

    @classmethod
    def production(cls) -> LoggingCapability:
        """Record lines of level ``info`` and above."""
        return cls(enabled=True, min_level="info")

    @classmethod
    def development(cls) -> LoggingCapability:
        """Record every line."""
        return cls(enabled=True, min_level="trace")

    @classmethod
    def parse(cls, text: str) -> LoggingCapability:
        """Parse a level name; the log records lines of that level and above."""
        text = _text_of(text, "logging")
        return cls(enabled=True, min_level=text)

    def merged(self, other: LoggingCapability, named: Collection[str] = ()) -> LoggingCapability:
        """Return this one with the fields that ``other`` states: those in ``named``, and those not at their default."""
        from aegis.policy.merging import stated

        return replace(self, **stated(other, named, "enabled", "min_level"))

    def describe(self) -> list[str]:
        """Return a line with the least level, none if no lines are recorded."""
        return [f"logging from {self.min_level}"] if self.enabled else []


@dataclass(frozen=True, slots=True, kw_only=True)
class StdioCapability:
    """The standard streams of a guest.

    ``stdin`` is ``"empty"``, ``"inherit"``, ``"file:PATH"`` or the input itself as bytes. ``stdout`` and ``stderr`` are
    ``"capture"`` (stored in :class:`aegis.Outcome`, up to the limits of the same names), ``"inherit"`` or
    ``"discard"``. With ``sigpipe``, a write to an inherited stream whose reader is gone ends the run with
    :class:`aegis.ReaderGone`, as SIGPIPE ends a process; without it, the guest gets an error code.

    >>> StdioCapability(stdin=b"3 4", stderr="discard").stdout
    'capture'
    """

    stdin: str | bytes = "empty"
    stdout: str = "capture"
    stderr: str = "capture"
    sigpipe: bool = False

    def __post_init__(self) -> None:
        stdin = self.stdin
        if not isinstance(stdin, (str, bytes)):
            raise PolicyError(f"stdio: stdin must be empty, inherit, file:PATH or bytes, not {type(stdin).__name__}")
        if isinstance(stdin, str) and stdin not in ("empty", "inherit") and not stdin.startswith("file:"):
            raise PolicyError(f"stdio: stdin {stdin!r} is neither empty, inherit nor file:PATH")
        if stdin == "file:":
            raise PolicyError("stdio: stdin names no file: write file:PATH")
        if isinstance(stdin, str) and "\0" in stdin:
            raise PolicyError("stdio: the path of stdin contains a NUL: remove it")
        for name in ("stdout", "stderr"):
            if getattr(self, name) not in ("capture", "inherit", "discard"):
                raise PolicyError(f"stdio: {name} {getattr(self, name)!r} is neither capture, inherit nor discard")
        if not isinstance(self.sigpipe, bool):
            raise PolicyError(f"stdio: sigpipe must be True or False, not {type(self.sigpipe).__name__}")

    @property
    def stdin_file(self) -> str | None:
        """The path of the file that is connected to stdin; ``None`` for any other stdin."""
        named = isinstance(self.stdin, str) and self.stdin.startswith("file:")
        return self.stdin[5:] if named else None  # type: ignore[return-value]

    def resolved(self, base: str) -> StdioCapability:
        """Return a copy in which a relative stdin path is joined to ``base``."""
        if isinstance(self.stdin, str) and self.stdin.startswith("file:"):
            path = os.path.abspath(os.path.join(base, self.stdin[5:]))
            return replace(self, stdin=f"file:{path}")
        return self

    def merged(self, other: StdioCapability, named: Collection[str] = ()) -> StdioCapability:
        """Return this one with the fields that ``other`` states: those in ``named``, and those not at their default."""
        from aegis.policy.merging import stated

        return replace(self, **stated(other, named, "stdin", "stdout", "stderr", "sigpipe"))

    def describe(self) -> list[str]:
        """Return a line if the guest has an input."""
        return [] if self.stdin == "empty" else ["standard input"]


# -- checks ----------------------------------------------------------------------------------------


def _pairs(value: object, where: str = "environment") -> Iterable[tuple[object, object]]:
    """Return the items of a mapping, or of a list of pairs."""
    items = value.items() if isinstance(value, Mapping) else value
    listed: list[Any] = list(items) if isinstance(items, Iterable) else [None]
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in listed):
        raise PolicyError(f'{where}.set: expected names with their values, such as {{"TZ": "UTC"}}')
    return listed


def _whole_number(value: object, what: str) -> None:
    """Reject a value that is not a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise PolicyError(f"{what} must be a whole number, not {type(value).__name__}")


def _text_of(value: object, what: str) -> str:
    """Return a value that is text."""
    if not isinstance(value, str):
        raise PolicyError(f"{what}: expected text, not {type(value).__name__}")
    return value


def _strings(value: object, what: str) -> Iterable[str]:
    """Return a value that holds several values, and is not text itself."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise PolicyError(f'{what}: expected a list of names, such as ["LANG"]')
    return value


def _unicode_text(text: str, what: str, where: str = "environment") -> str:
    """Return a text without lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PolicyError(f"{where}: {what} is not valid Unicode, which WASI strings must be") from None
    return text
