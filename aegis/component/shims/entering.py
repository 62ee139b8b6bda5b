"""The call graph of a component's instances, and which may-enter and may-leave checks can fail in it.

A component instance can call another only through its lowered functions, because core functions do not cross component
boundaries. The program therefore determines the call graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aegis.component.conversion.layout import MAX_FLAT_PARAMS, flat, has_pointers
from aegis.component.planning.program import (
    AsyncFunction,
    CanonLift,
    CanonLower,
    ComponentProgram,
    CoreItem,
    ResourceFunction,
)
from aegis.component.planning.signatures import lifted_functions
from aegis.wit.types import WitType, has_ends

__all__ = ["can_reenter", "entering_set", "is_async", "restricted", "uses_host"]


def _around(program: ComponentProgram, instance: int | None) -> list[int]:
    """Return an instance and its ancestors, innermost first."""
    found = []
    while instance is not None:
        found.append(instance)
        instance = program.parents[instance]
    return found


def entering_set(program: ComponentProgram, instance: int, caller: int | None) -> tuple[int, ...]:
    """Return the callee and its ancestors, except those that also contain the caller.

    These are the instances that the call enters (CanonicalABI.md, ``entering_set``).
    """
    inside = set(_around(program, caller))
    return tuple(n for n in _around(program, instance) if n not in inside)


def _calls(program: ComponentProgram) -> Iterator[tuple[int, int]]:
    """Yield caller and callee of each call between instances; dropping a resource calls its destructor."""
    for of in program.trampolines:
        if isinstance(of, CanonLower) and isinstance(of.function, CanonLift):
            yield of.instance, of.function.instance
        elif isinstance(of, ResourceFunction) and of.operation == "drop":
            home = program.resources[of.resource].instance
            if home is not None:
                yield of.instance, home


def is_async(program: ComponentProgram) -> bool:
    """Return whether a component has functions that are lifted, lowered or typed as async, or uses async built-ins.

    A component without any of them may still pass on streams and futures, which are ends in its handle tables.
    """
    for of in program.trampolines:
        if isinstance(of, AsyncFunction) or (isinstance(of, CanonLower) and _has_async(of)):
            return True
    return any(map(_has_async, lifted_functions(program)))


def _has_async(of: CanonLift | CanonLower) -> bool:
    function = of.type if isinstance(of, CanonLift) else of.function.type
    if of.options.is_async or function.is_async:
        return True
    return any(
        map(has_ends, (*(t for _, t in function.params), *(() if function.result is None else (function.result,))))
    )


def can_reenter(program: ComponentProgram) -> bool:
    """Return whether an instance calls one of its ancestors.

    Only then can an instance be re-entered: every other callee was complete before its caller was created, so calls
    lead to ever earlier instances.
    """
    return any(inner != outer and outer in _around(program, inner) for inner, outer in _calls(program))


def uses_host(program: ComponentProgram) -> bool:
    """Return whether any code of the component can call a trampoline of the host."""
    items: list[CoreItem | None] = [item for step in program.steps for item in step.imports]
    items += [resource.destructor for resource in program.resources]
    for lifted in lifted_functions(program):
        items += [lifted.core, lifted.options.realloc, lifted.options.post_return]
    for of in program.trampolines:
        if isinstance(of, CanonLower):
            items.append(of.options.realloc)
    return any(isinstance(item, int) for item in items)


def restricted(program: ComponentProgram) -> set[int]:
    """Return the instances whose realloc or post-return can be called; they may not leave during such a call."""
    found = set()
    for of in program.trampolines:
        if isinstance(of, CanonLower):
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
