"""Which types of a component need asynchronous features, or pass handles in a way that costs the host memory.

Only features are read, not types: what runs is reflected by the engine. A type whose encoding is not known
here is passed over by raising :class:`~aegis.wasm.binary.Malformed`, and the component is refused.

Between two components of one artifact the engine keeps a record on the host for every borrowed handle that is passed,
without a limit (GHSA-6fr9-xmw9-5352, not fixed in wasmtime 50.0.0). Only a list holds many, and a list of lists
that share their elements holds many more than the guest has memory.

Component model, Binary.md, "Type Definitions".
"""

from __future__ import annotations

from aegis.wasm.binary import Malformed, Reader

__all__ = ["BORROWS", "HANDLES", "MANY_BORROWS", "TypeSpace"]

_NOTHING: frozenset[str] = frozenset()
BORROWS = "a borrowed handle"
MANY_BORROWS = "a list of borrowed handles"
_UNKNOWN = "a type of another component"
HANDLES = frozenset({BORROWS, MANY_BORROWS, _UNKNOWN})
"""What is said of types besides the features that they need."""
_DEEPEST = 100


class TypeSpace:
    """The component types of one scope, each as the set of what it needs."""

    def __init__(self, outer: TypeSpace | None = None, depth: int = 0) -> None:
        if depth > _DEEPEST:
            raise Malformed(f"types are nested deeper than {_DEEPEST}")
        self.outer, self.depth = outer, depth
        self.needs: list[frozenset[str]] = []
        self.exported: set[str] = set() if outer is None else outer.exported
        """What is said of the types that any component or interface of the artifact exports by name."""

    def add(self, needs: frozenset[str]) -> None:
        self.needs.append(needs)

    def of(self, index: int) -> frozenset[str]:
        return self.needs[index] if index < len(self.needs) else _NOTHING

    def add_unknown(self) -> None:
        """Add a type that another component or interface exports; :attr:`exported` tells what it may hold."""
        self.needs.append(frozenset({_UNKNOWN}))

    def passes_many_borrows(self, index: int) -> bool:
        """Tell whether a function type may hold a list of borrowed handles."""
        needs = self.of(index)
        return MANY_BORROWS in needs or (_UNKNOWN in needs and BORROWS in self.exported)

    def alias_outer(self, count: int, index: int) -> None:
        owner: TypeSpace | None = self
        for _ in range(min(count, _DEEPEST + 1)):
            owner = owner.outer if owner else None
        self.add(owner.of(index) if owner else _NOTHING)

    # -- definitions ---------------------------------------------------------------------------

    def define(self, r: Reader) -> None:
        """Read one type definition and add it."""
        self.add(self.definition(r))

    def definition(self, r: Reader) -> frozenset[str]:
        form = r.byte()
        if form in (0x40, 0x43):
            needs = self.function(r)
            return needs | {"async functions"} if form == 0x43 else needs
        if form in (0x41, 0x42):
            return self.scope(r)
        if form in (0x3F, 0x3E):
            r.byte()
            if r.byte():
                r.leb()
                if form == 0x3E and r.byte():
                    r.leb()
            return _NOTHING
        return self.value_definition(form, r)

    def function(self, r: Reader) -> frozenset[str]:
        needs = self.labelled(r)
        if r.byte() == 0:
            return needs | self.value(r)
        r.byte()
        return needs

    def labelled(self, r: Reader) -> frozenset[str]:
        needs = _NOTHING
        for _ in range(r.count()):
            r.name()
            needs |= self.value(r)
        return needs

    def value(self, r: Reader) -> frozenset[str]:
        """A value type: a primitive, one byte, or the index of a definition."""
        first = r.data[r.at] if r.at < r.end else 0
        if 0x64 <= first <= 0x7F:
            r.byte()
            return frozenset({"error contexts"}) if first == 0x64 else _NOTHING
        return self.of(r.leb(33))

    def maybe(self, r: Reader) -> frozenset[str]:
        return self.value(r) if r.byte() else _NOTHING

    def value_definition(self, form: int, r: Reader) -> frozenset[str]:
        match form:
            case 0x64:
                return frozenset({"error contexts"})
            case 0x72:
                return self.labelled(r)
            case 0x71:
                return self.variant(r)
            case 0x70:
                needs = self.value(r)
                return needs | {MANY_BORROWS} if BORROWS in needs else needs
            case 0x6B:
                return self.value(r)
            case 0x67:
                needs = self.value(r)
                r.leb()
                return needs | {"lists of fixed length"}
            case 0x6F:
                return frozenset().union(*(self.value(r) for _ in range(r.count())))
            case 0x6E | 0x6D:
                for _ in range(r.count()):
                    r.name()
                return _NOTHING
            case 0x6A:
                return self.maybe(r) | self.maybe(r)
            case 0x69:
                r.leb()
                return _NOTHING
            case 0x68:
                r.leb()
                return frozenset({BORROWS})
            case 0x66 | 0x65:
                return self.maybe(r) | {"streams" if form == 0x66 else "futures"}
            case 0x63:
                return self.value(r) | self.value(r) | {"maps"}
        if 0x73 <= form <= 0x7F:
            return _NOTHING
        raise Malformed(f"0x{form:02x} is not a type of a component")

    def variant(self, r: Reader) -> frozenset[str]:
        needs = _NOTHING
        for _ in range(r.count()):
            r.name()
            needs |= self.maybe(r)
            if r.byte():
                r.leb()
        return needs

    # -- scopes --------------------------------------------------------------------------------

    def scope(self, r: Reader) -> frozenset[str]:
        """A component or instance type: declarations in a scope of their own."""
        inner = TypeSpace(self, self.depth + 1)
        needs = _NOTHING
        for _ in range(r.count()):
            needs |= inner.declaration(r)
        return needs

    def declaration(self, r: Reader) -> frozenset[str]:
        form = r.byte()
        if form == 0:
            raise Malformed("a core type within a component type is not known")
        if form == 1:
            self.define(r)
            return self.needs[-1]
        if form == 2:
            self.alias(r)
            return _NOTHING
        if form not in (3, 4):
            raise Malformed(f"0x{form:02x} is not a declaration")
        self.extern_name(r)
        sort, needs = self.extern(r)
        if sort == "type":
            self.add(needs)
            self.exported |= needs
        return needs

    def extern_name(self, r: Reader) -> None:
        form = r.byte()
        r.name()
        if form == 2:
            for _ in range(r.count()):
                r.byte()
                r.name()

    def alias(self, r: Reader) -> None:
        sort = r.byte()
        if sort == 0:
            r.byte()
        target = r.byte()
        if target == 2:
            count, index = r.leb(), r.leb()
            if sort == 3:
                self.alias_outer(count, index)
            return
        r.leb()
        r.name()
        if sort == 3:
            self.add_unknown()

    def extern(self, r: Reader) -> tuple[str, frozenset[str]]:
        """Read the description of an import or export: its sort, and what it needs."""
        form = r.byte()
        if form == 0:
            r.byte()
            r.leb()
            return "core module", _NOTHING
        if form == 2:
            return "value", (self.value(r) if r.byte() else self.of(r.leb()))
        if form == 3:
            return "type", (_NOTHING if r.byte() else self.of(r.leb()))
        sort = {1: "func", 4: "component", 5: "instance"}.get(form)
        if sort is None:
            raise Malformed(f"0x{form:02x} describes nothing that can be imported")
        return sort, self.of(r.leb())
