"""Compares the core signatures of everything that a run calls or provides without the engine's check.

The engine validates a component before it runs, and these rules with it (CanonicalABI.md, "Canonical Definitions").
They are checked here once more, because a call with another signature than the function has reads and writes past
the values that it was given: this is what makes unchecked calls safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from aegis.component.conversion.layout import MAX_FLAT_PARAMS, MAX_FLAT_RESULTS, core_type, flat, has_pointers
from aegis.component.planning.program import (
    CoreExport,
    CoreItem,
    Imported,
    Lifted,
    Lowered,
    Options,
    Program,
    ResourceFunction,
)
from aegis.errors import ArtifactError
from aegis.text import printable
from aegis.values import FuncType
from aegis.wasm.binary import ExternType
from aegis.wit.types import Function

__all__ = ["check_signatures", "lifted_functions"]

ExportTypes: TypeAlias = Callable[[int], dict[tuple[str, str], ExternType]]
"""Returns the types of a core module's exports by name and kind."""

_REALLOC = FuncType(("i32", "i32", "i32", "i32"), ("i32",))
_DESTRUCTOR = FuncType(("i32",), ())
_RESOURCE_FUNCTIONS = {
    "new": FuncType(("i32",), ("i32",)), "drop": FuncType(("i32",), ()), "rep": FuncType(("i32",), ("i32",)),
}  # fmt: skip


def check_signatures(program: Program, export_types: ExportTypes) -> None:
    """Raise ``ArtifactError`` unless each core function has the signature with which a run calls it."""
    checker = _Checker(program, export_types)
    seen: set[int] = set()
    for lifted in lifted_functions(program):
        if id(lifted) not in seen:
            seen.add(id(lifted))
            checker.lifted(lifted)
    for trampoline in program.trampolines:
        if isinstance(trampoline, Lowered):
            checker.lowered(trampoline)
    for resource in program.resources:
        if resource.destructor is not None:
            checker.function(resource.destructor, _DESTRUCTOR, "a destructor")


def lifted_functions(program: Program) -> Iterator[Lifted]:
    """Yield each function that is lifted, for a component instance or for the host, as often as it is."""
    for trampoline in program.trampolines:
        if isinstance(trampoline, Lowered) and isinstance(trampoline.function, Lifted):
            yield trampoline.function
    for item in program.exports.values():
        for function in (item,) if isinstance(item, (Lifted, Imported)) else item.values():
            if isinstance(function, Lifted):
                yield function


class _Checker:
    def __init__(self, program: Program, export_types: ExportTypes) -> None:
        self.program, self.export_types = program, export_types

    def type_of(self, item: CoreItem) -> ExternType | None:
        """Return the core type of an item, if it exists."""
        if isinstance(item, CoreExport):
            return self.export_types(self.program.steps[item.step].module).get((item.name, item.kind))
        made = self.program.trampolines[item]
        if isinstance(made, ResourceFunction):
            return _RESOURCE_FUNCTIONS.get(made.operation)
        return core_type(made.function.type, lowered=True)

    def function(self, item: CoreItem, expected: FuncType, what: str) -> None:
        found = self.type_of(item)
        if found != expected or not isinstance(found, FuncType):
            name = f" {printable(item.name, 60)!r}" if isinstance(item, CoreExport) else ""
            raise ArtifactError(
                f"not a valid WebAssembly component: the core function{name} has the type {found}, and {what} needs "
                f"{expected}"
            )

    def lifted(self, lifted: Lifted) -> None:
        of, options = lifted.type, lifted.options
        expected = core_type(of, lowered=False)
        self.function(lifted.core, expected, "its lifted type")
        if options.post_return is not None:
            self.function(options.post_return, FuncType(expected.results, ()), "the post-return function")
        takes = _spills(of) or any(has_pointers(t) for _, t in of.params)
        gives = of.result is not None and (len(flat(of.result)) > MAX_FLAT_RESULTS or has_pointers(of.result))
        self.options(options, memory=takes or gives, realloc=takes)

    def lowered(self, lowered: Lowered) -> None:
        of, options = lowered.function.type, lowered.options
        if options.post_return is not None:
            raise ArtifactError("not a valid WebAssembly component: a lowered function has a post-return function")
        takes = _spills(of) or any(has_pointers(t) for _, t in of.params)
        by_pointer = of.result is not None and len(flat(of.result)) > MAX_FLAT_RESULTS
        allocates = of.result is not None and has_pointers(of.result)
        self.options(options, memory=takes or by_pointer or allocates, realloc=allocates)

    def options(self, options: Options, *, memory: bool, realloc: bool) -> None:
        """Check that the options hold what the types need (``canonopt`` validation)."""
        if options.realloc is not None:
            self.function(options.realloc, _REALLOC, "realloc")
        if options.memory is not None and (options.memory.kind != "memory" or self.type_of(options.memory) is None):
            raise ArtifactError("not a valid WebAssembly component: the memory of a function does not exist")
        for name, needed, given in (
            ("memory", memory or options.realloc is not None, options.memory),
            ("realloc", realloc, options.realloc),
        ):
            if needed and given is None:
                raise ArtifactError(f"not a valid WebAssembly component: a function needs the canonical option {name}")


def _spills(of: Function) -> bool:
    """Tell whether the parameters are too many to be passed as core values."""
    return sum([len(flat(t)) for _, t in of.params]) > MAX_FLAT_PARAMS
