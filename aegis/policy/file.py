"""Parse the policy file, ``aegis.toml``; every mistake raises an error with its line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aegis.errors import PolicyError
from aegis.limits import Limits, parse_limit
from aegis.policy.capabilities import declaration, row_of
from aegis.policy.filesystem import absolute, split_grant
from aegis.policy.keys import keys
from aegis.policy.policy import Policy, checked_providers
from aegis.policy.toml_lines import ValuePath, line_of
from aegis.policy.toml_table import PolicyText, TomlTable, is_number
from aegis.support.proposals import checked_proposals

if TYPE_CHECKING:
    from aegis.policy.isolation import Isolation

__all__ = [
    "MAX_POLICY_BYTES",
    "decode_policy",
    "load_policy",
    "parse_policy",
    "position_of_bucket",
    "position_of_grant",
]

_SPELLINGS = {"memory_bytes": "memory", "timeout_seconds": "timeout"}
_EXAMPLES = {"memory": "64MiB", "timeout": "30s"}
MAX_POLICY_BYTES = 1 << 20


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Return the policy in the file at ``path``; relative paths in it are relative to the file's directory.

    Raise :class:`~aegis.errors.PolicyError` with the line of the first mistake, or if the file cannot be read.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            data = file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise PolicyError(
            f"cannot be read: {(error.strerror or 'error').lower()}: name a policy file", source=name
        ) from None
    policy = decode_policy(data, base=os.path.dirname(os.path.abspath(name)), source=name)
    return replace(policy, sources=(os.path.abspath(name),))


def position_of_grant(sources: Sequence[str], host: str) -> tuple[str | None, int | None]:
    """Return the policy file among ``sources`` that grants the absolute path ``host``, and the line of the grant."""

    def match(data: Mapping[str, Any], base: str) -> ValuePath | None:
        for n, entry in enumerate(data["capabilities"]["filesystem"]["paths"]):
            text = entry if isinstance(entry, str) else entry["path"]
            if absolute(split_grant(text)[0], base) == host:
                return ("capabilities", "filesystem", "paths", n)
        return None

    return _position(sources, match)


def position_of_bucket(sources: Sequence[str], name: str) -> tuple[str | None, int | None]:
    """Return the policy file among ``sources`` that grants the key-value bucket ``name``, and the line of the grant."""

    def match(data: Mapping[str, Any], base: str) -> ValuePath | None:
        buckets = data["capabilities"]["keyvalue"]["buckets"]
        return ("capabilities", "keyvalue", "buckets", name) if name in buckets else None

    return _position(sources, match)


def _position(
    sources: Sequence[str], match: Callable[[Mapping[str, Any], str], ValuePath | None]
) -> tuple[str | None, int | None]:
    """Return the first of ``sources`` with a matching value, and its line; ``None`` twice if there is none.

    The files were valid when the policy was read, and may have changed since.
    """
    import tomllib

    for source in sources:
        try:
            with open(source, "rb") as file:
                text = file.read(MAX_POLICY_BYTES).decode("utf-8-sig")
            path = match(tomllib.loads(text), os.path.dirname(os.path.abspath(source)))
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            continue
        if path is not None:
            return source, line_of(text, path)
    return None, None


def decode_policy(data: bytes, *, base: str | None = None, source: str) -> Policy:
    """Parse the bytes of a policy file; reject a file above the size limit rather than truncate it."""
    if len(data) > MAX_POLICY_BYTES:
        raise PolicyError("is larger than 1 MiB, the maximum for a policy file", source=source)
    try:
        text = data.decode("utf-8-sig")  # some editors write a byte order mark
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PolicyError("is not UTF-8 text", source=source, line=line) from None
    return parse_policy(text, base=base, source=source)


def parse_policy(text: str, *, base: str | None = None, source: str = "policy") -> Policy:
    """Return the policy in ``text``, the contents of a policy file.

    Relative paths are relative to ``base`` (default: the working directory). ``source`` is the file name for errors.
    Raise :class:`~aegis.errors.PolicyError` with the line of the first mistake.

    >>> parse_policy("limits.memory = '1MiB'").limits.memory
    1048576
    """
    import tomllib

    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise PolicyError("is nested too deeply for a policy file", source=source) from None
    except ValueError as error:  # a TOMLDecodeError, or Python's limit on the digits of an integer
        raise _invalid(str(error), text, source) from None
    file = PolicyText(text, os.path.abspath(base or os.curdir), source)
    return _PolicyReader(TomlTable(data, (), file)).policy()


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
                tables.known(keys("capabilities"))  # raises an error that lists the capabilities
                continue
            table = tables.table(name)
            table.known(declared.tables()[""])
            granted[name] = tables.at((name,), declared.read, table)
            self._named.update(f"{name}.{key}" for key in table.values)
        return granted

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

    def _proposals(self) -> tuple[str, ...]:
        table = self._top.table("engine")
        table.known(keys("engine"))
        return table.at(("proposals",), checked_proposals, table.strings("proposals"))

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
            name = _SPELLINGS.get(key, key)
            if name in found:
                both = " and as ".join(k for k in table.values if _SPELLINGS.get(k, k) == name)
                raise table.error(f"{name} is given twice, as {both}: keep one", key)
            if key in _SPELLINGS and not is_number(value):
                raise table.error(
                    f'{key} must be a number: for a value with a unit write {name} = "{_EXAMPLES[name]}"', key
                )
            found[name] = table.at((key,), parse_limit, name, None if value == "none" else value)
        self._named.update(f"limits.{name}" for name in found)
        return table.at((), Limits, **found)
