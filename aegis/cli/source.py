"""Where a command's module comes from: a file, or standard input."""

from __future__ import annotations

import sys

from aegis.engine.artifact import read_file
from aegis.limits import Limits

__all__ = ["read_artifact"]


def read_artifact(path: str, limits: Limits) -> bytes:
    """Return the module at ``path``, or on standard input for ``-``, no further than the size limit."""
    if path != "-":
        return read_file(path, limits)
    return sys.stdin.buffer.read(-1 if limits.module_size is None else limits.module_size + 1)
