"""The declaration of the capability for environment variables."""

from __future__ import annotations

from collections.abc import Mapping

from aegis.policy.declaration import Declaration, Flag, Key
from aegis.policy.short_form_parsers import settings
from aegis.policy.statements import EnvironmentCapability
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.policy.toml_table import TomlTable

__all__ = ["declared"]


def declared() -> Declaration:
    """Return the declaration of the capability."""
    return Declaration(
        title="environment",
        needs="--allow-env NAME; without a grant it is empty",
        builder="Set the guest's environment variables: a capability, a mapping, or texts ``NAME`` and ``NAME=VALUE``.",
        accepts="Environment",
        short=settings(EnvironmentCapability),
        flags=(Flag(name="--allow-env", help="Pass an environment variable, or set it.", metavar="NAME[=VALUE]"),),
        stated=_stated,
        summary="Environment variables.",
        tables=lambda: {
            "": {
                "set": Key("table of text", "Variables and their values."),
                "pass": Key(
                    "list of names", "Variables of the host to pass on; a variable that the host lacks is left out."
                ),
            }
        },
        read=_read,
    )


def _stated(options: Mapping[str, Any]) -> EnvironmentCapability:
    found = EnvironmentCapability()
    for text in options["allow_env"]:
        found += EnvironmentCapability.parse(text)
    return found


def _read(table: TomlTable) -> EnvironmentCapability:
    found = EnvironmentCapability()
    for name, value in table.table("set").values.items():
        found += table.at(("set", name), EnvironmentCapability, set=((name, value),))
    for n, name in enumerate(table.strings("pass")):
        found += table.at(("pass", n), EnvironmentCapability, pass_=(name,))
    return found
