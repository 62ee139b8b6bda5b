"""Cost measures of code before compilation: instructions, lifetimes of locals, the limits and their messages."""

from __future__ import annotations

import contextlib
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis import Aegis, Limits
from aegis.engine.compile.artifact import text_to_binary
from aegis.errors import ArtifactError
from aegis.sandbox.artifacts import admit_artifact
from aegis.wasm import admission
from aegis.wasm.admission import check_compile_cost, sections
from aegis.wasm.binary import BinaryReader
from aegis.wasm.compile_limits import LIMITS
from aegis.wasm.cost import CompileCost, FunctionBody, Weights, exact, rough
from aegis.wasm.instructions import patterns_for, runs
from tests.guests.catalogue import GUESTS, source

DEFAULT = Limits()
KNOWN = patterns_for(())
TEXTS = sorted(p for p in GUESTS.rglob("*.wat") if "proposals" not in p.parts and "types" not in p.stem)
BUILT = sorted((GUESTS / "build").glob("*.wasm"))


def body_of(text: str) -> tuple[bytes, FunctionBody]:
    """The first function of a module in text, and its position."""
    data = text_to_binary(text)
    (start, end), *_ = [(begin, until) for number, begin, until in sections(data, 0, len(data)) if number == 10]
    r = BinaryReader(data, start, end)
    r.leb()
    size = r.leb()
    end, count = r.at + size, 0
    for _ in range(r.leb()):
        count += r.leb()
        r.byte()
    return data, FunctionBody(r.at, end, size, count)


