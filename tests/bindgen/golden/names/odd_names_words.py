# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
# ruff: noqa: E741
"""The interface ``odd:names/words``.

Names that Python, our own modules or the linter would trip over.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
    Function,
    Interface,
    List,
    Option,
    Own,
    Record,
    Resource,
    Tuple,
    Variant,
)
from aegis.wit.values import BitFlags, Some

__all__ = [
    "A1",
    "A1_",
    "ANY",
    "A_",
    "B_",
    "EXPORTS_",
    "FLAGS",
    "HANDLE",
    "HOST",
    "INTERFACE",
    "INTERFACE1",
    "OPTION",
    "PROTOCOL",
    "RECORD",
    "RESOURCE",
    "TYPE",
    "A",
    "Any_",
    "B",
    "Exports_",
    "Flags_",
    "Handle_",
    "Host",
    "Host_",
    "Interface1",
    "OptionErr",
    "OptionNone",
    "OptionResult",
    "OptionSome",
    "Option_",
    "Protocol_",
    "Record_",
    "Resource_",
    "Resource_Class",
    "Type",
]


class Type(enum.Enum):
    """The enum ``type``."""

    NONE = "none"
    MRO_ = "mro"
    TRUE = "true"
    NAME = "name"
    VALUE = "value"


class Flags_(BitFlags):
    """The flags ``flags``."""

    IMPORT = 1 << 0
    CLASS = 1 << 1
    L = 1 << 2
    O = 1 << 3


@dataclass(frozen=True, slots=True)
class Record_:
    """The record ``record``."""

    from_: str
    class_: int
    list_: bytes
    self_: int
    int_: int
    l: bool
    print_: str


@dataclass(frozen=True, slots=True)
class OptionSome:
    """``some`` of ``option``."""

    value: int


@dataclass(frozen=True, slots=True)
class OptionNone:
    """``none`` of ``option``."""


@dataclass(frozen=True, slots=True)
class OptionErr:
    """``err`` of ``option``."""

    value: str


@dataclass(frozen=True, slots=True)
class OptionResult:
    """``result`` of ``option``."""


Option_: TypeAlias = OptionSome | OptionNone | OptionErr | OptionResult


class Resource_(Protocol):
    """The resource ``resource``."""

    def class_(self, cls: str) -> str: ...

    def drop_(self) -> None: ...


class Handle_(Protocol):
    """The resource ``handle``."""


@dataclass(frozen=True, slots=True)
class Host_:
    """The record ``host``."""

    exports: int


@dataclass(frozen=True, slots=True)
class Interface1:
    """The record ``interface1``."""

    x: int


Protocol_: TypeAlias = int

Any_: TypeAlias = int | None

Exports_: TypeAlias = list[Any_]


@dataclass(frozen=True, slots=True)
class B:
    """The record ``b``."""

    a: int


@dataclass(frozen=True, slots=True)
class A:
    """The record ``a``."""

    a: B


A1: TypeAlias = tuple[A, B]


class Resource_Class(Protocol):
    """The class of ``resource``: its constructor and static functions."""

    def __call__(self, self_name: int) -> Resource_: ...

    def def_(self, lambda_: float, async_: float) -> Resource_: ...


class Resources(Protocol):
    """The classes of the resources that are made by functions of their own."""

    @property
    def Resource_(self) -> Resource_Class: ...


class Host(Resources, Protocol):
    """What Python provides to a guest that imports the interface."""

    def print_(self, type_: Type, record: Record_) -> Option_: ...

    def yield_(self, a: A1, any: Exports_) -> Some[Any_] | None: ...

    def match(self, match: Protocol_) -> None: ...


_NAME = "odd:names/words"

TYPE = Enum("type", ("none", "mro", "true", "name", "value"), python=Type, owner=_NAME)
FLAGS = Flags("flags", ("import", "class", "l", "o"), python=Flags_, owner=_NAME)
RECORD = Record(
    "record",
    (
        ("from", "string"),
        ("class", "u8"),
        ("list", List("u8")),
        ("self", "s8"),
        ("int", "s16"),
        ("l", "bool"),
        ("print", "char"),
    ),
    python=Record_,
    owner=_NAME,
)
OPTION = Variant(
    "option",
    (("some", "u8"), ("none", None), ("err", "string"), ("result", None)),
    python=(OptionSome, OptionNone, OptionErr, OptionResult),
    owner=_NAME,
)
RESOURCE = Resource("resource", python=Resource_, owner=_NAME)
HANDLE = Resource("handle", python=Handle_, owner=_NAME)
HOST = Record("host", (("exports", "u8"),), python=Host_, owner=_NAME)
INTERFACE1 = Record("interface1", (("x", "u8"),), python=Interface1, owner=_NAME)
PROTOCOL = "u8"
ANY = Option("u8")
EXPORTS_ = List(ANY)
B_ = Record("b", (("a", "u8"),), python=B, owner=_NAME)
A_ = Record("a", (("a", B_),), python=A, owner=_NAME)
A1_ = Tuple((A_, B_))

INTERFACE = Interface(
    _NAME,
    functions={
        "[constructor]resource": Function((("self-name", "u8"),), Own(RESOURCE)),
        "[method]resource.class": Function((("self", Borrow(RESOURCE)), ("cls", "string")), "string"),
        "[static]resource.def": Function((("lambda", "f32"), ("async", "f64")), Own(RESOURCE)),
        "[method]resource.drop": Function((("self", Borrow(RESOURCE)),)),
        "print": Function((("type", TYPE), ("record", RECORD)), OPTION),
        "yield": Function((("a", A1_), ("any", EXPORTS_)), Option(ANY)),
        "match": Function((("match", PROTOCOL),)),
    },
    types={
        "type": TYPE,
        "flags": FLAGS,
        "record": RECORD,
        "option": OPTION,
        "resource": RESOURCE,
        "handle": HANDLE,
        "host": HOST,
        "interface1": INTERFACE1,
        "protocol": PROTOCOL,
        "any": ANY,
        "exports": EXPORTS_,
        "b": B_,
        "a": A_,
        "a1": A1_,
    },
)
