"""The plan of a component agrees with the world that the engine's reflection returns.

Oracle: for each component accepted by both, the imported functions are the same and in the same order; the functions
that the world imports and exports have the same types in the plan; and two resource types are the same in the plan if
and only if they are in the world.
"""

from __future__ import annotations

from collections.abc import Collection

import pytest

from aegis.component.planning.plan import plan
from aegis.component.planning.program import CanonLift, ComponentProgram, Imported
from aegis.component.planning.skeleton import skeleton
from aegis.engine.compile.validator import World, validate_skeleton
from aegis.errors import ArtifactError
from aegis.wasm.component import decode_component
from aegis.wasm.structure import structure_of
from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
    Function,
    Future,
    List,
    Option,
    Own,
    Record,
    Result,
    Stream,
    Tuple,
    Variant,
    WitType,
)
from tests.component.inputs import BUILT, component, components


class Resources:
    """Maps the resource types of a world to the numbers of a plan, and back."""

    def __init__(self) -> None:
        self.planned: dict[int, int] = {}
        self.reflected: dict[int, int] = {}

    def same(self, world: int, planned: int) -> bool:
        known = self.planned.setdefault(world, planned), self.reflected.setdefault(planned, world)
        return known == (planned, world)


def alike(world: WitType | None, planned: WitType | None, resources: Resources) -> bool:
    match world, planned:
        case (List(a), List(b)) | (Option(a), Option(b)):
            return alike(a, b, resources)
        case Tuple(actual), Tuple(expected):
            return len(actual) == len(expected) and all(
                alike(a, b, resources) for a, b in zip(actual, expected, strict=True)
            )
        case Result(a, b), Result(c, d):
            return alike(a, c, resources) and alike(b, d, resources)
        case (Record(_, first), Record(_, second)) | (Variant(_, first), Variant(_, second)):
            labels = [name for name, _ in first] == [name for name, _ in second]
            return labels and all(alike(a, b, resources) for (_, a), (_, b) in zip(first, second, strict=True))
        case (Enum(_, labels), Enum(_, others)) | (Flags(_, labels), Flags(_, others)):
            return labels == others
        case (Own(a), Own(b)) | (Borrow(a), Borrow(b)):
            return resources.same(a.key, b.key)
        case (Stream(a), Stream(b)) | (Future(a), Future(b)):
            return alike(a, b, resources)
    return world == planned


def functions_alike(world: Function, planned: Function, resources: Resources) -> bool:
    names = [name for name, _ in world.params] == [name for name, _ in planned.params]
    pairs = zip(world.params, planned.params, strict=True)
    return (
        names
        and all(alike(a, b, resources) for (_, a), (_, b) in pairs)
        and alike(world.result, planned.result, resources)
    )


def compare(world: World, program: ComponentProgram, types: Collection[str] = ()) -> None:
    """Compare a world with a plan. ``types`` are exported types, which the world represents by the types they alias."""
    resources = Resources()
    imported = {
        (name if isinstance(item, Function) else (name, member)): function
        for name, item in world.imports.items()
        for member, function in ({"": item} if isinstance(item, Function) else item.functions).items()
    }
    planned = {(i.name if not i.interface else (i.interface, i.name)): i.type for i in program.imported}
    assert list(planned) == list(imported)
    for name, function in imported.items():
        assert functions_alike(function, planned[name], resources), name
    assert not set(program.exports) & set(types)
    for name, item in world.exports.items():
        if name in types:
            continue
        found = program.exports[name]
        if isinstance(item, Function):
            assert isinstance(found, (CanonLift, Imported))
            assert functions_alike(item, found.type, resources), name
            continue
        for member, function in item.functions.items():
            assert functions_alike(function, found[member].type, resources), (name, member)  # type: ignore[index]


def test_plan_and_world_agree_on_every_component_at_hand() -> None:
    compared = 0
    for data in components().values():
        try:
            binary = decode_component(data)
            world = validate_skeleton(skeleton(data, binary))
        except ArtifactError:
            continue
        structure = structure_of(binary)
        if structure.features:
            continue  # WASI 0.3: valid, but not planned
        compare(world, plan(binary), [name for name, sort in structure.exports if sort == "type"])
        compared += 1
    assert compared > 50


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("path", BUILT, ids=lambda p: p.stem)
def test_plan_and_world_agree_on_programs(path) -> None:  # type: ignore[no-untyped-def]
    data = path.read_bytes()
    binary = decode_component(data)
    compare(validate_skeleton(skeleton(data, binary)), plan(binary))


def test_the_comparison_sees_a_resource_type_that_is_another() -> None:
    text = """(component
      (import "a" (type $a (sub resource))) (import "b" (type $b (sub resource)))
      (import "f" (func (param "x" (own $a)) (param "y" (own {second})))))"""
    worlds, plans = [], []
    for second in ("$a", "$b"):
        data, binary = component(text.replace("{second}", second))
        worlds.append(validate_skeleton(skeleton(data, binary)))
        plans.append(plan(binary))
    for world, program in zip(worlds, plans, strict=True):
        compare(world, program)
    for world, program in zip(worlds, reversed(plans), strict=True):
        with pytest.raises(AssertionError):
            compare(world, program)
