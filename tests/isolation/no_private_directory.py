"""No private directory can be created any more. The fork server imports this module once it is ready for workers."""

from __future__ import annotations

from typing import NoReturn

from aegis.isolation.confine import process


def refused() -> NoReturn:
    """Replace ``private_directory``, and fail."""
    raise PermissionError(13, "no directory can be made")


process.private_directory = refused
