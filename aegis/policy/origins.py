"""List the statements of merged policy files, each with the file and line that it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from aegis.limits import LIMIT_NAMES, format_limit
from aegis.policy.capabilities import CAPABILITIES
from aegis.policy.isolation import FIELDS
from aegis.policy.parts import PolicyPart, table_pieces
from aegis.policy.policy import Policy
from aegis.policy.reader import SPELLINGS, policy_of
from aegis.policy.toml_lines import ValuePath

__all__ = ["PolicyStatement", "statements_of"]


class PolicyStatement(NamedTuple):
    """One statement of a policy, and its place: ``kind`` is the group in which it is shown."""

    kind: str
    text: str
    source: str
    line: int | None


def statements_of(parts: Sequence[PolicyPart], policy: Policy) -> Iterator[PolicyStatement]:
    """Yield the statements of ``policy``, which is merged from ``parts``, in the order in which they are shown.

    A statement that several files make has the place of the last, which decides.
    """
    found = _places(parts)
    for row in CAPABILITIES:
        statement = getattr(policy, row.name)
        denied = set() if statement is None else _denials(statement)
        for text in [] if statement is None else statement.describe():
            place = found.get((row.name, text)) or found.get(("capabilities", row.name)) or ("", None)
            yield PolicyStatement("denial" if text in denied else "grant", text, *place)
    for interface, provider in policy.imports:
        text = f"import {interface} provided by {provider}"
        yield PolicyStatement("import", text, *found["imports", interface])
    for name in policy.proposals:
        yield PolicyStatement("proposal", name, *found["proposals", name])
    if policy.isolation is not None:
        yield PolicyStatement("isolation", "a worker process for each sandbox", *found["isolation", ""])
        for name in FIELDS:
            if ("isolation", name) in found:
                text = f"{name} {_shown(getattr(policy.isolation, name))}"
                yield PolicyStatement("isolation", text, *found["isolation", name])
    for name in LIMIT_NAMES:
        if ("limits", name) in found:
            value = getattr(policy.limits, name)
            text = f"{name} {'none' if value is None else format_limit(name, value)}"
            yield PolicyStatement("limit", text, *found["limits", name])


def _denials(statement: Any) -> set[str]:
    """Return those lines of a capability's description that take something away."""
    if getattr(statement, "mode", "") == "deny":
        return set(statement.describe())
    deny = getattr(statement, "deny", ())
    return set(type(statement)(deny=deny).describe()) if deny else set()


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


_Places = dict[tuple[str, str], tuple[str, int | None]]


def _places(parts: Iterable[PolicyPart]) -> _Places:
    """Return the file and line of each statement by its table and its text or key; the last file decides."""
    found: _Places = {}
    for part in parts:
        for group, text, path in _stated(part):
            found[group, text] = part.text.source, part.text.line(path)
    return found


def _stated(part: PolicyPart) -> Iterator[tuple[str, str, ValuePath]]:
    for key in part.values.get("limits", {}):
        yield "limits", SPELLINGS.get(key, key), ("limits", key)
    for interface in part.values.get("imports", {}):
        yield "imports", interface, ("imports", interface)
    for number, name in enumerate(part.policy.proposals):
        yield "proposals", name, ("engine", "proposals", number)
    isolation = part.policy.isolation
    if isolation is not None:
        yield "isolation", "", ("isolation",)
        for key in part.values["isolation"]:
            if key != "strict" or isolation.strict:  # a later policy never switches strict off
                yield "isolation", key, ("isolation", key)
    for name, table in part.values.get("capabilities", {}).items():
        yield "capabilities", name, ("capabilities", name)
        for path, piece in table_pieces(table):
            policy = policy_of({"capabilities": {name: piece}}, part.text)
            for text in getattr(policy, name).describe():
                yield name, text, ("capabilities", name, *path)
