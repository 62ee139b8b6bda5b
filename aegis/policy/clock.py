"""The clock capability: the clocks that a guest reads."""

from __future__ import annotations

from aegis.errors import PolicyError
from aegis.limits import parse_seconds
from aegis.policy.checks import text_of, whole_number
from aegis.support.lean import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from collections.abc import Collection

    from aegis.policy.declaration import Declaration
    from aegis.policy.toml_table import TomlTable

__all__ = ["ClockCapability"]

_MODES = ("virtual", "system", "coarse", "fixed", "deny")


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
        if self.mode not in _MODES:
            raise PolicyError(
                f"clock: {self.mode!r} is not a mode; use system, coarse:1ms, fixed:2026-01-01T00:00:00Z, "
                "virtual or deny"
            )
        whole_number(self.resolution_ns, "clock: the resolution")
        whole_number(self.instant_ns, "clock: the instant")
        if not 0 < self.resolution_ns < 1 << 63:
            raise PolicyError("clock: the resolution must be at least 1 ns and less than 2^63 ns")
        if not 0 <= self.instant_ns < 1 << 63:
            raise PolicyError("clock: the instant must be between 1970 and 2262")

    @classmethod
    def parse(cls, text: str) -> ClockCapability:
        """Parse ``system``, ``coarse:1ms``, ``fixed:2026-01-01T00:00:00Z``, ``virtual`` or ``deny``."""
        text = text_of(text, "clock")
        mode, mark, detail = text.partition(":")
        if mode == "coarse":
            seconds = parse_seconds(detail or "1ms", "clock: the resolution")
            return cls(mode="coarse", resolution_ns=max(1, round(seconds * 1e9)))
        if mode == "fixed":
            return cls(mode="fixed", instant_ns=_instant(detail))
        if mark:
            raise PolicyError(f"clock: {mode!r} takes no value; leave out the colon")
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
        raise PolicyError(f"clock: {text!r} is not an instant; write it like fixed:2026-01-01T00:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    span = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return ((span.days * 86400 + span.seconds) * 1_000_000 + span.microseconds) * 1000


def declared() -> Declaration:
    """Return the declaration of the capability."""
    from aegis.policy.declaration import Declaration, Flag, Key

    return Declaration(
        title="clock",
        needs="--allow-clock; without a grant a virtual clock starts at 1970",
        builder="Set the clocks of the guest.",
        flags=(
            Flag(
                name="--allow-clock", help="system (default), coarse:1ms, fixed:INSTANT, virtual, deny.",
                metavar="[=MODE]", keys=("mode",), implied="system", known=("system", "coarse", "virtual", "deny"),
            ),
        ),
        stated=lambda options: ClockCapability.parse(options["allow_clock"]),
        summary="The clock that a guest reads.",
        tables={"": {"mode": Key("text", "`virtual`, `system`, `coarse:1ms`, `fixed:INSTANT` or `deny`.")}},
        read=_read,
        remedy=lambda policy, decision: "--allow-clock",
        reading="reading the clock",
    )  # fmt: skip


def _read(table: TomlTable) -> ClockCapability:
    return table.at(("mode",), ClockCapability.parse, table.string("mode", "virtual"))
