"""Check, before the first guest of a runtime runs, that the files and directories that its policy names exist.

The guest's first use of a file would be the other moment to notice: in the middle of a job, for some inputs only.
Nothing stays open, because a directory may be replaced until a sandbox opens it; the sandbox repeats the checks.
"""

from __future__ import annotations

import os

from aegis.errors import PolicyError
from aegis.host.files.preopens import check_filesystem
from aegis.support.descriptors import standard_reserved
from aegis.support.lean import TYPE_CHECKING
from aegis.text import quoted

if TYPE_CHECKING:
    from aegis.policy import Policy

__all__ = ["check_named_files"]


def check_named_files(policy: Policy) -> None:
    """Raise ``PolicyError`` for a granted path that cannot be granted, and for an input or a store without its file.

    The error has the file and line of the policy that names the path.
    """
    with standard_reserved():
        check_filesystem(policy.filesystem, (), policy.sources)
        stdin = policy.stdio.stdin_file
        if stdin is not None:
            _check_input(stdin)
        for bucket, path in () if policy.keyvalue is None else policy.keyvalue.files():
            _check_store(policy, bucket, path)


def _check_input(path: str) -> None:
    try:
        os.stat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PolicyError(
            f"stdin: {quoted(path)} cannot be read: {(reason or 'error').lower()}: name a file that this user can read"
        ) from None


def _check_store(policy: Policy, bucket: str, path: str) -> None:
    """Check the directory of a SQLite file, which itself is created at its first use."""
    folder = os.path.dirname(path)
    try:
        os.stat(os.path.join(folder, "."))
    except OSError as error:
        from aegis.policy.positions import position_of_bucket

        source, line = position_of_bucket(policy.sources, bucket)
        reason = (error.strerror or "error").lower()
        message = f"keyvalue: the bucket {bucket!r} has no directory {quoted(folder)} for its file: {reason}"
        raise PolicyError(f"{message}: create it first", source=source, line=line) from None
