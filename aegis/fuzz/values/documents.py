"""JSON documents: instances of a JSON schema, documents of given words, and mutations of a document.

A guest that takes a configuration as JSON rejects other texts. The schema that such a guest returns, and the keys that
its error messages name, lead to documents that it accepts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.fuzz.dictionary import Dictionary

__all__ = ["changed_document", "new_document"]

_MAX_DEPTH = 6
_NUMBERS = (0, 1, -1, 2, 3, 8, 9, 10, 16, 32, 64, 100, 255, 256, 1000, 65536, 2**31 - 1, 2**31, 2**53, 2**63, 2**64)
_FRACTIONS = (0.5, -0.5, 1.5, 0.1, 1e-9, 1e9, 1e300, -1e300)
_STRINGS = ("", "a", "0", "abc", "\u00a0", "\u00e9", "\U0001f600")


def new_document(rng: Random, dictionary: Dictionary) -> str:
    """Return a JSON document: mostly an instance of a schema that the guest returned, if there is one."""
    schemas = dictionary.documents
    if schemas and rng.random() < 0.8:
        schema = schemas[int(rng.random() * len(schemas))]
        return _written(_Sampler(rng, schema, dictionary).value(schema, 0))
    return _written(_any(rng, dictionary, 0, whole=True))


def changed_document(rng: Random, text: str, dictionary: Dictionary) -> str | None:
    """Return the document with one part changed, or ``None`` if the text is not a JSON object or array."""
    if text[:1] not in ("{", "["):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _written(_changed(rng, document, dictionary, 0))


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _changed(rng: Random, value: Any, dictionary: Dictionary, depth: int) -> Any:
    chance = rng.random()
    if depth < _MAX_DEPTH and value and isinstance(value, (dict, list)) and chance < 0.7:
        places = list(value) if isinstance(value, dict) else range(len(value))
        at = places[int(rng.random() * len(places))]
        value[at] = _changed(rng, value[at], dictionary, depth + 1)
        return value
    if isinstance(value, dict) and chance < 0.95:
        if value and chance < 0.8:
            value.pop(list(value)[int(rng.random() * len(value))])
        else:
            value[_word(rng, dictionary)] = _any(rng, dictionary, depth + 1)
        return value
    if isinstance(value, list) and chance < 0.95:
        return [*value, _changed(rng, json.loads(json.dumps(value[-1])), dictionary, depth + 1)] if value else [0]
    if isinstance(value, int) and not isinstance(value, bool) and chance < 0.5:
        return value + int(rng.random() * 9) - 4
    return _any(rng, dictionary, depth + 1)


def _any(rng: Random, dictionary: Dictionary, depth: int, *, whole: bool = False) -> Any:
    """Return any JSON value; ``whole``: mostly an object."""
    chance = rng.random()
    if depth < _MAX_DEPTH and (chance < 0.2 or (whole and chance < 0.85)):
        count = int(rng.random() ** 2 * 5) if depth else 1 + int(rng.random() ** 2 * 4)
        return {_word(rng, dictionary): _any(rng, dictionary, depth + 2) for _ in range(count)}
    if depth < _MAX_DEPTH and chance < 0.3:
        return [_any(rng, dictionary, depth + 2) for _ in range(int(rng.random() ** 2 * 5))]
    return _scalar(rng, dictionary)


def _scalar(rng: Random, dictionary: Dictionary) -> Any:
    chance = rng.random()
    if chance < 0.45:
        return _number(rng, dictionary)
    if chance < 0.55:
        return _FRACTIONS[int(rng.random() * len(_FRACTIONS))]
    if chance < 0.75:
        return _word(rng, dictionary)
    if chance < 0.8:
        return _STRINGS[int(rng.random() * len(_STRINGS))]
    return (None, True, False, 0)[int(rng.random() * 4)]


def _number(rng: Random, dictionary: Dictionary) -> int:
    if rng.random() < 0.25:
        known = dictionary.integer(rng, -(1 << 63), (1 << 64) - 1)
        if known is not None:
            return known
    return _NUMBERS[int(rng.random() * len(_NUMBERS))]


def _word(rng: Random, dictionary: Dictionary) -> str:
    keys = dictionary.keys
    if keys and rng.random() < 0.8:
        return keys[int(rng.random() * len(keys))]
    found = dictionary.text(rng)
    return "a" if found is None or len(found) > 64 else found


class _Sampler:
    """Draws instances of one schema. It knows the keywords that generators of schemas use (JSON Schema 2020-12)."""

    def __init__(self, rng: Random, root: Any, dictionary: Dictionary) -> None:
        self.rng, self.root, self.dictionary = rng, root, dictionary

    def value(self, schema: Any, depth: int) -> Any:
        """Return an instance of ``schema``, seldom of another type."""
        rng = self.rng
        if depth > 2 * _MAX_DEPTH or not isinstance(schema, dict):
            return _scalar(rng, self.dictionary)
        if "$ref" in schema:
            return self.value(self.resolved(schema["$ref"]), depth + 1)
        if "const" in schema:
            return schema["const"]
        for key in ("enum", "examples"):
            given = schema.get(key)
            if isinstance(given, list) and given and (key == "enum" or rng.random() < 0.5):
                return given[int(rng.random() * len(given))]
        if "default" in schema and rng.random() < 0.3:
            return schema["default"]
        found: Any = None
        for key in ("oneOf", "anyOf"):
            if isinstance(schema.get(key), list) and schema[key]:
                found = self.value(schema[key][int(rng.random() * len(schema[key]))], depth + 1)
        parts = schema.get("allOf")
        if isinstance(parts, list):
            for part in parts:
                found = _merged(found, self.value(part, depth + 1))
        if found is not None and "properties" not in schema:
            return found
        return _merged(found, self.typed(schema, depth))

    def resolved(self, reference: Any) -> Any:
        """Return the part of the schema to which a reference such as ``#/$defs/Name`` points (RFC 6901)."""
        at = self.root
        for part in str(reference).lstrip("#").strip("/").split("/"):
            part = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(at, dict) or part not in at:
                return None
            at = at[part]
        return at

    def typed(self, schema: Any, depth: int) -> Any:
        rng, kind = self.rng, schema.get("type")
        if isinstance(kind, list):
            kind = kind[int(rng.random() * len(kind))] if kind else None
        if kind == "object" or (kind is None and "properties" in schema):
            return self.object(schema, depth)
        if kind == "array":
            items = schema.get("prefixItems")
            if isinstance(items, list):
                return [self.value(item, depth + 1) for item in items]
            count = max(int(rng.random() ** 2 * 5), _bound(schema.get("minItems"), 0, 0, 64))
            return [self.value(schema.get("items"), depth + 1) for _ in range(count)]
        if kind in ("integer", "number"):
            return self.number(schema, whole=kind == "integer")
        if kind == "boolean":
            return rng.random() < 0.5
        if kind == "null":
            return None
        if kind == "string":
            return _word(rng, self.dictionary)
        return _scalar(rng, self.dictionary)

    def object(self, schema: Any, depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        required = schema.get("required")
        needed: Sequence[Any] = required if isinstance(required, list) else ()
        given = properties if isinstance(properties, dict) else {}
        chosen = [key for key in given if key in needed or self.rng.random() < 0.5]
        return {key: self.value(given[key], depth + 1) for key in chosen}

    def number(self, schema: Any, *, whole: bool) -> int | float:
        """Return a number within the bounds of the schema; the bounds and their neighbours are frequent."""
        rng = self.rng
        low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
        least, most = _bound(low, -(1 << 31), -(1 << 64), 1 << 64), _bound(high, 1 << 31, -(1 << 64), 1 << 64)
        chance = rng.random()
        if chance < 0.3 and isinstance(low, (int, float)):
            return least + int(rng.random() * 3)
        if chance < 0.5 and isinstance(high, (int, float)):
            return most - int(rng.random() * 3)
        if not whole and chance < 0.75:
            return _FRACTIONS[int(rng.random() * len(_FRACTIONS))]
        value = _number(rng, self.dictionary) if chance < 0.8 else int(rng.random() * 16)
        return value if least <= value <= most else least + value % max(1, most - least + 1)


def _merged(one: Any, two: Any) -> Any:
    return {**one, **two} if isinstance(one, dict) and isinstance(two, dict) else two if one is None else one


def _bound(value: Any, usual: int, least: int, most: int) -> int:
    """Return a bound of a schema as an integer in a range; the schema is untrusted, and may have infinities."""
    if not isinstance(value, (int, float)) or value != value:
        return usual
    return int(max(least, min(most, value)))
