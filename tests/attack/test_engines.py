"""Code of other compilers and settings of the engine behaves alike, and a planted difference is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from aegis.attack.bytewise import flips
from aegis.attack.engines import EngineComparison, available_compilers
from aegis.attack.inputs import AttackInput
from aegis.attack.seeds import built_in
from aegis.attack.trial import LIMITS, Bounds, Harness
from aegis.engine.compile.artifact import text_to_binary
from aegis.engine.compile.config import COMPILERS, EngineConfig
from aegis.errors import AegisInternalError
from aegis.policy import Policy, RandomCapability
from aegis.policy.statements import StdioCapability
from aegis.runtime import compiled_by
from tests.guests.catalogue import source

POLICY = Policy(limits=LIMITS, stdio=StdioCapability(stdout="capture", stderr="capture"))


@pytest.fixture(scope="module")
def engines() -> EngineComparison:
    return EngineComparison(POLICY)


def _data(text: str) -> bytes:
    return text_to_binary(f"(module {text})")


def test_the_compilers_are_those_of_the_table_and_winch_if_the_engine_has_it() -> None:
    assert set(available_compilers()) - {"winch"} == set(COMPILERS) - {"", "winch"}


def test_an_unknown_compiler_is_rejected() -> None:
    with pytest.raises(AegisInternalError, match="no compiler 'gcc'"):
        EngineConfig(stack=1 << 19, compiler="gcc")


def test_the_compilers_make_different_code_under_different_names() -> None:
    """Oracle: without that, the comparison would compare code with itself."""
    configs = [replace(EngineConfig.from_limits(LIMITS), compiler=name) for name in COMPILERS]
    assert len({config.fingerprint() for config in configs}) == len(COMPILERS)
    text = """(memory 1 2) (func (export "f") (param $n i32) (result f64) (local $i i32) (local $x f64)
      (loop $l (local.set $x (f64.add (local.get $x) (f64.convert_i32_s (i32.mul (local.get $i) (local.get $n)))))
        (i32.store (local.get $i) (i32.mul (i32.const 7) (local.get $i)))
        (local.set $i (i32.add (local.get $i) (i32.const 4))) (br_if $l (i32.lt_u (local.get $i) (local.get $n))))
      (local.get $x))"""
    codes = []
    for name in available_compilers():
        runtime = compiled_by(POLICY, name)
        artifact = runtime.load(_data(text), "test")
        with runtime.sandbox(artifact) as sandbox:
            assert sandbox.call("f", 100) == sum(100 * n for n in range(0, 100, 4))
        codes.append(artifact.serialised(runtime._backend.plain))
    assert len(set(codes)) == len(codes)


def test_the_built_in_seeds_behave_alike(engines: EngineComparison) -> None:
    for name, data in built_in():
        assert engines.disagreement(data, 1) is None, name


def test_changed_bytes_never_make_the_engines_differ(engines: EngineComparison) -> None:
    make = flips(3, tuple(built_in()))
    for number in range(40):
        assert engines.disagreement(make(number).data, number) is None


@pytest.mark.parametrize("name", ["buggy/code-point", "shop", "buggy/wrong-state", "wordcount"])
def test_guests_behave_alike(engines: EngineComparison, name: str) -> None:
    data = text_to_binary(source(name).read_text())
    for turn in range(2):
        assert engines.disagreement(data, turn) is None


ALIKE = {
    "the bits of a NaN": """
      (func (export "f") (param f64 f32) (result i64 i32)
        (i64.reinterpret_f64 (f64.div (local.get 0) (f64.const 0)))
        (i32.reinterpret_f32 (f32.sqrt (f32.sub (local.get 1) (local.get 1)))))
      (func (export "g") (result i64) (i64.reinterpret_f64 (f64.add (f64.const nan:0x4000000000001) (f64.const 1))))""",
    "recursion until the stack ends": '(func $f (export "f") (param i32) (result i32) (call $f (local.get 0)))',
    "a loop until the fuel ends": '(func (export "f") (loop $l (br $l)))',
    "tail calls, which Winch lacks": """(func $f (export "f") (param i32) (result i32)
      (if (i32.eqz (local.get 0)) (then (return (i32.const 7))))
      (return_call $f (i32.and (i32.sub (local.get 0) (i32.const 1)) (i32.const 255))))""",
    "accesses at the end of memory": """(memory 1 2) (func (export "f") (param i32) (result i64)
      (i64.load offset=65528 (i32.and (local.get 0) (i32.const 15))))
      (func (export "g") (param i32) (i32.store16 offset=0xfffffffe (local.get 0) (i32.const 1)))""",
    "memory that grows to its limit": """(memory 1) (func (export "f") (param i32) (result i32 i32)
      (memory.grow (i32.and (local.get 0) (i32.const 511))) (i32.load (i32.sub (i32.shl (memory.size) (i32.const 16))
        (i32.const 4))))""",
    "bulk memory": """(memory 1) (data $d "abc") (func (export "f") (param i32 i32 i32)
      (memory.fill (local.get 0) (local.get 1) (local.get 2)) (memory.copy (local.get 1) (local.get 0) (local.get 2))
      (memory.init $d (i32.const 0) (i32.const 0) (i32.and (local.get 0) (i32.const 7))) (data.drop $d))""",
    "an invalid module": "(func (result i32))",
}


@pytest.mark.parametrize("case", ALIKE)
def test_nothing_is_reported_of(engines: EngineComparison, case: str) -> None:
    try:
        data = _data(ALIKE[case])
    except Exception:  # the text of an invalid module may not even be assembled
        data = b"\0asm\1\0\0\0\1"
    for turn in range(4):
        assert engines.disagreement(data, turn) is None


PLANTED = {
    "a result": (
        {"random": RandomCapability(seed=9)},
        """(import "wasi_snapshot_preview1" "random_get" (func $r (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "f") (result i32) (drop (call $r (i32.const 0) (i32.const 4))) (i32.load (i32.const 0)))""",
        "in optimised code",
    ),
    "a trap": (
        {"limits": LIMITS.with_(memory=1 << 16)},
        """(memory 1) (func (export "f") (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then
          (drop (i32.div_u (i32.const 1) (i32.const 0))))))""",
        "returned in optimised code, integer-division-by-zero in code of none",
    ),
    "fuel": (
        {"limits": LIMITS.with_(memory=1 << 16)},
        """(memory 1) (func (export "f") (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (return)))
          (drop (i32.add (i32.const 1) (i32.const 2))))""",
        "fuel ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_difference_is_reported(case: str) -> None:
    """A runtime whose policy differs stands for a compiler whose code does."""
    changes, text, reported = PLANTED[case]
    comparison = EngineComparison(POLICY, ("speed", "size"))
    assert comparison.disagreement(_data(text), 0) is None
    comparison.runtimes["none"] = compiled_by(replace(POLICY, **changes), "none")  # type: ignore[arg-type]
    found = comparison.disagreement(_data(text), 0)
    assert found is not None
    assert reported in found
    assert found.endswith("in code of none")


@pytest.fixture
def harness() -> Iterator[Harness]:
    made = Harness(Bounds(), LIMITS.with_(timeout=0.3))
    yield made
    made.close()


def test_a_trial_of_the_attack_reports_a_disagreement_as_a_fault(harness: Harness) -> None:
    changes, text, _ = PLANTED["a result"]
    engines = EngineComparison(harness.policy, ("speed",))
    engines.runtimes["none"] = compiled_by(replace(POLICY, **changes), "none")  # type: ignore[arg-type]
    harness.engines = lambda: engines  # type: ignore[assignment]
    faults = [
        harness.run(AttackInput(source="test", number=number, data=_data(text), label="")).faults for number in range(4)
    ]
    assert [len(some) for some in faults] == [0, 0, 1, 0]
    (fault,) = faults[2]
    assert fault.signature == "call engines-differ none"
    assert fault.text.startswith("engine-agrees: f: ")
