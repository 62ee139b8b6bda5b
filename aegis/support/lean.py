"""Names of :mod:`typing` and :mod:`dataclasses` without the time that importing those modules takes.

Importing the two takes longer than ``aegis run`` takes to start: ``typing`` compiles regular expressions,
``dataclasses`` imports ``inspect``, and each dataclass compiles its methods when it is defined. Modules that a plain
run imports use this module instead. A type checker sees the originals. At run time, names that only annotations use
are ``object``, because no annotation is evaluated, and the class decorators and bases come from
:mod:`aegis.support.records`.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""Type checkers treat a variable of this name as true."""

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


class _LazyModule:
    """A module that is imported when one of its names is first used."""

    def __init__(self, name: str) -> None:
        self.__name = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(__import__(self.__name, fromlist=("",)), name)
        self.__dict__[name] = value
        return value


def late(name: str) -> Any:
    """Return a proxy that imports the module ``name`` at its first use; for modules that most runs do not need.

    The proxy keeps each attribute from its first use on. Import the module under ``TYPE_CHECKING`` for type checkers.
    """
    return _LazyModule(name)
