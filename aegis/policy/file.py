"""Parse the policy file, ``aegis.toml``; every mistake raises an error with its line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from aegis.errors import PolicyError
from aegis.limits import Limits, parse_limit
from aegis.policy.capabilities import (
    ClockCapability,
    ConfigCapability,
    EnvironmentCapability,
    LoggingCapability,
    RandomCapability,
)
from aegis.policy.filesystem import FilesystemCapability, PathGrant, absolute, split_grant
from aegis.policy.keys import KEYS, Key
from aegis.policy.policy import Policy, misspelt
from aegis.policy.toml_lines import ValuePath, line_of

if TYPE_CHECKING:
    from aegis.policy.isolation import Isolation

__all__ = ["MAX_POLICY_BYTES", "decode_policy", "load_policy", "parse_policy"]

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
            f"cannot be read: {(error.strerror or 'error').lower()}; name a policy file", source=name
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
    reader = _PolicyReader(text, os.path.abspath(base or os.curdir), source)
    return reader.policy(data)


_Result = TypeVar("_Result")


def _invalid(message: str, text: str, source: str) -> PolicyError:
    found = re.search(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$", message)
    if found is None:
        return PolicyError("not valid TOML: a number has too many digits", source=source)
    line = int(found[1] or text.count("\n") + 1)
    return PolicyError(f"not valid TOML: {message[: found.start()]}", source=source, line=line)


class _PolicyReader:
    """Converts parsed TOML to a policy; every method takes the path of its value, to report the line of a mistake."""

    def __init__(self, text: str, base: str, source: str) -> None:
        self._text, self._base, self._source = text, base, source

    def policy(self, data: Mapping[str, Any]) -> Policy:
        self._known(data, (), KEYS[""])
        capabilities = self._table(data.get("capabilities", {}), ("capabilities",))
        readers: dict[str, Callable[[Mapping[str, Any], ValuePath], Any]] = {
            "filesystem": self._filesystem,
            "network": self._network,
            "environment": self._environment,
            "clock": self._clock,
            "random": self._random,
            "logging": self._logging,
            "config": self._config,
            "keyvalue": self._keyvalue,
        }
        self._known(capabilities, ("capabilities",), KEYS["capabilities"])
        granted = {}
        for name, value in capabilities.items():
            path = ("capabilities", name)
            granted[name] = self._at(path, readers[name], self._table(value, path), path)
        isolation = self._isolation(data)
        return self._at(
            (), Policy, limits=self._limits(data), imports=self._imports(data), isolation=isolation, **granted
        )

    def _isolation(self, data: Mapping[str, Any]) -> Isolation | None:
        """Read ``[isolation]``: the table enables isolation unless it contains ``enabled = false``."""
        if "isolation" not in data:
            return None
        from aegis.policy.isolation import Isolation

        path: ValuePath = ("isolation",)
        table = self._table(data["isolation"], path)
        self._known(table, path, KEYS["isolation"])
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
            self._known(table, path, KEYS["imports"])
            if "provider" not in table:
                raise self._error('the import has no provider; write provider = "module:name"', path)
            provider = self._string(table["provider"], (*path, "provider"))
            found += self._at((*path, "provider"), checked_providers, [(name, provider)])
        return tuple(found)

    def _limits(self, data: Mapping[str, Any]) -> Limits:
        table = self._table(data.get("limits", {}), ("limits",))
        self._known(table, ("limits",), KEYS["limits"])
        found: dict[str, Any] = {}
        for key, value in table.items():
            name = _SPELLINGS.get(key, key)
            if name in found:
                both = " and as ".join(k for k in table if _SPELLINGS.get(k, k) == name)
                raise self._error(f"{name} is given twice, as {both}; keep one", ("limits", key))
            if key in _SPELLINGS and not _is_number(value):
                raise self._error(
                    f'{key} must be a number; for a value with a unit write {name} = "{_EXAMPLES[name]}"',
                    ("limits", key),
                )
            lifted = value == "none"
            found[name] = self._at(("limits", key), parse_limit, name, None if lifted else value)
        return self._at(("limits",), Limits, **found)

    def _filesystem(self, table: Mapping[str, Any], path: ValuePath) -> FilesystemCapability:
        self._known(table, path, KEYS["capabilities.filesystem"])
        entries = table.get("paths", [])
        if not isinstance(entries, list):
            raise self._error('paths must be a list, such as [{ path = "./data", read = true }]', (*path, "paths"))
        grants = [self._grant(entry, (*path, "paths", n)) for n, entry in enumerate(entries)]
        paths = tuple(g for g in grants if g is not None)
        return self._at((*path, "paths"), lambda: FilesystemCapability(paths=paths))

    def _grant(self, entry: Any, path: ValuePath) -> PathGrant | None:
        if isinstance(entry, str):
            entry = {"path": entry}
        table = self._table(entry, path)
        self._known(table, path, KEYS["capabilities.filesystem.paths"])
        if "path" not in table:
            raise self._error('the grant has no path; write path = "./data"', path)
        host, guest = self._at((*path, "path"), split_grant, self._string(table["path"], (*path, "path")))
        if "guest" in table:
            guest = self._string(table["guest"], (*path, "guest"))
        write = self._flag(table, "write", False, path)
        read = self._flag(table, "read", True, path)
        if not read and not write:
            return None
        if not read:
            raise self._error(
                "read = false with write = true: a writable path is always readable; leave read out", (*path, "read")
            )
        return self._at(path, lambda: PathGrant(host=absolute(host, self._base), guest=guest, write=write))

    def _network(self, table: Mapping[str, Any], path: ValuePath) -> Any:
        from aegis.policy.network import NetworkCapability

        self._known(table, path, KEYS["capabilities.network"])
        rules = NetworkCapability()
        for key, value in table.items():
            for n, text in enumerate(self._list(value, (*path, key))):
                rules += self._at((*path, key, n), NetworkCapability, **{key: [text]})
        return rules

    def _environment(self, table: Mapping[str, Any], path: ValuePath) -> EnvironmentCapability:
        self._known(table, path, KEYS["capabilities.environment"])
        found = EnvironmentCapability()
        for name, value in self._table(table.get("set", {}), (*path, "set")).items():
            found += self._at((*path, "set", name), EnvironmentCapability, set=((name, value),))
        for n, name in enumerate(self._list(table.get("pass", []), (*path, "pass"))):
            found += self._at((*path, "pass", n), EnvironmentCapability, pass_=(name,))
        return found

    def _config(self, table: Mapping[str, Any], path: ValuePath) -> ConfigCapability:
        self._known(table, path, KEYS["capabilities.config"])
        found = ConfigCapability()
        for name, value in self._table(table.get("set", {}), (*path, "set")).items():
            found += self._at((*path, "set", name), ConfigCapability, set=((name, value),))
        return found

    def _keyvalue(self, table: Mapping[str, Any], path: ValuePath) -> Any:
        from aegis.policy.keyvalue import QUOTAS, KeyValueCapability

        self._known(table, path, KEYS["capabilities.keyvalue"])
        found = KeyValueCapability()
        for name, value in self._table(table.get("buckets", {}), (*path, "buckets")).items():
            at = (*path, "buckets", name)
            found += self._at(at, KeyValueCapability.of, name, self._string(value, at), self._base)
        for name in QUOTAS:
            if name in table:
                value = None if table[name] == "none" else table[name]
                found = self._at((*path, name), replace, found, **{name: value})
        return found

    def _clock(self, table: Mapping[str, Any], path: ValuePath) -> ClockCapability:
        self._known(table, path, KEYS["capabilities.clock"])
        return self._at(
            (*path, "mode"), ClockCapability.parse, self._string(table.get("mode", "virtual"), (*path, "mode"))
        )

    def _random(self, table: Mapping[str, Any], path: ValuePath) -> RandomCapability:
        self._known(table, path, KEYS["capabilities.random"])
        return self._at(
            (*path, "mode"), RandomCapability.parse, self._string(table.get("mode", "seed:0"), (*path, "mode"))
        )

    def _logging(self, table: Mapping[str, Any], path: ValuePath) -> LoggingCapability:
        self._known(table, path, KEYS["capabilities.logging"])
        level = self._string(table.get("min_level", "info"), (*path, "min_level"))
        return self._at(
            (*path, "min_level"), LoggingCapability, enabled=self._flag(table, "enabled", False, path), min_level=level
        )

    # -- values of one type --------------------------------------------------------------------

    def _table(self, value: Any, path: ValuePath) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self._error(f"{_label(path)} must be a table, not {_kind(value)}", path)
        return value

    def _string(self, value: Any, path: ValuePath) -> str:
        if not isinstance(value, str):
            raise self._error(f"{_label(path)} must be text in quotes, not {_kind(value)}", path)
        return value

    def _list(self, value: Any, path: ValuePath) -> list[str]:
        if not isinstance(value, list):
            raise self._error(f"{path[-1]!r} must be a list of texts, not {_kind(value)}", path)
        return [self._string(item, (*path, n)) for n, item in enumerate(value)]

    def _flag(self, table: Mapping[str, Any], key: str, default: bool, path: ValuePath) -> bool:
        value = table.get(key, default)
        if not isinstance(value, bool):
            raise self._error(f"{key!r} must be true or false, not {_kind(value)}", (*path, key))
        return value

    def _known(self, table: Mapping[str, Any], path: ValuePath, known: Mapping[str, Key]) -> None:
        for key in table:
            if key not in known:
                place = ".".join(str(p) for p in path if isinstance(p, str)) or "the top level"
                raise self._error(misspelt(key, known, f"key of {place}"), (*path, key))

    def _at(self, path: ValuePath, function: Callable[..., _Result], *args: Any, **keywords: Any) -> _Result:
        """Call ``function``; add this file's name and the line of ``path`` to its ``PolicyError``."""
        try:
            return function(*args, **keywords)
        except PolicyError as error:
            if error.line is not None:
                raise
            raise self._error(error.reason, path) from None

    def _error(self, message: str, path: ValuePath) -> PolicyError:
        return PolicyError(message, source=self._source, line=line_of(self._text, path))


def _label(path: ValuePath) -> str:
    last = path[-1]
    return repr(last) if isinstance(last, str) else f"item {last + 1} of {path[-2]!r}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a table"}
    return names.get(type(value), type(value).__name__)
