"""The policy file, ``aegis.toml``: every mistake is an error that names its line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from aegis.errors import PolicyError
from aegis.limits import LIMIT_NAMES, Limits, parse_limit
from aegis.policy.capabilities import (
    ClockCapability,
    ConfigCapability,
    EnvironmentCapability,
    LoggingCapability,
    RandomCapability,
)
from aegis.policy.filesystem import FilesystemCapability, PathGrant, absolute, split_grant
from aegis.policy.policy import Policy, unknown
from aegis.policy.toml_lines import Path, line_of

if TYPE_CHECKING:
    from aegis.policy.isolation import Isolation

__all__ = ["MAX_POLICY_BYTES", "decode_policy", "load_policy", "parse_policy"]

_SPELLINGS = {"memory_bytes": "memory", "timeout_seconds": "timeout"}
_EXAMPLES = {"memory": "64MiB", "timeout": "30s"}
MAX_POLICY_BYTES = 1 << 20


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Read the policy file at ``path``; relative paths in it start at its folder.

    Raise :class:`~aegis.errors.PolicyError` with the line of the first mistake.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            data = file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise PolicyError(
            f"cannot be read: {(error.strerror or 'error').lower()}; name a policy file", source=name
        ) from None
    policy = decode_policy(data, base=os.path.dirname(os.path.abspath(name)), source=name)
    return replace(policy, sources=(os.path.abspath(name),))


def decode_policy(data: bytes, *, base: str | None = None, source: str) -> Policy:
    """Parse the bytes of a policy file. Bytes beyond the size limit are an error: a policy is never cut short."""
    if len(data) > MAX_POLICY_BYTES:
        raise PolicyError("is larger than 1 MiB, which no policy is", source=source)
    try:
        text = data.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PolicyError("is not UTF-8 text", source=source, line=line) from None
    return parse_policy(text, base=base, source=source)


def parse_policy(text: str, *, base: str | None = None, source: str = "policy") -> Policy:
    """Parse the text of a policy file; relative paths start at ``base``, by default here."""
    import tomllib

    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise PolicyError("is nested deeper than any policy", source=source) from None
    except ValueError as error:  # a TOMLDecodeError, or a number of too many digits
        raise _invalid(str(error), text, source) from None
    reader = _Reader(text, os.path.abspath(base or os.curdir), source)
    return reader.policy(data)


_Result = TypeVar("_Result")


def _invalid(message: str, text: str, source: str) -> PolicyError:
    found = re.search(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$", message)
    if found is None:
        return PolicyError("not valid TOML: a number has too many digits", source=source)
    line = int(found[1] or text.count("\n") + 1)
    return PolicyError(f"not valid TOML: {message[: found.start()]}", source=source, line=line)


class _Reader:
    """Turns parsed TOML into a policy; every method takes the path of what it reads, for the line."""

    def __init__(self, text: str, base: str, source: str) -> None:
        self._text, self._base, self._source = text, base, source

    def policy(self, data: Mapping[str, Any]) -> Policy:
        self._known(data, (), ("limits", "capabilities", "imports", "isolation"))
        capabilities = self._table(data.get("capabilities", {}), ("capabilities",))
        readers: dict[str, Callable[[Mapping[str, Any], Path], Any]] = {
            "filesystem": self._filesystem,
            "network": self._network,
            "environment": self._environment,
            "clock": self._clock,
            "random": self._random,
            "logging": self._logging,
            "config": self._config,
            "keyvalue": self._keyvalue,
        }
        self._known(capabilities, ("capabilities",), tuple(readers))
        granted = {}
        for name, value in capabilities.items():
            path = ("capabilities", name)
            granted[name] = self._at(path, readers[name], self._table(value, path), path)
        isolation = self._isolation(data)
        return self._at(
            (), Policy, limits=self._limits(data), imports=self._imports(data), isolation=isolation, **granted
        )

    def _isolation(self, data: Mapping[str, Any]) -> Isolation | None:
        """Read ``[isolation]``: the table alone switches it on, ``enabled = false`` off."""
        if "isolation" not in data:
            return None
        from aegis.policy.isolation import FIELDS, Isolation

        path: Path = ("isolation",)
        table = self._table(data["isolation"], path)
        self._known(table, path, ("enabled", *FIELDS))
        given: dict[str, Any] = {}
        for key, value in table.items():
            if key != "enabled":
                given[key] = None if value == "none" else value
                self._at((*path, key), Isolation, **{key: given[key]})
        isolation = self._at(path, Isolation, **given)
        return isolation if self._flag(table, "enabled", True, path) else None

    def _imports(self, data: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        from aegis.policy.policy import checked_providers

        found: list[tuple[str, str]] = []
        for name, value in self._table(data.get("imports", {}), ("imports",)).items():
            path = ("imports", name)
            table = self._table(value, path)
            self._known(table, path, ("provider",))
            if "provider" not in table:
                raise self._error("the import names no provider", path)
            provider = self._string(table["provider"], (*path, "provider"))
            found += self._at((*path, "provider"), checked_providers, [(name, provider)])
        return tuple(found)

    def _limits(self, data: Mapping[str, Any]) -> Limits:
        table = self._table(data.get("limits", {}), ("limits",))
        self._known(table, ("limits",), (*LIMIT_NAMES, *_SPELLINGS))
        found: dict[str, Any] = {}
        for key, value in table.items():
            name = _SPELLINGS.get(key, key)
            if name in found:
                both = " and as ".join(k for k in table if _SPELLINGS.get(k, k) == name)
                raise self._error(f"{name} is given twice, as {both}; keep one", ("limits", key))
            if key in _SPELLINGS and not _is_number(value):
                raise self._error(
                    f'{key} is a plain number; write {name} = "{_EXAMPLES[name]}" for one with a unit', ("limits", key)
                )
            lifted = value == "none"
            found[name] = self._at(("limits", key), parse_limit, name, None if lifted else value)
        return self._at(("limits",), Limits, **found)

    def _filesystem(self, table: Mapping[str, Any], path: Path) -> FilesystemCapability:
        self._known(table, path, ("paths",))
        entries = table.get("paths", [])
        if not isinstance(entries, list):
            raise self._error('paths is a list, such as [{ path = "./data", read = true }]', (*path, "paths"))
        grants = [self._grant(entry, (*path, "paths", n)) for n, entry in enumerate(entries)]
        paths = tuple(g for g in grants if g is not None)
        return self._at((*path, "paths"), lambda: FilesystemCapability(paths=paths))

    def _grant(self, entry: Any, path: Path) -> PathGrant | None:
        if isinstance(entry, str):
            entry = {"path": entry}
        table = self._table(entry, path)
        self._known(table, path, ("path", "guest", "read", "write"))
        if "path" not in table:
            raise self._error("the grant names no path", path)
        host, guest = self._at((*path, "path"), split_grant, self._string(table["path"], (*path, "path")))
        if "guest" in table:
            guest = self._string(table["guest"], (*path, "guest"))
        write = self._flag(table, "write", False, path)
        read = self._flag(table, "read", True, path)
        if not read and not write:
            return None
        if not read:
            raise self._error(
                "read = false with write = true: what may be written may be read; leave read out", (*path, "read")
            )
        return self._at(path, lambda: PathGrant(host=absolute(host, self._base), guest=guest, write=write))

    def _network(self, table: Mapping[str, Any], path: Path) -> Any:
        from aegis.policy.network import NetworkCapability

        self._known(table, path, ("allow", "deny", "listen"))
        rules = NetworkCapability()
        for key, value in table.items():
            for n, text in enumerate(self._list(value, (*path, key))):
                rules += self._at((*path, key, n), NetworkCapability, **{key: [text]})
        return rules

    def _environment(self, table: Mapping[str, Any], path: Path) -> EnvironmentCapability:
        self._known(table, path, ("set", "pass"))
        found = EnvironmentCapability()
        for name, value in self._table(table.get("set", {}), (*path, "set")).items():
            found += self._at((*path, "set", name), EnvironmentCapability, set=((name, value),))
        for n, name in enumerate(self._list(table.get("pass", []), (*path, "pass"))):
            found += self._at((*path, "pass", n), EnvironmentCapability, pass_=(name,))
        return found

    def _config(self, table: Mapping[str, Any], path: Path) -> ConfigCapability:
        self._known(table, path, ("set",))
        found = ConfigCapability()
        for name, value in self._table(table.get("set", {}), (*path, "set")).items():
            found += self._at((*path, "set", name), ConfigCapability, set=((name, value),))
        return found

    def _keyvalue(self, table: Mapping[str, Any], path: Path) -> Any:
        from aegis.policy.keyvalue import QUOTAS, KeyValueCapability

        self._known(table, path, ("buckets", *QUOTAS))
        found = KeyValueCapability()
        for name, value in self._table(table.get("buckets", {}), (*path, "buckets")).items():
            at = (*path, "buckets", name)
            found += self._at(at, KeyValueCapability.of, name, self._string(value, at), self._base)
        for name in QUOTAS:
            if name in table:
                value = None if table[name] == "none" else table[name]
                found = self._at((*path, name), replace, found, **{name: value})
        return found

    def _clock(self, table: Mapping[str, Any], path: Path) -> ClockCapability:
        self._known(table, path, ("mode",))
        return self._at(
            (*path, "mode"), ClockCapability.parse, self._string(table.get("mode", "virtual"), (*path, "mode"))
        )

    def _random(self, table: Mapping[str, Any], path: Path) -> RandomCapability:
        self._known(table, path, ("mode",))
        return self._at(
            (*path, "mode"), RandomCapability.parse, self._string(table.get("mode", "seed:0"), (*path, "mode"))
        )

    def _logging(self, table: Mapping[str, Any], path: Path) -> LoggingCapability:
        self._known(table, path, ("enabled", "min_level"))
        level = self._string(table.get("min_level", "info"), (*path, "min_level"))
        return self._at(
            (*path, "min_level"), LoggingCapability, enabled=self._flag(table, "enabled", False, path), min_level=level
        )

    # -- pieces --------------------------------------------------------------------------------

    def _table(self, value: Any, path: Path) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self._error(f"{_place(path)} is a table, not {_kind(value)}", path)
        return value

    def _string(self, value: Any, path: Path) -> str:
        if not isinstance(value, str):
            raise self._error(f"{_place(path)} is text in quotes, not {_kind(value)}", path)
        return value

    def _list(self, value: Any, path: Path) -> list[str]:
        if not isinstance(value, list):
            raise self._error(f"{path[-1]!r} is a list of texts, not {_kind(value)}", path)
        return [self._string(item, (*path, n)) for n, item in enumerate(value)]

    def _flag(self, table: Mapping[str, Any], key: str, default: bool, path: Path) -> bool:
        value = table.get(key, default)
        if not isinstance(value, bool):
            raise self._error(f"{key!r} is true or false, not {_kind(value)}", (*path, key))
        return value

    def _known(self, table: Mapping[str, Any], path: Path, known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                place = ".".join(str(p) for p in path if isinstance(p, str)) or "the top level"
                raise self._error(unknown(key, known, f"key of {place}"), (*path, key))

    def _at(self, path: Path, function: Callable[..., _Result], *args: Any, **keywords: Any) -> _Result:
        """Call ``function``; a mistake that it finds gets this file's name and the line of ``path``."""
        try:
            return function(*args, **keywords)
        except PolicyError as error:
            if error.line is not None:
                raise
            raise self._error(error.reason, path) from None

    def _error(self, message: str, path: Path) -> PolicyError:
        return PolicyError(message, source=self._source, line=line_of(self._text, path))


def _place(path: Path) -> str:
    last = path[-1]
    return repr(last) if isinstance(last, str) else f"item {last + 1} of {path[-2]!r}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a table"}
    return names.get(type(value), type(value).__name__)
