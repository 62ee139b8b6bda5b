"""Fast construction of frozen dataclasses.

The ``__init__`` of a frozen dataclass sets each field through ``object.__setattr__``; for six fields that takes longer
than reading them from linear memory. An ordinary class with the same ``__slots__`` has the same object layout. Aegis
therefore fills an instance of such a class by plain assignments and then assigns the frozen class to its ``__class__``
(Python data model, "``__class__`` assignment").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from aegis.component.conversion.source import code_of

__all__ = ["constructor"]


def constructor(cls: Any) -> Callable[..., Any]:
    """Return a function that creates an instance of ``cls`` from its field values, in order.

    Return ``cls`` itself unless it is a frozen dataclass with slots and without custom construction.
    """
    names = _slots(cls)
    if not names:
        return cls  # type: ignore[no-any-return]
    open_class = type("Open", (), {"__slots__": names})
    try:
        object.__new__(open_class).__class__ = cls
    except TypeError:
        return cls  # type: ignore[no-any-return]
    lines = [f"def make({', '.join(names)}):", "    made = new(Open)"]
    lines += [*(f"    made.{name} = {name}" for name in names), "    made.__class__ = cls", "    return made"]
    scope: dict[str, Any] = {"new": object.__new__, "Open": open_class, "cls": cls}
    exec(code_of("\n".join(lines)), scope)
    made: Callable[..., Any] = scope["make"]
    return made


def _slots(cls: Any) -> tuple[str, ...]:
    """Return the fields of a frozen dataclass whose ``__init__`` only assigns its slots; ``()`` for other classes."""
    if not is_dataclass(cls) or not isinstance(cls, type) or hasattr(cls, "__post_init__"):
        return ()
    options = cls.__dataclass_params__  # type: ignore[attr-defined]
    names = tuple(field.name for field in fields(cls) if field.init)
    plain = options.frozen and options.init and cls.__new__ is object.__new__ and len(names) == len(fields(cls))
    return names if plain and vars(cls).get("__slots__") == names else ()
