"""Buffers of core functions are recognised, allocated by the guest's allocator, freed, and written as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from aegis import Aegis
from aegis.errors import CallError
from aegis.fuzz import replay
from aegis.fuzz.case import Step
from aegis.fuzz.portable import read_step, write_step
from aegis.fuzz.reproduce import command_of, pytest_file
from aegis.fuzz.target import Target
from aegis.fuzz.values.buffers import Buffer, GuestAllocator, layout, place_buffers
from aegis.testing.strategies import from_export
from tests.guests.catalogue import source

SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
TEXT = source("buggy/unterminated").read_text()


@pytest.fixture(scope="module")
def runtime() -> Iterator[Aegis]:
    with Aegis(cache=False) as made:
        yield made


def _module(body: str, *, memory: str = '(memory (export "memory") 1)') -> str:
    """Return a module with a global for a bump allocator, and the given functions."""
    return f"""(module {memory}
      (global $next (mut i32) (i32.const 64))
      {body})"""


BUMP = (
    "(local $at i32) (local.set $at (global.get $next))"
    "(global.set $next (i32.add (global.get $next) (local.get $size))) (local.get $at)"
)
MALLOC = f'(func (export "malloc") (param $size i32) (result i32) {BUMP})'
LOAD = '(func (export "f") (param {0} i32) (param {1} i32) (result i32) (i32.load8_u (local.get 0)))'


@pytest.mark.parametrize(
    "allocator",
    [
        MALLOC,
        MALLOC.replace("malloc", "alloc"),
        MALLOC.replace("malloc", "allocate"),
        f'(func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32) {BUMP})',
        f'(func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32) {BUMP})',
        f'(func (export "__wbindgen_malloc") (param $size i32) (param i32) (result i32) {BUMP})',
        f'(func (export "__new") (param $size i32) (param i32) (result i32) {BUMP})',
    ],
)
def test_each_kind_of_allocator_places_bytes_where_the_guest_reads_them(runtime: Aegis, allocator: str) -> None:
    module: Any = runtime.load_wat(_module(allocator + LOAD.format("", "")))
    assert layout(module, "f") == ["buffer"]
    with runtime.sandbox(module) as sandbox:
        first, second = (place_buffers(sandbox, (Buffer(data),)) for data in (b"xyz", b"abc"))
        assert sandbox.call("f", *first) == ord("x")
        assert sandbox.call("f", *second) == ord("a")
        assert second[1] == 3


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (_module(LOAD.format("", "")), ["i32", "i32"]),
        (_module(MALLOC + LOAD.format("", ""), memory="(memory 1)"), ["i32", "i32"]),
        (_module(MALLOC.replace("param", "param i32) (param") + LOAD.format("", "")), ["i32", "i32"]),
        (_module(MALLOC + LOAD.format("$text", "$length")), ["buffer"]),
        (_module(MALLOC + LOAD.format("$x", "$y")), ["i32", "i32"]),
        (_module(MALLOC + '(func (export "f") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))'),
         ["i32", "i32"]),
        (_module(MALLOC + '(func (export "f") (param i32 i32 i32 f64 i32) (call $g (local.get 0)))'
                 "(func $g (param i32) (memory.fill (local.get 0) (i32.const 1) (i32.const 1)))"),
         ["buffer", "i32", "f64", "i32"]),
        (_module(MALLOC + '(func $f (export "f") (param i32 i32) (br_table 0 0 (local.get 0)) (call $f (local.get 0)'
                 "(local.get 1)))"),
         ["i32", "i32"]),
    ],
    ids=["no allocator", "no memory", "another signature", "named so", "named otherwise", "arithmetic",
         "through a call", "a table and itself"],
)  # fmt: skip
def test_two_numbers_are_a_buffer_only_where_nothing_contradicts(runtime: Aegis, text: str, kinds: list[str]) -> None:
    assert layout(runtime.load_wat(text), "f") == kinds  # type: ignore[arg-type]


def test_a_placed_buffer_is_freed_after_the_call(runtime: Aegis) -> None:
    module: Any = runtime.load_wat(TEXT)
    with runtime.sandbox(module) as sandbox:
        for _ in range(100):
            with GuestAllocator(module).placed(sandbox, (Buffer(b'"' + b"a" * 2000 + b'"'),)) as raw:
                assert raw == (1024, 2002)
                assert sandbox.call("quoted", *raw) == 1


def test_a_failed_allocation_is_reported_and_is_not_a_finding(runtime: Aegis) -> None:
    module: Any = runtime.load_wat(TEXT)
    with runtime.sandbox(module) as sandbox:
        with pytest.raises(CallError, match="alloc returned 0: no memory for 70000 bytes"):
            place_buffers(sandbox, (Buffer(bytes(70_000)),))
        assert sandbox.call("quoted", *place_buffers(sandbox, (Buffer(b""),))) == 0
    outside = _module('(func (export "malloc") (param i32) (result i32) (i32.const -8))' + LOAD.format("", ""))
    with runtime.sandbox(runtime.load_wat(outside)) as sandbox, pytest.raises(CallError, match="outside its memory"):
        place_buffers(sandbox, (Buffer(b"123456789"),))
    with runtime.sandbox(runtime.load_wat("(module)")) as sandbox, pytest.raises(CallError, match="no allocator"):
        place_buffers(sandbox, (1,))


def test_buffers_are_placed_in_workers_too() -> None:
    with Aegis(cache=False, isolation=True) as runtime:
        module: Any = runtime.load_wat(TEXT)
        with runtime.sandbox(module) as sandbox:
            assert sandbox.call("quoted", *place_buffers(sandbox, (Buffer(b'"a" "b"'),))) == 2


def test_a_campaign_does_not_fuzz_the_allocator_and_buffers_can_be_disabled(runtime: Aegis) -> None:
    module = runtime.load_wat(TEXT)
    placing, plain = Target(runtime, module), Target(runtime, module, buffers=False)
    assert set(placing.exports) == {"quoted"}
    assert [len(target.exports["quoted"].shapes) for target in (placing, plain)] == [1, 2]


def test_a_step_with_a_buffer_is_text_that_is_read_back(runtime: Aegis) -> None:
    target = Target(runtime, runtime.load_wat(TEXT))
    step = Step("quoted", (Buffer(b'a, "b"\' \\ \xff)\0'),))
    reported = write_step(target, step)
    assert read_step(target, reported) == step
    for wrong in ("b'", "7", "b''.join(())", "__import__('os')"):
        with pytest.raises(ValueError, match="invalid buffer"):
            read_step(target, ["quoted", [wrong]])
    finding = {"oracle": "no-trap", "signature": "s", "steps": [reported], "answers": []}
    assert command_of("m.wasm", "module", finding).startswith("aegis fuzz m.wasm ")


def test_a_finding_of_numbers_is_replayed_with_numbers() -> None:
    """Oracle: reproducers of a campaign without buffers say ``--no-buffers`` or ``numbers``, and can be read back."""
    finding = {
        "oracle": "deterministic", "signature": "s", "text": "t", "steps": [["quoted", ["1", "2"]]], "answers": [],
        "numbers": True,
    }  # fmt: skip
    assert command_of("m.wasm", "module", finding).endswith(" --call 'quoted(1, 2)' --no-buffers")
    assert '"numbers": 1' in pytest_file("m.wasm", finding)
    assert replay(source("buggy/unterminated"), finding) is None
    with pytest.raises(ValueError, match="takes 1 argument"):
        replay(source("buggy/unterminated"), finding | {"numbers": False})


@SETTINGS
@given(from_export(Aegis(cache=False).load_wat(TEXT), "quoted"))
def test_a_strategy_gives_buffers_to_place(arguments: tuple[Any, ...]) -> None:
    (buffer,) = arguments
    assert isinstance(buffer, Buffer)
