# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``acme:values/shapes@0.1.0``.

Every kind of type, nested as far as people nest them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from aegis.wit.types import Enum, Flags, Function, Interface, List, Option, Record, Result, Tuple, Variant
from aegis.wit.values import BitFlags, Err, Ok, Some

__all__ = [
    "ALL",
    "BYTE",
    "BYTES_ALIAS",
    "COLOR",
    "EMPTY_ISH",
    "INTERFACE",
    "MAYBE",
    "OUTCOME",
    "PERMISSIONS",
    "SIZE",
    "TREE",
    "All",
    "Byte",
    "BytesAlias",
    "Color",
    "EmptyIsh",
    "Exports",
    "Host",
    "Maybe",
    "Outcome",
    "Permissions",
    "Shape1",
    "Shape2",
    "Size",
    "Tree",
    "TreeLeaf",
    "TreeMaybe",
    "TreeNested",
    "TreeOne",
    "TreePair",
    "TreePermissions",
]

Size: TypeAlias = int

Byte: TypeAlias = int

BytesAlias: TypeAlias = bytes

Maybe: TypeAlias = Size | None

Outcome: TypeAlias = Ok[Size] | Err[str]


class Permissions(BitFlags):
    """The flags ``permissions``."""

    READ = 1 << 0
    WRITE = 1 << 1
    EXECUTE = 1 << 2


class Color(enum.Enum):
    """The enum ``color``."""

    RED = "red"
    GREEN = "green"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class EmptyIsh:
    """The record ``empty-ish``."""

    only: tuple[int]


@dataclass(frozen=True, slots=True)
class TreeLeaf:
    """``leaf`` of ``tree``."""


@dataclass(frozen=True, slots=True)
class TreeOne:
    """``one`` of ``tree``."""

    value: int


@dataclass(frozen=True, slots=True)
class TreePair:
    """``pair`` of ``tree``."""

    value: tuple[int, int]


@dataclass(frozen=True, slots=True)
class TreePermissions:
    """``permissions`` of ``tree``."""

    value: Permissions


@dataclass(frozen=True, slots=True)
class TreeMaybe:
    """``maybe`` of ``tree``."""

    value: Maybe


@dataclass(frozen=True, slots=True)
class TreeNested:
    """``nested`` of ``tree``."""

    value: Outcome


Tree: TypeAlias = TreeLeaf | TreeOne | TreePair | TreePermissions | TreeMaybe | TreeNested


@dataclass(frozen=True, slots=True)
class All:
    """The record ``all``."""

    b: bool
    u8: int
    s8: int
    u16: int
    s16: int
    u32: int
    s32: int
    u64: int
    s64: int
    f32: float
    f64: float
    c: str
    s: str
    bytes_: BytesAlias
    words: list[int]
    color: Color
    permissions: Permissions
    tree: Tree


Shape1: TypeAlias = (
    Ok[list[tuple[str, Ok[bytes] | Err[tuple[int, int, int, int]] | None]]] | Err[Ok[list[All]] | Err[Tree]]
)

Shape2: TypeAlias = tuple[Ok[bytes] | Err[str], Ok[list[int]] | Err[str], Ok[list[int]] | Err[str], list[str] | None]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def scalars(
        self,
        b: bool,
        u: int,
        i: int,
        f: float,
        d: float,
        c: str,
        s: str,
    ) -> tuple[bool, int, int, float, float, str, str]: ...

    def everything(self, a: All) -> All: ...

    def options(
        self,
        a: int | None,
        b: Some[int | None] | None,
        c: Some[Some[str | None] | None] | None,
        d: Maybe,
        e: Some[Maybe] | None,
    ) -> Some[int | None] | None: ...

    def results(
        self,
        a: Ok[None] | Err[None],
        b: Ok[int] | Err[None],
        c: Ok[None] | Err[str],
        d: Ok[int] | Err[str],
        e: Ok[Ok[int] | Err[None]] | Err[Ok[None] | Err[int]],
    ) -> Ok[Ok[int] | Err[str]] | Err[Color]: ...

    def aliased(self) -> Size | Err[str]: ...

    def unit(self) -> Err[None] | None: ...

    def long(
        self,
        first: Shape1,
        second: Shape2,
    ) -> list[tuple[str, Ok[bytes] | Err[tuple[int, int, int, int]] | None]] | Err[Ok[list[All]] | Err[Tree]]: ...


