"""From the filesystem grants of a policy to open directories: everything is looked at before it is handed out.

A guest with a grant for writing may have left symbolic links beneath it in an earlier run. A grant whose path
crosses such a directory must not follow them. So the paths of all grants are followed first
(:mod:`aegis.host.files.walk`), which opens nothing but directories on the way; then each link that was followed is
held against the directories that turned out to be granted for writing; and what is opened in the end is opened from
the directories of that walk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator, Sequence

from aegis.errors import PolicyError
from aegis.host.files.beneath import Identity
from aegis.host.files.directory import STATE_TREES, HostDirectory, OpenDescriptors, is_state
from aegis.host.files.mounts import Mounts
from aegis.host.files.protected import Protected, refuse_reachable
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
    """A granted directory under the name that the guest finds it by."""

    guest: str
    directory: DirectoryHandle


@dataclass(frozen=True, slots=True)
class _Found:
    """A grant with what its path leads to now."""

    grant: PathGrant
    place: HostPath
    status: os.stat_result


def acquire_filesystem(
    capability: FilesystemCapability, protected: Sequence[Protected] = (), opened: OpenDescriptors | None = None
) -> list[Preopen]:
    """Open everything that was granted: directories in the order of the grants, then folders of single files.

    ``opened`` keeps the descriptors, and those that guests open beneath them. Raise
    :class:`~aegis.errors.PolicyError` for a path that does not exist or cannot be opened, that is neither a
    directory nor a regular file, that leads into the host's own state, that follows a symbolic link which a guest may
    have left, that a grant for writing makes a lie of, or that gives a guest what is ``protected``.
    """
    if not capability.paths:
        return []
    opened = OpenDescriptors() if opened is None else opened
    preopens: dict[str, Preopen] = {}
    try:
        with _followed(capability, protected) as found:
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


def check_filesystem(capability: FilesystemCapability, protected: Sequence[Protected]) -> None:
    """Raise what :func:`acquire_filesystem` would find wrong with the paths, and open nothing."""
    if capability.paths:
        with _followed(capability, protected):
            pass


@contextlib.contextmanager
def _followed(capability: FilesystemCapability, protected: Sequence[Protected]) -> Iterator[list[_Found]]:
    """Follow every path, judge them all, and keep the directories of the walks open meanwhile."""
    if sys.platform == "win32":
        raise PolicyError("filesystem: grants need Linux or macOS; this system has no handles beneath a directory")
    with contextlib.ExitStack() as stack:
        found = [_look(grant, stack) for grant in capability.paths]
        mounts = Mounts.read()
        _refuse_links(found, mounts)
        _check_promises(found, mounts)
        refuse_reachable([(one.grant, one.place) for one in found], protected, mounts)
        yield found


def _look(grant: PathGrant, stack: contextlib.ExitStack) -> _Found:
    try:
        place = walk(grant.host)
    except OSError as error:
        raise _unusable(grant, error) from None
    stack.callback(place.close)
    status = place.status
    assert status is not None  # the walk has found it
    tree = next((t for t in STATE_TREES if os.path.commonpath((place.real, t)) == t), None)
    if tree is not None or is_state(status):
        raise PolicyError(
            f"filesystem: {quoted(grant.host)} leads to {tree or 'a mount of /proc, /sys or /dev'}, the host's own "
            "state; grant a copy"
        )
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
        raise PolicyError(
            f"filesystem: {quoted(grant.host)} is neither a directory nor a regular file; grant one of those"
        )
    return _Found(grant, place, status)


def _refuse_links(found: Sequence[_Found], mounts: Mounts) -> None:
    """Refuse a path that follows a link in a directory granted for writing, or anywhere beneath one.

    A guest may have left the link there, so it says where the guest wants to go.
    """
    writers = [one for one in found if one.grant.write]
    for one in found:
        for link in one.place.links:
            for writer in writers:
                if _holds(writer, link.above, mounts):
                    raise _planted(one.grant, link, writer.grant)


def _holds(directory: _Found, inside: frozenset[Identity], mounts: Mounts) -> bool:
    """Tell whether a granted directory leads to what is ``inside`` these, by its names or by a mount beneath it."""
    above = mounts.above(inside)
    return directory.place.identity in above or bool(mounts.beneath(directory.place.real, above))


def _planted(grant: PathGrant, link: FollowedLink, writer: PathGrant) -> PolicyError:
    return PolicyError(
        f"filesystem: {quoted(grant.host)} is not granted: its component {link.name!r} is a symbolic link in "
        f"{quoted(link.folder)}, where a guest may have left it, for {quoted(writer.host)} is granted for writing; "
        "replace the link by a directory, or grant its target by a path of its own"
    )


def _check_promises(found: Sequence[_Found], mounts: Mounts) -> None:
    """Refuse a read-only grant within one that writes; the policy knew only names, here they are files."""
    for reader in found:
        for writer in found:
            if writer.grant.write and not reader.grant.write and _holds(writer, reader.place.above, mounts):
                raise PolicyError(
                    f"filesystem: {quoted(reader.grant.host)} is granted read-only, but {quoted(writer.grant.host)}, "
                    "granted for writing, leads to it or holds it; grant the writing to a directory beside it"
                )


def _open_directory(found: _Found, opened: OpenDescriptors) -> HostDirectory:
    try:
        descriptor = os.open(".", _DIRECTORY, dir_fd=found.place.parent)
    except OSError as error:
        raise _unusable(found.grant, error) from None
    return HostDirectory(opened.keep(descriptor), writable=found.grant.write, opened=opened)


def _add_file(found: _Found, preopens: dict[str, Preopen], opened: OpenDescriptors) -> None:
    """Show a file in its guest folder: one that is granted and holds it anyway, or one of files granted singly."""
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
            f"filesystem: the guest directory {quoted(folder)} is granted already; give {quoted(grant.host)} "
            "another name with '::'"
        )


def _shows(directory: DirectoryHandle, name: str, status: os.stat_result) -> bool:
    """Return whether ``name`` in the directory is the file that ``status`` is of."""
    try:
        return os.path.samestat(directory.stat(name, follow=False), status)
    except OSError:
        return False


def _open_file(found: _Found) -> int:
    """Open a regular file as it was granted, and make sure that it is still the one that was found."""
    access = os.O_RDWR if found.grant.write else os.O_RDONLY
    try:
        descriptor = os.open(found.place.name, access | _FILE, dir_fd=found.place.parent)
    except OSError as error:
        raise _unusable(found.grant, error) from None
    if not os.path.samestat(os.fstat(descriptor), found.status):
        os.close(descriptor)
        raise PolicyError(f"filesystem: {quoted(found.grant.host)} was replaced while it was opened; try again")
    return descriptor


def _unusable(grant: PathGrant, error: OSError) -> PolicyError:
    reason = (error.strerror or "error").lower()
    remedy = _REMEDIES.get(error.errno or 0, "name another")
    return PolicyError(
        f"filesystem: {quoted(grant.host)} cannot be granted: {reason}; {remedy}, or leave the grant out"
    )
