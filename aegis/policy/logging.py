"""The declaration of the capability for the guest's log."""

from __future__ import annotations

from aegis.policy.declaration import Declaration, Flag, Key
from aegis.policy.short_form_parsers import parsed
from aegis.policy.statements import LOG_LEVELS, LoggingCapability
from aegis.support.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from aegis.policy.toml_table import TomlTable

__all__ = ["declared"]


def declared() -> Declaration:
    """Return the declaration of the capability."""
    return Declaration(
        title="log",
        needs="--allow-logging; without a grant log lines are discarded",
        builder="Grant logging: a capability, or the lowest level, such as ``warn``.",
        accepts="Logging", short=parsed(LoggingCapability),
        flags=(
            Flag(
                name="--allow-logging", help="Record log lines from LEVEL on (info).", metavar="[=LEVEL]",
                keys=("enabled", "min_level"), implied="info", known=LOG_LEVELS,
            ),
        ),
        stated=lambda options: LoggingCapability.parse(options["allow_logging"]),
        summary="The guest's log.",
        tables=lambda: {
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
