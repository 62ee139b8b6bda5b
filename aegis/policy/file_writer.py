"""Write a policy as the text of a policy file, the inverse of :mod:`aegis.policy.reader`.

Each capability writes the keys that its declaration lists. The text is read again before it is returned, so a key that
the writer and the reader understand differently is an error and never another policy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from aegis.errors import PolicyError
from aegis.limits import GIB, KIB, LIMIT_ROWS, MIB, SIGNED_64, Limits, parse_bytes
from aegis.policy.capabilities import CAPABILITIES, capability_class, declaration
from aegis.policy.declaration import Declaration, Key
from aegis.policy.file import MAX_POLICY_BYTES
from aegis.policy.isolation import FIELDS, Isolation
from aegis.policy.keys import keys
from aegis.policy.merging import named_below
from aegis.policy.policy import Policy
from aegis.policy.reader import policy_of, toml_values
from aegis.policy.toml_writer import toml_document
from aegis.text import printable

__all__ = ["dump_policy"]

_SIZES = (("GiB", GIB), ("MiB", MIB), ("KiB", KIB))


def dump_policy(policy: Policy) -> str:
    """Return the text of a policy file that states ``policy``; :func:`~aegis.load_policy` reads it again.

    Paths in it are absolute. The file names the scalar keys that the policy names, so it also merges like the policy.
    Raise :class:`~aegis.errors.PolicyError` if a file cannot state the policy: objects of the program, standard
    streams, and values that no key has a notation for.

    >>> print(dump_policy(Policy.from_keywords(timeout="5s", clock="system")), end="")
    [limits]
    timeout = 5
    <BLANKLINE>
    [capabilities.clock]
    mode = "system"
    """
    text = toml_document(_values(policy))
    if len(text) > MAX_POLICY_BYTES:
        raise PolicyError(f"the policy is larger than a policy file may be ({len(text):,}/{MAX_POLICY_BYTES:,} bytes)")
    again = policy_of(*toml_values(text, None, "the written policy"))
    for name in ("limits", "isolation", "imports", "proposals", *(row.name for row in CAPABILITIES)):
        if getattr(again, name) != getattr(policy, name):
            shown = printable(repr(getattr(policy, name)), 300)
            raise PolicyError(f"{name}: a policy file has no notation for {shown}: state it in Python")
    return text


def _values(policy: Policy) -> dict[str, Any]:
    tables = {
        "limits": _limits(policy),
        "capabilities": _capabilities(policy),
        "isolation": _isolation(policy),
        "imports": _imports(policy.imports),
        "engine": {"proposals": list(policy.proposals)} if policy.proposals else {},
    }
    return {name: table for name, table in tables.items() if table or (name == "isolation" and policy.isolation)}


def _limits(policy: Policy) -> dict[str, Any]:
    named, usual = named_below("limits", policy.named), Limits()
    found = {}
    for row in LIMIT_ROWS:
        value = getattr(policy.limits, row.name)
        if row.name in named or value != getattr(usual, row.name):
            found[row.name] = _scalar(value, size=row.parse is parse_bytes)
    return found


def _isolation(policy: Policy) -> dict[str, Any]:
    if policy.isolation is None:
        return {}
    written = {name: _stated(keys("isolation")[name], getattr(policy.isolation, name)) for name in FIELDS}
    usual = {name: _stated(keys("isolation")[name], getattr(Isolation(), name)) for name in FIELDS}
    return _differing(written, usual, named_below("isolation", policy.named))


def _imports(pairs: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    return {interface: {"provider": provider} for interface, provider in pairs}


def _capabilities(policy: Policy) -> dict[str, Any]:
    found = {}
    for row in CAPABILITIES:
        granted, usual, declared = getattr(policy, row.name), capability_class(row)(), declaration(row.name)
        if granted is None or (granted == usual and declared.read is None):
            continue
        if declared.read is None:
            raise PolicyError(
                f"{row.name}: a policy file cannot state it, because it belongs to one run: leave it out of the policy"
            )
        named = named_below(row.name, policy.named)
        table = _differing(_written(declared, granted), _written(declared, usual), named)
        if table or row.optional:
            found[row.name] = table
    return found


def _written(declared: Declaration, granted: Any) -> Mapping[str, Any]:
    """Return the value of each key of a capability's table."""
    if declared.write is not None:
        return declared.write(granted)
    known = declared.tables()[""].items()
    return {key: _stated(form, getattr(granted, key, getattr(granted, f"{key}_", None))) for key, form in known}


def _stated(key: Key, value: Any) -> Any:
    """Return the value of a field in the form of its key."""
    if key.form.startswith("table"):
        return dict(value)
    if key.form.startswith("list"):
        return [*map(str, value)]
    return _scalar(value, size=key.form.startswith("size"))


def _scalar(value: Any, *, size: bool) -> Any:
    """Return a scalar as it stands in a file: ``none`` for a lifted limit, a size in the largest unit that is exact."""
    if value is None:
        return "none"
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if size and 0 < value <= SIGNED_64:
        return next((f"{value // scale}{unit}" for unit, scale in _SIZES if value % scale == 0), value)
    return value


def _differing(written: Mapping[str, Any], usual: Mapping[str, Any], named: Collection[str]) -> dict[str, Any]:
    """Return the values of the keys that are named or have another value than by default."""
    return {key: value for key, value in written.items() if key in named or value != usual[key]}