def efforts(code: str, declared: str = "") -> tuple[CompileCost, CompileCost]:
    data, body = body_of(f"(module (memory 1) (table 1 funcref) (func {declared} {code}))")
    found = rough(data, body, Weights([], KNOWN))
    return found, exact(data, body, found, KNOWN)


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.stem)
def test_our_guests_are_within_the_limits(path: Path) -> None:
    check_compile_cost(text_to_binary(path.read_bytes()), DEFAULT)


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(
    "path",
    [
        # Guests in Python have the same interpreter, so one of them tells most.
        pytest.param(path, marks=[pytest.mark.long] if path.stem.startswith("py-") and path.stem != "py-hello" else [])
        for path in BUILT
    ],
    ids=lambda p: p.stem,
)
def test_real_programs_are_far_within_the_limits(path: Path) -> None:
    assert DEFAULT.complexity is not None
    check_compile_cost(path.read_bytes(), DEFAULT.with_(complexity=DEFAULT.complexity // 3, nesting=2000, locals=1000))


INSTRUCTIONS = [
    "i32.const -2147483648 drop", "i64.const -9223372036854775808 drop", "f32.const 1 drop", "f64.const 1 drop",
    "i32.const 0 i64.load8_u offset=4294967295 align=1 drop", "i32.const 0 i32.load 1 drop", "memory.size 1 drop",
    "i32.const 0 i64.const 0 i64.store16 1 offset=9 align=1", "i32.const 0 f32.const 1 f32.store", "data.drop 0",
    "ref.null func drop", "ref.func 0 drop", "ref.null extern ref.is_null drop", "elem.drop 0", "table.size 0 drop",
    "ref.null func ref.null func i32.const 1 select (result funcref) drop", "f32.const 1 i32.trunc_sat_f32_s drop",
    "i32.const 0 i32.const 0 i32.const 0 select drop", "global.get 0 global.set 0", "call 0", "return_call 0",
    "v128.const i64x2 1 2 v128.const i64x2 11 11 i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 drop",
    "i32.const 0 v128.load 1 offset=300 drop", "i32.const 0 v128.load32_zero drop", "i32.const 5 i8x16.splat drop",
    "i32.const 0 v128.const i64x2 0 0 v128.load8_lane offset=1000 11 drop", "v128.const i64x2 0 0 i64x2.abs drop",
    "v128.const i64x2 0 0 f64x2.extract_lane 1 drop", "v128.const i64x2 0 0 v128.const i64x2 0 0 i32x4.mul drop",
    "i32.const 0 v128.const i64x2 0 0 v128.store64_lane 1 offset=70000 1", "v128.const i64x2 0 0 v128.any_true drop",
]  # fmt: skip
BRANCHING = [
    ("block end", 1), ("loop end", 3), ("i32.const 0 if else end", 2), ("block br 0 end", 2), ("unreachable", 0),
    ("i32.const 0 br_if 0", 1), ("return", 1), ("i32.const 0 call_indirect 0 (type 0)", 1),
    ("i32.const 0 return_call_indirect 0 (type 0)", 1), ("i32.const 0 table.get 0 drop", 1),
    ("i32.const 0 ref.null func table.set 0", 1), ("i32.const 0 memory.grow 1 drop", 4),
    ("ref.null func i32.const 0 table.grow 0 drop", 4), ("i32.const 0 ref.null func i32.const 0 table.fill 0", 2),
    ("i32.const 0 i32.const 0 i32.const 0 memory.init 1 0", 2),
    ("i32.const 0 i32.const 0 i32.const 0 memory.fill 1", 2),
    ("i32.const 0 i32.const 0 i32.const 0 memory.copy 0 1", 2), ("i32.const 0 i32.const 0 i32.const 0 table.init 0", 2),
    ("i32.const 0 i32.const 0 i32.const 0 table.copy 0 0", 2), ("block i32.const 0 br_table 0 1 0 0 1 end", 3),
]  # fmt: skip


@pytest.mark.parametrize(("text", "branches"), [*((text, 0) for text in INSTRUCTIONS), *BRANCHING])
def test_every_instruction_is_read_to_its_end(text: str, branches: int) -> None:
    data, body = body_of(
        "(module (func block loop end end " + text + ") (type (func)) (memory 1) (memory 1) (table 1 funcref)"
        '(global (mut i32) (i32.const 0)) (data "x") (elem func 0))'
    )
    found = rough(data, body, Weights([0], KNOWN))
    assert found.branches == exact(data, body, found, KNOWN).branches == branches + 4
    for tokens in (KNOWN.branches, KNOWN.accesses):
        assert sum(isinstance(run, list) for run in runs(data, body.start, body.end, KNOWN, tokens)) == 1 + (
            "br_table" in text
        )


def test_a_local_costs_where_it_lives() -> None:
    blocks = "block end " * 100
    declared = "(local i32)"
    used = "local.get 0 drop "
    assert efforts(blocks, declared)[1].carried == 0
    assert efforts(used + blocks, declared)[1].carried == 0
    assert efforts(blocks + used, declared)[1].carried == 100
    assert efforts("i32.const 0 local.set 0 " + blocks + used, declared)[1].carried == 100
    assert efforts(blocks + "i32.const 0 local.set 0 " + used, declared)[1].carried == 0
    assert efforts("block i32.const 0 local.set 0 end " + blocks + used, declared)[1].carried == 101
    assert efforts(blocks, declared)[0].carried == 100


def test_a_local_set_before_a_loop_that_reads_it_lives_throughout_the_loop() -> None:
    blocks, used, declared = "block end " * 100, "local.get 0 drop ", "(local i32)"
    setting = "i32.const 0 local.set 0 "
    assert efforts(f"{setting} loop {used} {blocks} end", declared)[1].carried >= 100
    assert efforts(f"loop {blocks} {setting} {used} {blocks} end", declared)[1].carried == 0
    assert efforts(f"loop block {setting} end {blocks} {used} {blocks} end", declared)[1].carried >= 200
    assert efforts(f"loop {used} {blocks} {setting} end", declared)[1].carried >= 100
    assert efforts(f"loop loop {used} end {blocks} end", declared)[1].carried >= 100
    assert efforts(f"{blocks} {setting} {used} block {setting} end {used} {blocks}", declared)[1].carried < 5
    assert efforts(f"loop block {setting} {used} end {blocks} end " * 3, declared)[1].carried == 0


def test_nesting_is_counted_exactly() -> None:
    assert efforts("block block end end block end")[1].depth == 2
    assert efforts("block " * 50 + "end " * 50)[1].depth == 50


def refusal(text: str, **limits: Any) -> str:
    runtime = Aegis(cache=False, **limits)
    with pytest.raises(ArtifactError) as caught:
        runtime.load_wat(text)
    with pytest.raises(ArtifactError):
        check_compile_cost(text_to_binary(text), runtime.policy.limits)
    runtime = Aegis(cache=False, **dict.fromkeys(limits))
    assert runtime.load_wat(text)
    return str(caught.value)


FIVE = "(module " + "(func) " * 5 + ")"
NAMED = (
    r"""(module (import "a" "b" (func)) (func) (func $"bad\1b[2J" (param i32) (local i64 i64) block loop end end))"""
)


@pytest.mark.parametrize(
    ("text", "limits", "message"),
    [
        (FIVE, {"functions": 4}, "function limit exceeded (5/4 functions): raise it with functions or --functions"),
        (
            NAMED,
            {"function_size": 8},
            "(10/8 bytes of code in function 2 'bad\\x1b[2J'): raise it with function_size or --",
        ),
        (NAMED, {"locals": 2}, "local limit exceeded (3/2 locals in function 2 "),
        (NAMED, {"nesting": 1}, "nesting limit exceeded (2/1 nested blocks in function 2 "),
        (NAMED, {"complexity": 2000}, "/100 µs on one core for function 2 "),
        ("(module " + "(func) " * 100 + ")", {"complexity": 2000}, "/2,000 µs on one core)"),
        (
            f"(component (core {FIVE[1:]} (core {FIVE[1:]})",
            {"functions": 9},
            "function limit exceeded (10/9 functions)",
        ),
        (f"(component (component (core {FIVE[1:]}))", {"functions": 4}, "function limit exceeded (5/4 functions)"),
    ],
)
def test_each_limit_is_kept_and_can_be_lifted(text: str, limits: dict[str, Any], message: str) -> None:
    said = refusal(text, **limits)
    assert said.startswith("the module: ")
    assert message in said
    assert "if you trust its origin" in said
    if text is NAMED:
        assert "function 2 'bad\\x1b[2J'" in said


def test_a_cached_artifact_is_not_walked_again_except_under_other_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Aegis(cache=tmp_path / "c").load_wat(FIVE)
    with pytest.raises(ArtifactError, match="5/4 functions"):
        Aegis(cache=tmp_path / "c", functions=4).load_wat(FIVE)
    monkeypatch.setattr(admission, "check_compile_cost", lambda *_: pytest.fail("walked again"))
    assert Aegis(cache=tmp_path / "c").load_wat(FIVE).cached
    assert set(LIMITS) <= {*Limits.__slots__}


@pytest.mark.parametrize(
    ("op", "proposal"),
    [(b"\xfe\x03\0", "threads"), (b"\x06\x40", "legacy-exceptions"), (b"\xfb\0", "gc"), (b"\x14\0", "func")],
)
def test_an_instruction_of_a_proposal_is_named(op: bytes, proposal: str) -> None:
    data, body = body_of("(module (func " + "nop " * len(op) + "))")
    with pytest.raises(ArtifactError, match=f"function 0: the module uses the WebAssembly proposal '{proposal}"):
        check_compile_cost(data[: body.start] + op + data[body.start + len(op) :], DEFAULT)


SEEDS = [
    text_to_binary(source(name).read_bytes()) for name in ("wordcount", "counter", "hostile/component-lies", "echo")
]


@given(data=st.data(), seed=st.sampled_from(SEEDS))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_any_bytes_are_measured_or_refused(data: st.DataObject, seed: bytes) -> None:
    """Oracle: admitting and bounding mutated bytes returns, or raises ``ArtifactError``."""
    raw = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(8, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(ArtifactError):
        admit_artifact(bytes(raw), DEFAULT, None, "the module")
    with contextlib.suppress(ArtifactError):
        check_compile_cost(bytes(raw), DEFAULT)


@given(st.binary(max_size=200))
@settings(max_examples=400, derandomize=True)
def test_any_code_is_measured_or_refused(code: bytes) -> None:
    """Oracle: a body of any bytes is measured, or raises ``ArtifactError``."""
    data, body = body_of("(module (func (local i32 i32) " + "nop " * 300 + "))")
    with contextlib.suppress(ArtifactError):
        check_compile_cost(
            data[: body.start] + code.ljust(300, b"\x01") + data[body.start + 300 :], DEFAULT.with_(nesting=1)
        )


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("byte", [0xD0, 0xFC, 0xFD, 0x80, 0x20, 0x0E, 0x02])
def test_code_that_repeats_a_byte_is_read_in_linear_time(byte: int) -> None:
    """Oracle: a megabyte takes less than ten processor seconds; a quadratic algorithm would take hours."""
    data = bytes([byte]) * 1_000_000
    started = process_time()
    assert len(KNOWN.branches.findall(data)) + len(KNOWN.accesses.findall(data)) > 0
    assert process_time() - started < 10
