"""Record the decisions of filesystem grants, as events; the same for every version of WASI.

A handle raises :class:`GrantRefused` for an operation that its grant does not allow, and only that is a denial: the
system has errors with the same number, such as for an immutable file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from aegis.policy.filesystem import ABSOLUTE, LEAVES, READ_ONLY, leaves_its_grant
from aegis.support.lean import Protocol, TypeVar
from aegis.text import printable
from aegis.values import CallScope, Decision

__all__ = ["GrantRefused", "HeldFile", "joined", "narrower", "recorded", "refuse_change"]

_Result = TypeVar("_Result")
_Place = TypeVar("_Place", bound="HeldFile")


class GrantRefused(PermissionError):
    """An operation that a grant does not allow. ``why`` is the rule, as :mod:`aegis.policy.filesystem` names it.

    Its error number is ``EPERM``, as for operations that the system does not permit.
    """

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, os.strerror(errno.EPERM))
        self.why = why


def refuse_change(path: str) -> GrantRefused:
    """Return the error for a change beneath a read-only grant, or for a path that leaves it."""
    if not leaves_its_grant(path):
        return GrantRefused(READ_ONLY)
    return GrantRefused(ABSOLUTE if path.startswith("/") else LEAVES)


class HeldFile(Protocol):
    """A directory or file that the guest holds: its path in the guest's names, and whether its grant allows changes."""

    @property
    def label(self) -> str: ...
    @property
    def writable(self) -> bool: ...


def recorded(scope: CallScope, action: str, held: HeldFile, path: str, function: Callable[[], _Result]) -> _Result:
    """Call ``function`` and record whether the grant allowed it. ``path`` is relative to ``held``, empty for itself.

    Allowed operations are recorded only with a subscriber, and mere look-ups never.
    """
    try:
        result = function()
    except GrantRefused as refused:
        _record(scope, action, held, path, refused.why)
        raise
    if scope.listens and action != "look at":
        _record(scope, action, held, path)
    return result


def _record(scope: CallScope, action: str, held: HeldFile, path: str, why: str = "") -> None:
    """Record a denial by the rule ``why``, or that the operation was allowed."""
    target = path if path.startswith("/") else joined(held.label, path)
    rule = f"{'read-write' if held.writable else 'read-only'} {printable(held.label)}"
    only_read = why == READ_ONLY
    wanted = target if only_read and action == "write" else ""
    rule = rule if only_read or not why else why
    scope.decided(
        Decision(capability="filesystem", action=action, target=target, allowed=not why, rule=rule, wanted=wanted)
    )


def narrower(source: _Place, old: str, target: _Place, new: str) -> tuple[_Place, str]:
    """Return that of two directories whose grant decides a link or move between them: the one that allows less."""
    return (target, new) if source.writable else (source, old)


def joined(label: str, path: str) -> str:
    """Return a path in the guest's names, for reports."""
    if not path:
        return label
    return path if label == "." else f"{label.rstrip('/')}/{path}"
