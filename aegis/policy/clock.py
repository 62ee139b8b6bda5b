"""The declaration of the capability for the clocks that a guest reads."""

from __future__ import annotations

from aegis.policy.declaration import Declaration, Flag, Key
from aegis.policy.short_form_parsers import parsed
from aegis.policy.statements import ClockCapability
from aegis.support.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from aegis.policy.toml_table import TomlTable

__all__ = ["declared"]


def declared() -> Declaration:
    """Return the declaration of the capability."""
    return Declaration(
        title="clock",
        needs="--allow-clock; without a grant a virtual clock starts at 1970",
        builder="Set the clocks of the guest: a capability, or its text such as ``system``.",
        accepts="Clock", short=parsed(ClockCapability),
        flags=(
            Flag(
                name="--allow-clock", help="system (default), coarse:1ms, fixed:INSTANT, virtual, deny.",
                metavar="[=MODE]", keys=("mode",), implied="system", known=("system", "coarse", "virtual", "deny"),
            ),
        ),
        stated=lambda options: ClockCapability.parse(options["allow_clock"]),
        summary="The clock that a guest reads.",
        tables=lambda: {"": {"mode": Key("text", "`virtual`, `system`, `coarse:1ms`, `fixed:INSTANT` or `deny`.")}},
        read=_read,
        write=lambda granted: {"mode": _mode(granted)},
        remedy=lambda policy, decision: "--allow-clock",
        reading="reading the clock",
    )  # fmt: skip


def _mode(granted: ClockCapability) -> str:
    """Return the text that :meth:`ClockCapability.parse` reads."""
    if granted.mode == "coarse":
        return f"coarse:{granted.resolution_ns}ns"
    return f"fixed:{_instant(granted.instant_ns)}" if granted.mode == "fixed" else granted.mode


def _instant(nanoseconds: int) -> str:
    """Return an instant in the notation of ISO 8601; digits below a microsecond, which it cannot hold, are lost."""
    from datetime import UTC, datetime, timedelta

    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000)
    return moment.isoformat().replace("+00:00", "Z")


def _read(table: TomlTable) -> ClockCapability:
    return table.at(("mode",), ClockCapability.parse, table.string("mode", "virtual"))
