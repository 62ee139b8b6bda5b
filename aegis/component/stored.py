"""Programs as bytes, to be kept with the compiled code of their component.

The bytes are :mod:`marshal` of plain tuples. Types, function types and functions are stated once each and then by
number, so that what a component shares stays shared, in the bytes and after loading.

Whoever loads must know that the bytes are those that were dumped: ``marshal`` does not stand up to hostile input. The
cache of compiled code authenticates its files.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from aegis.component.program import (
    CoreExport,
    CoreItem,
    CoreStep,
    Imported,
    Lifted,
    Lowered,
    Options,
    Program,
    ResourceFunction,
    ResourceType,
    Trampoline,
)
from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
    Function,
    List,
    Option,
    Own,
    Record,
    Resource,
    Result,
    Tuple,
    Variant,
    WitType,
)

__all__ = ["FORMAT", "dump", "load"]

FORMAT = 1
"""Goes up with each change of :class:`~aegis.component.program.Program` or of this encoding."""
_MARSHAL = 4
"""The version of marshal's own format, which every supported Python reads and writes."""


def dump(program: Program) -> bytes:
    """Return a program as bytes."""
    writer = _Writer()
    trampolines = [writer.trampoline(made) for made in program.trampolines]
    imported = [writer.function(function) for function in program.imported]
    exports = [
        (name, writer.function(item) if isinstance(item, (Lifted, Imported)) else writer.members(item))
        for name, item in program.exports.items()
    ]
    plain = (
        FORMAT, tuple(writer.types), tuple(writer.function_types), tuple(writer.functions), program.modules,
        tuple([(step.module, tuple(map(_plain, step.imports)), step.instance) for step in program.steps]),
        tuple(trampolines), tuple([(r.name, r.instance, _plain(r.destructor)) for r in program.resources]),
        tuple(imported), tuple(exports), program.parents,
    )  # fmt: skip
    return marshal.dumps(plain, _MARSHAL)


def load(data: bytes) -> Program:
    """Return the program that :func:`dump` made ``data`` of; raise ``ValueError`` for another format."""
    plain = marshal.loads(data)
    if not isinstance(plain, tuple) or plain[:1] != (FORMAT,):
        raise ValueError("these are not the bytes of a program, or they are of another format")
    _, types, function_types, functions, modules, steps, trampolines, resources, imported, exports, parents = plain
    reader = _Reader(types, function_types, functions)
    return Program(
        modules=modules,
        steps=tuple([CoreStep(module, tuple(map(_item, imports)), instance) for module, imports, instance in steps]),
        trampolines=tuple([reader.trampoline(made) for made in trampolines]),
        resources=tuple([ResourceType(name, instance, _maybe_item(dtor)) for name, instance, dtor in resources]),
        imported=tuple([reader.functions[number] for number in imported]),
        exports={
            name: reader.functions[item]
            if isinstance(item, int)
            else {member: reader.functions[number] for member, number in item}
            for name, item in exports
        },
        parents=parents,
    )


def _plain(item: CoreItem | None) -> tuple[int, str, str] | int | None:
    return (item.step, item.name, item.kind) if isinstance(item, CoreExport) else item


def _item(plain: Any) -> CoreItem:
    return plain if isinstance(plain, int) else CoreExport._make(plain)


def _maybe_item(plain: Any) -> CoreItem | None:
    return None if plain is None else _item(plain)


