"""Write TOML of the shapes that policy files have: the standard library has a reader alone.

The text is ASCII. Other characters are escaped, so that the text is the same in every encoding of a terminal or file,
and shows characters that a terminal does not draw.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from aegis.errors import PolicyError

__all__ = ["toml_document", "toml_string"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_NOT_UNICODE = "text is not valid Unicode, which a policy file must be: name it otherwise"
_MAX_LINE_CHARACTERS = 100


class _NotUnicode(PolicyError):
    """A text has a lone surrogate."""


def toml_document(values: Mapping[str, Any]) -> str:
    """Return a TOML document with ``values``: text, numbers, booleans, lists and tables of these, in their order.

    Raise :class:`~aegis.errors.PolicyError` for any other value, which the message names by its dotted key, and for
    text that is not Unicode.
    """
    return "\n".join("\n".join(block) + "\n" for block in _blocks(values, ()))


def toml_string(text: str) -> str:
    """Return ``text`` as a basic string of TOML; raise ``PolicyError`` for lone surrogates, which TOML cannot hold."""
    return f'"{"".join(map(_character, text))}"'


def _character(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if " " <= char <= "~":
        return char
    if "\ud800" <= char <= "\udfff":
        raise _NotUnicode(_NOT_UNICODE)
    return f"\\u{ord(char):04X}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08X}"


def _blocks(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[list[str]]:
    """Yield the lines of a table, and then of each table inside it; a table of tables alone needs no header."""
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {_value(value, (*path, key))}" for key, value in plain.items()]
    if path and (lines or len(plain) == len(table)):
        yield [f"[{'.'.join(map(_key, path))}]", *lines]
    elif lines:
        yield lines
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _blocks(value, (*path, key))


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else toml_string(key)


def _value(value: Any, path: tuple[str, ...]) -> str:
    try:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            return toml_string(value)
        if isinstance(value, int) or (isinstance(value, float) and isfinite(value)):
            return repr(value)
        if isinstance(value, list):
            return _list([_value(item, path) for item in value])
        if isinstance(value, Mapping):
            inner = (f"{_key(key)} = {_value(item, (*path, key))}" for key, item in value.items())
            return f"{{ {', '.join(inner)} }}"
    except _NotUnicode:
        raise PolicyError(f"{'.'.join(path)}: {_NOT_UNICODE}") from None
    kind = type(value).__name__
    raise PolicyError(f"{'.'.join(path)}: a {kind} is an object of the program, which a policy file cannot hold")


def _list(items: list[str]) -> str:
    """Return a list on one line, or each item on a line of its own if that is long or the items are tables."""
    line = f"[{', '.join(items)}]"
    if len(line) <= _MAX_LINE_CHARACTERS and not any(item.startswith("{") for item in items):
        return line
    return "[\n" + "".join(f"    {item},\n" for item in items) + "]"
