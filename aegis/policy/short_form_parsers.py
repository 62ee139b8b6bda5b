"""The conversions of short forms that the declarations of capabilities use; :mod:`.short_forms` lists the forms."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from aegis.support.lean import Any

__all__ = ["parsed", "settings", "texts"]


def texts(value: Any) -> list[Any]:
    """Return the texts or paths of a short form as a list."""
    return [value] if isinstance(value, (str, os.PathLike)) else list(value)


def settings(kind: Any) -> Callable[[Any], Any]:
    """Return the conversion of a mapping, or of texts ``NAME=VALUE``, to a capability with the field ``set``."""

    def convert(value: Any) -> Any:
        if isinstance(value, Mapping):
            return kind(set=value)
        made = kind()
        for text in texts(value):
            made += kind.parse(text)
        return made

    return convert


def parsed(kind: Any) -> Callable[[Any], Any]:
    """Return the conversion of one text to a capability."""
    return lambda value: kind.parse(value) if isinstance(value, str) else value