class _Writer:
    """Gives each different type and function a number. Parts come before what is made of them."""

    def __init__(self) -> None:
        self.types: list[Any] = []
        self.function_types: list[Any] = []
        self.functions: list[Any] = []
        self._numbers: dict[Hashable, int] = {}
        self._known: dict[int, int] = {}  # by identity: equal types of thousands of parts are slow to compare

    def number(self, table: list[Any], key: Hashable, plain: Any) -> int:
        """Return the number of ``plain`` in a table; add it if it is new."""
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(table)
            table.append(plain)
        return found

    def type(self, of: WitType | None) -> int | str | None:
        if of is None or isinstance(of, str):
            return of
        known = self._known.get(id(of))
        if known is None:
            plain = self.compound(of)
            known = self._known[id(of)] = self.number(self.types, plain, plain)
        return known

    def compound(self, of: Any) -> tuple[Any, ...]:
        kind = type(of).__name__
        match of:
            case List(element) | Option(element):
                return kind, self.type(element)
            case Tuple(elements):
                return kind, tuple([self.type(element) for element in elements])
            case Result(ok, err):
                return kind, self.type(ok), self.type(err)
            case Record(name, members) | Variant(name, members):
                return kind, name, tuple([(label, self.type(part)) for label, part in members])
            case Enum(name, labels) | Flags(name, labels):
                return kind, name, labels
            case Own(resource) | Borrow(resource):
                return kind, resource.name, resource.key
        raise AssertionError(of)

    def function_type(self, of: Function) -> int:
        plain = tuple([(name, self.type(part)) for name, part in of.params]), self.type(of.result)
        return self.number(self.function_types, ("function type", plain), plain)

    def function(self, of: Imported | Lifted) -> int:
        type_number = self.function_type(of.type)
        plain: tuple[Any, ...]
        if isinstance(of, Imported):
            plain = (of.interface, of.name, type_number)
        else:
            plain = (_plain(of.core), _options(of.options), type_number, of.instance)
        return self.number(self.functions, ("function", plain), plain)

    def members(self, of: Mapping[str, Imported | Lifted]) -> tuple[tuple[str, int], ...]:
        return tuple([(name, self.function(function)) for name, function in of.items()])

    def trampoline(self, of: Trampoline) -> tuple[Any, ...]:
        if isinstance(of, ResourceFunction):
            return tuple(of)
        return self.function(of.function), _options(of.options), of.instance


def _options(of: Options) -> tuple[Any, ...]:
    return of.encoding, _plain(of.memory), _plain(of.realloc), _plain(of.post_return)


class _Reader:
    """Makes the types and functions of their tables again, each once."""

    def __init__(self, types: Any, function_types: Any, functions: Any) -> None:
        self.types: list[WitType] = []
        for plain in types:
            self.types.append(_MAKERS[plain[0]](self, *plain[1:]))
        self.function_types = [
            Function(tuple([(name, self.part(of)) for name, of in params]), self.maybe(result))
            for params, result in function_types
        ]
        self.functions = [self.function(*plain) for plain in functions]

    def part(self, plain: Any) -> WitType:
        return plain if isinstance(plain, str) else self.types[plain]

    def maybe(self, plain: Any) -> WitType | None:
        return None if plain is None else self.part(plain)

    def function(self, *plain: Any) -> Imported | Lifted:
        if len(plain) == 3:
            interface, name, of = plain
            return Imported(interface, name, self.function_types[of])
        core, options, of, instance = plain
        return Lifted(_item(core), self.options(options), self.function_types[of], instance)

    def options(self, plain: Any) -> Options:
        encoding, memory, realloc, post_return = plain
        memory_export = None if memory is None else CoreExport._make(memory)
        return Options(encoding, memory_export, _maybe_item(realloc), _maybe_item(post_return))

    def trampoline(self, plain: Any) -> Trampoline:
        if isinstance(plain[0], str):
            return ResourceFunction._make(plain)
        function, options, instance = plain
        return Lowered(self.functions[function], self.options(options), instance)


_MAKERS: dict[str, Callable[..., WitType]] = {
    "List": lambda r, element: List(r.part(element)),
    "Option": lambda r, element: Option(r.part(element)),
    "Tuple": lambda r, elements: Tuple(tuple([r.part(element) for element in elements])),
    "Result": lambda r, ok, err: Result(r.maybe(ok), r.maybe(err)),
    "Record": lambda r, name, fields: Record(name, tuple([(label, r.part(part)) for label, part in fields])),
    "Variant": lambda r, name, cases: Variant(name, tuple([(label, r.maybe(part)) for label, part in cases])),
    "Enum": lambda _, name, labels: Enum(name, labels),
    "Flags": lambda _, name, labels: Flags(name, labels),
    "Own": lambda _, name, key: Own(Resource(name, key)),
    "Borrow": lambda _, name, key: Borrow(Resource(name, key)),
}
