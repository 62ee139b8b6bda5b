"""Write one module: assign names to its types, then write its source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from aegis.bindgen.classes import ClassWriter, case_classes
from aegis.bindgen.expressions import Expressions, Known, TypeLocator, TypeNames
from aegis.bindgen.functions import FunctionWriter
from aegis.bindgen.layout import Bracketed, Part, assigned, docstring, quoted
from aegis.bindgen.scope import ModuleNames
from aegis.wit.model import Document, FunctionDef, TypeDef
from aegis.wit.naming import constant, pascal
from aegis.wit.types import Resource, Variant

__all__ = ["PROVIDER", "ModuleWriter"]

PROVIDER = "Provider"
"""The protocol that accepts any implementation, also one that does not inherit ``Host``."""
_ASSIGN = "assign a class to each attribute."
_ANY = "It need not inherit :class:`Host`."


@dataclass(slots=True)
class ModuleWriter:
    """Writes the types, functions and table of an interface, or of the items of a world itself."""

    document: Document
    scope: ModuleNames
    types: Sequence[TypeDef]
    place: TypeLocator
    """Finds a type that one of ``types`` is another name of."""
    foreign: TypeLocator
    """Finds a type of another interface by its own key."""
    known: TypeNames = field(init=False)
    cases: dict[int, tuple[str, ...]] = field(default_factory=dict)
    own: list[TypeDef] = field(default_factory=list)
    expressions: Expressions = field(init=False)
    classes: ClassWriter = field(init=False)

    def __post_init__(self) -> None:
        self.known = TypeNames(self.scope, self.foreign)
        self.expressions = Expressions(self.document, self.scope, self.known)
        self.classes = ClassWriter(self.expressions, self.cases)
        names = {t.key: self.scope.define(pascal(t.name)) for t in self.types}
        for definition in self.types:
            self._know(definition, names[definition.key])

    def _know(self, of: TypeDef, name: str) -> None:
        found = self.place(of.key)
        if found is None:
            self.own.append(of)
        if found is None and isinstance(of.body, Variant):
            self.cases[of.key] = case_classes(of.body, self.scope)
        self.known[of.key] = Known(name, self.scope.define(constant(of.name)))
        if found is not None:
            module, there = found
            for origin, here in zip(there, self.known[of.key], strict=True):
                self.scope.use(self.scope.sibling(module), origin, here)

    def blocks(self, functions: Sequence[FunctionDef], exported: bool) -> list[str]:
        """Return the definitions of the module's own types; resources for the exported or the imported side."""
        write = FunctionWriter(self.expressions, exported)
        blocks: list[str] = []
        for definition in self.own:
            if isinstance(definition.body, Resource):
                methods = [f for f in functions if f.resource == definition.key and f.kind == "method"]
                blocks.append(write.resource(definition, methods))
            else:
                blocks += self.classes.definition(definition)
        return blocks

    def side(
        self, functions: Sequence[FunctionDef], protocol: str, doc: str, exported: bool, *, awaited: bool = False
    ) -> list[str]:
        """Return the protocol of all functions, preceded by the protocols of its resource classes."""
        write = FunctionWriter(self.expressions, exported, awaited)
        made = [self._factory(write, resource, functions) for resource in self.resources()]
        factories = {resource: name for resource, name, _ in filter(None, made)}
        blocks = [text for _, _, text in filter(None, made)]
        free = [write.method(f) for f in functions if f.kind == "free"]
        self.scope.public.add(protocol)
        if not factories:
            return [*blocks, write.protocol(protocol, [], doc, free)]
        if exported:
            holder = "AsyncResources" if awaited else "Resources"
            return [*blocks, write.holder(holder, factories), write.protocol(protocol, [holder], doc, free)]
        bases = ["Functions"] if free else []
        if free:
            blocks.append(write.protocol("Functions", [], "The functions that Python implements.", free))
        self.scope.public.add(PROVIDER)
        base = write.protocol(protocol, bases, f"{doc}\n\nA base class: {_ASSIGN}", write.attributes(factories))
        found = write.protocol(
            PROVIDER, bases, f"An object with these functions and classes. {_ANY}", write.properties(factories)
        )
        return [*blocks, base, found]

    def resources(self) -> list[TypeDef]:
        """Return the resources that the module defines."""
        return [t for t in self.own if isinstance(t.body, Resource)]

    def _factory(
        self, write: FunctionWriter, of: TypeDef, functions: Iterable[FunctionDef]
    ) -> tuple[str, str, str] | None:
        made = [f for f in functions if f.resource == of.key and (write.awaited or f.kind != "method")]
        if not made and not write.awaited:
            return None
        name = self.scope.define(f"{'Async' * write.awaited}{self.known[of.key].python}Class")
        return of.name, name, write.factory(name, of, made)

    def tables(self) -> str:
        """Return the tables of the module's own types."""
        return "\n".join(self.classes.table(t) for t in self.own)

    def interface(
        self, constant_: str, functions: Iterable[FunctionDef], name: str = "_NAME", *, types: bool = True
    ) -> str:
        """Return the constant with the table of an interface."""
        self.scope.use("aegis.wit.types", "Interface")
        self.scope.public.add(constant_)
        listed = tuple(self.expressions.function(f.type, f'"{f.name}": ') for f in functions)
        named = tuple(f"{quoted(t.name)}: {self.known[t.key].table}" for t in self.types if types)
        parts: list[Part] = [name]
        parts += [Bracketed("functions={", listed, "}")] * bool(listed) + [Bracketed("types={", named, "}")] * bool(
            named
        )
        return assigned(constant_, Bracketed("Interface(", tuple(parts), ")"))

    def text(self, doc: str, blocks: list[str], tables: list[str]) -> str:
        """Return the source of the module."""
        header = self.scope.header(docstring(doc, 0))
        return _spaced([header, *blocks, *filter(None, tables)])


def _spaced(blocks: list[str]) -> str:
    """Join blocks with two empty lines around classes and one between other statements."""
    text = blocks[0]
    for before, block in pairwise(blocks):
        wide = any(b.startswith(("class ", "@", "def ")) for b in (before, block))
        text += ("\n\n\n" if wide else "\n\n") + block
    return text.rstrip("\n") + "\n"
