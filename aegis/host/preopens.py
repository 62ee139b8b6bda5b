"""From the filesystem grants of a policy to open directories: everything is looked at before it is handed out."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from aegis.errors import PolicyError
from aegis.host.filesystem import STATE_TREES, Directory, GrantedFile, is_state
from aegis.host.protected import Protected, refuse_reachable
from aegis.policy import FilesystemCapability, PathGrant

__all__ = ["Preopen", "acquire_filesystem"]

_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class Preopen:
    """A granted directory under the name that the guest finds it by."""

    guest: str
    directory: Directory


@dataclass(frozen=True, slots=True)
class _Found:
    """A grant with what its path leads to now."""

    grant: PathGrant
    real: str
    mode: int


def acquire_filesystem(capability: FilesystemCapability, protected: Sequence[Protected] = ()) -> list[Preopen]:
    """Open everything that was granted: directories in the order of the grants, then folders of single files.

    Raise :class:`~aegis.errors.PolicyError` for a path that does not exist, that is neither a directory nor
    a regular file, that leads into the host's own state or to what is ``protected``, or that a grant for writing makes
    a lie of.
    """
    if not capability.paths:
        return []
    if sys.platform == "win32":
        raise PolicyError("filesystem: grants need Linux or macOS; this system has no handles beneath a directory")
    found = [_look(grant) for grant in capability.paths]
    _check_promises(found)
    preopens: dict[str, Preopen] = {}
    try:
        for one in found:
            if stat.S_ISDIR(one.mode):
                preopens[one.grant.guest] = Preopen(one.grant.guest, _open_directory(one))
                refuse_reachable(one.grant, preopens[one.grant.guest].directory.descriptor, None, protected)
        for one in found:
            if stat.S_ISREG(one.mode):
                _add_file(one, preopens, protected)
    except BaseException:
        for preopen in preopens.values():
            preopen.directory.close()
        raise
    return list(preopens.values())


def _look(grant: PathGrant) -> _Found:
    real = os.path.realpath(grant.host)
    try:
        status = os.stat(real)
    except OSError as error:
        raise _unusable(grant, error) from None
    tree = next((t for t in STATE_TREES if os.path.commonpath((real, t)) == t), None)
    if tree is not None or is_state(status):
        raise PolicyError(
            f"filesystem: {grant.host!r} leads to {tree or 'a mount of /proc, /sys or /dev'}, the host's own state; "
            "grant a copy"
        )
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
        raise PolicyError(f"filesystem: {grant.host!r} is neither a directory nor a regular file; grant one of those")
    return _Found(grant, real, status.st_mode)


def _check_promises(found: Sequence[_Found]) -> None:
    """Refuse a read-only grant within one that writes; the policy knew only paths, here links are resolved."""
    for reader in found:
        for writer in found:
            if writer.grant.write and not reader.grant.write and _holds(writer.real, reader.real):
                raise PolicyError(
                    f"filesystem: {reader.grant.host!r} is granted read-only, but {writer.grant.host!r}, granted for "
                    "writing, leads to it or holds it; grant the writing to a directory beside it"
                )


def _holds(folder: str, path: str) -> bool:
    return os.path.commonpath((folder, path)) == folder


def _open_directory(found: _Found) -> Directory:
    try:
        return Directory(os.open(found.real, _DIRECTORY), writable=found.grant.write)
    except OSError as error:
        raise _unusable(found.grant, error) from None


def _add_file(found: _Found, preopens: dict[str, Preopen], protected: Sequence[Protected]) -> None:
    """Show a file in its guest folder: one that is granted and holds it anyway, or one of files granted singly."""
    grant = found.grant
    folder, name = os.path.split(grant.guest)
    folder = folder or "."
    host, real_name = os.path.split(found.real)
    try:
        parent = os.open(host, _DIRECTORY)
        try:
            refuse_reachable(grant, parent, real_name, protected)
        except BaseException:
            os.close(parent)
            raise
        preopen = preopens.get(folder)
        if preopen is None:
            preopen = preopens[folder] = Preopen(folder, Directory(os.dup(parent), writable=False, only={}))
    except OSError as error:
        raise _unusable(grant, error) from None
    directory = preopen.directory
    if directory.only is not None:
        directory.only[name] = GrantedFile(parent, real_name, grant.write)
        return
    covered = directory.writable >= grant.write and directory.shows(name, parent, real_name)
    os.close(parent)
    if not covered:
        raise PolicyError(
            f"filesystem: the guest directory {folder!r} is granted already; give {grant.host!r} another name with '::'"
        )


def _unusable(grant: PathGrant, error: OSError) -> PolicyError:
    reason = (error.strerror or "error").lower()
    return PolicyError(
        f"filesystem: {grant.host!r} cannot be granted: {reason}; create it first, or leave the grant out"
    )
