"""Reject grants that let a guest write a file that the command line names for Aegis itself."""

from __future__ import annotations

from collections.abc import Mapping

from aegis.support.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from aegis.policy import Policy

__all__ = ["refuse_shared_files"]

_REASONS = {
    "--events": "the file of --events: a guest could choose which file is overwritten",
    "--out": "the directory of --out: a guest could choose which file is overwritten",
    "--corpus": "the directory of --corpus: a guest could choose which file is overwritten",
    "--replay": "the file of --replay: a guest could choose the replayed calls",
    "--continue": "the directory of --continue: a guest could choose the findings",
    "--export": "the directory of --export: a guest could choose which file is overwritten",
    "--baseline": "the file of --baseline: a guest could hide findings",
    "--sarif": "the file of --sarif: a guest could change the findings",
    "--junit": "the file of --junit: a guest could change the findings",
}


def refuse_shared_files(policy: Policy, named: Mapping[str, str | None]) -> None:
    """Raise ``PolicyError`` if a grant is impossible, or would let a guest change a file that Aegis uses.

    ``named`` maps options to their paths. Call this before any of these files is opened. The artifact is not included:
    it is untrusted anyway, and ``--allow-write . app.wasm`` is a common command line.
    """
    if not policy.filesystem.paths:
        return
    from aegis.host.files.preopens import check_filesystem
    from aegis.host.files.protected import Protected, protected_by

    protected = [
        Protected(path=path, reason=_REASONS[option], inside=option == "--corpus")
        for option, path in named.items()
        if path is not None
    ]
    check_filesystem(policy.filesystem, (*protected, *protected_by(policy)), policy.sources)
