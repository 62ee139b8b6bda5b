"""Filesystem grants: host paths, the guest paths that they appear under, and write access."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from aegis.errors import PolicyError
from aegis.support.lean import TYPE_CHECKING, TypeAlias, dataclass, field, replace
from aegis.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aegis.policy.declaration import Declaration
    from aegis.policy.toml_table import TomlTable
    from aegis.support.lean import Any
    from aegis.values import Decision

__all__ = [
    "ABSOLUTE", "LEAVES", "LINK", "MOVED_LINK", "NEW_LINK", "READ_ONLY", "FilesystemCapability", "PathGrant",
    "absolute", "guest_path", "leaves_its_grant", "split_grant",
]  # fmt: skip

READ_ONLY, ABSOLUTE, LEAVES, LINK, NEW_LINK, MOVED_LINK = (
    "read-only", "absolute path", "path leaves", "link leads out", "new link leads out", "moved link leads out"
)  # fmt: skip
"""The rules by which a filesystem grant denies an operation."""

_FORBIDDEN = ("/proc", "/sys", "/dev")
GrantedPath: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathGrant:
    """One file or directory of the host that a guest may open (preopens of WASI).

    ``host`` is an absolute path; it must exist when a sandbox is created, which opens it. ``guest`` is the path that
    the guest uses, absolute or relative to its working directory (``.``). ``write`` adds write access; ``read`` must be
    true, because WASI has no write-only directories. Raise :class:`~aegis.errors.PolicyError` for an invalid path, and
    for one inside ``/proc``, ``/sys`` or ``/dev``.

    >>> PathGrant.parse("/srv/data::/data", write=True)
    PathGrant(host='/srv/data', guest='/data', read=True, write=True)
    """

    host: str
    guest: str
    read: bool = True
    write: bool = False

    def __post_init__(self) -> None:
        for name in ("host", "guest"):
            if not isinstance(getattr(self, name), str):
                raise PolicyError(f"filesystem: the {name} path must be text, not {type(getattr(self, name)).__name__}")
        for name in ("read", "write"):
            if not isinstance(getattr(self, name), bool):
                raise PolicyError(f"filesystem: {name} must be true or false, not {getattr(self, name)!r}")
        if not os.path.isabs(self.host):
            raise PolicyError(f"filesystem: the host path {self.host!r} is not absolute")
        if "\0" in self.host:
            raise PolicyError("filesystem: a host path contains a NUL: remove it")
        if not self.read:
            raise PolicyError(f"filesystem: {self.host!r} is granted with read=False: leave the grant out to deny it")
        object.__setattr__(self, "host", _tidy(self.host))
        for root in _FORBIDDEN:
            if self.host == root or _inside(self.host, root):
                raise PolicyError(
                    f"filesystem: {self.host!r} cannot be granted: {root} exposes the state of the host: "
                    "grant a copy of the file"
                )
        object.__setattr__(self, "guest", guest_path(self.guest))

    @classmethod
    def parse(cls, text: str | os.PathLike[str], *, write: bool = False, base: str | None = None) -> PathGrant:
        """Parse ``HOST`` or ``HOST::GUEST``; a relative host path is relative to ``base`` or the working directory."""
        name = os.fspath(text) if isinstance(text, os.PathLike) else text
        if not isinstance(name, str):
            raise PolicyError(f"filesystem: a path must be text, not {type(name).__name__}")
        host, guest = split_grant(name)
        return cls(host=absolute(host, base), guest=guest, write=write)


def split_grant(text: str) -> tuple[str, str]:
    """Split ``HOST[::GUEST]`` into host path and guest path; without ``::GUEST`` both are the same text."""
    host, mark, guest = text.partition("::")
    if not host:
        raise PolicyError("filesystem: an empty path grants nothing: name a file or a directory, such as ./data")
    if mark and not guest:
        raise PolicyError(f"filesystem: {text!r} has no guest path after '::': write {host}::/data, or just {host}")
    return host, guest or host


def absolute(path: str, base: str | None) -> str:
    """Return ``path`` as a normalised absolute path, relative to ``base``; do not resolve symbolic links."""
    if not path:
        raise PolicyError("filesystem: an empty path grants nothing: name a file or a directory, such as ./data")
    return _tidy(os.path.abspath(os.path.join(base, path) if base else path))


def _tidy(path: str) -> str:
    """Return an absolute path without empty, ``.`` and ``..`` segments, so that paths can be compared."""
    return "/" + os.path.normpath(path).lstrip("/")


def guest_path(path: str) -> str:
    """Return a guest path without empty and ``.`` segments; ``.`` alone is the guest's working directory."""
    if not path:
        raise PolicyError("filesystem: the guest path is empty: write '.' for the guest's working directory")
    if "\0" in path:
        raise PolicyError("filesystem: a guest path contains a NUL: remove it")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise PolicyError(
            f"filesystem: the guest path {path!r} is not valid Unicode, which WASI paths must be: name one with '::'"
        ) from None
    parts = [part for part in path.replace(os.sep, "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        raise PolicyError(f"filesystem: the guest path {path!r} contains '..': name a guest path after '::'")
    return ("/" if path.startswith("/") else "") + "/".join(parts) or "."


def _inside(path: str, folder: str) -> bool:
    """Return whether ``path`` is beneath ``folder``, comparing whole segments."""
    return path != folder and os.path.commonpath((path, folder)) == folder


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesystemCapability:
    """The files and directories of the host that a guest may open. The default is none.

    Two grants of the same host path under the same guest path are merged. When guest paths nest, the most specific one
    applies, as in WASI libc. Raise :class:`~aegis.errors.PolicyError` if one guest path names two host paths, or if a
    read-only grant is inside a writable one, because the outer grant would override it.

    >>> grants = FilesystemCapability.read_only("/srv/in::/in") + FilesystemCapability.read_write("/srv/out::/out")
    >>> [grant.guest for grant in grants.paths]
    ['/in', '/out']
    """

    paths: tuple[PathGrant, ...] = field(default=())

    def __post_init__(self) -> None:
        paths = tuple(self.paths) if isinstance(self.paths, Iterable) else (self.paths,)
        if not all(isinstance(path, PathGrant) for path in paths):
            raise PolicyError(
                "filesystem: paths must hold PathGrant values: create them with read_only('./data') or PathGrant.parse"
            )
        object.__setattr__(self, "paths", _unique(paths))

    @classmethod
    def read_only(cls, *paths: GrantedPath | Iterable[GrantedPath]) -> FilesystemCapability:
        """Grant read access to each ``HOST`` or ``HOST::GUEST``; an argument may be a list of paths."""
        return cls(paths=tuple(PathGrant.parse(path) for path in _each(paths)))

    @classmethod
    def read_write(cls, *paths: GrantedPath | Iterable[GrantedPath]) -> FilesystemCapability:
        """Grant read and write access to each ``HOST`` or ``HOST::GUEST``; an argument may be a list of paths."""
        return cls(paths=tuple(PathGrant.parse(path, write=True) for path in _each(paths)))

    def __add__(self, other: FilesystemCapability) -> FilesystemCapability:
        return FilesystemCapability(paths=(*self.paths, *other.paths))

    def merged(self, other: FilesystemCapability, named: Collection[str] = ()) -> FilesystemCapability:
        """Return the grants of both; a grant for writing in one of them stands for both.

        Raise :class:`~aegis.errors.PolicyError` for grants that one capability cannot hold together.
        """
        return self + other

    def describe(self) -> list[str]:
        """Return one line for each grant."""
        return [f"{'read-write' if g.write else 'read-only'} {g.host} as {g.guest}" for g in self.paths]


def _each(paths: Iterable[GrantedPath | Iterable[GrantedPath]]) -> Iterator[GrantedPath]:
    """Yield the paths of the arguments, flattening lists."""
    for path in paths:
        if isinstance(path, (str, bytes, os.PathLike)) or not isinstance(path, Iterable):
            yield path  # PathGrant.parse rejects a value that is no path
        else:
            yield from path


def _unique(grants: tuple[PathGrant, ...]) -> tuple[PathGrant, ...]:
    by_guest: dict[str, PathGrant] = {}
    for grant in grants:
        before = by_guest.get(grant.guest)
        if before is None or (before.host == grant.host and grant.write):
            by_guest[grant.guest] = grant
        elif before.host != grant.host:
            raise PolicyError(
                f"filesystem: the guest path {grant.guest!r} is granted for both {before.host!r} and {grant.host!r}: "
                "give one of them another guest path with '::'"
            )
    merged = tuple(by_guest.values())
    _reject_overridden(merged)
    return merged


def _reject_overridden(grants: tuple[PathGrant, ...]) -> None:
    """Raise ``PolicyError`` for a read-only grant inside a writable one."""
    for reader in grants:
        if reader.write:
            continue
        for writer in grants:
            if writer.write and (reader.host == writer.host or _inside(reader.host, writer.host)):
                raise PolicyError(
                    f"filesystem: {reader.host!r} is granted read-only as {reader.guest!r}, but {writer.host!r} is "
                    f"granted for writing as {writer.guest!r} and contains it: grant writing to another directory"
                )


# -- the surfaces ----------------------------------------------------------------------------------


def declared() -> Declaration:
    """Return the declaration of the capability."""
    from aegis.policy.declaration import Declaration, Flag, Key

    return Declaration(
        title="files",
        needs="--allow-read PATH or --allow-write PATH; without a grant there are none",
        builder="Grant files and directories, in addition to earlier grants. A path by itself is granted read-only.",
        accepts="Files",
        short=_short,
        adds=True,
        flags=(
            Flag(name="--allow-read", help="Grant read access to a file or directory.", metavar="HOST[::GUEST]"),
            Flag(name="--allow-write", help="Grant read and write access.", metavar="HOST[::GUEST]"),
        ),
        stated=_stated,
        summary="Files and directories.",
        tables=lambda: {
            "": {"paths": Key("list of paths or tables", "One grant each; a path alone is for reading.")},
            "paths": {
                "path": Key("text", "The host's path, or `HOST::GUEST`; a relative one starts at the file's folder."),
                "guest": Key("text", "The path that the guest sees; by default `path` as it is written."),
                "read": Key("true or false", "Whether the guest may read; true by default."),
                "write": Key("true or false", "Whether the guest may write; false by default."),
            },
        },
        read=_read,
        write=lambda granted: {"paths": [*map(_entry, granted.paths)]},
        remedy=_remedy,
        reason=lambda policy, decision: f"{_why(policy.filesystem, decision)}; no option allows that",
    )


def _stated(options: Mapping[str, Any]) -> FilesystemCapability:
    reads = [PathGrant.parse(path) for path in options.get("allow_read", ())]
    writes = [PathGrant.parse(path, write=True) for path in options.get("allow_write", ())]
    return FilesystemCapability(paths=(*reads, *writes))


def _read(table: TomlTable) -> FilesystemCapability:
    entries = table.values.get("paths", [])
    if not isinstance(entries, list):
        raise table.error('paths must be a list, such as [{ path = "./data", read = true }]', "paths")
    grants = [_grant(table, entry, n) for n, entry in enumerate(entries)]
    paths = tuple(grant for grant in grants if grant is not None)
    return table.at(("paths",), lambda: FilesystemCapability(paths=paths))


def _grant(table: TomlTable, value: Any, n: int) -> PathGrant | None:
    entry = table.inner({"path": value} if isinstance(value, str) else value, "paths", n)
    entry.known(declared().tables()["paths"])
    if "path" not in entry.values:
        raise entry.error('the grant has no path: write path = "./data"')
    host, guest = entry.at(("path",), split_grant, entry.string("path"))
    guest = entry.string("guest", guest)
    write, read = entry.flag("write", False), entry.flag("read", True)
    if not read and not write:
        return None
    if not read:
        raise entry.error("read = false with write = true: a writable path is always readable: leave read out", "read")
    return entry.at((), lambda: PathGrant(host=absolute(host, entry.base), guest=guest, write=write))


def _entry(grant: PathGrant) -> dict[str, Any]:
    """Return the entry of a grant in a policy file."""
    if "::" in grant.host:
        raise PolicyError(
            f"filesystem: the host path {grant.host!r} contains '::', which separates the guest path in a policy file: "
            "grant another path, such as a link to it"
        )
    return {"path": grant.host, "guest": grant.guest, "write": grant.write}


def leaves_its_grant(path: str) -> bool:
    """Return whether a path is absolute, or leads out of its directory with ``..`` segments."""
    depth = 0
    for part in path.split("/"):
        depth += {"..": -1, "": 0, ".": 0}.get(part, 1)
        if depth < 0:
            return True
    return path.startswith("/")


def _remedy(policy: Any, decision: Decision) -> str:
    """Return the option that makes the covering read-only grant writable, or ``""``.

    Only a change beneath a read-only grant has the missing path in ``remedy``.
    """
    from aegis.policy.declaration import option_text

    grant = _covering(policy.filesystem, decision.wanted)
    if grant is None or grant.write or decision.action != "write":
        return ""
    wider = replace(grant, write=True)
    try:
        _ = policy.filesystem + FilesystemCapability(paths=(wider,))
    except PolicyError:
        return ""  # the wider grant would conflict with another one, such as a read-only grant inside it
    for text in (wider.guest, f"{wider.host}::{wider.guest}"):
        if _reads_as(text, wider):
            return option_text("--allow-write", text)
    return ""


def _why(granted: FilesystemCapability, decision: Decision) -> str:
    """Return the reason for a denial that no option would change.

    The rule may be text of a worker that a guest took over, so it selects a sentence and is never part of one.
    """
    holds = [grant for grant in granted.paths if _holds(grant.guest, decision.target)]
    if not holds:
        return "no grant contains this path"
    grant = max(holds, key=lambda grant: len(grant.guest))
    guest = printable(grant.guest)
    reasons = {
        ABSOLUTE: "the path is absolute, but must be relative to a granted directory",
        LEAVES: f"the path leaves {guest}",
        LINK: f"a symbolic link in the path leads out of {guest}",
        NEW_LINK: "a new symbolic link must lead to its own directory or further down",
        MOVED_LINK: "a symbolic link that leads out of its directory cannot be moved or get another name",
    }
    rest = f"{guest} is granted by itself, without its directory" if grant.write else f"{guest} is granted read-only"
    return reasons.get(decision.rule, rest)


def _covering(granted: FilesystemCapability, path: str) -> PathGrant | None:
    """Return the grant with the longest guest path that contains ``path``."""
    path = os.path.normpath(path)
    holds = [grant for grant in granted.paths if _holds(grant.guest, path) and not leaves_its_grant(path.lstrip("/"))]
    return max(holds, key=lambda grant: len(grant.guest), default=None)


def _holds(folder: str, path: str) -> bool:
    if folder == ".":
        return not path.startswith("/")
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _reads_as(text: str, grant: PathGrant) -> bool:
    try:
        return PathGrant.parse(text, write=True) == grant
    except PolicyError:
        return False


def _short(value: Any) -> Any:
    from aegis.policy.short_form_parsers import texts

    return value if hasattr(value, "keys") else FilesystemCapability.read_only(*texts(value))
