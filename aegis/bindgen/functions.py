"""Write functions as typed methods of protocols, for host implementations and for guest exports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aegis.bindgen.classes import documented, noted
from aegis.bindgen.expressions import Expressions, joined
from aegis.bindgen.layout import docstring, indented, signature
from aegis.wit.model import FunctionDef, TypeDef
from aegis.wit.naming import pascal, snake
from aegis.wit.types import Function, Result

__all__ = ["FunctionWriter"]


@dataclass(slots=True)
class FunctionWriter:
    """Writes functions for one side: an ``exported`` function raises the error case of its ``result``."""

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
        """Return the annotation of the error case of a function's result."""
        return f"{self.expressions.wrapper('Err')}[{self.expressions.maybe(of.err)}]"

    def raises(self, of: Function) -> str:
        """Return the sentence about the error case for the docstring of an exported function."""
        result = self.expressions.result_of(of) if self.exported else None
        if result is None:
            return ""
        with self.expressions.scope.mentioned():
            return f"Raises ``Err[{self.expressions.maybe(result.err)}]``."

    def params(self, of: FunctionDef) -> list[str]:
        """Return the parameters of a Python method, starting with ``self``."""
        own = of.type.params[1:] if of.kind == "method" else of.type.params
        return ["self", *(f"{snake(name)}: {self.expressions.annotation(t)}" for name, t in own)]

    def method(self, of: FunctionDef, body: Sequence[str] = ()) -> str:
        """Return a function as a method; without ``body`` it has only a docstring or ``...``."""
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
        """Return the protocol of a resource: of the host's objects, or of handles of the guest's resources."""
        base = [self.expressions.scope.use("aegis.wit.handle", "Handle")] if self.exported else []
        doc = noted(of.notes) or f"The resource ``{of.name}``."
        name = self.expressions.known[of.key].python
        return self.protocol(name, base, doc, [self.method(m) for m in methods])

    def factory(self, name: str, of: TypeDef, functions: list[FunctionDef]) -> str:
        """Return the protocol of a resource's class: its constructor and its static functions."""
        doc = f"The class of ``{of.name}``: its constructor and static functions."
        return self.protocol(name, [], doc, [self.method(f) for f in functions])

    def holder(self, name: str, factories: dict[str, str]) -> str:
        """Return the protocol whose attributes are the classes of resources."""
        members = [f"@property\ndef {pascal(n)}(self) -> {factory}: ..." for n, factory in factories.items()]
        return self.protocol(name, [], "The classes of the resources with constructors or static functions.", members)
