"""The declaration of the capability for the values of ``wasi:config/store``."""

from __future__ import annotations

from collections.abc import Mapping

from aegis.policy.declaration import Declaration, Flag, Key
from aegis.policy.short_form_parsers import settings
from aegis.policy.statements import ConfigCapability
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.policy.toml_table import TomlTable

__all__ = ["declared"]


def declared() -> Declaration:
    """Return the declaration of the capability."""
    return Declaration(
        title="configuration",
        needs="--config-value KEY=VALUE; without a value it is empty",
        builder="Set the values that a component reads from ``wasi:config/store``: a capability, or a mapping.",
        accepts="Configuration",
        short=settings(ConfigCapability),
        flags=(Flag(name="--config-value", help="Set a value of wasi:config/store.", metavar="KEY=VALUE"),),
        stated=_stated,
        summary="Values of `wasi:config/store`.",
        tables=lambda: {"": {"set": Key("table of text", "Keys and their values.")}},
        read=_read,
    )


def _stated(options: Mapping[str, Any]) -> ConfigCapability:
    found = ConfigCapability()
    for text in options["config_value"]:
        found += ConfigCapability.parse(text)
    return found


def _read(table: TomlTable) -> ConfigCapability:
    found = ConfigCapability()
    for name, value in table.table("set").values.items():
        found += table.at(("set", name), ConfigCapability, set=((name, value),))
    return found
