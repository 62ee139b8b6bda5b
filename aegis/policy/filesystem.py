"""Which files a guest may reach: host paths, the names the guest sees, and whether it may write."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from aegis.errors import PolicyError
from aegis.support.lean import TypeAlias, dataclass, field

__all__ = ["FilesystemCapability", "PathGrant", "guest_path", "split_grant"]

_FORBIDDEN = ("/proc", "/sys", "/dev")
GrantedPath: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathGrant:
    """One directory or file of the host under one name for the guest.

    ``host`` is absolute; it is opened when a sandbox is made, and must exist then. ``guest`` is what
    the guest calls it, normalised, absolute or relative to its working directory. A grant that writes
    also reads: WASI has no directory that can only be written.
    """

    host: str
    guest: str
    read: bool = True
    write: bool = False

    def __post_init__(self) -> None:
        for name in ("host", "guest"):
            if not isinstance(getattr(self, name), str):
                raise PolicyError(f"filesystem: the {name} path is text, not {type(getattr(self, name)).__name__}")
        for name in ("read", "write"):
            if not isinstance(getattr(self, name), bool):
                raise PolicyError(f"filesystem: {name} is true or false, not {getattr(self, name)!r}")
        if not os.path.isabs(self.host):
            raise PolicyError(f"filesystem: the host path {self.host!r} is not absolute")
        if "\0" in self.host:
            raise PolicyError("filesystem: a host path holds a NUL")
        if not self.read:
            raise PolicyError(f"filesystem: the grant for {self.host!r} must read; leave the grant out to deny it")
        object.__setattr__(self, "host", _tidy(self.host))
        for place in _FORBIDDEN:
            if self.host == place or _inside(self.host, place):
                raise PolicyError(
                    f"filesystem: {self.host!r} is not granted to anybody: {place} opens the host's own state; "
                    "grant a copy"
                )
        object.__setattr__(self, "guest", guest_path(self.guest))

    @classmethod
    def parse(cls, text: str | os.PathLike[str], *, write: bool = False, base: str | None = None) -> PathGrant:
        """Parse ``HOST`` or ``HOST::GUEST``; a relative host path starts at ``base``, or here."""
        name = os.fspath(text) if isinstance(text, os.PathLike) else text
        if not isinstance(name, str):
            raise PolicyError(f"filesystem: a path is text, not {type(name).__name__}")
        host, guest = split_grant(name)
        return cls(host=absolute(host, base), guest=guest, write=write)


def split_grant(text: str) -> tuple[str, str]:
    """Split ``HOST[::GUEST]``; without a guest name the guest uses the host path as it was written."""
    host, mark, guest = text.partition("::")
    if not host:
        raise PolicyError("filesystem: an empty path grants nothing; name a file or a directory, such as ./data")
    if mark and not guest:
        raise PolicyError(f"filesystem: {text!r} names no guest path after '::'; write {host}::/data, or just {host}")
    return host, guest or host


def absolute(path: str, base: str | None) -> str:
    """Return ``path`` made absolute and tidy, from ``base`` if it is relative; symlinks stay."""
    if not path:
        raise PolicyError("filesystem: an empty path grants nothing; name a file or a directory, such as ./data")
    return _tidy(os.path.abspath(os.path.join(base, path) if base else path))


def _tidy(path: str) -> str:
    """Return an absolute path without empty, ``.`` and ``..`` segments, so that two can be compared."""
    return "/" + os.path.normpath(path).lstrip("/")


def guest_path(path: str) -> str:
    """Return a guest path without empty and ``.`` segments; ``.`` is the guest's working directory."""
    if not path:
        raise PolicyError("filesystem: the guest path is empty; write '.' for the guest's working directory")
    if "\0" in path:
        raise PolicyError("filesystem: a guest path holds a NUL")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise PolicyError(
            f"filesystem: the guest path {path!r} is not Unicode, and WASI has no other; name one with '::'"
        ) from None
    parts = [part for part in path.replace(os.sep, "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        raise PolicyError(f"filesystem: the guest path {path!r} has a '..'; name the guest's path after '::'")
    return ("/" if path.startswith("/") else "") + "/".join(parts) or "."


def _inside(path: str, folder: str) -> bool:
    """Tell by whole segments whether ``path`` lies beneath ``folder``."""
    return path != folder and os.path.commonpath((path, folder)) == folder


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesystemCapability:
    """The files that a guest may reach; without a grant there are none.

    Two grants for one guest path and one host path unite. One guest path for two host paths is an
    error. With nested guest paths the longest that fits serves, as WASI libc looks them up. A
    read-only grant inside a directory that another grant may write would promise nothing, so that is an
    error too.
    """

    paths: tuple[PathGrant, ...] = field(default=())

    def __post_init__(self) -> None:
        paths = tuple(self.paths) if isinstance(self.paths, Iterable) else (self.paths,)
        if not all(isinstance(path, PathGrant) for path in paths):
            raise PolicyError("filesystem: paths holds grants; make them with read_only('./data') or PathGrant.parse")
        object.__setattr__(self, "paths", _merged(paths))

    @classmethod
    def read_only(cls, *paths: GrantedPath | Iterable[GrantedPath]) -> FilesystemCapability:
        """Grant reading of each ``HOST`` or ``HOST::GUEST``; a list stands for the paths in it."""
        return cls(paths=tuple(PathGrant.parse(path) for path in _each(paths)))

    @classmethod
    def read_write(cls, *paths: GrantedPath | Iterable[GrantedPath]) -> FilesystemCapability:
        """Grant reading and writing of each ``HOST`` or ``HOST::GUEST``; a list stands for the paths in it."""
        return cls(paths=tuple(PathGrant.parse(path, write=True) for path in _each(paths)))

    def __add__(self, other: FilesystemCapability) -> FilesystemCapability:
        return FilesystemCapability(paths=(*self.paths, *other.paths))


def _each(paths: Iterable[GrantedPath | Iterable[GrantedPath]]) -> Iterator[GrantedPath]:
    """Yield the paths of a call, those of a list one by one."""
    for path in paths:
        if isinstance(path, (str, bytes, os.PathLike)) or not isinstance(path, Iterable):
            yield path  # what is no path is refused where it is parsed
        else:
            yield from path


def _merged(grants: tuple[PathGrant, ...]) -> tuple[PathGrant, ...]:
    by_guest: dict[str, PathGrant] = {}
    for grant in grants:
        before = by_guest.get(grant.guest)
        if before is None or (before.host == grant.host and grant.write):
            by_guest[grant.guest] = grant
        elif before.host != grant.host:
            raise PolicyError(
                f"filesystem: the guest path {grant.guest!r} stands for both {before.host!r} and {grant.host!r}; "
                "give one of them another name with '::'"
            )
    merged = tuple(by_guest.values())
    _check_promises(merged)
    return merged


def _check_promises(grants: tuple[PathGrant, ...]) -> None:
    for reader in grants:
        if reader.write:
            continue
        for writer in grants:
            if writer.write and (reader.host == writer.host or _inside(reader.host, writer.host)):
                raise PolicyError(
                    f"filesystem: {reader.host!r} is granted read-only as {reader.guest!r}, but {writer.host!r} is "
                    f"granted for writing as {writer.guest!r} and holds it; grant the writing to a directory beside it"
                )
