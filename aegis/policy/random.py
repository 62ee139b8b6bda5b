"""The random capability: the source of a guest's random bytes."""

from __future__ import annotations

from aegis.errors import PolicyError
from aegis.policy.checks import text_of, whole_number
from aegis.support.lean import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from collections.abc import Collection

    from aegis.policy.declaration import Declaration
    from aegis.policy.toml_table import TomlTable

__all__ = ["RandomCapability"]

_MODES = ("seed", "system", "deny")


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomCapability:
    """The source of a guest's random bytes (``wasi:random``, ``random_get``).

    ``mode`` is ``seed`` (the default: a deterministic generator seeded with ``seed``, below 2^64), ``system`` (the
    host's ``os.urandom``), or ``deny`` (a request ends the run with :class:`~aegis.errors.CapabilityDenied`).

    >>> RandomCapability.parse("seed:42").seed
    42
    """

    mode: str = "seed"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise PolicyError(f"random: {self.mode!r} is not a mode; use system, seed:42 or deny")
        whole_number(self.seed, "random: the seed")
        if not 0 <= self.seed < 1 << 64:
            raise PolicyError("random: the seed must be a whole number below 2^64")

    @classmethod
    def parse(cls, text: str) -> RandomCapability:
        """Parse ``system``, ``seed:42`` or ``deny``."""
        text = text_of(text, "random")
        mode, mark, detail = text.partition(":")
        if mode == "seed":
            if not detail.isascii() or not detail.isdigit():
                raise PolicyError(f"random: {detail!r} is not a seed; write it like seed:42")
            return cls(seed=int(detail[:40]))
        if mark:
            raise PolicyError(f"random: {mode!r} takes no value; leave out the colon")
        return cls(mode=mode)

    def merged(self, other: RandomCapability, named: Collection[str] = ()) -> RandomCapability:
        """Return ``other`` if it names its mode or is not the default, and this one otherwise."""
        return other if "mode" in named or other != RandomCapability() else self

    def describe(self) -> list[str]:
        """Return a line with the mode, none for the default."""
        return [] if self == RandomCapability() else [f"random {self.mode}"]


def declared() -> Declaration:
    """Return the declaration of the capability."""
    from aegis.policy.declaration import Declaration, Flag, Key

    return Declaration(
        title="random",
        needs="--allow-random; without a grant a seeded generator is used",
        builder="Set the source of the guest's random bytes.",
        flags=(
            Flag(
                name="--allow-random", help="system (default), seed:42, deny.", metavar="[=MODE]", keys=("mode",),
                implied="system", known=("system", "deny"),
            ),
        ),
        stated=lambda options: RandomCapability.parse(options["allow_random"]),
        summary="The source of a guest's random bytes.",
        tables={"": {"mode": Key("text", "`seed:NUMBER`, `system` or `deny`.")}},
        read=_read,
        remedy=lambda policy, decision: "--allow-random",
        reading="reading random bytes",
    )  # fmt: skip


def _read(table: TomlTable) -> RandomCapability:
    return table.at(("mode",), RandomCapability.parse, table.string("mode", "seed:0"))
