"""Host files that no grant may reach, because the next run reads, obeys or executes them.

A guest that may write the directory of such a file can replace the file, or put a symbolic link in its place. So a
grant that reaches one is rejected: when grants are acquired, and by the command before it opens any file. The artifact
itself may lie beneath a grant, since its bytes are untrusted in any case.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cache

from aegis.errors import PolicyError
from aegis.host.files.walk import HostPath, walk
from aegis.policy.capabilities import CAPABILITIES, declaration
from aegis.support.lean import TYPE_CHECKING, NamedTuple, dataclass
from aegis.text import quoted

if TYPE_CHECKING:
    from aegis.host.files.file_id import Identity
    from aegis.host.files.mounts import Mounts
    from aegis.policy import PathGrant, Policy

__all__ = ["Protected", "protected_by", "reject_protected_paths"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protected:
    """A host file or directory that guests must not change. It need not exist yet.

    ``reason`` follows "which is" in the message: ``the policy file: a guest could write its own next policy``.
    Unless it is ``readable``, grants that only read are rejected too. ``inside`` also rejects a grant that lies
    within a protected directory. A ``fixed`` path leads to the same file as long as this process lives, so it is
    traced once. ``remedy`` names a grant to use instead.
    """

    path: str
    reason: str
    readable: bool = True
    inside: bool = True
    fixed: bool = False
    remedy: str = "grant a directory that has nothing to do with it"


class _Traced(NamedTuple):
    """The directories that decide where a protected path leads, and the identity of the file if it exists."""

    crossed: frozenset[Identity]
    identity: Identity | None


def protected_by(policy: Policy) -> tuple[Protected, ...]:
    """Return the files that a policy makes Aegis read or execute.

    Guests may read most of them, such as the policy file, so a policy that grants no writing needs little protection.
    """
    stated = list(_stated(policy))
    found = [file for file in stated if not file.readable]
    if not any(grant.write for grant in policy.filesystem.paths):
        return tuple(found)
    found += [
        Protected(path=path, reason="the policy file: a guest could write its own next policy")
        for path in policy.sources
    ]
    found += [file for file in stated if file.readable]
    for _, provider in policy.imports:
        found += _provider(provider.partition(":")[0].partition(".")[0])
    if policy.network is not None:
        found += _network_files()
    return tuple(found)


def _stated(policy: Policy) -> Iterable[Protected]:
    """Yield the files that the statements of the policy name, such as those of key-value stores and of stdin."""
    for row in CAPABILITIES:
        granted = getattr(policy, row.name)
        files = None if granted is None else declaration(row.name).host_files
        for path, reason, readable in () if files is None else files(granted):
            yield Protected(path=path, reason=reason, readable=readable)


def _network_files() -> Iterable[Protected]:
    """Yield the files that decide which addresses a name has, and which certificates are trusted."""
    import ssl

    roots = ssl.get_default_verify_paths()
    named = (os.environ.get(roots.openssl_cafile_env), os.environ.get(roots.openssl_capath_env))
    reason = "used to resolve names or to verify certificates: a guest could choose which servers the next run trusts"
    paths = (*named, roots.cafile, roots.capath, "/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf")
    for path in dict.fromkeys(paths):
        if path:
            yield Protected(path=path, reason=reason)


def _provider(module: str) -> Iterable[Protected]:
    """Yield the files of the top-level Python ``module``, which [imports] executes in this process."""
    from importlib.util import find_spec

    reason = f"code of the provider {module!r}: a guest could write code that the next run executes"
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    folders = list(spec.submodule_search_locations or ())
    if not folders and spec.origin is not None:
        yield Protected(path=spec.origin, reason=reason)
        # Python prefers a compiled file there to the source.
        folders = [os.path.join(os.path.dirname(spec.origin), "__pycache__")]
    for folder in folders:
        yield Protected(path=folder, reason=reason)


def reject_protected_paths(
    found: Sequence[tuple[PathGrant, HostPath]], protected: Iterable[Protected], mounts: Mounts
) -> None:
    """Raise :class:`~aegis.errors.PolicyError` if a grant lets a guest change, or reach, a protected file."""
    if not found:
        return
    writes = any(grant.write for grant, _ in found)
    for one in protected:
        if not one.readable or writes:
            traced = _traced_code(one.path) if one.fixed else _traced(one.path)
            for grant, place in found:
                if grant.write or not one.readable:
                    _refuse(one, traced, grant, place, mounts)


def _refuse(one: Protected, traced: _Traced, grant: PathGrant, place: HostPath, mounts: Mounts) -> None:
    verb = "writing" if grant.write else "reading"
    if place.identity in mounts.above(traced.crossed):
        how = "is" if place.identity == traced.identity else "holds"
    elif one.inside and traced.identity in mounts.above(place.above):
        how = "lies in"
    elif place.name == "." and mounts.beneath(place.real, traced.crossed):
        how = "has a mount that leads to"
    else:
        return
    raise PolicyError(
        f"filesystem: {quoted(grant.host)}, granted for {verb}, {how} {quoted(one.path)}, which is {one.reason}: "
        f"{one.remedy}"
    )


@cache
def _traced_code(path: str) -> _Traced:
    """Trace the path of running code, once per process: it does not move."""
    return _traced(path)


def _traced(path: str) -> _Traced:
    try:
        place = walk(os.path.abspath(path), must_exist=False)
    except (OSError, ValueError):  # opening it will raise the same error, with its own message
        return _Traced(frozenset(), None)
    place.close()
    return _Traced(place.crossed, place.identity)
