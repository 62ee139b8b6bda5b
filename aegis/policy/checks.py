"""Checks of the values that capabilities are made from; each raises ``PolicyError`` for a wrong value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aegis.errors import PolicyError
from aegis.support.lean import Any

__all__ = ["pairs", "strings", "text_of", "unicode_text", "whole_number"]


def pairs(value: object, where: str = "environment") -> Iterable[tuple[object, object]]:
    """Return the items of a mapping, or of a list of pairs."""
    items = value.items() if isinstance(value, Mapping) else value
    listed: list[Any] = list(items) if isinstance(items, Iterable) else [None]
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in listed):
        raise PolicyError(f'{where}.set: expected names with their values, such as {{"TZ": "UTC"}}')
    return listed


def whole_number(value: object, what: str) -> None:
    """Reject a value that is not a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise PolicyError(f"{what} must be a whole number, not {type(value).__name__}")


def text_of(value: object, what: str) -> str:
    """Return a value that is text."""
    if not isinstance(value, str):
        raise PolicyError(f"{what}: expected text, not {type(value).__name__}")
    return value


def strings(value: object, what: str) -> Iterable[str]:
    """Return a value that holds several values, and is not text itself."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise PolicyError(f'{what}: expected a list of names, such as ["LANG"]')
    return value


def unicode_text(text: str, what: str, where: str = "environment") -> str:
    """Return a text without lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PolicyError(f"{where}: {what} is not valid Unicode, which WASI strings must be") from None
    return text
