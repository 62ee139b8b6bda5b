"""Write the classes of named types (dataclasses, enums, flags, unions) and their type tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aegis.bindgen.expressions import Expressions, tuple_expression
from aegis.bindgen.layout import WIDTH, Bracketed, Part, assigned, docstring, indented, quoted, union
from aegis.bindgen.scope import ModuleNames
from aegis.wit.model import Notes, TypeDef
from aegis.wit.naming import constant, pascal, snake
from aegis.wit.types import Enum, Flags, Record, Resource, Variant, WitType

__all__ = ["ClassWriter", "case_classes", "class_text", "doc_of"]


def case_classes(of: Variant, scope: ModuleNames) -> tuple[str, ...]:
    """Define the names of a variant's classes, one for each case."""
    prefix = pascal(of.name).rstrip("_")
    return tuple(scope.define(prefix + pascal(name).rstrip("_")) for name, _ in of.cases)


def doc_of(notes: Notes, *more: str) -> str:
    """Return the documentation of an item with its gates, and further paragraphs ``more``."""
    gates = [
        f"Since {notes.since}." if notes.since else "",
        f"Unstable: feature {notes.feature}." if notes.feature else "",
        f"Deprecated since {notes.deprecated}." if notes.deprecated else "",
    ]
    parts = [notes.docs.strip(), " ".join(g for g in gates if g), *more]
    return "\n\n".join(part for part in parts if part)


def class_text(head: str, doc: str, members: list[str], gap: str = "\n") -> str:
    """Return a class from its first line, docstring and members."""
    parts = [docstring(doc, 4)] if doc else []
    if not members:
        return f"{head}\n" + indented("\n".join(parts) if parts else "...")
    body = gap.join(members)
    return f"{head}\n" + indented("\n\n".join([*parts, body]))


@dataclass(slots=True)
class ClassWriter:
    """Writes the definitions of the types of one module, except resources."""

    expressions: Expressions
    cases: Mapping[int, tuple[str, ...]]

    def definition(self, of: TypeDef) -> Iterator[str]:
        """Yield the blocks that define the Python class or alias of a type."""
        name = self.expressions.known[of.key].python
        match of.body:
            case Record():
                yield self.record(name, of, of.body)
            case Variant():
                yield from self.variant(name, of, of.body)
            case Enum():
                yield self.enum(name, of, of.body)
            case Flags():
                yield self.flags(name, of, of.body)
            case Resource():
                return
            case alias:
                text = self.expressions.alias(name, alias)
                yield from self.take()
                yield text + self.comment(of)

    def take(self) -> list[str]:
        """Return the pending definitions that the next one needs, and clear them."""
        found, self.expressions.ready[:] = list(self.expressions.ready), []
        return found

    def comment(self, of: TypeDef) -> str:
        """Return a docstring for an alias."""
        doc = doc_of(of.notes)
        return f"\n{docstring(doc, 0)}" if doc else ""

    def doc(self, of: TypeDef) -> str:
        """Return the documentation of a type; without any, its kind and name."""
        return doc_of(of.notes) or f"The {type(of.body).__name__.lower()} ``{of.name}``."

    def member(self, of: TypeDef, name: str, text: str) -> str:
        """Return a member with its documentation below it."""
        doc = doc_of(of.members.get(name, Notes()))
        return f"{text}\n{docstring(doc, 4)}" if doc else text

    def dataclass(self, name: str, doc: str, fields: list[str]) -> str:
        """Return a frozen dataclass."""
        decorator = self.expressions.scope.use("dataclasses", "dataclass")
        return f"@{decorator}(frozen=True, slots=True)\n" + class_text(f"class {name}:", doc, fields)

    def record(self, name: str, of: TypeDef, body: Record) -> str:
        """Return the class of a record."""
        fields = [self.member(of, n, f"{snake(n)}: {self.expressions.annotation(t)}") for n, t in body.fields]
        return self.dataclass(name, self.doc(of), fields)

    def variant(self, name: str, of: TypeDef, body: Variant) -> Iterator[str]:
        """Yield the classes of a variant, and their union."""
        classes = self.cases[of.key]
        for made, (case, payload) in zip(classes, body.cases, strict=True):
            doc = doc_of(of.members.get(case, Notes())) or f"``{case}`` of ``{body.name}``."
            yield self.dataclass(made, doc, self.properties(case, payload))
        self.expressions.scope.use("typing", "TypeAlias")
        yield union(name, classes) + self.comment(of)

    def properties(self, case: str, payload: WitType | None) -> list[str]:
        """Return the properties of a case: its name in WIT, of the class, and the payload, of the instance if any."""
        scope = self.expressions.scope
        shared, literal = scope.use("typing", "ClassVar"), scope.use("typing", "Literal")
        head = f"case: {shared}[{literal}[{quoted(case)}]]"
        long = 4 + len(head) + 3 + len(quoted(case)) > WIDTH
        named = f"{head} = (\n    {quoted(case)}\n)" if long else f"{head} = {quoted(case)}"
        kept = f"{shared}[None] = None" if payload is None else self.expressions.annotation(payload)
        return [named, f"value: {kept}"]

    def enum(self, name: str, of: TypeDef, body: Enum) -> str:
        """Return the class of an enum."""
        self.expressions.scope.module("enum")
        members = [self.member(of, case, f"{constant(case)} = {quoted(case)}") for case in body.cases]
        return class_text(f"class {name}(enum.Enum):", self.doc(of), members)

    def flags(self, name: str, of: TypeDef, body: Flags) -> str:
        """Return the class of flags."""
        base = self.expressions.wrapper("BitFlags")
        members = [self.member(of, flag, f"{constant(flag)} = 1 << {n}") for n, flag in enumerate(body.names)]
        return class_text(f"class {name}({base}):", self.doc(of), members)

    def table(self, of: TypeDef) -> str:
        """Return the constant with the table of a type."""
        return assigned(self.expressions.known[of.key].table, self.node(of))

    def node(self, of: TypeDef) -> Part:
        """Return the table expression of a named type."""
        python = self.expressions.known[of.key].python
        match of.body:
            case Record(name, fields):
                return self.call("Record", name, [self.pair(n, self.expressions.node(t)) for n, t in fields], python)
            case Variant(name, cases):
                classes = tuple_expression(list(self.cases[of.key]))
                found = [self.pair(n, self.expressions.node(t)) for n, t in cases]
                return self.call("Variant", name, found, Bracketed("python=(", classes.parts, ")", lone=True))
            case Enum(name, names) | Flags(name, names):
                return self.call(type(of.body).__name__, name, [quoted(n) for n in names], python)
            case Resource(name):
                return self.expressions.call("Resource", quoted(name), f"python={python}", "owner=_NAME")
            case alias:
                return self.expressions.node(alias)

    def pair(self, name: str, part: Part) -> Part:
        """Return a pair of a name and its type."""
        return tuple_expression([quoted(name), part])

    def call(self, node: str, name: str, members: list[Part], python: Part) -> Part:
        """Return the constructor call of a named type."""
        image = f"python={python}" if isinstance(python, str) else python
        return self.expressions.call(node, quoted(name), tuple_expression(members), image, "owner=_NAME")
