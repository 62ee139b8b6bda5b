"""The declaration of a capability: how the surfaces of Aegis read it, name it, show it and pass it on.

See :mod:`aegis.policy.capabilities` for the table whose rows have these declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from aegis.support.lean import TYPE_CHECKING, Any, NamedTuple, dataclass
from aegis.text import shell_word

if TYPE_CHECKING:
    from aegis.policy.toml_table import TomlTable
    from aegis.values import Decision

__all__ = ["Declaration", "Flag", "Key", "StatedFile", "option_text"]


class Key(NamedTuple):
    """A key of a policy file: the form of its value, and what it sets."""

    form: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """An option of the command line that grants a capability.

    With ``implied``, the option may stand without a value and then means that one; the last occurrence counts, and
    ``known`` lists common values. Without it, the option has a value each time, and all are collected; ``once`` rejects
    a second one.
    """

    name: str
    help: str
    metavar: str
    keys: tuple[str, ...] = ()
    """The scalar keys of the policy file that the option states, so that it overrides them."""
    implied: str = ""
    known: tuple[str, ...] = ()
    once: bool = False

    @property
    def dest(self) -> str:
        """The name of the option's value among the parsed options."""
        return self.name.lstrip("-").replace("-", "_")


class StatedFile(NamedTuple):
    """A file of the host that a statement names. No filesystem grant may reach it, or only for reading.

    ``reason`` follows "which is" in the message.
    """

    path: str
    reason: str
    readable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """The properties of a capability that its surfaces need."""

    title: str
    """The name for people, such as ``files``."""
    needs: str
    """The options that grant it and, after a semicolon, the default without a grant."""
    builder: str
    """The docstring of the builder's method ``with_NAME``."""
    accepts: str = ""
    """The type of the values that stand for the capability, an alias in :mod:`aegis.policy.short_forms`."""
    short: Callable[[Any], Any] | None = None
    """Return the capability for a short form, which is a text, a path, a mapping or a collection."""
    adds: bool = False
    """Whether that method adds to earlier grants instead of replacing them."""
    flags: tuple[Flag, ...] = ()
    stated: Callable[[Mapping[str, Any]], Any]
    """Return the capability that the given options state; the mapping has the values of ``flags`` that are given."""

    summary: str = ""
    """The meaning of the table in the policy file."""
    tables: Callable[[], Mapping[str, Mapping[str, Key]]] = dict
    """Return the keys of the table in the policy file, under the empty name, and of the tables inside it by their key.
    Without any, a policy file cannot state the capability."""
    read: Callable[[TomlTable], Any] | None = None
    """Return the capability that a table of the policy file states."""
    write: Callable[[Any], Mapping[str, Any]] | None = None
    """Return the values of the keys of that table for a capability; without this, each key has the field of its name.
    The result is read again, and an error is raised if it states another capability."""

    remedy: Callable[[Any, Decision], str] | None = None
    """Return the option that would allow a denied request, quoted for a shell, or an empty text if none would.

    ``wanted`` of the decision is the missing grant in the guest's terms. It comes from the guest, so the option is made
    from its parsed value.
    """
    reason: Callable[[Any, Decision], str] | None = None
    """Return the reason to show for a denial that no option would allow; without this, the rule that denied it."""
    reading: str = ""
    """The use that the mode ``deny`` ends with an error, such as ``reading the clock``."""
    host_files: Callable[[Any], Iterable[StatedFile]] | None = None
    """Return the files of the host that a statement names, and that guests must not reach through other grants."""


def option_text(flag: str, value: str) -> str:
    """Return an option with its value, quoted for a shell."""
    return f"{flag}{'=' if value.startswith('-') else ' '}{shell_word(value)}"
