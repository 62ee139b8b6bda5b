"""Core functions get memory as described by ``--signature``, from the allocator that is found or named."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis
from aegis.engine.compile.artifact import text_to_binary
from aegis.errors import ExportNotFound, PolicyError
from aegis.fuzz import replay
from aegis.fuzz.campaign import Campaign
from aegis.fuzz.case import Case, Step
from aegis.fuzz.causes import RANDOM_ADDRESSES
from aegis.fuzz.oracles.growth import Scales
from aegis.fuzz.plan import CampaignPlan
from aegis.fuzz.portable import read_step, write_step
from aegis.fuzz.target import Target
from aegis.fuzz.values.buffers import GuestAllocator
from aegis.fuzz.values.core_signatures import Buffer, CString, OutPointer, read_signature
from aegis.policy import Policy
from tests.cli.command import aegis as command
from tests.fuzz.test_campaign import Here

BUMP = """(param $size i32) (result i32) (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 8)))
    (if (i32.gt_u (global.get $next) (i32.shl (memory.size) (i32.const 16))) (then
      (if (i32.eq (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1))) (i32.const -1))
        (then (return (i32.const 0))))))
    (local.get $at)"""


def _module(body: str, *, allocator: str = "img_alloc", free: str = "img_free") -> str:
    return f"""(module (memory (export "memory") 1)
      (global $next (mut i32) (i32.const 65536))
      (func (export "{allocator}") {BUMP})
      (func (export "{free}") (param i32) (global.set $next (i32.const 65536)))
      {body})"""


RENDER = """(func $strlen (param $at i32) (result i32) (local $n i32)
    (block $end (loop $next
      (br_if $end (i32.eqz (i32.load8_u (i32.add (local.get $at) (local.get $n)))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br $next)))
    (local.get $n))
  (func (export "render") (param $title i32) (param $body i32) (param $out i32) (result i32)
    ;; A title of one character and a body of three are confused.
    (if (i32.and (i32.eq (call $strlen (local.get $title)) (i32.const 1))
                 (i32.eq (call $strlen (local.get $body)) (i32.const 3))) (then unreachable))
    (if (i32.load (local.get $out)) (then unreachable))
    (i32.store (local.get $out) (call $strlen (local.get $title)))
    (call $strlen (local.get $body)))"""
DIGEST = """(func (export "digest") (param $at i32) (param $size i32) (result i32) (local $n i32) (local $sum i32)
    (block $end (loop $next
      (br_if $end (i32.ge_u (local.get $n) (local.get $size)))
      (local.set $sum (i32.add (local.get $sum) (i32.load8_u (i32.add (local.get $at) (local.get $n)))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br $next)))
    (local.get $sum))"""
PLAIN = """(func (export "half") (param i32) (result i32)
    (if (i32.eq (local.get 0) (i32.const 7777)) (then unreachable)) (i32.shr_s (local.get 0) (i32.const 1)))"""
SIGNATURE = "render(cstr, cstr, out u32)"


@pytest.fixture(scope="module")
def runtime() -> Iterator[Aegis]:
    with Aegis(cache=False, fuel=10_000_000) as made:
        yield made


def _campaign(text: str, runs: int = 3000, executor: Executor | None = None, **options: Any) -> Any:
    plan = CampaignPlan(data=text_to_binary(text), name="guest", policy=Policy(), **options)
    campaign = Campaign(plan, runs=runs, executor=executor or Here())
    for _ in campaign.run():
        pass
    return campaign.result


# -- allocators ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allocator", "free"),
    [("img_alloc", "img_free"), ("sqlite3_malloc", "sqlite3_free"), ("omalloc", "ofree"), ("wasmAlloc", "wasmFree"),
     ("lib.allocate", "lib.deallocate"), ("alloc_bytes", "free_bytes")],
)  # fmt: skip
def test_an_allocator_is_found_by_its_name_with_its_partner(runtime: Aegis, allocator: str, free: str) -> None:
    module: Any = runtime.load_wat(_module(DIGEST, allocator=allocator, free=free))
    found = GuestAllocator(module)
    wanted = {allocator} if allocator == "wasmAlloc" else {allocator, free}  # names are compared as they are written
    assert found.own >= {allocator}
    assert found.own == wanted
    with runtime.sandbox(module) as sandbox, found.placed(sandbox, (Buffer(b"abc"),)) as raw:
        assert sandbox.call("digest", *raw) == sum(b"abc")


def test_an_export_with_a_partner_is_preferred_to_one_that_only_sounds_alike(runtime: Aegis) -> None:
    text = _module(DIGEST).replace('(func (export "img_free")', '(func (export "aa_alloc") (param i32) (result i32) '
                                   '(i32.const 0)) (func (export "img_free")')  # fmt: skip
    assert GuestAllocator(runtime.load_wat(text)).own == {"img_alloc", "img_free"}  # type: ignore[arg-type]


def test_a_function_that_reallocates_or_takes_two_counts_is_none(runtime: Aegis) -> None:
    for name in ("img_dealloc", "img_realloc", "img_calloc", "allocation_count"):
        assert not GuestAllocator(runtime.load_wat(_module(DIGEST, allocator=name)))  # type: ignore[arg-type]


def test_the_user_names_an_allocator(runtime: Aegis) -> None:
    module: Any = runtime.load_wat(_module(DIGEST, allocator="get_space", free="give_back"))
    assert not GuestAllocator(module)
    assert GuestAllocator(module, "get_space").own == {"get_space"}
    assert GuestAllocator(module, "get_space,give_back").own == {"get_space", "give_back"}
    target = Target(runtime, module, allocator="get_space,give_back")
    assert set(target.exports) == {"digest"}
    assert target.notes == []
    for wrong, reason in [
        ("missing", "exports no missing"),
        ("get_space,missing", "exports no missing"),
        ("give_back", "does not take a size"),
        ("memory", "does not take a size"),
    ]:
        with pytest.raises(PolicyError, match=reason):
            GuestAllocator(module, wrong)  # fmt: skip


# -- signatures ------------------------------------------------------------------------------------------------


def test_a_signature_is_parsed() -> None:
    name, parameters = read_signature(
        " my-render ( cstr,buffer , out  u64, out 12, u8, s16, bool, f64, i64, u64, text ) "
    )
    assert name == "my-render"
    assert [p.types for p in parameters] == [
        ("i32",), ("i32", "i32"), ("i32",), ("i32",), ("i32",), ("i32",), ("i32",), ("f64",), ("i64",), ("i64",),
        ("i32", "i32"),
    ]  # fmt: skip
    assert read_signature("f()") == ("f", [])


@pytest.mark.parametrize(
    "text", ["render", "render(cstr", "f(cstring)", "f(out)", "f(out 0)", "f(out x)", "f(cstr,)", "(cstr)"]
)
def test_a_wrong_signature_is_an_error(text: str) -> None:
    with pytest.raises(PolicyError, match="--signature"):
        read_signature(text)


def test_numbers_of_a_signature_are_in_their_range() -> None:
    rng = random.Random(1)
    _, parameters = read_signature("f(u8, s8, bool, char, u16, u64)")
    for parameter, low, high in zip(
        parameters, (0, -128, 0, 0, 0, 0), (255, 127, 1, 0x10FFFF, 65_535, 2**64 - 1), strict=True
    ):
        values = [parameter.shape.random(rng, 1) for _ in range(2000)]
        assert low <= min(values) <= max(values) <= high


def test_a_c_string_has_no_nul_and_is_mostly_text() -> None:
    rng = random.Random(1)
    shape = read_signature("f(cstr)")[1][0].shape
    values = [shape.random(rng, 40) for _ in range(2000)]
    values += [shape.mutate(rng, value) for value in values]
    values += [smaller for value in values[:300] for smaller in shape.simpler(value)]
    assert not any(b"\0" in value.data for value in values)
    texts = sum(value.data == value.data.decode("utf-8", "replace").encode() for value in values[:4000])
    assert texts > 4000 / 2


def test_described_arguments_are_placed_in_the_memory_of_the_guest(runtime: Aegis) -> None:
    """Oracle: the function returns the length of the second C string, and its result memory was zero."""
    target = Target(runtime, runtime.load_wat(_module(RENDER)), signatures=[SIGNATURE])
    step = Step("render", (CString(b"title"), CString(b"a body"), OutPointer(4)))
    (result,) = target.run(Case((step,))).results
    assert result.value == 6
    assert target.notes == []


def test_a_described_step_is_text_that_is_read_back(runtime: Aegis) -> None:
    target = Target(runtime, runtime.load_wat(_module(RENDER)), signatures=[SIGNATURE])
    step = Step("render", (CString(b'a "b", \xff)'), CString(b""), OutPointer(4)))
    reported = write_step(target, step)
    assert reported == ["render", ["b'a \"b\", \\xff)'", "b''", "out(4)"]]
    assert read_step(target, reported) == step
    for wrong in (["b'\\x00'", "b''", "out(4)"], ["b''", "b''", "out(8)"], ["1", "b''", "out(4)"]):
        with pytest.raises(ValueError, match="invalid"):
            read_step(target, ["render", wrong])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"signatures": ["render(cstr, cstr)"]}, "it stands for"),
        ({"signatures": ["render(cstr, cstr, out u32, u8)"]}, "it stands for"),
        ({"signatures": ["paint(cstr)"]}, "no export has this name"),
    ],
)
def test_a_signature_must_fit_the_export(runtime: Aegis, options: Any, message: str) -> None:
    with pytest.raises((PolicyError, ExportNotFound), match=message):
        Target(runtime, runtime.load_wat(_module(RENDER)), **options)


def test_memory_needs_an_allocator(runtime: Aegis) -> None:
    module = runtime.load_wat(_module(RENDER, allocator="get_space"))
    with pytest.raises(PolicyError, match="no known allocator: name one with --allocator"):
        Target(runtime, module, signatures=[SIGNATURE])
    Target(runtime, module, signatures=[SIGNATURE], allocator="get_space")


# -- campaigns -------------------------------------------------------------------------------------------------


def test_a_bug_behind_two_c_strings_is_found_with_their_signature(tmp_path: Path) -> None:
    """Oracle: the finding has C strings of one and of three characters, and its replay and command show it again."""
    guest = tmp_path / "render.wat"
    guest.write_text(_module(RENDER))
    result = _campaign(guest.read_text(), signatures=(SIGNATURE,))
    (finding,) = result.findings.values()
    title, body, out = finding["steps"][0][1]
    assert (len(eval(title)), len(eval(body)), out) == (1, 3, "out(4)")
    assert replay(guest, {**finding, "signatures": [SIGNATURE]}) is not None
    done = command("fuzz", str(guest), "--runs", "2000", "--jobs", "1", "--signature", SIGNATURE)
    assert done.code == 1
    assert f"--signature '{SIGNATURE}'" in done.out
    again = command(
        "fuzz", str(guest), "--oracle", "no-trap", "--call", f"render({title}, {body}, {out})", "--signature", SIGNATURE
    )
    assert again.code == 1
    assert "render ended as trap" in again.out


def test_traps_of_random_addresses_are_one_finding_and_the_last(tmp_path: Path) -> None:
    """Oracle: a trap that needs no address is reported by itself, before the one of all the others."""
    text = _module(RENDER + DIGEST.replace("digest", "also") + PLAIN, allocator="get_space", free="give_back")
    findings = _campaign(text, 6000, skip=("get_space",)).findings
    assert len(findings) == 2
    assert findings[RANDOM_ADDRESSES]["key"] == RANDOM_ADDRESSES
    (other,) = (finding for name, finding in findings.items() if name != RANDOM_ADDRESSES)
    assert other["steps"] == [["half", ["7777"]]]
    guest = tmp_path / "guest.wat"
    guest.write_text(text)
    done = command("fuzz", str(guest), "--runs", "6000", "--jobs", "1", "--skip", "get_space")
    assert done.out.index("half ended as trap") < done.out.index("are random")
    assert "note: addresses are random in calls of render, also," in done.out
    assert "--allocator" in done.out.partition("note: ")[2]


def test_a_module_without_memory_has_no_addresses(runtime: Aegis) -> None:
    assert Target(runtime, runtime.load_wat(f"(module {PLAIN})")).notes == []


def test_cost_that_grows_with_a_buffer_is_found(runtime: Aegis) -> None:
    """Oracle: a loop over all pairs of bytes burns fuel in proportion to the square of the length."""
    pairs = """(func (export "pairs") (param $at i32) (param $size i32) (result i32) (local $n i32) (local $m i32)
      (loop $outer
        (local.set $m (i32.const 0))
        (loop $inner
          (local.set $m (i32.add (local.get $m) (i32.const 1)))
          (br_if $inner (i32.lt_u (local.get $m) (local.get $size))))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $outer (i32.lt_u (local.get $n) (local.get $size))))
      (i32.load8_u (local.get $at)))"""
    target = Target(runtime, runtime.load_wat(_module(pairs + DIGEST)))
    found = {
        name: Scales().judge(target, target.run(Case((Step(name, (Buffer(b"abcdefgh"),)),)))) for name in target.exports
    }
    assert found["pairs"] is not None
    assert found["digest"] is None


def test_only_traps_are_reported_of_calls_with_random_addresses(runtime: Aegis) -> None:
    """Oracle: a function that grows memory with each call is a leak, but not if its address is random."""
    leak = """(func (export "leak") (param $at i32) (result i32)
      (drop (memory.grow (i32.const 1))) (i32.load8_u (i32.and (local.get $at) (i32.const 255))))"""
    text = f'(module (memory (export "memory") 1) {leak} (func (export "stackRestore") (param i32)))'
    assert not _campaign(text, 2000).findings
    assert "steady leak" in _campaign(text.replace("$at", "$n"), 2000).findings
    target = Target(runtime, runtime.load_wat(text))
    assert "internal to the toolchain" in target.left_out["stackRestore"]
