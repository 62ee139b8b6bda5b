"""Checks the core signature of every function that Aegis calls or provides without the engine's type check.

The engine's validation of the component includes these rules (CanonicalABI.md, "Canonical Definitions"). Aegis checks
them again because it enters functions through ``wasmtime_func_call_unchecked``: if the signature did not match, the
engine would read and write beyond the array of core values. The safety of unchecked calls rests on this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from aegis.component.conversion.layout import (
    MAX_FLAT_ASYNC_PARAMS,
    MAX_FLAT_PARAMS,
    MAX_FLAT_RESULTS,
    flat,
    has_pointers,
)
from aegis.component.planning.builtins import CALLBACK, lifted_type, trampoline_type
from aegis.component.planning.program import (
    AsyncFunction,
    CanonLift,
    CanonLower,
    ComponentProgram,
    CoreExport,
    CoreItem,
    Imported,
    Options,
)
from aegis.errors import ArtifactError
from aegis.text import printable
from aegis.values import FuncType
from aegis.wasm.binary import ExternType
from aegis.wit.types import Function, Future, Stream

__all__ = ["check_signatures", "lifted_exports", "lifted_functions"]

ExportTypes: TypeAlias = Callable[[int], dict[tuple[str, str], ExternType]]
"""Maps a core module's number to the types of its exports, by name and kind."""

_REALLOC = FuncType(("i32", "i32", "i32", "i32"), ("i32",))
_DESTRUCTOR = FuncType(("i32",), ())


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
        elif isinstance(trampoline, AsyncFunction):
            checker.builtin(trampoline)
    for resource in program.resources:
        if resource.destructor is not None:
            checker.function(resource.destructor, _DESTRUCTOR, "a destructor")


def lifted_functions(program: ComponentProgram) -> Iterator[CanonLift]:
    """Yield every use of a lifted function, by another component instance or by the host; duplicates included."""
    for trampoline in program.trampolines:
        if isinstance(trampoline, CanonLower) and isinstance(trampoline.function, CanonLift):
            yield trampoline.function
    yield from lifted_exports(program)


def lifted_exports(program: ComponentProgram) -> Iterator[CanonLift]:
    """Yield the functions that the host can call."""
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
        return trampoline_type(self.program.trampolines[item])

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
        expected = lifted_type(lifted)
        self.function(lifted.core, expected, "its lifted type")
        if options.is_async and not of.is_async:
            raise _invalid("a function of a synchronous type is lifted as async")
        if options.callback is not None:
            if not options.is_async:
                raise _invalid("canon lift has the option callback without async")
            self.function(options.callback, CALLBACK, "the callback")
        if options.post_return is not None:
            if options.is_async:
                raise _invalid("canon lift has the options async and post-return")
            self.function(options.post_return, FuncType(expected.results, ()), "the post-return function")
        takes = _spills(of) or any(has_pointers(t) for _, t in of.params)
        gives = (
            not options.is_async
            and of.result is not None
            and (len(flat(of.result)) > MAX_FLAT_RESULTS or has_pointers(of.result))
        )
        self.options(options, memory=takes or gives, realloc=takes)

    def lowered(self, lowered: CanonLower) -> None:
        of, options = lowered.function.type, lowered.options
        for name, given in (("post-return", options.post_return), ("callback", options.callback)):
            if given is not None:
                raise _invalid(f"canon lower has the option {name}")
        if options.is_async and not of.is_async:
            raise _invalid("a function of a synchronous type is lowered as async")
        takes = _spills(of, MAX_FLAT_ASYNC_PARAMS if options.is_async else MAX_FLAT_PARAMS)
        takes = takes or any(has_pointers(t) for _, t in of.params)
        by_pointer = of.result is not None and (options.is_async or len(flat(of.result)) > MAX_FLAT_RESULTS)
        allocates = of.result is not None and has_pointers(of.result)
        self.options(options, memory=takes or by_pointer or allocates, realloc=allocates)

    def builtin(self, function: AsyncFunction) -> None:
        """Check the options of a built-in, as for the values that it moves into or out of linear memory."""
        trampoline_type(function)  # raises for an unknown built-in
        name, options = function.name, function.options
        if function.memory is not None and (function.memory.kind != "memory" or self.type_of(function.memory) is None):
            raise _invalid("a canonical option refers to no memory")
        if options is None:
            return
        if options.post_return is not None or options.callback is not None:
            raise _invalid(f"canon {name} has the option {'callback' if options.callback else 'post-return'}")
        of = function.type
        if name == "task.return":
            spilled = of is not None and len(flat(of)) > MAX_FLAT_PARAMS
            self.options(options, memory=spilled or (of is not None and has_pointers(of)), realloc=False)
        else:
            element = of.element if isinstance(of, (Stream, Future)) else of
            pointers = element is not None and has_pointers(element)
            self.options(options, memory=element is not None, realloc=pointers and name.endswith("read"))

    def options(self, options: Options, *, memory: bool, realloc: bool) -> None:
        """Check that the canonical options include those that the types need (``canonopt`` validation)."""
        if options.realloc is not None:
            self.function(options.realloc, _REALLOC, "realloc")
        if options.memory is not None and (options.memory.kind != "memory" or self.type_of(options.memory) is None):
            raise _invalid("a canonical option refers to no memory")
        for name, needed, given in (
            ("memory", memory or options.realloc is not None, options.memory),
            ("realloc", realloc, options.realloc),
        ):
            if needed and given is None:
                raise _invalid(f"a function lacks the canonical option {name}")


def _spills(of: Function, most: int = MAX_FLAT_PARAMS) -> bool:
    """Return whether the parameters flatten to more than ``most`` values and are passed in linear memory."""
    return sum([len(flat(t)) for _, t in of.params]) > most


def _invalid(reason: str) -> ArtifactError:
    return ArtifactError(f"not a valid WebAssembly component: {reason}")
