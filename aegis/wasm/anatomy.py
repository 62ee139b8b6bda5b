"""What a component is made of, read from its bytes before the compiler sees them.

Its nested modules and components, how often each is instantiated (instantiation is static, so memories and
instances can be counted, and a bomb of nested instantiations refused), what it imports and exports by name,
and which of that needs asynchronous features. Types are left to the engine's reflection.

Component model, Binary.md. Every count is bounded by the bytes that are left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aegis.errors import ArtifactError
from aegis.names import printable
from aegis.wasm.binary import Malformed, MemoryType, ModuleInfo, Reader, TableType, read_within
from aegis.wasm.needs import HANDLES, TypeSpace

__all__ = ["Anatomy", "Totals", "read_component"]

_DEEPEST = 64
_MOST = 1 << 62
_MOST_BYTES = 2 << 20
"""Bytes of types, instances, aliases, imports and exports, which are read here one by one and by the engine more
slowly; those of large programs take some 100 KiB."""
_MOST_DECLARED = 4 << 20
"""Bytes of what all its modules declare, code and data apart, which are read here too; an interpreter has 200 KiB."""
_CODE = ("element", "code", "data")
_SORTS = {1: "func", 2: "value", 3: "type", 4: "component", 5: "instance"}
SECTION_NAMES = (
    "custom", "core module", "core instance", "core type", "component", "instance", "alias", "type", "canonical",
    "start", "import", "export", "value",
)  # fmt: skip


class Totals(NamedTuple):
    """What one instantiation makes: core instances, and how often each module is instantiated."""

    instances: int
    modules: dict[int, int]
    """By the index in :attr:`Anatomy.modules` of the whole component."""


class Anatomy:
    """The structure of a component and of everything nested in it."""

    def __init__(self) -> None:
        self.modules: list[ModuleInfo] = []
        self.module_sizes: list[int] = []
        self.components = 0
        self.declared = 0
        """Bytes of the modules' sections that are neither code nor data nor custom."""
        self.read = 0
        """Bytes of sections that are neither modules nor components nor custom."""
        self.imports: list[tuple[str, str]] = []
        self.exports: list[tuple[str, str]] = []
        self.functions: dict[str, tuple[str, ...]] = {}
        """The functions of each exported instance that is made in the component itself, by the export's name."""
        self.sections: list[tuple[str, int]] = []
        self.needs: list[tuple[str, str]] = []
        """Imports and exports that need what Aegis does not run, with what that is."""
        self.lends_many = False
        """Whether a component in it offers another one a function that may take a list of borrowed handles."""
        self.totals = Totals(0, {})

    def memories(self, most: int) -> list[MemoryType]:
        """Return the memories of one instance, one for each time it is made; no more than ``most`` and one."""
        return self._each(lambda m: [*m.memories[sum(i.kind == "memory" for i in m.imports) :]], most)

    def tables(self, most: int) -> list[TableType]:
        """Return the tables of one instance, likewise."""
        return self._each(lambda m: [*m.tables[sum(i.kind == "table" for i in m.imports) :]], most)

    def _each(self, own: Callable[[ModuleInfo], list], most: int) -> list:  # type: ignore[type-arg]
        found = []
        for index, times in self.totals.modules.items():
            made = own(self.modules[index])
            if made:
                found += made * min(times, most + 1)
            if len(found) > most:
                return found[: most + 1]
        return found


def read_component(data: bytes) -> Anatomy:
    """Read the structure of a component; raise :class:`~aegis.errors.ArtifactError` when it is malformed."""
    anatomy = Anatomy()
    try:
        outermost = _Walker(anatomy, data, None, 0)
        anatomy.totals = outermost.walk(8, len(data))
        anatomy.lends_many = anatomy.components > 0 and outermost.lends_many()
    except Malformed as error:
        raise ArtifactError(f"not a valid WebAssembly component: {error}") from None
    return anatomy


_Names = tuple[str, ...] | None
"""Names of functions, ``None`` where only their user knows them."""


def _known(items: list[_Names], index: int) -> _Names:
    return items[index] if index < len(items) else None


