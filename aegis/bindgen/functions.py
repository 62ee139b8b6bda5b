"""Functions as typed methods of protocols: what a host implements, and what a guest exports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aegis.bindgen.classes import documented, noted
from aegis.bindgen.expressions import Expressions, joined
from aegis.bindgen.layout import docstring, indented, signature
from aegis.wit.model import FunctionDef, TypeDef
from aegis.wit.naming import pascal, snake
from aegis.wit.types import Function, Result

__all__ = ["Functions"]


@dataclass(slots=True)
class Functions:
    """Writes functions as one side sees them: ``exported`` ones raise the error of their ``result``."""

    expressions: Expressions
    exported: bool

    def returns(self, of: Function) -> str:
        """Return the annotation of a function's result."""
        result = self.expressions.result_of(of)
        if result is None:
            return self.expressions.maybe(of.result)
        good = self.expressions.maybe(result.ok)
        if self.exported:
            return good
        if result.ok is not None and isinstance(self.expressions.document.unaliased(result.ok), Result):
            good = f"{self.expressions.wrapper('Ok')}[{good}]"
        return joined([good, self.error(result)])

    def error(self, of: Result) -> str:
        """Return the annotation of a function's error."""
        return f"{self.expressions.wrapper('Err')}[{self.expressions.maybe(of.err)}]"

    def raises(self, of: Function) -> str:
        """Return what an exported function's docs say of its error."""
        result = self.expressions.result_of(of) if self.exported else None
        return f"Raises ``Err[{self.expressions.maybe(result.err)}]``." if result is not None else ""

    def params(self, of: FunctionDef) -> list[str]:
        """Return the parameters of a Python method, its object first."""
        own = of.type.params[1:] if of.kind == "method" else of.type.params
        return ["self", *(f"{snake(name)}: {self.expressions.annotation(t)}" for name, t in own)]

    def method(self, of: FunctionDef, body: Sequence[str] = ()) -> str:
        """Return a function as a method, without a body where docs or dots will do."""
        name = "__call__" if of.kind == "constructor" else snake(of.short)
        doc = noted(of.notes, self.raises(of.type))
        lines = [docstring(doc, 8)] if doc else []
        lines += body
        head = signature(name, self.params(of), self.returns(of.type), 4, bool(lines))
        return head + "".join(f"\n{indented(line)}" for line in lines)

    def protocol(self, name: str, bases: Iterable[str], doc: str, members: list[str]) -> str:
        """Return a protocol class."""
        scope = self.expressions.scope
        return documented(
            f"class {name}({', '.join([*bases, scope.use('typing', 'Protocol')])}):", doc, members, "\n\n"
        )

    def resource(self, of: TypeDef, methods: list[FunctionDef]) -> str:
        """Return the class of a resource: what a host's objects can do, or a guest's handles."""
        base = [self.expressions.scope.use("aegis.wit.handle", "Handle")] if self.exported else []
        doc = noted(of.notes) or f"The resource ``{of.name}``."
        name = self.expressions.known[of.key].python
        return self.protocol(name, base, doc, [self.method(m) for m in methods])

    def factory(self, name: str, of: TypeDef, functions: list[FunctionDef]) -> str:
        """Return the protocol of a resource's class itself: its constructor and its static functions."""
        doc = f"The class of ``{of.name}``: its constructor and static functions."
        return self.protocol(name, [], doc, [self.method(f) for f in functions])

    def holder(self, name: str, factories: dict[str, str]) -> str:
        """Return the protocol that has the classes of resources as attributes."""
        members = [f"@property\ndef {pascal(n)}(self) -> {factory}: ..." for n, factory in factories.items()]
        return self.protocol(name, [], "The classes of the resources that are made by functions of their own.", members)
