"""No directory can be made any more. The fork server imports this module once it is ready for workers."""

from __future__ import annotations

from typing import NoReturn

from aegis.isolation.confine import process


def refused() -> NoReturn:
    """Stand for ``private_directory``."""
    raise PermissionError(13, "no directory can be made")


process.private_directory = refused
