"""Write a WIT type as a Python annotation, and as the expression of its :mod:`aegis.wit.types` node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from aegis.bindgen.layout import Bracketed, Part, assigned, quoted, union
from aegis.bindgen.scope import ModuleNames
from aegis.wit.model import Document, Ref
from aegis.wit.types import (
    PRIMITIVES,
    Borrow,
    Function,
    Future,
    List,
    Option,
    Own,
    Result,
    Stream,
    Tuple,
    WitType,
)

__all__ = ["Expressions", "Known", "TypeLocator", "TypeNames", "tuple_expression", "union_of"]

_PYTHON = dict.fromkeys(PRIMITIVES, "int") | {
    "bool": "bool", "char": "str", "f32": "float", "f64": "float", "string": "str",
}  # fmt: skip
_MAX_INLINE_COLUMNS = 70
"""An unnamed type with a longer annotation gets an alias, so that signatures stay readable."""


class Known(NamedTuple):
    """The names of a type in a module: its class or alias, and the constant of its table."""

    python: str
    table: str


TypeLocator = Callable[[int], "tuple[str, Known] | None"]
"""Maps the key of a type to the sibling module that defines it and its names there; ``None`` for a type of its own."""


class TypeNames(dict[int, Known]):
    """The names of a module's types by key. A type that the module does not name is imported when it is first needed.

    Two cases need an import: a ``result`` written without its alias, whose parts belong to the interface of the alias;
    and a world's function that uses a type of an exported interface.
    """

    __slots__ = ("_find", "_foreign", "_scope")

    def __init__(self, scope: ModuleNames, find: TypeLocator) -> None:
        self._scope, self._find = scope, find
        self._foreign: dict[tuple[int, int], str] = {}

    def python(self, key: int) -> str:
        """Return the name of a type's class or alias."""
        return self[key].python if key in self else self._imported(key, 0)

    def table(self, key: int) -> str:
        """Return the name of the constant with a type's table."""
        return self[key].table if key in self else self._imported(key, 1)

    def _imported(self, key: int, part: int) -> str:
        name = self._foreign.get((key, part))
        if name is None:
            found = self._find(key)
            if found is None:
                raise KeyError(key)
            module, there = found[0], found[1][part]
            if self._scope.mentioning:
                return there
            name = self._foreign[key, part] = self._scope.free(there)
            self._scope.use(self._scope.sibling(module), there, name)
        return name