class Exports(Protocol):
    """What Python calls in a guest that exports the interface: ``sandbox.bind(INTERFACE)``."""

    def scalars(
        self,
        b: bool,
        u: int,
        i: int,
        f: float,
        d: float,
        c: str,
        s: str,
    ) -> tuple[bool, int, int, float, float, str, str]: ...

    def everything(self, a: All) -> All: ...

    def options(
        self,
        a: int | None,
        b: Some[int | None] | None,
        c: Some[Some[str | None] | None] | None,
        d: Maybe,
        e: Some[Maybe] | None,
    ) -> Some[int | None] | None: ...

    def results(
        self,
        a: Ok[None] | Err[None],
        b: Ok[int] | Err[None],
        c: Ok[None] | Err[str],
        d: Ok[int] | Err[str],
        e: Ok[Ok[int] | Err[None]] | Err[Ok[None] | Err[int]],
    ) -> Ok[int] | Err[str]:
        """Raises ``Err[Color]``."""

    def aliased(self) -> Size:
        """Raises ``Err[str]``."""

    def unit(self) -> None:
        """Raises ``Err[None]``."""

    def long(
        self,
        first: Shape1,
        second: Shape2,
    ) -> list[tuple[str, Ok[bytes] | Err[tuple[int, int, int, int]] | None]]:
        """Raises ``Err[Ok[list[All]] | Err[Tree]]``."""


_NAME = "acme:values/shapes@0.1.0"

SIZE = "u64"
BYTE = "u8"
BYTES_ALIAS = List(BYTE)
MAYBE = Option(SIZE)
OUTCOME = Result(SIZE, "string")
PERMISSIONS = Flags("permissions", ("read", "write", "execute"), python=Permissions, owner=_NAME)
COLOR = Enum("color", ("red", "green", "blue"), python=Color, owner=_NAME)
EMPTY_ISH = Record("empty-ish", (("only", Tuple(("u8",))),), python=EmptyIsh, owner=_NAME)
TREE = Variant(
    "tree",
    (
        ("leaf", None),
        ("one", "u8"),
        ("pair", Tuple(("u8", "s8"))),
        ("permissions", PERMISSIONS),
        ("maybe", MAYBE),
        ("nested", OUTCOME),
    ),
    python=(TreeLeaf, TreeOne, TreePair, TreePermissions, TreeMaybe, TreeNested),
    owner=_NAME,
)
ALL = Record(
    "all",
    (
        ("b", "bool"),
        ("u8", "u8"),
        ("s8", "s8"),
        ("u16", "u16"),
        ("s16", "s16"),
        ("u32", "u32"),
        ("s32", "s32"),
        ("u64", "u64"),
        ("s64", "s64"),
        ("f32", "f32"),
        ("f64", "f64"),
        ("c", "char"),
        ("s", "string"),
        ("bytes", BYTES_ALIAS),
        ("words", List("u16")),
        ("color", COLOR),
        ("permissions", PERMISSIONS),
        ("tree", TREE),
    ),
    python=All,
    owner=_NAME,
)

INTERFACE = Interface(
    _NAME,
    functions={
        "scalars": Function(
            (("b", "bool"), ("u", "u8"), ("i", "s64"), ("f", "f32"), ("d", "f64"), ("c", "char"), ("s", "string")),
            Tuple(("bool", "u8", "s64", "f32", "f64", "char", "string")),
        ),
        "everything": Function((("a", ALL),), ALL),
        "options": Function(
            (
                ("a", Option("u8")),
                ("b", Option(Option("u8"))),
                ("c", Option(Option(Option("string")))),
                ("d", MAYBE),
                ("e", Option(MAYBE)),
            ),
            Option(Option("u8")),
        ),
        "results": Function(
            (
                ("a", Result()),
                ("b", Result("u8")),
                ("c", Result(None, "string")),
                ("d", Result("u8", "string")),
                ("e", Result(Result("u8"), Result(None, "u8"))),
            ),
            Result(Result("u8", "string"), COLOR),
        ),
        "aliased": Function((), OUTCOME),
        "unit": Function((), Result()),
        "long": Function(
            (
                (
                    "first",
                    Result(
                        List(Tuple(("string", Option(Result(List("u8"), Tuple(("u8", "u16", "u32", "u64"))))))),
                        Result(List(ALL), TREE),
                    ),
                ),
                (
                    "second",
                    Tuple(
                        (
                            Result(List("u8"), "string"),
                            Result(List("u16"), "string"),
                            Result(List("u32"), "string"),
                            Option(List("string")),
                        ),
                    ),
                ),
            ),
            Result(
                List(Tuple(("string", Option(Result(List("u8"), Tuple(("u8", "u16", "u32", "u64"))))))),
                Result(List(ALL), TREE),
            ),
        ),
    },
    types={
        "size": SIZE,
        "byte": BYTE,
        "bytes-alias": BYTES_ALIAS,
        "maybe": MAYBE,
        "outcome": OUTCOME,
        "permissions": PERMISSIONS,
        "color": COLOR,
        "empty-ish": EMPTY_ISH,
        "tree": TREE,
        "all": ALL,
    },
)
