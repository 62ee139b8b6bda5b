"""Open the directories and files that a policy grants, after checking all of them.

A guest with a grant for writing may have left symbolic links beneath it in an earlier run. A grant whose path crosses
such a directory must not follow them. So the paths of all grants are walked first (:mod:`aegis.host.files.walk`), which
opens only directories on the way. Then each link that a walk followed is checked against the directories that are
granted for writing. At last the files are opened from the directories of the walk, not by their paths again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator, Sequence

from aegis.errors import PolicyError
from aegis.host.files.directory import STATE_TREES, HostDirectory, OpenDescriptors, is_state
from aegis.host.files.file_id import Identity
from aegis.host.files.mounts import Mounts
from aegis.host.files.protected import Protected, reject_protected_paths
from aegis.host.files.single_file import GrantedFile, SingleFiles
from aegis.host.files.walk import FollowedLink, HostPath, walk
from aegis.policy import FilesystemCapability, PathGrant
from aegis.support.lean import TYPE_CHECKING, dataclass
from aegis.text import quoted

if TYPE_CHECKING:
    from aegis.host.files.base import DirectoryHandle

__all__ = ["Preopen", "acquire_filesystem", "check_filesystem"]

_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_FILE |= getattr(os, "O_CLOEXEC", 0)


_REMEDIES = {
    errno.ENOENT: "create it first", errno.EACCES: "let this user open it", errno.EPERM: "let this user open it",
    errno.EROFS: "grant it for reading", errno.ETXTBSY: "grant it for reading",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Preopen:
    """A granted directory, under the guest's name for it."""

    guest: str
    directory: DirectoryHandle


@dataclass(frozen=True, slots=True)
class _Found:
    """A grant with the file that its path leads to now."""

    grant: PathGrant
    place: HostPath
    status: os.stat_result


def acquire_filesystem(
    capability: FilesystemCapability, protected: Sequence[Protected] = (), opened: OpenDescriptors | None = None,
    sources: Sequence[str] = (),
) -> list[Preopen]:  # fmt: skip
    """Open all granted paths: directories in the order of the grants, then the directories of single files.

    ``opened`` owns the descriptors, and those that guests open beneath them. ``sources`` are the policy files, to name
    the line of a grant that fails. Raise :class:`~aegis.errors.PolicyError` for a path that does not exist or cannot be
    opened, that is neither a directory nor a regular file, that resolves into ``/proc``, ``/sys`` or ``/dev``, that
    follows a symbolic link which a guest may have left, that is granted read-only inside a writable grant, or that
    gives access to ``protected`` files.
    """
    if not capability.paths:
        return []
    opened = OpenDescriptors() if opened is None else opened
    preopens: dict[str, Preopen] = {}
    try:
        with _followed(capability, protected, sources) as found:
            for one in found:
                if stat.S_ISDIR(one.status.st_mode):
                    preopens[one.grant.guest] = Preopen(one.grant.guest, _open_directory(one, opened))
            for one in found:
                if stat.S_ISREG(one.status.st_mode):
                    _add_file(one, preopens, opened)
    except BaseException:
        opened.close_all()
        raise
    return list(preopens.values())


def check_filesystem(
    capability: FilesystemCapability, protected: Sequence[Protected], sources: Sequence[str] = ()
) -> None:
    """Raise the errors of :func:`acquire_filesystem` about the paths, and open nothing."""
    if capability.paths:
        with _followed(capability, protected, sources):
            pass


@contextlib.contextmanager
def _followed(
    capability: FilesystemCapability, protected: Sequence[Protected], sources: Sequence[str]
) -> Iterator[list[_Found]]:
    """Walk and check all paths; keep the directories of the walks open meanwhile."""
    if sys.platform == "win32":
        raise PolicyError("filesystem: grants need Linux or macOS; this system has no handles beneath a directory")
    with contextlib.ExitStack() as stack:
        found = [_located(grant, stack, sources) for grant in capability.paths]
        mounts = Mounts.read()
        _refuse_links(found, mounts)
        _check_promises(found, mounts)
        reject_protected_paths([(one.grant, one.place) for one in found], protected, mounts)
        yield found


def _located(grant: PathGrant, stack: contextlib.ExitStack, sources: Sequence[str]) -> _Found:
    """Look a grant up; add the file and line of the policy that makes the grant to the error."""
    try:
        return _look(grant, stack)
    except PolicyError as error:
        if not sources:
            raise
        from aegis.policy.positions import position_of_grant

        source, line = position_of_grant(sources, grant.host)
        raise PolicyError(error.reason, source=source, line=line) from None