class _Walker:
    """One component's index spaces."""

    def __init__(self, anatomy: Anatomy, data: bytes, outer: _Walker | None, depth: int) -> None:
        if depth > _DEEPEST:
            raise Malformed(f"components are nested deeper than {_DEEPEST}")
        self.anatomy, self.data, self.outer, self.depth = anatomy, data, outer, depth
        self.modules: list[int | None] = []
        self.components: list[Totals | None] = []
        self.offered: list[_Names] = []
        """The functions that each of :attr:`components` exports."""
        self.members: list[_Names] = []
        """The functions of each component instance."""
        self.offers: list[str] = []
        """The functions that this component exports."""
        self.types: TypeSpace = TypeSpace(outer.types if outer else None)
        self.lifted: list[int] = []
        self.inner: list[_Walker] = []
        self.instances = 0
        self.made: dict[int, int] = {}

    def walk(self, start: int, end: int) -> Totals:
        reader = Reader(self.data, start, end)
        while reader.at < reader.end:
            number, size = reader.byte(), reader.leb()
            begin = reader.at
            reader.skip(size)
            if number >= len(SECTION_NAMES):
                raise Malformed(f"section {number} does not exist")
            self.charge(8)
            section = Reader(self.data, begin, begin + size)
            if not self.depth:
                label = f"custom {section.name()!r}" if number == 0 else SECTION_NAMES[number]
                self.anatomy.sections.append((label, size))
            self.section(number, section)
        return Totals(self.instances, self.made)

    def section(self, number: int, r: Reader) -> None:
        match number:
            case 1:
                self.modules.append(len(self.anatomy.modules))
                self.anatomy.module_sizes.append(r.end - r.at)
                self.anatomy.modules.append(made := read_within(self.data, r.at, r.end))
                self.declared(made)
            case 4:
                if self.data[r.at : r.at + 4] != b"\0asm":
                    raise Malformed("what should be a component does not start as one")
                self.anatomy.components += 1
                inner = _Walker(self.anatomy, self.data, self, self.depth + 1)
                self.components.append(inner.walk(r.at + 8, r.end))
                self.offered.append(tuple(inner.offers))
                self.inner.append(inner)
            case 8:
                self.charge(r.end - r.at)
                self.canonical(r)
            case 2 | 5 | 6 | 7 | 10 | 11:
                self.charge(r.end - r.at)
                read = {2: self.core_instance, 5: self.instance, 6: self.alias, 7: self.types.define}
                read |= {10: self.imported, 11: self.exported}
                for _ in range(r.count()):
                    read[number](r)

    def canonical(self, r: Reader) -> None:
        """Note the types of lifted functions. What is not known here is asynchronous, and the engine rejects it."""
        for _ in range(r.count()):
            kind = r.byte()
            if kind in (0x00, 0x01):
                r.byte()
                r.leb()
                for _ in range(r.count()):
                    option = r.byte()
                    if option > 0x02 and option != 0x06:
                        r.leb()
                if kind == 0x00:
                    self.lifted.append(r.leb())
            elif kind in (0x02, 0x03, 0x04):
                r.leb()
            else:
                return

    def lends_many(self) -> bool:
        """Tell whether a function that is lifted here or in a component within may take a list of borrowed handles."""
        own = any(map(self.types.passes_many_borrows, self.lifted))
        return own or any(inner.lends_many() for inner in self.inner)

    def declared(self, module: ModuleInfo) -> None:
        sizes = [size for name, size in module.sections if name not in _CODE and not name.startswith("custom")]
        self.anatomy.declared += sum(sizes)
        if self.anatomy.declared > _MOST_DECLARED:
            raise Malformed(f"what its modules declare takes more than {_MOST_DECLARED:,} bytes")

    def charge(self, work: int) -> None:
        self.anatomy.read += work
        if self.anatomy.read > _MOST_BYTES:
            raise Malformed(f"its types, instances and names take more than {_MOST_BYTES:,} bytes")

    # -- what is made --------------------------------------------------------------------------

    def core_instance(self, r: Reader) -> None:
        if r.byte() == 0:
            index = r.leb()
            for _ in range(r.count()):
                r.name()
                r.byte()
                r.leb()
            self.instances = min(self.instances + 1, _MOST)
            module = self.modules[index] if index < len(self.modules) else None
            if module is not None:
                self.made[module] = min(self.made.get(module, 0) + 1, _MOST)
        else:
            for _ in range(r.count()):
                r.name()
                r.byte()
                r.leb()

    def instance(self, r: Reader) -> None:
        if r.byte() == 0:
            index = r.leb()
            for _ in range(r.count()):
                r.name()
                self.sort(r)
                r.leb()
            self.members.append(_known(self.offered, index))
            made = self.components[index] if index < len(self.components) else None
            if made is not None:
                self.instances = min(self.instances + made.instances, _MOST)
                self.charge(len(made.modules))
                for module, times in made.modules.items():
                    self.made[module] = min(self.made.get(module, 0) + times, _MOST)
        else:
            functions = []
            for _ in range(r.count()):
                name = self.extern_name(r)
                if self.sort(r) == "func":
                    functions.append(name)
                r.leb()
            self.members.append(tuple(functions))

    # -- index spaces --------------------------------------------------------------------------

    def sort(self, r: Reader) -> str:
        code = r.byte()
        if code == 0:
            return "core module" if r.byte() == 0x11 else "core"
        return _SORTS.get(code, "unknown")

    def alias(self, r: Reader) -> None:
        sort = self.sort(r)
        target = r.byte()
        if target in (0, 1):
            r.leb()
            r.name()
            self.add(sort)
        else:
            count, index = r.leb(), r.leb()
            self.alias_outer(sort, count, index)

    def alias_outer(self, sort: str, count: int, index: int) -> None:
        owner: _Walker | None = self
        for _ in range(min(count, _DEEPEST + 1)):
            owner = owner.outer if owner else None
        if sort == "core module":
            known = owner.modules if owner else []
            self.modules.append(known[index] if index < len(known) else None)
        elif sort == "component":
            made = owner.components if owner else []
            self.components.append(made[index] if index < len(made) else None)
            self.offered.append(_known(owner.offered, index) if owner else None)
        elif sort == "type":
            self.types.alias_outer(count, index)
        else:
            self.add(sort)

    def add(self, sort: str) -> None:
        """Count an item of which only its kind is known."""
        if sort == "core module":
            self.modules.append(None)
        elif sort == "component":
            self.components.append(None)
            self.offered.append(None)
        elif sort == "instance":
            self.members.append(None)
        elif sort == "type":
            self.types.add_unknown()

    def extern_name(self, r: Reader) -> str:
        form = r.byte()
        name = r.name()
        if form == 2:
            for _ in range(r.count()):
                r.byte()
                r.name()
        return name

    def imported(self, r: Reader) -> None:
        name = self.extern_name(r)
        sort, needs = self.types.extern(r)
        self.add_described(sort, needs)
        if not self.depth:
            self.anatomy.imports.append((name, sort))
            self.told(f"the import {printable(name, 120)}", needs)

    def add_described(self, sort: str, needs: frozenset[str]) -> None:
        if sort == "type":
            self.types.add(needs)
        else:
            self.add(sort)

    def exported(self, r: Reader) -> None:
        name = self.extern_name(r)
        sort = self.sort(r)
        index = r.leb()
        needs: frozenset[str] = frozenset()
        if r.byte():
            described, needs = self.types.extern(r)
            sort = described if sort == "unknown" else sort
        if sort == "type":
            needs |= self.types.of(index) & HANDLES
            self.types.exported |= needs
        if sort == "core module":
            self.modules.append(self.modules[index] if index < len(self.modules) else None)
        elif sort == "component":
            self.components.append(self.components[index] if index < len(self.components) else None)
            self.offered.append(_known(self.offered, index))
        elif sort == "instance":
            self.members.append(_known(self.members, index))
        else:
            self.add_described(sort, needs)
        if sort == "func":
            self.offers.append(name)
        if not self.depth:
            self.anatomy.exports.append((name, sort))
            if sort == "instance" and (functions := self.members[-1]) is not None:
                self.anatomy.functions[name] = functions
            self.told(f"the export {printable(name, 120)}", needs)

    def told(self, what: str, needs: frozenset[str]) -> None:
        if needs - HANDLES:
            self.anatomy.needs.append((what, ", ".join(sorted(needs - HANDLES))))
