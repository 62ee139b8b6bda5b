"""Who calls whom within a component, and which of the rules of entering and leaving can matter to it.

An instance reaches the functions of others by its own lowered functions alone, for core functions do not cross the
boundary of a component. So what can happen is known from the program.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aegis.component.conversion.layout import MAX_FLAT_PARAMS, flat, has_pointers
from aegis.component.planning.program import CoreItem, Lifted, Lowered, Program, ResourceFunction
from aegis.component.planning.signatures import lifted_functions
from aegis.wit.types import WitType

__all__ = ["can_reenter", "entering_set", "restricted", "uses_host"]


def _around(program: Program, instance: int | None) -> list[int]:
    """Return an instance and those around it, from within."""
    found = []
    while instance is not None:
        found.append(instance)
        instance = program.parents[instance]
    return found


def entering_set(program: Program, instance: int, caller: int | None) -> tuple[int, ...]:
    """Return the instances that a call enters (CanonicalABI.md, ``entering_set``)."""
    inside = set(_around(program, caller))
    return tuple(n for n in _around(program, instance) if n not in inside)


def _calls(program: Program) -> Iterator[tuple[int, int]]:
    """Yield the caller and the callee of each way from one component instance into another."""
    for of in program.trampolines:
        if isinstance(of, Lowered) and isinstance(of.function, Lifted):
            yield of.instance, of.function.instance
        elif isinstance(of, ResourceFunction) and of.operation == "drop":
            home = program.resources[of.resource].instance
            if home is not None:
                yield of.instance, home


def can_reenter(program: Program) -> bool:
    """Tell whether an instance calls one that is around it: without, none is entered while it is entered.

    What an instance can call otherwise was complete before the instance was, so calls lead to ever earlier ones.
    """
    return any(inner != outer and outer in _around(program, inner) for inner, outer in _calls(program))


def uses_host(program: Program) -> bool:
    """Tell whether anything that runs can call a trampoline."""
    items: list[CoreItem | None] = [item for step in program.steps for item in step.imports]
    items += [resource.destructor for resource in program.resources]
    for lifted in lifted_functions(program):
        items += [lifted.core, lifted.options.realloc, lifted.options.post_return]
    for of in program.trampolines:
        if isinstance(of, Lowered):
            items.append(of.options.realloc)
    return any(isinstance(item, int) for item in items)


def restricted(program: Program) -> set[int]:
    """Return the instances that have a realloc or post-return function called, and may not leave meanwhile."""
    found = set()
    for of in program.trampolines:
        if isinstance(of, Lowered):
            result = of.function.type.result
            if of.options.realloc is not None and result is not None and has_pointers(result):
                found.add(of.instance)
    for lifted in lifted_functions(program):
        params = [t for _, t in lifted.type.params]
        if lifted.options.post_return is not None or (lifted.options.realloc is not None and _allocates(params)):
            found.add(lifted.instance)
    return found


def _allocates(params: Sequence[WitType]) -> bool:
    return any(map(has_pointers, params)) or sum(len(flat(t)) for t in params) > MAX_FLAT_PARAMS