def _look(grant: PathGrant, stack: contextlib.ExitStack) -> _Found:
    try:
        place = walk(grant.host)
    except OSError as error:
        raise _unusable(grant, error) from None
    stack.callback(place.close)
    status = place.status
    assert status is not None  # walk() raises for a path that does not exist
    tree = next((t for t in STATE_TREES if os.path.commonpath((place.real, t)) == t), None)
    if tree is not None or is_state(status):
        raise PolicyError(
            f"filesystem: {quoted(grant.host)} leads to {tree or 'a mount of /proc, /sys or /dev'}, which exposes the "
            "state of the host: grant a copy of the file"
        )
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
        raise PolicyError(
            f"filesystem: {quoted(grant.host)} is neither a directory nor a regular file: grant one of those"
        )
    return _Found(grant, place, status)


def _refuse_links(found: Sequence[_Found], mounts: Mounts) -> None:
    """Reject a path that follows a link in a directory granted for writing, or anywhere beneath one.

    A guest may have left the link there, to choose the file that is granted.
    """
    writers = [one for one in found if one.grant.write]
    for one in found:
        for link in one.place.links:
            for writer in writers:
                if _holds(writer, link.above, mounts):
                    raise _planted(one.grant, link, writer.grant)


def _holds(directory: _Found, inside: frozenset[Identity], mounts: Mounts) -> bool:
    """Return whether a granted directory contains one of ``inside``, by its entries or by a mount beneath it."""
    above = mounts.above(inside)
    return directory.place.identity in above or bool(mounts.beneath(directory.place.real, above))


def _planted(grant: PathGrant, link: FollowedLink, writer: PathGrant) -> PolicyError:
    return PolicyError(
        f"filesystem: {quoted(grant.host)} is not granted: its component {link.name!r} is a symbolic link in "
        f"{quoted(link.folder)}, where a guest may have left it, for {quoted(writer.host)} is granted for writing; "
        "replace the link by a directory, or grant its target by a path of its own"
    )


def _check_promises(found: Sequence[_Found], mounts: Mounts) -> None:
    """Reject a read-only grant inside a writable one, by identity: the policy could compare paths only."""
    for reader in found:
        for writer in found:
            if writer.grant.write and not reader.grant.write and _holds(writer, reader.place.above, mounts):
                raise PolicyError(
                    f"filesystem: {quoted(reader.grant.host)} is granted read-only, but {quoted(writer.grant.host)}, "
                    "granted for writing, leads to it or holds it: grant the writing to a directory beside it"
                )


def _open_directory(found: _Found, opened: OpenDescriptors) -> HostDirectory:
    try:
        descriptor = os.open(".", _DIRECTORY, dir_fd=found.place.parent)
    except OSError as error:
        raise _unusable(found.grant, error) from None
    return HostDirectory(opened.keep(descriptor), writable=found.grant.write, opened=opened)


def _add_file(found: _Found, preopens: dict[str, Preopen], opened: OpenDescriptors) -> None:
    """Add a single file to the guest's directory for it: a granted one that contains it, or one of single files."""
    grant = found.grant
    folder, name = os.path.split(grant.guest)
    folder = folder or "."
    preopen = preopens.get(folder)
    if preopen is None:
        preopen = preopens[folder] = Preopen(folder, SingleFiles(number=len(preopens), opened=opened))
    directory = preopen.directory
    if isinstance(directory, SingleFiles):
        directory.files[name] = GrantedFile(opened.keep(_open_file(found)), grant.write)
    elif directory.writable < grant.write or not _shows(directory, name, found.status):
        raise PolicyError(
            f"filesystem: the guest directory {quoted(folder)} is granted already: give {quoted(grant.host)} "
            "another name with '::'"
        )


def _shows(directory: DirectoryHandle, name: str, status: os.stat_result) -> bool:
    """Return whether ``name`` in the directory is the file that ``status`` is of."""
    try:
        return os.path.samestat(directory.stat(name, follow=False), status)
    except OSError:
        return False


def _open_file(found: _Found) -> int:
    """Open a regular file in the mode of its grant; raise if it was replaced since the walk."""
    access = os.O_RDWR if found.grant.write else os.O_RDONLY
    try:
        descriptor = os.open(found.place.name, access | _FILE, dir_fd=found.place.parent)
    except OSError as error:
        raise _unusable(found.grant, error) from None
    if not os.path.samestat(os.fstat(descriptor), found.status):
        os.close(descriptor)
        raise PolicyError(f"filesystem: {quoted(found.grant.host)} was replaced while it was opened: run again")
    return descriptor


def _unusable(grant: PathGrant, error: OSError) -> PolicyError:
    reason = (error.strerror or "error").lower()
    remedy = _REMEDIES.get(error.errno or 0, "name another")
    if error.errno == errno.ENOENT and (":/" in grant.host or "=/" in grant.host):  # as in `docker run -v HOST:GUEST`
        remedy = "write HOST::GUEST, with two colons, to choose the path in the guest"
    return PolicyError(
        f"filesystem: {quoted(grant.host)} cannot be granted: {reason}: {remedy}, or leave the grant out"
    )