@dataclass(slots=True)
class Expressions:
    """Writes the types of one module; ``known`` maps the key of each definition to its names."""

    document: Document
    scope: ModuleNames
    known: TypeNames
    early: dict[str, str] = field(default_factory=dict)
    """Names of the aliases in ``ready``, by the text that they stand for."""
    late: dict[str, str] = field(default_factory=dict)
    """Names of the aliases in ``shapes``, by the text that they stand for."""
    ready: list[str] = field(default_factory=list)
    """Definitions of aliases for long types that the next evaluated expression needs."""
    shapes: list[str] = field(default_factory=list)
    """Definitions of aliases for long types that only annotations need."""
    receiver: Literal["guest", "host", ""] = ""
    """The side that gets the values of the annotations, if it is known: the readers of streams depend on it."""

    def annotation(self, of: WitType, lazy: bool = True) -> str:
        """Return the annotation of a value; ``lazy`` is true where annotations are not evaluated."""
        text = self.spelled(of, lazy)
        return (
            text
            if len(text) <= _MAX_INLINE_COLUMNS or isinstance(of, (str, Own, Borrow))
            else self._shape(of, text, lazy)
        )

    def spelled(self, of: WitType, lazy: bool = True) -> str:
        """Return the annotation of a value without an alias for its outermost type."""
        if self.receiver:
            end = self.document.unaliased(of)
            if isinstance(end, (Stream, Future)):
                return self._end(end)
        match of:
            case Ref():
                return self.known.python(of.key)
            case str():
                return _PYTHON[of]
            case Own(resource) | Borrow(resource):
                return self.known.python(resource.key)
            case Tuple():
                return f"tuple[{', '.join(self.parts(of, lazy))}]"
            case List(element):
                return "bytes" if self.is_bytes(of) else f"list[{self.annotation(element, lazy)}]"
            case Stream() | Future():
                return self.wrapper(f"Any{type(of).__name__}")
        return union_of(self.parts(of, lazy))

    def _end(self, of: Stream | Future) -> str:
        """Return the annotation of the readable end of a stream or future that the guest or the host receives."""
        received = self.receiver == "host"
        use = self.scope.use
        if isinstance(of, Stream) and of.element is not None and self.document.unaliased(of.element) == "u8":
            return use("aegis.wit.streams", "ByteStreamReader" if received else "ByteSource")
        made = use("aegis.wit.streams", f"{type(of).__name__}{'Reader' if received else 'Source'}")
        return f"{made}[{self.maybe(of.element)}]"

    @contextmanager
    def received_by(self, receiver: Literal["guest", "host"]) -> Iterator[None]:
        """Write annotations for values that the given side receives inside the ``with`` block."""
        before, self.receiver = self.receiver, receiver
        try:
            yield
        finally:
            self.receiver = before

    def parts(self, of: WitType, lazy: bool = True) -> list[str]:
        """Return the members of a union, or the elements of a tuple."""
        match of:
            case Tuple(elements):
                return [self.annotation(e, lazy) for e in elements]
            case Option(element):
                inner = self.annotation(element, lazy)
                some = isinstance(self.document.unaliased(element), Option)
                return [f"{self.wrapper('Some')}[{inner}]" if some else inner, "None"]
            case Result(ok, err):
                return [
                    f"{self.wrapper('Ok')}[{self.maybe(ok, lazy)}]",
                    f"{self.wrapper('Err')}[{self.maybe(err, lazy)}]",
                ]
        return [self.spelled(of, lazy)]

    def maybe(self, of: WitType | None, lazy: bool = True) -> str:
        """Return the annotation of an optional part of a type; ``None`` if it is absent."""
        return "None" if of is None else self.annotation(of, lazy)

    def wrapper(self, name: str) -> str:
        """Import a wrapper such as ``Some`` and return its name."""
        return self.scope.use("aegis.wit.values", name)

    def is_bytes(self, of: List) -> bool:
        """Return whether a list is ``bytes`` in Python."""
        return self.document.unaliased(of.element) == "u8"

    def result_of(self, of: Function) -> Result | None:
        """Return the result type of a function if it is a ``result``, else ``None``."""
        found = None if of.result is None else self.document.unaliased(of.result)
        return found if isinstance(found, Result) else None

    def alias(self, name: str, of: WitType) -> str:
        """Return the definition of an alias."""
        self.scope.use("typing", "TypeAlias")
        return self._alias(name, of, lazy=False)

    def _alias(self, name: str, of: WitType, lazy: bool) -> str:
        if isinstance(of, Tuple):
            return assigned(f"{name}: TypeAlias", Bracketed("tuple[", tuple(self.parts(of, lazy)), "]"))
        return union(name, _members(self.spelled(of, lazy)))

    def _shape(self, of: WitType, text: str, lazy: bool) -> str:
        found = self.early.get(text) or (self.late.get(text) if lazy else None)
        if found is None and self.scope.mentioning:
            return text
        if found is None:
            self.scope.use("typing", "TypeAlias")
            found = self.scope.define(f"Shape{len(self.early) + len(self.late) + 1}")
            (self.late if lazy else self.early)[text] = found
            (self.shapes if lazy else self.ready).append(self._alias(found, of, lazy))
        return found

    def shortened(self, text: str, most: int) -> str:
        """Return an annotation that is not evaluated, as an alias if it has more than ``most`` columns."""
        if len(text) <= most:
            return text
        found = self.late.get(text)
        if found is None:
            self.scope.use("typing", "TypeAlias")
            found = self.late[text] = self.scope.define(f"Shape{len(self.early) + len(self.late) + 1}")
            self.shapes.append(union(found, _members(text)))
        return found

    def node(self, of: WitType | None) -> Part:
        """Return the table expression of a type."""
        match of:
            case None:
                return "None"
            case Ref():
                return self.known.table(of.key)
            case str():
                return quoted(of)
            case Own(resource) | Borrow(resource):
                return self.call(type(of).__name__, self.known.table(resource.key))
            case Stream(None) | Future(None):
                return self.call(type(of).__name__)
            case List(element) | Option(element) | Stream(element) | Future(element):
                return self.call(type(of).__name__, self.node(element))
            case Tuple(elements):
                return self.call("Tuple", tuple_expression([self.node(e) for e in elements]))
            case Result(None, None):
                return self.call("Result")
            case Result(ok, None):
                return self.call("Result", self.node(ok))
            case Result(ok, err):
                return self.call("Result", self.node(ok), self.node(err))
        raise TypeError(f"{of!r} is a named type: refer to it by a Ref")

    def call(self, name: str, *parts: Part) -> Bracketed:
        """Return the constructor call of a node class."""
        return Bracketed(f"{self.scope.use('aegis.wit.types', name)}(", parts, ")")

    def function(self, of: Function, head: str = "") -> Bracketed:
        """Return the table expression of a function type."""
        params = tuple_expression([tuple_expression([quoted(name), self.node(t)]) for name, t in of.params])
        result = () if of.result is None else (self.node(of.result),)
        last = ("is_async=True",) if of.is_async else ()
        made = self.call("Function", *((params,) if of.params or result else ()), *result, *last)
        return Bracketed(head + made.head, made.parts, made.tail)


def tuple_expression(parts: list[Part]) -> Bracketed:
    """Return a tuple expression."""
    return Bracketed("(", tuple(parts), ")", lone=True)


def union_of(members: list[str]) -> str:
    """Return a union of the members, with ``None`` last."""
    flat = list(dict.fromkeys(m for member in members for m in _members(member)))
    return " | ".join([m for m in flat if m != "None"] + ["None"] * ("None" in flat))


def _members(union: str) -> list[str]:
    """Split a union at its outermost bars."""
    parts, depth = [""], 0
    for char in union:
        depth += (char == "[") - (char == "]")
        if char == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]
