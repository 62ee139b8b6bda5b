"""The declaration of the capability for the source of a guest's random bytes."""

from __future__ import annotations

from aegis.policy.declaration import Declaration, Flag, Key
from aegis.policy.short_form_parsers import parsed
from aegis.policy.statements import RandomCapability
from aegis.support.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from aegis.policy.toml_table import TomlTable

__all__ = ["declared"]


def declared() -> Declaration:
    """Return the declaration of the capability."""
    return Declaration(
        title="random",
        needs="--allow-random; without a grant a seeded generator is used",
        builder="Set the source of the guest's random bytes: a capability, or its text such as ``seed:42``.",
        accepts="Random", short=parsed(RandomCapability),
        flags=(
            Flag(
                name="--allow-random", help="system (default), seed:42, deny.", metavar="[=MODE]", keys=("mode",),
                implied="system", known=("system", "deny"),
            ),
        ),
        stated=lambda options: RandomCapability.parse(options["allow_random"]),
        summary="The source of a guest's random bytes.",
        tables=lambda: {"": {"mode": Key("text", "`seed:NUMBER`, `system` or `deny`.")}},
        read=_read,
        write=lambda granted: {"mode": f"seed:{granted.seed}" if granted.mode == "seed" else granted.mode},
        remedy=lambda policy, decision: "--allow-random",
        reading="reading random bytes",
    )  # fmt: skip


def _read(table: TomlTable) -> RandomCapability:
    return table.at(("mode",), RandomCapability.parse, table.string("mode", "seed:0"))
