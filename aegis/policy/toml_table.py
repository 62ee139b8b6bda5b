"""A table of a policy file, with the place of each value, so that every mistake is reported with its line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from aegis.errors import PolicyError
from aegis.policy.toml_lines import ValuePath, line_among, lines_of
from aegis.text import misspelt

__all__ = ["PolicyText", "TomlTable", "is_number"]

_Result = TypeVar("_Result")
_REQUIRED: Any = object()


class PolicyText:
    """The text of a policy file: its name for errors, and the directory at which its relative paths start.

    ``removed_fault`` removes values from the parsed file. Later items of a list then have other numbers than in the
    text; the object remembers both.
    """

    __slots__ = ("_fault", "_lines", "_numbers", "base", "source", "text")

    def __init__(self, text: str, base: str, source: str) -> None:
        self.text, self.base, self.source = text, base, source
        self._lines: Mapping[ValuePath, int] | None = None
        self._fault: ValuePath = ()
        self._numbers: dict[ValuePath, list[int]] = {}

    def error(self, message: str, path: ValuePath) -> PolicyError:
        """Return an error with the line of the value at ``path``."""
        self._fault = path
        return PolicyError(message, source=self.source, line=self.line(path))

    def line(self, path: ValuePath) -> int | None:
        """Return the line of the value at ``path``, or of its nearest parent; ``None`` if there is neither."""
        if self._lines is None:
            self._lines = lines_of(self.text)
        return line_among(self._lines, self.original(path))

    def original(self, path: ValuePath) -> ValuePath:
        """Return the path in the text of the value that is now at ``path``."""
        found: ValuePath = ()
        for piece in path:
            numbers = self._numbers.get(found)
            found = (*found, piece if numbers is None or not isinstance(piece, int) else numbers[piece])
        return found

    def copied(self, values: Any) -> Any:
        """Return a copy of parsed values, from which :meth:`removed_fault` may remove some."""
        if isinstance(values, Mapping):
            return {key: self.copied(value) for key, value in values.items()}
        return [self.copied(value) for value in values] if isinstance(values, list) else values

    def removed_fault(self, values: Any) -> bool:
        """Remove the value of the last error, or the nearest one above it; return whether there was one."""
        path: ValuePath = ()
        holder = None
        for piece in self._fault:
            inside = piece in values if isinstance(values, dict) else isinstance(values, list)
            if not inside:
                break
            holder, values, path = values, values[piece], (*path, piece)
        if holder is None:
            return False
        if isinstance(holder, list):
            self._numbers.setdefault(self.original(path[:-1]), [*range(len(holder))]).pop(int(path[-1]))
        del holder[path[-1]]
        return True


class TomlTable:
    """One table: its values and its path. Every method takes the keys from the table to the value that it reads.

    The methods raise :class:`~aegis.errors.PolicyError` with the line of the value for a value of the wrong type.
    """

    __slots__ = ("_file", "path", "values")

    def __init__(self, values: Any, path: ValuePath, file: PolicyText) -> None:
        self._file, self.path = file, path
        if not isinstance(values, Mapping):
            raise file.error(f"{_label(file.original(path))} must be a table, not {_kind(values)}", path)
        self.values: Mapping[str, Any] = values

    @property
    def base(self) -> str:
        """The directory at which relative paths of the file start."""
        return self._file.base

    def known(self, keys: Iterable[str]) -> None:
        """Reject keys that are not among ``keys``."""
        known = list(keys)
        for key in self.values:
            if key not in known:
                raise self.unknown(key, known)

    def unknown(self, key: str, known: Iterable[str]) -> PolicyError:
        """Return the error for a key that is not among ``known``."""
        place = ".".join(str(p) for p in self.path if isinstance(p, str)) or "the top level"
        return self.error(misspelt(key, list(known), f"key of {place}"), key)

    def table(self, key: str) -> TomlTable:
        """Return the table of a key, empty if the key is absent."""
        return self.inner(self.values.get(key, {}), key)

    def inner(self, value: Any, *keys: str | int) -> TomlTable:
        """Return ``value``, which stands at ``keys``, as a table."""
        return TomlTable(value, (*self.path, *keys), self._file)

    def string(self, key: str, default: str = _REQUIRED) -> str:
        """Return the text of a key."""
        return self.text_of(self.values[key] if default is _REQUIRED else self.values.get(key, default), key)

    def strings(self, key: str) -> list[str]:
        """Return the texts in the list of a key, none if the key is absent."""
        return [self.text_of(item, key, n) for n, item in enumerate(self.items(key, "a list of texts"))]

    def items(self, key: str, form: str) -> list[Any]:
        """Return the list of a key, empty if the key is absent; ``form`` is the expected form, such as "a list"."""
        value = self.values.get(key, [])
        if not isinstance(value, list):
            raise self.error(f"{key!r} must be {form}, not {_kind(value)}", key)
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Return the truth value of a key."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(f"{key!r} must be true or false, not {_kind(value)}", key)
        return value

    def at(self, keys: Iterable[str | int], function: Callable[..., _Result], *args: Any, **keywords: Any) -> _Result:
        """Call ``function``; add the file's name and the line of the value at ``keys`` to its ``PolicyError``."""
        try:
            return function(*args, **keywords)
        except PolicyError as error:
            if error.line is not None:
                raise
            raise self.error(error.reason, *keys) from None

    def error(self, message: str, *keys: str | int) -> PolicyError:
        """Return an error with the line of the value at ``keys``."""
        return self._file.error(message, (*self.path, *keys))

    def text_of(self, value: Any, *keys: str | int) -> str:
        """Return ``value``, which stands at ``keys``, as text."""
        if not isinstance(value, str):
            label = _label(self._file.original((*self.path, *keys)))
            raise self.error(f"{label} must be text in quotes, not {_kind(value)}", *keys)
        return value


def is_number(value: Any) -> bool:
    """Return whether a value is a number of TOML; ``true`` and ``false`` are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _label(path: ValuePath) -> str:
    last = path[-1]
    return repr(last) if isinstance(last, str) else f"item {last + 1} of {path[-2]!r}"


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a table"}
    return names.get(type(value), type(value).__name__)
