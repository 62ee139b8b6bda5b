"""The index of interfaces: the rules by which the name of an interface, with its version, selects a row.

The rows are in :mod:`aegis.bindings.index`, which ``scripts/regen`` generates from the WIT and ``wit/provided.toml``.
The version is part of the key, so incompatible versions of an interface have a row each, and each guest gets the
version that it was built against.
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
    """One row: an interface in one version, its capability, bindings and implementation."""

    interface: str
    """The name without its version, such as ``wasi:cli/environment``."""
    version: str
    """The version of the WIT that the bindings are generated from.

    A release serves every version of its track (major and minor version), which semver makes compatible."""
    capability: str
    """The field of the policy that grants access; empty if the interface needs no grant."""
    bindings: str
    """The module of the generated bindings."""
    implementation: str
    """The module that implements it; empty if guests export the interface."""
    place: str
    """The process that answers the calls of an isolated guest, ``worker`` or ``parent``; ``guest`` for an export."""
    also: tuple[str, ...] = ()
    """More versions that a draft serves if the types agree: exact versions, or tracks such as ``0.2``.

    An empty string stands for a name without a version."""

    @property
    def name(self) -> str:
        """The interface with its version."""
        return f"{self.interface}@{self.version}"

    @property
    def draft(self) -> bool:
        """Whether the version is a pre-release. Semver makes pre-releases compatible with no other version."""
        return "-" in self.version


class Index:
    """Rows by interface and version.

    ``late`` maps the module of an implementation to the modules that it imports inside functions. Raise
    :class:`~aegis.errors.AegisInternalError` for rows that contradict one another or are incomplete. The import of
    :mod:`aegis.bindings.index` then fails, so the mistake shows at once, not when a guest calls the function.
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
        """Return the row that serves ``name``: the same version, a release of its track, or a draft that accepts it.

        A row may lack a function of the guest's version, or have it with other types. Linking compares those.
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
        """Return the row that serves a guest's import ``name``, ``None`` if Aegis does not implement the interface."""
        row = self.find(name)
        return row if row is not None and row.place != GUEST else None

    def bound(self, name: str) -> Provided | None:
        """Return the row whose bindings are certain to match ``name``; ``None`` for another version of a draft."""
        row = self.find(name)
        exact = row is not None and (not row.draft or name.partition("@")[2] in ("", row.version))
        return row if exact else None

    def modules(self, row: Provided) -> tuple[str, ...]:
        """Return the modules that a worker imports for a row before it is confined: afterwards it cannot open files."""
        late = (row.implementation, *self._late[row.implementation]) if row.place == WORKER else ()
        return (row.bindings, *late)

    def _check(self, row: Provided) -> None:
        if row.place not in _PLACES:
            raise AegisInternalError(f"index: {row.name} has the place {row.place!r}: use {' or '.join(_PLACES)}")
        lacking = [word for word in ("interface", "version", "bindings") if not getattr(row, word)]
        if row.place == GUEST and row.implementation:
            raise AegisInternalError(
                f"index: guests export {row.name}, but {row.implementation} implements it: remove one"
            )
        if row.place != GUEST and not row.implementation:
            lacking.append("implementation")
        if row.place == WORKER and row.implementation not in self._late:
            lacking.append(f"the modules of {row.implementation or 'its implementation'}")
        if lacking:
            raise AegisInternalError(f"index: {row.name} lacks {', '.join(lacking)}: run scripts/regen")


def _track(version: str) -> str:
    """Return the track of a version, without its pre-release and build; empty for no version."""
    release = version.partition("+")[0].partition("-")[0]
    return track(f"@{release}")[1:] if release else ""


def _keys(row: Provided) -> list[str]:
    """Return the versions that only this row may serve."""
    own = row.version if row.draft else _track(row.version)
    return [f"{row.interface}@{version}" for version in (own, *row.also)]
