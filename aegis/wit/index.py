"""The table of the interfaces that Aegis has bindings of, and which row serves a name with its version.

:mod:`aegis.bindings.index` is generated: it has the rows. The rules are here. Versions are part of the key, so two
versions of one interface that do not agree have a row each, and each guest gets the one that it was built against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aegis.errors import AegisInternalError
from aegis.support.lean import NamedTuple
from aegis.wit.match import track

__all__ = ["GUEST", "PARENT", "WORKER", "Index", "Provided"]

GUEST, PARENT, WORKER = "guest", "parent", "worker"
_PLACES = (GUEST, PARENT, WORKER)


class Provided(NamedTuple):
    """One interface: its version, the capability that it is about, its bindings, and its implementation."""

    interface: str
    """The name without its version, such as ``wasi:cli/environment``."""
    version: str
    """The version that the bindings are made from. A release serves every version of its track, as semver has it."""
    capability: str
    """The part of the policy that grants it something; empty where nothing needs to be granted."""
    bindings: str
    """The module of the bindings."""
    implementation: str
    """The module that implements it; empty where guests export it."""
    place: str
    """Where an isolated guest's calls are answered, ``worker`` or ``parent``; ``guest`` if guests export it."""
    also: tuple[str, ...] = ()
    """Further versions that a draft serves if the types agree: exact ones, or tracks such as ``0.2``; an empty text
    stands for a name without a version."""

    @property
    def name(self) -> str:
        """The interface with its version."""
        return f"{self.interface}@{self.version}"

    @property
    def draft(self) -> bool:
        """Whether the version is a pre-release, which agrees with itself alone."""
        return "-" in self.version


class Index:
    """Rows by interface and version; ``late`` has the modules that an implementation imports late, inside functions.

    Raise :class:`~aegis.errors.AegisInternalError` for rows that contradict one another, or lack something: the
    module that holds the index then cannot be imported, and no guest meets the gap.
    """

    def __init__(self, rows: Sequence[Provided], late: Mapping[str, tuple[str, ...]]) -> None:
        self.rows, self._late = tuple(rows), late
        self._versions: dict[str, list[Provided]] = {}
        served: set[str] = set()
        for row in self.rows:
            for key in _keys(row):
                if key in served:
                    raise AegisInternalError(f"index: two rows serve {key}: keep one in wit/provided.toml")
                served.add(key)
            self._check(row)
            self._versions.setdefault(row.interface, []).append(row)

    def find(self, name: str) -> Provided | None:
        """Return the row that serves ``name``: of that version, of its track, or a draft that takes it too.

        The types of each function are compared at linking, so a row that is found may still lack a function.
        """
        base, _, version = name.partition("@")
        rows = self._versions.get(base, ())
        for row in rows:
            if row.version == version:
                return row
        wanted = _track(version)
        for row in rows:
            if wanted and not row.draft and _track(row.version) == wanted:
                return row
        for row in rows:
            if version in row.also or (wanted and wanted in row.also):
                return row
        return None

    def served(self, name: str) -> Provided | None:
        """Return the row of an interface that Aegis implements, for a guest that imports ``name``."""
        row = self.find(name)
        return row if row is not None and row.place != GUEST else None

    def bound(self, name: str) -> Provided | None:
        """Return the row whose bindings are those of ``name`` for certain: a draft's serve its own version alone."""
        row = self.find(name)
        exact = row is not None and (not row.draft or name.partition("@")[2] in ("", row.version))
        return row if exact else None

    def modules(self, row: Provided) -> tuple[str, ...]:
        """Return the modules that a worker imports before it is confined, after which it can import none."""
        late = (row.implementation, *self._late[row.implementation]) if row.place == WORKER else ()
        return (row.bindings, *late)

    def _check(self, row: Provided) -> None:
        if row.place not in _PLACES:
            raise AegisInternalError(f"index: {row.name} has the place {row.place!r}: use {' or '.join(_PLACES)}")
        lacking = [word for word in ("interface", "version", "bindings") if not getattr(row, word)]
        if row.place == GUEST and row.implementation:
            raise AegisInternalError(
                f"index: guests export {row.name}, and {row.implementation} implements it: remove one"
            )
        if row.place != GUEST and not row.implementation:
            lacking.append("implementation")
        if row.place == WORKER and row.implementation not in self._late:
            lacking.append(f"the modules of {row.implementation or 'its implementation'}")
        if lacking:
            raise AegisInternalError(f"index: {row.name} lacks {', '.join(lacking)}: run scripts/regen")


def _track(version: str) -> str:
    """Return the part of a version that must agree, pre-releases included; empty for no version."""
    release = version.partition("+")[0].partition("-")[0]
    return track(f"@{release}")[1:] if release else ""


def _keys(row: Provided) -> list[str]:
    """Return the versions that no other row may serve."""
    own = row.version if row.draft else _track(row.version)
    return [f"{row.interface}@{version}" for version in (own, *row.also)]
