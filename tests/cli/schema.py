"""A validator for the part of JSON Schema that the schema of the command's documents uses."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.command import ROOT

SCHEMA: dict[str, Any] = json.loads((ROOT / "aegis" / "cli" / "documents.schema.json").read_text())
_KNOWN = {
    "$schema", "$defs", "$ref", "title", "description", "type", "properties", "required", "additionalProperties",
    "items", "enum", "const", "anyOf",
}  # fmt: skip
_TYPES: dict[str, Any] = {
    "null": type(None), "boolean": bool, "integer": int, "number": (int, float), "string": str, "array": list,
    "object": dict,
}  # fmt: skip


def faults(value: Any, schema: Any = SCHEMA, at: str = "$") -> list[str]:
    """Return where ``value`` violates ``schema``; fail for a keyword that this validator does not know."""
    if isinstance(schema, bool):
        return [] if schema else [f"{at}: not allowed"]
    assert schema.keys() <= _KNOWN, schema.keys() - _KNOWN
    if "$ref" in schema:
        return faults(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], at)
    found = []
    if "anyOf" in schema and all(faults(value, one, at) for one in schema["anyOf"]):
        found.append(f"{at}: {json.dumps(value)[:200]} matches no alternative")
    if "const" in schema and (value, type(value)) != (schema["const"], type(schema["const"])):
        found.append(f"{at}: {value!r} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{at}: {value!r} is none of {schema['enum']}")
    if "type" in schema and not _has_type(value, schema["type"]):
        found.append(f"{at}: {value!r} is not of type {schema['type']}")
    if isinstance(value, dict):
        found += [f"{at}: {name} is missing" for name in schema.get("required", ()) if name not in value]
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        for name, item in value.items():
            found += faults(item, known.get(name, others), f"{at}.{name}")
    if isinstance(value, list):
        for number, item in enumerate(value):
            found += faults(item, schema.get("items", True), f"{at}[{number}]")
    return found


def _has_type(value: Any, types: str | list[str]) -> bool:
    names = [types] if isinstance(types, str) else types
    return any(isinstance(value, _TYPES[n]) and (n == "boolean" or not isinstance(value, bool)) for n in names)
