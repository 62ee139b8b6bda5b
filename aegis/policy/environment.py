"""The environment capability: variables that are set, and variables that are passed on from the host."""

from __future__ import annotations

from aegis.errors import PolicyError
from aegis.policy.checks import pairs, strings, text_of, unicode_text
from aegis.support.lean import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aegis.policy.declaration import Declaration
    from aegis.policy.toml_table import TomlTable
    from aegis.support.lean import Any

__all__ = ["EnvironmentCapability"]


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
        values = {_variable(name): _value(name, value) for name, value in pairs(self.set)}
        passed = dict.fromkeys(map(_variable, strings(self.pass_, "environment.pass")))
        object.__setattr__(self, "set", tuple(values.items()))
        object.__setattr__(self, "pass_", tuple(passed))

    @classmethod
    def parse(cls, text: str) -> EnvironmentCapability:
        """Parse ``NAME=VALUE``, which sets a variable, or ``NAME``, which copies it from the host."""
        text = text_of(text, "environment")
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
        raise PolicyError(f"environment: {name!r} is not a variable name; write a non-empty name without '=' and NUL")
    return unicode_text(name, "a name")


def _value(name: object, value: object) -> str:
    if not isinstance(value, str):
        raise PolicyError(f"environment: the value of {name!r} must be a string, not {type(value).__name__}")
    if "\0" in value:
        raise PolicyError(f"environment: the value of {name!r} contains a NUL; remove it")
    return unicode_text(value, f"the value of {name!r}")


def declared() -> Declaration:
    """Return the declaration of the capability."""
    from aegis.policy.declaration import Declaration, Flag, Key

    return Declaration(
        title="environment",
        needs="--allow-env NAME; without a grant it is empty",
        builder="Set the environment variables of the guest.",
        flags=(Flag(name="--allow-env", help="Pass an environment variable, or set it.", metavar="NAME[=VALUE]"),),
        stated=_stated,
        summary="Environment variables.",
        tables={
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
