"""Programs as bytes. Oracle: what is loaded equals what was dumped, and shares what it shared."""

from __future__ import annotations

import contextlib
import marshal
import random

import pytest
from hypothesis import given, settings

from aegis.component.plan import plan
from aegis.component.program import Lifted, Lowered, Program
from aegis.component.stored import FORMAT, dump, load
from aegis.errors import ArtifactError
from aegis.wasm.component import decode_component
from aegis.wit.types import WitType
from tests.component.inputs import BUILT, component, components, mutant
from tests.echo import echo_many_component
from tests.wit.strategies import wit_types


def round_trip(program: Program) -> bytes:
    data = dump(program)
    again = load(data)
    assert again == program
    assert type(again) is Program
    assert [type(t) for t in again.trampolines] == [type(t) for t in program.trampolines]
    assert list(again.exports) == list(program.exports)
    return data


@pytest.mark.parametrize("path", BUILT, ids=lambda p: p.stem)
def test_the_plan_of_a_program_is_small(path) -> None:  # type: ignore[no-untyped-def]
    data = round_trip(plan(decode_component(path.read_bytes())))
    assert len(data) < 1 << 17


def test_the_plan_of_every_component_at_hand_survives() -> None:
    survived = 0
    for data in components().values():
        with contextlib.suppress(ArtifactError):
            round_trip(plan(decode_component(data)))
            survived += 1
    assert survived > 60


def test_the_plan_of_every_mutant_survives() -> None:
    choose = random.Random(11)
    small = [data for data in components().values() if 8 < len(data) < 5_000]
    survived = 0
    for _ in range(3000):
        data = choose.choice(small)
        with contextlib.suppress(ArtifactError):
            round_trip(plan(decode_component(mutant(data, range(8, len(data)), choose))))
            survived += 1
    assert survived > 100


@given(wit_types())
@settings(max_examples=60)
def test_the_plan_of_any_type_survives(of: WitType) -> None:
    round_trip(plan(component(echo_many_component([of, of]))[1]))


SHARED = """(component
  (type $t0 (tuple u8 string)) {types}
  (core module $m (memory (export "m") 1) (func (export "f") (param i32))
    (func (export "r") (param i32 i32 i32 i32) (result i32) unreachable))
  (core instance $m (instantiate $m))
  (func $f (param "x" $t11) (canon lift (core func $m "f") (memory (core memory $m "m")) (realloc (core func $m "r"))))
  (core func (canon lower (func $f) (memory (core memory $m "m"))))
  (export "f" (func $f)) (export "g" (func $f)) (instance $i (export "h" (func $f))) (export "i" (instance $i)))"""


def test_what_is_shared_stays_shared() -> None:
    types = "".join(f"(type $t{n + 1} (tuple $t{n} $t{n}))" for n in range(11))
    program = plan(component(SHARED.replace("{types}", types))[1])
    data = round_trip(program)
    assert len(data) < 2000  # the type alone has more than 6,000 parts
    again = load(data)
    f, g, i = again.exports["f"], again.exports["g"], again.exports["i"]
    assert isinstance(f, Lifted)
    assert f is g
    assert f is i["h"]  # type: ignore[index]
    (lowered,) = again.trampolines
    assert isinstance(lowered, Lowered)
    assert lowered.function is f
    left, right = f.type.params[0][1].elements  # type: ignore[union-attr]
    assert left is right


def test_equal_types_that_were_stated_twice_are_stored_once() -> None:
    each = "".join(f'(type $t{n} (tuple u8 string)) (import "f{n}" (func (param "x" (list $t{n}))))' for n in range(20))
    program = plan(component(f"(component {each})")[1])
    assert len({id(f.type.params[0][1]) for f in program.imported}) == 20
    again = load(round_trip(program))
    assert len({id(f.type.params[0][1]) for f in again.imported}) == 1


@pytest.mark.parametrize("plain", [(), (FORMAT + 1,), [FORMAT], FORMAT, None, "text"])
def test_another_format_is_refused(plain: object) -> None:
    with pytest.raises(ValueError, match="another format"):
        load(marshal.dumps(plain))
