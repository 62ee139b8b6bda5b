"""The files that a command line names for Aegis itself: none may be within reach of the guest that it runs."""

from __future__ import annotations

from collections.abc import Mapping

from aegis.support.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from aegis.policy import Policy

__all__ = ["refuse_shared_files"]

_REASONS = {
    "--events": "what --events writes to: a guest could choose what is overwritten",
    "--out": "what --out writes to: a guest could choose what is overwritten",
    "--corpus": "what --corpus reads and writes: a guest could choose what is overwritten",
    "--replay": "what --replay reads: a guest could choose what is called",
}


def refuse_shared_files(policy: Policy, named: Mapping[str, str | None]) -> None:
    """Raise ``PolicyError`` if a grant cannot be had, or would let a guest change a file that Aegis uses.

    ``named`` has paths by the option that names them; this comes before any of them is opened. The artifact is not
    among them: it is untrusted in any case, and ``--allow-write . app.wasm`` is common.
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
    check_filesystem(policy.filesystem, (*protected, *protected_by(policy)))
