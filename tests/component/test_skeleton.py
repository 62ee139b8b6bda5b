"""The skeleton of a component against the engine's verdict on the whole component.

Oracle: a component is valid for the engine if and only if its skeleton and each of its core modules are valid; and the
engine reads the same types from both.
"""

from __future__ import annotations

import ctypes
import random
from ctypes import c_void_p

import pytest

from aegis.component.planning.skeleton import module_skeleton, skeleton
from aegis.engine.compile import validator
from aegis.engine.compile.artifact import text_to_binary
from aegis.engine.compile.validator import World, validate_skeleton
from aegis.engine.native.library import lib, take_error
from aegis.errors import ArtifactError
from aegis.wasm.admission import sections
from aegis.wasm.binary import read_module
from aegis.wasm.component import decode_component
from aegis.wit.types import Function, Future, Stream
from tests.component.inputs import BUILT, component, components, mutant, part, rearranged
from tests.guests.catalogue import GUESTS

MUTANTS = 4000
MODULES = sorted(p for p in GUESTS.rglob("*.wat") if "proposals" not in p.parts and "(component" not in p.read_text())


def whole(data: bytes) -> World | None:
    """Return the world that the engine reads from the component itself; ``None`` if it is invalid."""
    engine, out = validator._engine(), c_void_p()
    error = lib.wasmtime_component_new(engine, data, len(data), ctypes.byref(out))
    if error is not None:
        take_error(error)
        return None
    try:
        return validator.reflect(out.value, engine)
    except ArtifactError as refused:
        return World({str(refused): None}, {}, [], 0)  # type: ignore[dict-item]
    finally:
        lib.wasmtime_component_delete(out)


def in_parts(data: bytes) -> World | None:
    """Return the world of the skeleton; ``None`` if it or a core module is invalid."""
    try:
        binary = decode_component(data)
        bare = skeleton(data, binary)
    except ArtifactError:
        return None
    for module in binary.modules:
        code = data[module.start : module.end]
        error = lib.wasmtime_module_validate(validator._engine(), code, len(code))
        if error is not None:
            take_error(error)
            return None
    try:
        return validate_skeleton(bare)
    except ArtifactError as refused:
        return None if "Aegis admits" in str(refused) else World({str(refused): None}, {}, [], 0)  # type: ignore[dict-item]


def test_there_is_something_to_compare() -> None:
    worlds = [whole(data) for data in components().values()]
    assert sum(world is not None for world in worlds) > 50
    assert sum(world is not None and bool(world.resources) for world in worlds) > 5


def test_the_engine_judges_a_skeleton_and_its_modules_as_the_whole() -> None:
    for name, data in components().items():
        assert in_parts(data) == whole(data), name


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("path", BUILT, ids=lambda p: p.stem)
def test_the_skeleton_of_a_program_is_small_and_valid(path) -> None:  # type: ignore[no-untyped-def]
    data = path.read_bytes()
    binary = decode_component(data)
    bare = skeleton(data, binary)
    assert len(bare) < (0.6 if len(data) > 1 << 14 else 0.9) * len(data)  # a small program is mostly types
    assert len(bare) < 1 << 19
    again = decode_component(bare)
    assert again.root.definitions == binary.root.definitions
    validate_skeleton(bare)


def outside_code(data: bytes) -> list[int]:
    """Return the positions of a component that belong to neither code nor data of a module."""
    spots = set(range(8, len(data)))
    for module in decode_component(data).modules:
        for number, start, end in sections(data, module.start, module.end):
            if number in (10, 11):
                spots -= set(range(start, end))
    return sorted(spots)


@pytest.mark.usual("0")
@pytest.mark.parametrize("seed", range(4))
def test_the_engine_judges_mutants_of_components_alike(seed: int) -> None:
    choose = random.Random(seed)
    small = [data for data in components().values() if 8 < len(data) < 10_000]
    valid = [data for data in small if in_parts(data) is not None]
    spots = {data: outside_code(data) for data in valid}
    accepted = 0
    for n in range(MUTANTS // 4):
        data = choose.choice(valid)
        changed = mutant(data, spots[data], choose) if n % 2 else rearranged(data, choose)
        verdict = whole(changed)
        assert in_parts(changed) == verdict, changed.hex()
        accepted += verdict is not None
    assert accepted > MUTANTS // 40


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_a_module_skeleton_has_the_imports_and_exports_of_its_module(path) -> None:  # type: ignore[no-untyped-def]
    info = read_module(text_to_binary(path.read_bytes()))
    bare = module_skeleton(info)
    again = read_module(bare)
    assert (again.imports, again.exports) == (info.imports, info.exports)
    assert lib.wasmtime_module_validate(validator._engine(), bare, len(bare)) is None
    assert again.functions <= len({export.type for export in info.exports})


def test_a_module_skeleton_keeps_every_kind_of_type() -> None:
    text = """(module
      (import "a" "f" (func (param i32 v128) (result f64 funcref)))
      (import "a" "t" (table 1 2 funcref)) (import "a" "m" (memory 3)) (import "a" "g" (global (mut v128)))
      (func (export "f") (param i64) (result f32 f32) unreachable) (export "again" (func 0))
      (table (export "t") 7 funcref) (memory (export "m") 1 9) (memory (export "n") 0)
      (global (export "i") i64 (i64.const 1)) (global (export "j") (mut i64) (i64.const 2))
      (global (export "k") i64 (i64.const 3)) (global (export "l") funcref (ref.null func))
      (global (export "p") f32 (f32.const 1)) (global (export "q") f64 (f64.const 1)) (export "r" (global 0)))"""
    info = read_module(text_to_binary(text))
    bare = module_skeleton(info)
    again = read_module(bare)
    assert (again.imports, again.exports) == (info.imports, info.exports)
    assert lib.wasmtime_module_validate(validator._engine(), bare, len(bare)) is None


@pytest.mark.parametrize("level", ["root", "nested"])
@pytest.mark.parametrize(
    ("content", "valid"), [(b"\2hi\xff", True), (b"\5hi", False), (b"\2\xff\xfe", False), (b"", False)]
)
def test_custom_sections_are_judged_at_every_level(level: str, content: bytes, valid: bool) -> None:
    data = b"\0asm\x0d\0\1\0" + part(0, content)
    if level == "nested":
        data = b"\0asm\x0d\0\1\0" + part(4, data)
    assert (whole(data) is not None) == (in_parts(data) is not None) == valid
    if valid:
        assert skeleton(data) == data


def test_async_features_are_valid_and_reflected() -> None:
    data, binary = component(
        """(component (core module $m (memory (export "m") 1)) (core instance $m (instantiate $m))
           (type $s (stream u8)) (core func (canon stream.new $s)) (core func (canon task.cancel))
           (core func (canon waitable-set.wait (memory (core memory $m "m")))))"""
    )
    assert validate_skeleton(skeleton(data, binary)) == World({}, {}, [], 0)
    data, binary = component(
        '(component (import "f" (func async)) (import "g" (func (param "x" (stream u8)) (result (future)))))'
    )
    imports = validate_skeleton(skeleton(data, binary)).imports
    assert imports["f"] == Function(is_async=True)
    assert imports["g"] == Function((("x", Stream("u8")),), Future())


def test_an_error_of_a_skeleton_reports_no_offset() -> None:
    data, binary = component(
        '(component (core module $m) (core instance $m (instantiate $m)) (alias core export $m "x" (core func)))'
    )
    with pytest.raises(ArtifactError, match="has no export named `x`") as caught:
        validate_skeleton(skeleton(data, binary))
    assert "offset" not in str(caught.value)
