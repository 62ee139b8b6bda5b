"""Record the decisions of filesystem grants about paths, as events; the same for every version of WASI."""

from __future__ import annotations

import errno
from collections.abc import Callable

from aegis.policy.filesystem import leaves_its_grant
from aegis.support.lean import TYPE_CHECKING, Protocol, TypeVar
from aegis.text import printable
from aegis.values import CallScope, Decision

if TYPE_CHECKING:
    from aegis.host.files.base import DirectoryHandle

__all__ = ["HeldDirectory", "joined", "narrower", "recorded"]

_Result = TypeVar("_Result")
_Place = TypeVar("_Place", bound="HeldDirectory")


class HeldDirectory(Protocol):
    """A directory as the guest holds it: its path in the guest's names, and whether its grant allows changes."""

    @property
    def label(self) -> str: ...
    @property
    def writable(self) -> bool: ...
    @property
    def directory(self) -> DirectoryHandle: ...


def recorded(scope: CallScope, action: str, held: HeldDirectory, path: str, function: Callable[[], _Result]) -> _Result:
    """Call ``function`` and record whether the grant allowed it: ``EPERM`` is a denial.

    Allowed operations are recorded only with a subscriber, and mere look-ups never.
    """
    try:
        result = function()
    except OSError as error:
        if error.errno == errno.EPERM:
            _record(scope, action, held, path, allowed=False)
        raise
    if scope.listens and action != "look at":
        _record(scope, action, held, path, allowed=True)
    return result


def _record(scope: CallScope, action: str, held: HeldDirectory, path: str, *, allowed: bool) -> None:
    target = path if path.startswith("/") else joined(held.label, path)
    rule = f"{'read-write' if held.writable else 'read-only'} {printable(held.label)}"
    helps = not allowed and action == "write" and not held.writable
    wanted = target if helps and not leaves_its_grant(path) and not _leads_out(held, path) else ""
    scope.decided(
        Decision(capability="filesystem", action=action, target=target, allowed=allowed, rule=rule, wanted=wanted)
    )


def _leads_out(held: HeldDirectory, path: str) -> bool:
    """Return whether a link in the path leads out of the grant: a grant for writing would not help then."""
    try:
        held.directory.stat(path, follow=True)
    except OSError as error:
        return error.errno == errno.EPERM
    return False


def narrower(source: _Place, old: str, target: _Place, new: str) -> tuple[_Place, str]:
    """Return that of two directories whose grant decides a link or move between them: the one that allows less."""
    return (target, new) if source.writable else (source, old)


def joined(label: str, path: str) -> str:
    """Return a path in the guest's names, for reports."""
    return path if label == "." else f"{label.rstrip('/')}/{path}"
