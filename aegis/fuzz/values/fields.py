"""Mutations of texts and bytes by their lines and fields: the parts between separators, such as headers of a message.

A mutation at a random place hardly ever moves a whole line of one input into another one. These do, so that lines that
the guest accepted in different inputs come together.
"""

from __future__ import annotations

from random import Random
from typing import Any

__all__ = ["fields_changed", "fields_joined"]

_SEPARATORS = ("\r\n", "\n", "\r", ";", ",", "&", "|", " ", "\t", "/", ".", ":", "=", "-")
_OCTET_SEPARATORS = tuple(separator.encode() for separator in _SEPARATORS)
_LINE_KINDS = 3
"""How many of the separators end lines; those that occur in a value are drawn first."""
_MAX_FIELD_ENTRIES = 64
"""Most fields of a value that is changed by fields."""


def fields_joined(rng: Random, one: Any, two: Any) -> Any:
    """Return a text or bytes with fields of another one inserted, or in the place of its own; ``one`` without any."""
    separator = _separator(rng, one, two)
    if separator is None:
        return one
    fields, others = one.split(separator), two.split(separator)
    if len(fields) > _MAX_FIELD_ENTRIES or len(others) > _MAX_FIELD_ENTRIES:
        return one
    start = int(rng.random() * len(others))
    chosen = others[start : start + (1 if rng.random() < 0.7 else 1 + int(rng.random() * len(others)))]
    at = int(rng.random() * (len(fields) + 1))
    fields[at : at + (rng.random() < 0.3)] = chosen
    return separator.join(fields)


def fields_changed(rng: Random, value: Any, word: Any) -> Any:
    """Return a text or bytes with a field removed, repeated, moved, or emptied, or with ``word`` as a new one."""
    separator = _separator(rng, value, value)
    if separator is None:
        return value
    fields = value.split(separator)
    if len(fields) > _MAX_FIELD_ENTRIES:
        return value
    at, to = int(rng.random() * len(fields)), int(rng.random() * (len(fields) + 1))
    chance = rng.random()
    if chance < 0.2:
        del fields[at]
    elif chance < 0.4:
        fields.insert(to, fields[at])
    elif chance < 0.55:
        fields.insert(to, fields.pop(at))
    elif chance < 0.65:
        fields.insert(to, value[:0])
    elif chance < 0.75:
        fields[at] = value[:0]
    elif word is not None:
        fields[to : to + (chance < 0.85)] = [word]
    return separator.join(fields)


def _separator(rng: Random, one: Any, two: Any) -> Any:
    """Return a separator that occurs in one of two values, mostly the end of a line; ``None`` if there is none."""
    known: tuple[Any, ...] = _SEPARATORS if isinstance(one, str) else _OCTET_SEPARATORS
    found = [separator for separator in known if separator in one or separator in two]
    if not found:
        return None
    if found[0] in known[:_LINE_KINDS] and rng.random() < 0.5:
        return found[0]
    return found[int(rng.random() * len(found))]
