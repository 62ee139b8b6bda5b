"""Python source that reproduces a sequence of calls: values as expressions, with the imports they need.

With generated bindings, values are instances of the generated classes. Without, they are plain Python: a dictionary for
a record, a string for an enum case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aegis.wit.naming import constant, snake
from aegis.wit.python_types import nullable
from aegis.wit.types import Borrow, Enum, Flags, List, Option, Own, Record, Result, Tuple, Variant, WitType, children
from aegis.wit.values import Err, Ok, Some

__all__ = ["PythonScript", "handles_in", "holds_handles", "replaced"]

_MIN_REPEATED_ITEMS = 12
"""Longer values that repeat one item are written as a multiplication."""


class PythonScript:
    """A Python script: lines, and the imports that they need. ``typed``: use the classes of generated bindings."""

    def __init__(self, *, typed: bool) -> None:
        self.typed = typed
        self.lines: list[str] = []
        self._imports: dict[str, set[str]] = {}

    def need(self, module: str, *names: str) -> None:
        """Add names to the imports."""
        self._imports.setdefault(module, set()).update(names)

    def text(self, head: str) -> str:
        """Return the script: imports, ``head``, and the lines."""
        imports = [
            f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(self._imports.items())
        ]
        return "\n".join([*imports, *([""] if imports else []), head, "", *self.lines])

    def value(self, value: Any, of: WitType, names: Mapping[int, str]) -> str:
        """Return a Python expression for a value. ``names`` maps the identity of a handle to its variable."""
        if id(value) in names:
            return names[id(value)]
        try:
            return self._value(value, of, names)
        except (AttributeError, KeyError, TypeError, ValueError):  # an override produced a value of another class
            return repr(value)

    def _value(self, value: Any, of: WitType, names: Mapping[int, str]) -> str:
        match of:
            case str():
                return _plain(value)
            case List("u8"):
                return _plain(bytes(value))
            case List(element):
                return _sequence([self.value(item, element, names) for item in value])
            case Tuple(elements):
                items = [self.value(item, t, names) for item, t in zip(value, elements, strict=True)]
                return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
            case Option(element):
                if value is None or not nullable(element):
                    return "None" if value is None else self.value(value, element, names)
                return self._wrapped("Some", element, value.value, names)
            case Result(ok, err):
                good = isinstance(value, Ok)
                return self._wrapped("Ok" if good else "Err", ok if good else err, value.value, names)
            case Record():
                return self._record(value, of, names)
            case Variant():
                return self._variant(value, of, names)
            case Enum():
                return f"{self._class(type(value))}.{value.name}" if self.typed else repr(value.value)
            case Flags():
                return self._flags(value, of)
        raise ValueError("a handle without a name")

    def _wrapped(self, name: str, of: WitType | None, value: Any, names: Mapping[int, str]) -> str:
        self.need("aegis", name)
        return f"{name}({'None' if of is None else self.value(value, of, names)})"

    def _class(self, cls: type) -> str:
        self.need(cls.__module__, cls.__qualname__)
        return cls.__qualname__

    def _record(self, value: Any, of: Record, names: Mapping[int, str]) -> str:
        fields = [(name, self.value(getattr(value, snake(name)), t, names)) for name, t in of.fields]
        if self.typed:
            return f"{self._class(type(value))}({', '.join(f'{snake(name)}={text}' for name, text in fields)})"
        return f"{{{', '.join(f'{name!r}: {text}' for name, text in fields)}}}"

    def _variant(self, value: Any, of: Variant, names: Mapping[int, str]) -> str:
        number = list(of.python or ()).index(type(value))
        case, payload = of.cases[number]
        inner = None if payload is None else self.value(value.value, payload, names)
        if self.typed:
            return f"{self._class(type(value))}({inner or ''})"
        return repr(case) if inner is None else f"({case!r}, {inner})"

    def _flags(self, value: Any, of: Flags) -> str:
        names = [name for n, name in enumerate(of.names) if value.value >> n & 1]
        if not self.typed:
            return repr(names)
        cls = self._class(type(value))
        return " | ".join(f"{cls}.{constant(name)}" for name in names) or f"{cls}(0)"


def _plain(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, (str, bytes)) and len(value) > _MIN_REPEATED_ITEMS and value == value[:1] * len(value):
        return f"{value[:1]!r} * {len(value)}"
    return repr(value)


def _sequence(items: list[str]) -> str:
    if len(items) > _MIN_REPEATED_ITEMS and len(set(items)) == 1:
        return f"[{items[0]}] * {len(items)}"
    return f"[{', '.join(items)}]"


# -- handles inside values ---------------------------------------------------------------------------------


def holds_handles(of: WitType | None) -> bool:
    """Return whether values of a type contain handles."""
    return of is not None and (isinstance(of, (Own, Borrow)) or any(map(holds_handles, children(of))))


def replaced(value: Any, of: WitType, leaf: Callable[[Any], Any]) -> Any:
    """Return the value with each handle ``h`` replaced by ``leaf(h)``."""
    if not holds_handles(of) or value is None:
        return value
    match of:
        case Own() | Borrow():
            return leaf(value)
        case List(element):
            return [replaced(item, element, leaf) for item in value]
        case Tuple(elements):
            return tuple(replaced(item, t, leaf) for item, t in zip(value, elements, strict=True))
        case Record():
            parts = [replaced(getattr(value, snake(name)), t, leaf) for name, t in of.fields]
            return type(value)(*parts)
        case Option(element) if not nullable(element):
            return replaced(value, element, leaf)
    payload = _payload(value, of)
    return value if payload is None else type(value)(replaced(value.value, payload, leaf))


def handles_in(value: Any, of: WitType | None, path: str = "") -> Iterator[tuple[str, Any, Own]]:
    """Yield the handles that a value owns: a Python path relative to the value, the handle, and its type."""
    if of is None or value is None or not holds_handles(of):
        return
    match of:
        case Own():
            yield path, value, of
        case List(element):
            for n, item in enumerate(value):
                yield from handles_in(item, element, f"{path}[{n}]")
        case Tuple(elements):
            for n, (item, t) in enumerate(zip(value, elements, strict=True)):
                yield from handles_in(item, t, f"{path}[{n}]")
        case Record():
            for name, t in of.fields:
                yield from handles_in(getattr(value, snake(name)), t, f"{path}.{snake(name)}")
        case Option(element) if not nullable(element):
            yield from handles_in(value, element, path)
        case _:
            payload = _payload(value, of)
            if payload is not None:
                yield from handles_in(value.value, payload, f"{path}.value")


def _payload(value: Any, of: WitType) -> WitType | None:
    """Return the payload type of the case that a value has."""
    match of:
        case Option(element):
            return element if isinstance(value, Some) else None
        case Result(ok, err):
            return err if isinstance(value, Err) else ok
        case Variant():
            return of.cases[list(of.python or ()).index(type(value))][1]
    return None
