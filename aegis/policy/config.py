"""The configuration capability: the values of ``wasi:config/store``."""

from __future__ import annotations

from aegis.errors import PolicyError
from aegis.policy.checks import pairs, text_of, unicode_text
from aegis.support.lean import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aegis.policy.declaration import Declaration
    from aegis.policy.toml_table import TomlTable
    from aegis.support.lean import Any

__all__ = ["ConfigCapability"]


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
        for name, value in pairs(self.set, "config"):
            if not isinstance(name, str) or not name:
                raise PolicyError(f"config: {name!r} is not a key; write a non-empty string")
            if not isinstance(value, str):
                raise PolicyError(f"config: the value of {name!r} must be a string, not {type(value).__name__}")
            values[unicode_text(name, "a key", "config")] = unicode_text(value, f"the value of {name!r}", "config")
        object.__setattr__(self, "set", tuple(values.items()))

    @classmethod
    def parse(cls, text: str) -> ConfigCapability:
        """Parse ``KEY=VALUE``."""
        text = text_of(text, "config")
        name, mark, value = text.partition("=")
        if not mark:
            raise PolicyError(f"config: {text!r} has no value; write KEY=VALUE")
        return cls(set=((name, value),))

    def __add__(self, other: ConfigCapability) -> ConfigCapability:
        return ConfigCapability(set=tuple({**dict(self.set), **dict(other.set)}.items()))

    def merged(self, other: ConfigCapability, named: Collection[str] = ()) -> ConfigCapability:
        """Return the values of both. For a key in both, ``other`` wins."""
        return self + other

    def describe(self) -> list[str]:
        """Return one line for each key; values are not shown."""
        return [f"config {name}" for name, _ in self.set]


def declared() -> Declaration:
    """Return the declaration of the capability."""
    from aegis.policy.declaration import Declaration, Flag, Key

    return Declaration(
        title="configuration",
        needs="--config-value KEY=VALUE; without a value it is empty",
        builder="Set the values that a component reads from ``wasi:config/store``.",
        flags=(Flag(name="--config-value", help="Set a value of wasi:config/store.", metavar="KEY=VALUE"),),
        stated=_stated,
        summary="Values of `wasi:config/store`.",
        tables={"": {"set": Key("table of text", "Keys and their values.")}},
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
