"""Write functions as typed methods of protocols, for host implementations and for guest exports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aegis.bindgen.classes import class_text, doc_of
from aegis.bindgen.expressions import Expressions, union_of
from aegis.bindgen.layout import docstring, indented, signature
from aegis.bindgen.scope import unused
from aegis.wit.model import FunctionDef, TypeDef
from aegis.wit.naming import pascal, snake
from aegis.wit.types import Function, Result

__all__ = ["FunctionWriter"]

_MAX_RESULT_COLUMNS = 90
"""A longer result of a host function gets an alias, because a line cannot be split inside ``MaybeAwaitable[…]``."""


@dataclass(slots=True)
class FunctionWriter:
    """Writes functions for one side: an ``exported`` function raises the error case of its ``result``.

    An implementation of a function that is not exported may be ``def`` or ``async def``. With ``awaited``,
    exported functions are ``async def``, and methods of a resource take the handle as their first argument.
    """

    expressions: Expressions
    exported: bool
    awaited: bool = False

    def returns(self, of: Function) -> str:
        """Return the annotation of a function's result."""
        with self.expressions.received_by("host" if self.exported else "guest"):
            made = self._value(of)
        if self.exported:
            return made
        wrapper = self.expressions.wrapper("MaybeAwaitable")
        return f"{wrapper}[{self.expressions.shortened(made, _MAX_RESULT_COLUMNS)}]"

    def _value(self, of: Function) -> str:
        """Return the annotation of the value that a function returns, or that its awaitable has."""
        result = self.expressions.result_of(of)
        if result is None:
            return self.expressions.maybe(of.result)
        good = self.expressions.maybe(result.ok)
        if self.exported:
            return good
        if result.ok is not None and isinstance(self.expressions.document.unaliased(result.ok), Result):
            good = f"{self.expressions.wrapper('Ok')}[{good}]"
        return union_of([good, self.error(result)])

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
        names = [snake(name) for name, _ in own]
        with self.expressions.received_by("guest" if self.exported else "host"):
            made = [f"{name}: {self.expressions.annotation(t)}" for name, (_, t) in zip(names, own, strict=True)]
        if self.awaited and of.kind == "method":
            made.insert(0, f"{unused('handle', set(names))}: {self.expressions.annotation(of.type.params[0][1])}")
        return ["self", *made]

    def method(self, of: FunctionDef, body: Sequence[str] = ()) -> str:
        """Return a function as a method; without ``body`` it has only a docstring or ``...``."""
        name = "__call__" if of.kind == "constructor" else snake(of.short)
        doc = doc_of(of.notes, self.raises(of.type))
        lines = [docstring(doc, 8)] if doc else []
        lines += body
        head = signature(name, self.params(of), self.returns(of.type), 4, bool(lines), awaited=self.awaited)
        return head + "".join(f"\n{indented(line)}" for line in lines)

    def protocol(self, name: str, bases: Iterable[str], doc: str, members: list[str]) -> str:
        """Return a protocol class."""
        scope = self.expressions.scope
        return class_text(
            f"class {name}({', '.join([*bases, scope.use('typing', 'Protocol')])}):", doc, members, "\n\n"
        )

    def resource(self, of: TypeDef, methods: list[FunctionDef]) -> str:
        """Return the protocol of a resource: of the host's objects, or of handles of the guest's resources."""
        base = [self.expressions.scope.use("aegis.wit.handle", "Handle")] if self.exported else []
        doc = doc_of(of.notes) or f"The resource ``{of.name}``."
        name = self.expressions.known[of.key].python
        return self.protocol(name, base, doc, [self.method(m) for m in methods])

    def factory(self, name: str, of: TypeDef, functions: list[FunctionDef]) -> str:
        """Return the protocol of a resource's class: its constructor and static functions; methods too if awaited."""
        if not self.awaited:
            doc = f"The class of ``{of.name}``: its constructor and static functions."
            return self.protocol(name, [], doc, [self.method(f) for f in functions])
        doc = f"The class of ``{of.name}``, to await: its constructor, static functions, and methods of a handle."
        handle = self.expressions.known.python(of.key)
        drop = [f"async def drop(self, handle: {handle}) -> None: ..."]
        return self.protocol(name, [], doc, [self.method(f) for f in functions] + drop)

    def attributes(self, factories: dict[str, str]) -> list[str]:
        """Return the classes of resources as attributes, which a subclass may assign."""
        return [f"{pascal(name)}: {factory}" for name, factory in factories.items()]

    def properties(self, factories: dict[str, str]) -> list[str]:
        """Return the classes of resources as read-only members, which any class with such attributes has."""
        return [f"@property\ndef {pascal(name)}(self) -> {factory}: ..." for name, factory in factories.items()]

    def holder(self, name: str, factories: dict[str, str]) -> str:
        """Return the protocol whose attributes are the classes of resources."""
        members = self.properties(factories)
        which = "classes of the resources" + ("" if self.awaited else " with constructors or static functions")
        return self.protocol(name, [], f"The {which}.", members)
