"""The words of :mod:`typing` and :mod:`dataclasses`, without the time that importing those two takes.

``aegis run`` starts in less time than they take to import: ``typing`` compiles regular expressions, ``dataclasses``
imports ``inspect``, and each dataclass compiles its methods when its class is made. Modules that a plain run loads
take these names from here instead. A type checker sees the real ones. At run time what only annotations use is empty,
since no annotation is evaluated, and classes come from :mod:`aegis.support.records`.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""True for type checkers, by its name."""

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import fields as fields
    from dataclasses import replace as replace
    from typing import IO as IO
    from typing import Any as Any
    from typing import ClassVar as ClassVar
    from typing import Generic as Generic
    from typing import Literal as Literal
    from typing import NamedTuple as NamedTuple
    from typing import NoReturn as NoReturn
    from typing import ParamSpec as ParamSpec
    from typing import Protocol as Protocol
    from typing import TextIO as TextIO
    from typing import TypeAlias as TypeAlias
    from typing import TypeVar as TypeVar
    from typing import cast as cast
else:
    from aegis.support.records import Generic, NamedTuple, Protocol, cast, dataclass, field, fields, replace, variable

    TypeVar = ParamSpec = variable
    IO = Any = ClassVar = Literal = NoReturn = TextIO = TypeAlias = object

__all__ = [
    "IO",
    "TYPE_CHECKING",
    "Any",
    "ClassVar",
    "Generic",
    "Literal",
    "NamedTuple",
    "NoReturn",
    "ParamSpec",
    "Protocol",
    "TextIO",
    "TypeAlias",
    "TypeVar",
    "cast",
    "dataclass",
    "field",
    "fields",
    "late",
    "replace",
]


class _Late:
    """A module that is imported when one of its names is first used."""

    def __init__(self, name: str) -> None:
        self.__name = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(__import__(self.__name, fromlist=("",)), name)
        self.__dict__[name] = value
        return value


def late(name: str) -> Any:
    """Return a stand-in for a module that most runs do without; a type checker is to see the import.

    Its names are those of the module at their first use.
    """
    return _Late(name)
