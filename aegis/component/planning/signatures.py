"""Checks the core signature of every function that Aegis calls or provides without the engine's type check.

The engine's validation of the component includes these rules (CanonicalABI.md, "Canonical Definitions"). Aegis checks
them again because it enters functions through ``wasmtime_func_call_unchecked``: if the signature did not match, the
engine would read and write beyond the array of core values. The safety of unchecked calls rests on this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from aegis.component.conversion.layout import MAX_FLAT_PARAMS, MAX_FLAT_RESULTS, core_type, flat, has_pointers
from aegis.component.planning.program import (
    CanonLift,
    CanonLower,
    ComponentProgram,
    CoreExport,
    CoreItem,
    Imported,
    Options,
    ResourceFunction,
)
from aegis.errors import ArtifactError
from aegis.text import printable
from aegis.values import FuncType
from aegis.wasm.binary import ExternType
from aegis.wit.types import Function

__all__ = ["check_signatures", "lifted_functions"]

ExportTypes: TypeAlias = Callable[[int], dict[tuple[str, str], ExternType]]
"""Maps a core module's number to the types of its exports, by name and kind."""

_REALLOC = FuncType(("i32", "i32", "i32", "i32"), ("i32",))
_DESTRUCTOR = FuncType(("i32",), ())
_RESOURCE_FUNCTIONS = {
    "new": FuncType(("i32",), ("i32",)), "drop": FuncType(("i32",), ()), "rep": FuncType(("i32",), ("i32",)),
}  # fmt: skip


def check_signatures(program: ComponentProgram, export_types: ExportTypes) -> None:
    """Raise ``ArtifactError`` unless each core function has the signature that Aegis calls it with."""
    checker = _Checker(program, export_types)
    seen: set[int] = set()
    for lifted in lifted_functions(program):
        if id(lifted) not in seen:
            seen.add(id(lifted))
            checker.lifted(lifted)
    for trampoline in program.trampolines:
        if isinstance(trampoline, CanonLower):
            checker.lowered(trampoline)
    for resource in program.resources:
        if resource.destructor is not None:
            checker.function(resource.destructor, _DESTRUCTOR, "a destructor")


def lifted_functions(program: ComponentProgram) -> Iterator[CanonLift]:
    """Yield every use of a lifted function, by another component instance or by the host; duplicates included."""
    for trampoline in program.trampolines:
        if isinstance(trampoline, CanonLower) and isinstance(trampoline.function, CanonLift):
            yield trampoline.function
    for item in program.exports.values():
        for function in (item,) if isinstance(item, (CanonLift, Imported)) else item.values():
            if isinstance(function, CanonLift):
                yield function


class _Checker:
    def __init__(self, program: ComponentProgram, export_types: ExportTypes) -> None:
        self.program, self.export_types = program, export_types

    def type_of(self, item: CoreItem) -> ExternType | None:
        """Return the core type of an item, or ``None`` if the item does not exist."""
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

    def lifted(self, lifted: CanonLift) -> None:
        of, options = lifted.type, lifted.options
        expected = core_type(of, lowered=False)
        self.function(lifted.core, expected, "its lifted type")
        if options.post_return is not None:
            self.function(options.post_return, FuncType(expected.results, ()), "the post-return function")
        takes = _spills(of) or any(has_pointers(t) for _, t in of.params)
        gives = of.result is not None and (len(flat(of.result)) > MAX_FLAT_RESULTS or has_pointers(of.result))
        self.options(options, memory=takes or gives, realloc=takes)

    def lowered(self, lowered: CanonLower) -> None:
        of, options = lowered.function.type, lowered.options
        if options.post_return is not None:
            raise ArtifactError("not a valid WebAssembly component: canon lower has the option post-return")
        takes = _spills(of) or any(has_pointers(t) for _, t in of.params)
        by_pointer = of.result is not None and len(flat(of.result)) > MAX_FLAT_RESULTS
        allocates = of.result is not None and has_pointers(of.result)
        self.options(options, memory=takes or by_pointer or allocates, realloc=allocates)

    def options(self, options: Options, *, memory: bool, realloc: bool) -> None:
        """Check that the canonical options include those that the types need (``canonopt`` validation)."""
        if options.realloc is not None:
            self.function(options.realloc, _REALLOC, "realloc")
        if options.memory is not None and (options.memory.kind != "memory" or self.type_of(options.memory) is None):
            raise ArtifactError("not a valid WebAssembly component: a canonical option refers to no memory")
        for name, needed, given in (
            ("memory", memory or options.realloc is not None, options.memory),
            ("realloc", realloc, options.realloc),
        ):
            if needed and given is None:
                raise ArtifactError(f"not a valid WebAssembly component: a function lacks the canonical option {name}")


def _spills(of: Function) -> bool:
    """Return whether the parameters exceed ``MAX_FLAT_PARAMS`` and are passed in linear memory."""
    return sum([len(flat(t)) for _, t in of.params]) > MAX_FLAT_PARAMS
