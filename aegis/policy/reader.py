"""Convert the text of a policy file to a policy; every mistake raises an error with its line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aegis.errors import PolicyError
from aegis.limits import Limits, parse_limit
from aegis.policy.capabilities import declaration, row_of
from aegis.policy.keys import keys
from aegis.policy.policy import Policy, checked_providers
from aegis.policy.toml_table import PolicyText, TomlTable, is_number
from aegis.support.proposals import checked_proposals

if TYPE_CHECKING:
    from aegis.policy.isolation import Isolation

__all__ = ["SPELLINGS", "all_faults", "policy_of", "toml_values"]

SPELLINGS = {"memory_bytes": "memory", "timeout_seconds": "timeout"}
"""Keys of ``[limits]`` that are plain numbers, with the limits that they set."""
_EXAMPLES = {"memory": "64MiB", "timeout": "30s"}
_MAX_REPORTED_ITEMS = 100


def toml_values(text: str, base: str | None, source: str) -> tuple[dict[str, Any], PolicyText]:
    """Parse TOML; return its values, and its text, which knows the line of each.

    Relative paths are relative to ``base`` (default: the working directory). ``source`` is the file name for errors.
    """
    import tomllib

    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise PolicyError("is nested too deeply for a policy file", source=source) from None
    except ValueError as error:  # a TOMLDecodeError, or Python's limit on the digits of an integer
        raise _invalid(str(error), text, source) from None
    return values, PolicyText(text, os.path.abspath(base or os.curdir), source)


def policy_of(values: Mapping[str, Any], text: PolicyText) -> Policy:
    """Return the policy that parsed TOML states, without the files that it includes."""
    return _PolicyReader(TomlTable(values, (), text)).policy()


def all_faults(values: Mapping[str, Any], text: PolicyText) -> list[PolicyError]:
    """Return the errors of all mistakes, in the order of their lines, but not more than 100.

    Each faulty value is removed, and the rest is read again.
    """
    rest = text.copied(values)
    found: list[PolicyError] = []
    while len(found) < _MAX_REPORTED_ITEMS:
        try:
            policy_of(rest, text)
            break
        except PolicyError as error:
            found.append(error)
            if not text.removed_fault(rest):
                break
    return sorted(found, key=lambda error: error.line or 0)


def _invalid(message: str, text: str, source: str) -> PolicyError:
    found = re.search(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$", message)
    if found is None:
        return PolicyError("not valid TOML: a number has too many digits", source=source)
    line = int(found[1] or text.count("\n") + 1)
    return PolicyError(f"not valid TOML: {message[: found.start()]}", source=source, line=line)


class _PolicyReader:
    """Converts parsed TOML to a policy, and collects the scalar keys that the file names."""

    def __init__(self, top: TomlTable) -> None:
        self._top = top
        self._named: set[str] = set()

    def policy(self) -> Policy:
        """Return the policy."""
        self._top.known(keys(""))
        granted = self._capabilities(self._top.table("capabilities"))
        isolation, limits, imports = self._isolation(), self._limits(), self._imports()
        named, proposals = frozenset(self._named), self._proposals()
        return self._top.at(
            (), Policy, limits=limits, imports=imports, isolation=isolation, proposals=proposals, named=named, **granted
        )  # fmt: skip

    def _capabilities(self, tables: TomlTable) -> dict[str, Any]:
        """Read each table of ``[capabilities]`` by the declaration of its capability, which is imported only now."""
        granted = {}
        for name in tables.values:
            declared = None if row_of(name) is None else declaration(name)
            if declared is None or declared.read is None:
                raise tables.unknown(name, keys("capabilities"))
            table = tables.table(name)
            table.known(declared.tables()[""])
            granted[name] = tables.at((name,), declared.read, table)
            self._named.update(f"{name}.{key}" for key in table.values)
        return granted

    def _proposals(self) -> tuple[str, ...]:
        table = self._top.table("engine")
        table.known(keys("engine"))
        return table.at(("proposals",), checked_proposals, table.strings("proposals"))

    def _isolation(self) -> Isolation | None:
        """Read ``[isolation]``: the table enables isolation unless it contains ``enabled = false``."""
        if "isolation" not in self._top.values:
            return None
        from aegis.policy.isolation import Isolation

        table = self._top.table("isolation")
        table.known(keys("isolation"))
        given: dict[str, Any] = {}
        for key, value in table.values.items():
            if key != "enabled":
                given[key] = None if value == "none" else value
                table.at((key,), Isolation, **{key: given[key]})
        isolation = table.at((), Isolation, **given)
        if not table.flag("enabled", True):
            return None
        self._named.update(f"isolation.{key}" for key in given)
        return isolation

    def _imports(self) -> tuple[tuple[str, str], ...]:
        found: list[tuple[str, str]] = []
        interfaces = self._top.table("imports")
        for name in interfaces.values:
            table = interfaces.table(name)
            table.known(keys("imports"))
            if "provider" not in table.values:
                raise table.error('the import has no provider: write provider = "module:name"')
            found += table.at(("provider",), checked_providers, [(name, table.string("provider"))])
        return tuple(found)

    def _limits(self) -> Limits:
        table = self._top.table("limits")
        table.known(keys("limits"))
        found: dict[str, Any] = {}
        for key, value in table.values.items():
            name = SPELLINGS.get(key, key)
            if name in found:
                both = " and as ".join(k for k in table.values if SPELLINGS.get(k, k) == name)
                raise table.error(f"{name} is given twice, as {both}: keep one", key)
            if key in SPELLINGS and not is_number(value):
                raise table.error(
                    f'{key} must be a number: for a value with a unit write {name} = "{_EXAMPLES[name]}"', key
                )
            found[name] = table.at((key,), parse_limit, name, None if value == "none" else value)
        self._named.update(f"limits.{name}" for name in found)
        return table.at((), Limits, **found)
