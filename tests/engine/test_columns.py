"""The loop over rows: its module, the layout of its columns, and its memory within a store's limits."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis import Aegis, MemoryExceeded
from aegis.engine.call import columns
from aegis.engine.call.columns import LoopShape, module_text
from aegis.engine.compile.artifact import text_to_binary
from aegis.support.buffers import SCALARS
from aegis.wasm.binary import read_module

SCALAR = st.sampled_from(list(SCALARS.values()))
SHAPES = st.builds(LoopShape, st.lists(SCALAR, max_size=20).map(tuple), st.none() | SCALAR, st.booleans())
MEMORY = 8 << 16


@given(SHAPES)
def test_columns_lie_in_the_memory_behind_the_header_and_apart(shape: LoopShape) -> None:
    """Oracle: intervals. Columns hold as many elements as the loop may be asked for, with few bytes left over."""
    offsets, most = shape.offsets(), shape.max_rows()
    widths = [of.width for of in (*shape.params, *([] if shape.result is None else [shape.result]))]
    ends = [at + width * most for at, width in zip(offsets, widths, strict=True)]
    assert all(at >= 64 and at % 8 == 0 for at in offsets)
    assert all(end <= at for end, at in zip(ends, offsets[1:], strict=False))
    assert not ends or ends[-1] <= MEMORY
    assert most >= 1
    assert most == 1 << 16 or (most + 2) * shape.row_bytes() + 64 + 16 * len(widths) > MEMORY


@given(SHAPES)
def test_the_module_imports_the_function_and_the_memory_and_exports_the_loop(shape: LoopShape) -> None:
    """Oracle: the function's own types; the engine validates the module when it assembles the text."""
    info = read_module(text_to_binary(module_text(shape)))
    imports = {of.name: of.type for of in info.imports}
    core = tuple(of.core for of in shape.params)
    result = () if shape.result is None else (shape.result.core,)
    assert imports["call"] == (core, result)
    assert imports.get("post") == ((result, ()) if shape.post else None)
    assert list(imports) == ["call", *(["post"] if shape.post else []), "memory"]
    memory: Any = imports["memory"]
    assert (memory.minimum, memory.maximum) == (8, 8)
    assert [(of.name, of.type) for of in info.exports] == [("run", (("i32", "i32"), ("i32",)))]
    assert not info.has_start


ONE = '(module (memory (export "memory") 1) (func (export "same") (param i32) (result i32) (local.get 0)))'


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize(
    "limits", [{"memory": "64KiB", "memories": 1, "instances": 1, "tables": 1}, {"fuel": 10**6}, {}]
)
def test_the_loop_takes_nothing_of_the_guests_limits(pooled: bool, limits: dict[str, Any]) -> None:
    runtime = Aegis(cache=False, pooled=pooled, **limits)
    with runtime.sandbox(runtime.load_wat(ONE)) as sandbox:
        before = sandbox.usage.peak_memory
        assert sandbox.call_many("same", [array("i", [1, 2])]).tolist() == [1, 2]
        assert sandbox.usage.peak_memory == before == 65536
        assert sandbox.memory.size == 65536


def test_limits_hold_again_after_the_loop_was_made() -> None:
    """Oracle: the growth of a table or memory that is refused without a loop is refused with one."""
    text = """(module (memory (export "memory") 1) (table (export "t") 1 funcref)
      (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
      (func (export "more") (param i32) (result i32) (table.grow (ref.null func) (local.get 0))))"""
    runtime = Aegis(cache=False, memory="128KiB", table_elements=4)
    with runtime.sandbox(runtime.load_wat(text)) as sandbox:
        assert sandbox.call_many("grow", [array("i", [0, 1, 1])]).tolist() == [1, 1, -1]
        assert sandbox.call_many("more", [array("i", [0, 3, 1])]).tolist() == [1, 1, -1]
        assert sandbox.call("grow", 1) == sandbox.call("more", 1) == -1


def test_a_trap_at_full_memory_is_reported_as_without_a_loop() -> None:
    text = """(module (memory (export "memory") 1)
      (func (export "need") (param i32)
        (if (i32.eq (memory.grow (local.get 0)) (i32.const -1)) (then (unreachable)))))"""
    runtime = Aegis(cache=False, memory="128KiB")
    with runtime.sandbox(runtime.load_wat(text)) as sandbox:
        with pytest.raises(MemoryExceeded, match="in row 2: memory limit exceeded") as caught:
            sandbox.call_many("need", [array("i", [1, 0, 1])])
        assert (caught.value.row, caught.value.used) == (2, 131072)


def test_an_entry_has_fewer_rows_where_rows_are_slow_and_more_where_they_are_quick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clock is a parameter: each entry takes the time that the test sets."""
    entered: list[int] = []
    ordinary = columns._enter

    def entering(store: Any, stage: Any, first: int, rows: int) -> int:
        entered.append(rows)
        clock[0] += seconds[0]
        return ordinary(store, stage, first, rows)

    clock, seconds = [0.0], [0.0]
    monkeypatch.setattr(columns, "_enter", entering)
    monkeypatch.setattr(columns, "monotonic", lambda: clock[0])
    runtime = Aegis(cache=False)
    with runtime.sandbox(runtime.load_wat(ONE)) as sandbox:
        sandbox.call_many("same", [array("i", [0]) * 6000])
        assert entered == [64, 256, 1024, 4096, 560]
        entered.clear()
        seconds[0] = 0.005
        sandbox.call_many("same", [array("i", [0]) * 256])
        assert entered == [64, 64, 64, 64]
        entered.clear()
        seconds[0] = 5.0
        sandbox.call_many("same", [array("i", [0]) * 130])
        assert entered == [64, 32, 16, 8, 4, 2, 1, 1, 1, 1]
