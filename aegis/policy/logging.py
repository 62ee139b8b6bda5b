"""The logging capability: which lines of the guest's log Aegis records."""

from __future__ import annotations

from aegis.errors import PolicyError
from aegis.policy.checks import text_of
from aegis.support.lean import TYPE_CHECKING, dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Collection

    from aegis.policy.declaration import Declaration
    from aegis.policy.toml_table import TomlTable

__all__ = ["LOG_LEVELS", "LoggingCapability"]

LOG_LEVELS = ("trace", "debug", "info", "warn", "error", "critical")
"""The levels of ``wasi:logging``, lowest first."""


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
            raise PolicyError(f"logging: {self.min_level!r} is not a level; use one of {', '.join(LOG_LEVELS)}")

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
        text = text_of(text, "logging")
        return cls(enabled=True, min_level=text)

    def merged(self, other: LoggingCapability, named: Collection[str] = ()) -> LoggingCapability:
        """Return this one with the fields that ``other`` states: those in ``named``, and those not at their default."""
        from aegis.policy.merging import stated

        return replace(self, **stated(other, named, "enabled", "min_level"))

    def describe(self) -> list[str]:
        """Return a line with the least level, none if no lines are recorded."""
        return [f"logging from {self.min_level}"] if self.enabled else []


def declared() -> Declaration:
    """Return the declaration of the capability."""
    from aegis.policy.declaration import Declaration, Flag, Key

    return Declaration(
        title="log",
        needs="--allow-logging; without a grant log lines are discarded",
        builder="Grant logging.",
        flags=(
            Flag(
                name="--allow-logging", help="Record log lines from LEVEL on (info).", metavar="[=LEVEL]",
                keys=("enabled", "min_level"), implied="info", known=LOG_LEVELS,
            ),
        ),
        stated=lambda options: LoggingCapability.parse(options["allow_logging"]),
        summary="The guest's log.",
        tables={
            "": {
                "enabled": Key("true or false", "Whether Aegis keeps the guest's log; false by default."),
                "min_level": Key("text", "The least level that Aegis keeps; `info` by default."),
            }
        },
        read=_read,
    )  # fmt: skip


def _read(table: TomlTable) -> LoggingCapability:
    level = table.string("min_level", "info")
    return table.at(("min_level",), LoggingCapability, enabled=table.flag("enabled", False), min_level=level)
