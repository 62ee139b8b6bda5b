"""A capability that a test adds to a copy of the package: lamps that a guest may switch, by name.

Everything about it stands here. The copy gets this file as ``aegis/policy/lamp.py``, and one row of the table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from aegis.errors import PolicyError
from aegis.policy.declaration import Declaration, Flag, Key, StatedFile, option_text
from aegis.policy.merging import stated
from aegis.policy.policy import Policy
from aegis.support.lean import TYPE_CHECKING, Any, dataclass, replace
from aegis.values import Decision

if TYPE_CHECKING:
    from aegis.policy.toml_table import TomlTable

__all__ = ["LampCapability", "declared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LampCapability:
    """The lamps that a guest may switch. The default is none."""

    names: tuple[str, ...] = ()
    watts: int = 5

    def __post_init__(self) -> None:
        for name in self.names:
            if not name.isalnum():
                raise PolicyError(f"lamp: {name!r} is not the name of a lamp: use letters and digits")

    def merged(self, other: LampCapability, named: Collection[str] = ()) -> LampCapability:
        """Return the lamps of both, and the power that ``other`` states."""
        names = tuple(dict.fromkeys((*self.names, *other.names)))
        return replace(self, names=names, **stated(other, named, "watts"))

    def describe(self) -> list[str]:
        """Return one line for each lamp."""
        return [f"lamp {name} of {self.watts} W" for name in self.names]


def declared() -> Declaration:
    """Return the declaration of the capability."""
    return Declaration(
        title="lamps",
        needs="--allow-lamp NAME; without a grant it is dark",
        builder="Grant lamps.",
        flags=(
            Flag(name="--allow-lamp", help="Grant a lamp.", metavar="NAME"),
            Flag(name="--lamp-watts", help="The power of the lamps.", metavar="WATTS", keys=("watts",), once=True),
        ),
        stated=_stated,
        summary="Lamps.",
        tables=lambda: {"": {"names": Key("list of names", "Lamps."), "watts": Key("number", "Power of each.")}},
        read=_read,
        remedy=_remedy,
        host_files=lambda granted: [StatedFile(f"/dev/lamps/{n}", "a lamp", False) for n in granted.names],
    )


def _stated(options: Mapping[str, Any]) -> LampCapability:
    watts = {"watts": int(options["lamp_watts"][0])} if "lamp_watts" in options else {}
    return LampCapability(names=options.get("allow_lamp", ()), **watts)


def _read(table: TomlTable) -> LampCapability:
    names = table.strings("names")
    for n, name in enumerate(names):
        table.at(("names", n), LampCapability, names=(name,))
    return LampCapability(names=tuple(names), watts=table.values.get("watts", 5))


def _remedy(policy: Policy, decision: Decision) -> str:
    return option_text("--allow-lamp", decision.wanted) if decision.wanted.isalnum() else ""
