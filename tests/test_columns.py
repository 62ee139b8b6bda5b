"""Calls over columns: each row is a call, and an error in one row ends all, as it ends a call.

The oracle is the loop of single calls in a fresh sandbox: the same results up to the first call that fails, and there
the same class of error.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import struct
import sys
import threading
from array import array
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis import (
    Aegis,
    AegisError,
    CallError,
    Cancelled,
    CollectingSubscriber,
    DeadlineExceeded,
    ExportNotFound,
    GuestExit,
    GuestTrap,
    HostError,
    OutOfFuel,
    QuotaExceeded,
    Sandbox,
    SandboxStateError,
    StackExhausted,
)
from aegis.engine.call import columns
from aegis.support.buffers import SCALARS
from tests.isolation.isolated import PLACES, runtime, shared

CORE = ("i32", "i64", "f32", "f64")
MODULE = f"""(module
  {"".join(f'(func (export "{t}") (param {t}) (result {t}) local.get 0)' for t in CORE)}
  (func (export "bits32") (param f32) (result i32) (i32.reinterpret_f32 (local.get 0)))
  (func (export "bits64") (param f64) (result i64) (i64.reinterpret_f64 (local.get 0)))
  (func (export "float32") (param i32) (result f32) (f32.reinterpret_i32 (local.get 0)))
  (func (export "float64") (param i64) (result f64) (f64.reinterpret_i64 (local.get 0)))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "mix") (param i32 i64 f32 f64) (result f64)
    (f64.add (f64.add (f64.convert_i32_s (local.get 0)) (f64.convert_i64_s (local.get 1)))
             (f64.add (f64.promote_f32 (local.get 2)) (local.get 3))))
  (func (export "div") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (global $count (export "count") (mut i32) (i32.const 0))
  (func $tick (export "tick") (global.set $count (i32.add (global.get $count) (i32.const 1))))
  (func (export "next") (result i32) (call $tick) (global.get $count))
  (func (export "take") (param i32) (global.set $count (i32.add (global.get $count) (local.get 0))))
  (func (export "two") (result i32 i32) (i32.const 1) (i32.const 2))
  (func (export "spin") (param i32) (result i32)
    (loop $on (br_if $on (i32.eqz (local.get 0)))) (local.get 0))
  (func (export "deep") (param i32) (result i32) (local.get 0) (call $deeper (local.get 0)) (i32.add))
  (func $deeper (param i32) (result i32)
    (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0)) (else (call $deeper (local.get 0)))))
  (memory (export "memory") 1)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"""
HOSTED = """(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (export "same" (func $f))
  (func (export "double") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
  (func (export "go") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1))))"""
EXITING = """(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "go") (param i32) (result i32)
    (if (i32.eq (local.get 0) (i32.const 700)) (then (call $exit (i32.const 3)))) (local.get 0)))"""

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux"), pytest.mark.usual(one_of="place"),
]  # fmt: skip


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sandbox(place: str) -> Iterator[Sandbox]:
    aegis = shared(place)
    with aegis.sandbox(aegis.load_wat(MODULE)) as made:
        yield made


def opened(place: str, text: str = MODULE, imports: Any = None, **policy: Any) -> Sandbox:
    aegis: Aegis = runtime(place, **policy) if policy else shared(place)
    return aegis.sandbox(aegis.load_wat(text), imports=imports)


@cache
def kept(place: str) -> Sandbox:
    """Return a sandbox for stateless functions, shared by all examples."""
    return opened(place)


# -- values ----------------------------------------------------------------------------------------

EDGES: dict[str, list[int]] = {
    "i": [0, 1, -1, 2**31 - 1, -(2**31), 0x7FC0_0000, 0x7F80_0001, -0x0080_0000, 0x0000_0001],
    "q": [0, 1, -1, 2**63 - 1, -(2**63), 0x7FF8 << 48, 0x7FF0_0000_0000_0001, -(1 << 51)],
}


def column(code: str, words: list[int]) -> array[Any]:
    """Return a column whose elements have the bits of signed ``words``."""
    made = array(code)
    made.frombytes(array("i" if made.itemsize == 4 else "q", words).tobytes())
    return made


def bits(values: Any, code: str) -> list[int]:
    """Return the bits of values as in an array; of an f32 NaN without the quiet bit."""
    made = values if isinstance(values, array) else array(code, values)
    words = array({4: "I", 8: "Q"}[made.itemsize], made.tobytes()).tolist()
    if code == "f":  # a Python float is a double, and the conversion quiets a signalling NaN
        words = [w & ~0x0040_0000 if w & 0x7F80_0000 == 0x7F80_0000 and w & 0x7F_FFFF else w for w in words]
    return words


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("name", [*CORE, "bits64", "float32", "float64"])
@given(data=st.data())
def test_a_column_of_any_core_type_gives_the_results_of_single_calls(name: str, data: Any) -> None:
    """Oracle: the loop of single calls, bit for bit."""
    of = {"bits64": "f64", "float32": "i32", "float64": "i64"}.get(name, name)
    code = SCALARS[of].code
    word = "i" if SCALARS[of].width == 4 else "q"
    low, high = -(2 ** (31 if word == "i" else 63)), 2 ** (31 if word == "i" else 63) - 1
    words = data.draw(st.lists(st.sampled_from(EDGES[word]) | st.integers(low, high), max_size=40))
    given_column = column(code, words)
    for place in PLACES:
        box = kept(place)
        found = box.call_many(name, [given_column])
        single = [box.call(name, value) for value in given_column]
        assert bits(found, found.typecode) == bits(single, found.typecode)


def test_an_f32_keeps_its_bits_signalling_ones_too(sandbox: Sandbox) -> None:
    """Oracle: the words from which the column was created."""
    words = [0x7F80_0001, 0x7FC0_0001, -0x0070_0001, 0x7FA0_0000, 0, -(2**31)]
    assert sandbox.call_many("bits32", [column("f", words)]).tolist() == words
    assert bits(sandbox.call_many("float32", [array("i", words)]), "I") == [w & 0xFFFF_FFFF for w in words]


def test_columns_of_different_types_are_read_side_by_side(sandbox: Sandbox) -> None:
    """Oracle: single calls. There are more rows than one entry takes, and no multiple of anything."""
    rows = 70_003
    columns = [
        array("i", range(rows)), array("q", range(-rows, 0)), array("f", [0.5]) * rows, array("d", [-2.25]) * rows
    ]  # fmt: skip
    found = sandbox.call_many("mix", columns)
    assert found.typecode == "d"
    assert found.tolist() == [n + (n - rows) + 0.5 - 2.25 for n in range(rows)]
    assert sandbox.call("mix", *(c[123] for c in columns)) == found[123]


def test_a_function_without_parameters_says_its_rows(sandbox: Sandbox) -> None:
    assert sandbox.call_many("next", [], rows=5).tolist() == [1, 2, 3, 4, 5]
    out = array("i", [0, 0])
    assert sandbox.call_many("next", [], out) is out
    assert out.tolist() == [6, 7]
    assert sandbox.call_many("tick", [], rows=1000) is None
    assert sandbox.call("next") == 1008
    with pytest.raises(CallError, match="pass rows="):
        sandbox.call_many("tick", [])
    assert sandbox.call_many("take", [array("i", [1] * 10)]) is None
    assert sandbox.globals["count"] == 1018


def test_no_rows_are_no_calls(sandbox: Sandbox) -> None:
    assert sandbox.call_many("div", [array("i"), array("i")]).tolist() == []
    assert sandbox.call_many("take", [array("i")]) is None
    assert sandbox.call_many("next", [], rows=0).tolist() == []
    assert sandbox.call_many("next", [], array("I")).tolist() == []
    assert sandbox.globals["count"] == 0


# -- buffers ---------------------------------------------------------------------------------------


def test_any_buffer_of_the_width_holds_a_column(sandbox: Sandbox) -> None:
    """Oracle: ``array``. Strided views, ctypes, cast bytes, read-only and unsigned buffers."""
    plain = array("i", [1, 2, 3, 4, 5, 6])
    other = array("i", [10] * 3)
    views = [
        plain[:3], memoryview(plain)[:3], memoryview(plain)[::2], memoryview(plain)[::-2], array("I", [7, 8, 9]),
        (ctypes.c_int * 3)(4, 5, 6), memoryview(bytes(12)).cast("i"), memoryview(plain).toreadonly()[3:],
    ]  # fmt: skip
    for given_column in views:
        expected = [value + 10 for value in memoryview(given_column).tolist()] if not isinstance(
            given_column, ctypes.Array
        ) else [14, 15, 16]  # fmt: skip
        assert sandbox.call_many("add", [given_column, other]).tolist() == expected
        assert sandbox.call_many("add", [other, given_column]).tolist() == expected


def test_results_go_into_any_writable_buffer_of_the_type(sandbox: Sandbox) -> None:
    a, b = array("i", [1, 2, 3]), array("i", [10, 20, 30])
    spread = array("i", [0] * 6)
    target = memoryview(spread)[::2]
    assert sandbox.call_many("add", [a, b], target) is target
    assert spread.tolist() == [11, 0, 22, 0, 33, 0]
    words = (ctypes.c_int * 3)()
    sandbox.call_many("add", [a, b], words)
    assert list(words) == [11, 22, 33]
    octets = bytearray(12)
    sandbox.call_many("add", [a, b], memoryview(octets).cast("i"))
    assert struct.unpack("@3i", octets) == (11, 22, 33)
    assert sandbox.call_many("add", [a, b], b) is b
    assert b.tolist() == [11, 22, 33]
    assert sandbox.call_many("add", [b, b], b).tolist() == [22, 44, 66]


def swapped() -> Any:
    """Return integers in the byte order that this machine does not have."""
    kind = ctypes.c_int.__ctype_be__ if sys.byteorder == "little" else ctypes.c_int.__ctype_le__  # type: ignore[attr-defined]
    return (kind * 2)(1, 2)


class Pair(ctypes.Structure):
    _fields_ = (("a", ctypes.c_short), ("b", ctypes.c_short))


def released() -> memoryview:
    """Return a buffer whose exporter raises something other than TypeError."""
    view = memoryview(array("i", [1, 2]))
    view.release()
    return view


I2 = array("i", [1, 2])
BAD: dict[str, tuple[Any, Any, str]] = {
    "too few columns": ([I2], None, "takes 2 columns, one for each parameter, not 1"),
    "too many columns": ([I2, I2, I2], None, "takes 2 columns, one for each parameter, not 3"),
    "one buffer for all": (I2, None, "columns must be a list of buffers, one for each parameter, not array"),
    "a list for a column": ([I2, [1, 2]], None, r"column 2 must be an array\('i'\) or array\('I'\), .* not list"),
    "nothing": ([None, I2], None, "column 1 must be an array.* not NoneType"),
    "text": ([I2, "ab"], None, "column 2 must be an array.* not str"),
    "unequal lengths": ([I2, array("i", [1])], None, "column 1 has 2 rows, column 2 has 1"),
    "floats": ([array("f", [1, 2]), I2], None, "column 1 has elements of format 'f' and 4 bytes"),
    "wide integers": ([I2, array("q", [1, 2])], None, "column 2 has elements of format 'q' and 8 bytes"),
    "narrow integers": ([I2, array("h", [1, 2])], None, "column 2 has elements of format 'h' and 2 bytes"),
    "bytes": ([I2, b"12345678"], None, "column 2 has elements of format 'B' and 1 byte"),
    "no buffer any more": ([I2, released()], None, r"column 2 must be .* not memoryview that exports no buffer \(.*\)"),
    "structures": ([(Pair * 2)(), I2], None, "column 1 has elements of format"),
    "two dimensions": ([memoryview(bytes(8)).cast("i", (2, 1)), I2], None, "column 1 has 2 dimensions"),
    "no dimension": ([I2, ctypes.c_int(1)], None, "column 2 has 0 dimensions"),
    "another byte order": ([swapped(), I2], None, "column 1 .* in another byte order than this machine"),
    "out of another type": ([I2, I2], array("d", [0, 0]), "out has elements of format 'd'"),
    "out too short": ([I2, I2], array("i", [0]), "out has 1 row, but the columns have 2"),
    "out too long": ([I2, I2], array("i", [0] * 3), "out has 3 rows, but the columns have 2"),
    "out that is read-only": ([I2, I2], memoryview(bytes(8)).cast("i"), "out is read-only"),
    "out that is a list": ([I2, I2], [0, 0], "out must be an array.* not list"),
}


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("name", BAD)
def test_buffers_that_do_not_fit_are_refused_before_the_guest_is_entered(name: str, sandbox: Sandbox) -> None:
    columns, out, message = BAD[name]
    with pytest.raises(CallError, match=message) as caught:
        sandbox.call_many("add", columns, out)
    assert str(caught.value).startswith("add(i32, i32) -> (i32): ")
    assert caught.value.row is None
    assert sandbox.call("add", 1, 2) == 3


@pytest.mark.parametrize("rows", [-1, True, 2.0, "2", 3])
def test_a_count_of_rows_that_is_none_is_refused(rows: Any, sandbox: Sandbox) -> None:
    with pytest.raises(CallError, match="rows"):
        sandbox.call_many("add", [I2, I2], rows=rows)
    assert sandbox.call_many("add", [I2, I2], rows=2).tolist() == [2, 4]


def test_functions_that_columns_cannot_call_are_refused_by_name(sandbox: Sandbox) -> None:
    with pytest.raises(CallError, match=r"two.*: has 2 results, but a call over columns allows one"):
        sandbox.call_many("two", [], rows=1)
    with pytest.raises(CallError, match="no result to store in out"):
        sandbox.call_many("take", [I2], array("i", [0, 0]))
    with pytest.raises(CallError, match="did you mean add"):
        sandbox.call_many("ad", [I2, I2])


def test_buffers_cannot_be_resized_during_a_call_and_can_after_it(place: str) -> None:
    a, out = array("i", [1] * 10), array("i", [0] * 10)
    failed = []

    def f(value: int) -> int:
        for buffer in (a, out):
            try:
                buffer.append(1)
            except BufferError:
                failed.append(value)
        return value

    with opened(place, HOSTED, {"env": {"f": f}}) as box:
        box.call_many("go", [a], out)
        assert len(failed) == 20
        a.append(1)
        with pytest.raises(CallError):
            box.call_many("go", [a], out)
        a.append(2)
        out.append(3)


# -- what ends a row -------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [0, 1, 255, 256, 999_999])
def test_a_trap_names_its_row_and_keeps_the_rows_before(row: int, sandbox: Sandbox) -> None:
    rows = 1_000_000 if row > 1000 else 1000
    a, b, out = array("i", range(rows)), array("i", [1]) * rows, array("i", [-1]) * rows
    b[row] = 0
    with pytest.raises(GuestTrap, match=f"in row {row:,}: the guest trapped: an integer division by zero") as caught:
        sandbox.call_many("div", [a, b], out)
    assert (caught.value.row, caught.value.partial, caught.value.code) == (row, None, "integer-division-by-zero")
    assert out[:row] == a[:row]
    assert set(out[row:]) == {-1}
    with pytest.raises(SandboxStateError, match="poisoned"):
        sandbox.call_many("add", [a, b])
    sandbox.reset()
    with pytest.raises(GuestTrap) as caught:
        sandbox.call_many("div", [a, b])
    assert caught.value.partial == a[:row]
    sandbox.reset()
    assert sandbox.call_many("add", [a[:1], a[:1]]).tolist() == [0]


def test_fuel_is_one_measure_for_all_rows_and_ends_them_in_the_middle(place: str) -> None:
    rows = 100_000
    column_of = array("i", [3]) * rows
    with opened(place, fuel=100_000) as box:
        with pytest.raises(OutOfFuel, match=r"in row \d") as caught:
            box.call_many("add", [column_of, column_of])
        row, partial = caught.value.row, caught.value.partial
        assert row is not None
        assert partial is not None
        assert 100 < row < rows
        assert partial.tolist() == [6] * row
        box.reset()
        few = column_of[: row // 2]
        for _ in range(4):  # each call begins with the full fuel limit
            assert len(box.call_many("add", [few, few])) == len(few)
        assert box.usage.fuel is not None
        assert 0 < box.usage.fuel < 100_000


def test_fuel_of_a_call_over_columns_depends_on_nothing_but_its_rows() -> None:
    """Oracle: in process and in a worker the results agree, however long an entry takes."""
    used = set()
    for place in PLACES:
        with opened(place, fuel=10_000_000) as box:
            for _ in range(3):
                box.call_many("add", [array("i", [1]) * 100_000] * 2)
                used.add(box.usage.fuel)
    assert len(used) == 1


def test_a_host_function_that_does_not_return_leaves_the_rows_before_and_writes_no_more(place: str) -> None:
    returns, stuck = threading.Event(), threading.Event()

    def f(value: int) -> int:
        if value == 100:
            stuck.set()
            returns.wait()
        return value

    numbers, out = array("i", range(1000)), array("i", [-1] * 1000)
    box = opened(place, HOSTED, {"env": {"f": f}}, timeout="0.3s")
    try:
        with pytest.raises(DeadlineExceeded, match=r"in row \d+: .* does not return") as caught:
            box.call_many("go", [numbers], out)
    finally:
        returns.set()
    assert stuck.is_set()
    assert caught.value.row is not None
    kept = [n + 1 for n in range(caught.value.row)]
    assert out.tolist() == kept + [-1] * (1000 - len(kept))
    out.append(1)
    box.close()
    assert out.tolist() == [*kept, *[-1] * (1000 - len(kept)), 1]


def test_a_deadline_ends_the_rows_in_the_middle(place: str) -> None:
    """Of a worker that is killed, the rows it has reported are kept; it reports the first ones soon."""
    given_column = array("i", [1]) * 5000
    given_column[1000] = 0
    with opened(place, timeout="0.4s") as box:
        with pytest.raises(DeadlineExceeded, match="in row") as caught:
            box.call_many("spin", [given_column])
        assert caught.value.partial is not None
        assert caught.value.row is not None
        assert caught.value.row == 1000 if place == "in-process" else 1 <= caught.value.row <= 1000
        assert caught.value.partial.tolist() == [1] * caught.value.row


def test_compiling_the_loop_is_not_the_time_of_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = columns.loop_code
    never = threading.Event()

    def slowly(*args: Any) -> Any:
        never.wait(0.5)
        return compiled(*args)

    monkeypatch.setattr(columns, "loop_code", slowly)
    with opened("in-process", timeout="0.4s") as box:
        assert box.call_many("add", [I2, I2]).tolist() == [2, 4]


def test_a_deadline_is_one_for_all_rows(place: str) -> None:
    """No row takes long, but together they never end."""
    with opened(place, timeout="0.4s") as box, pytest.raises(DeadlineExceeded) as caught:
        box.call_many("tick", [], rows=1 << 60)
    assert caught.value.row is not None
    assert caught.value.row > 1000


def test_a_cancellation_ends_the_rows_in_the_middle(place: str) -> None:
    given_column, out = array("i", [1]) * 5000, array("i", [0]) * 5000
    given_column[1000] = 0
    pause = threading.Event()

    def cancel() -> None:
        while not out[0]:
            pause.wait(0.001)
        box.cancel()

    with opened(place) as box:
        other = threading.Thread(target=cancel)
        other.start()
        with pytest.raises(Cancelled, match="in row") as caught:
            box.call_many("spin", [given_column], out)
        other.join()
    assert caught.value.row is not None
    assert list(out).count(1) == caught.value.row >= 1


def test_a_signal_handler_that_raises_ends_the_rows_on_the_main_thread(place: str) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with opened(place) as box:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt) as caught:
                box.call_many("tick", [], rows=1 << 60)
            assert any("in row" in note for note in caught.value.__notes__)
            with pytest.raises(SandboxStateError):
                box.call("next")
            box.reset()
            assert box.call("next") == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_exit_of_the_guest_names_its_row(place: str) -> None:
    with opened(place, EXITING) as box, pytest.raises(GuestExit, match="in row 700: the guest exited") as caught:
        box.call_many("go", [array("i", range(2000))])
    assert caught.value.code == 3
    assert caught.value.partial == array("i", range(700))


def test_a_guest_that_grows_its_memory_meets_the_limit_that_it_meets_otherwise(place: str) -> None:
    """Oracle: single calls. The memory of the loop counts towards no limit of the guest."""
    pages = array("i", [1, 0, 2, 5, 1, 0])
    with opened(place, memory="256KiB", memories=1, instances=1) as box:
        single = [box.call("grow", n) for n in pages]
        used = box.usage.peak_memory
    with opened(place, memory="256KiB", memories=1, instances=1) as box:
        assert box.call_many("grow", [pages]).tolist() == single == [1, 2, 2, -1, -1, 4]
        assert box.usage.peak_memory == used == 4 << 16


def test_columns_count_as_bytes_that_the_host_copies(place: str) -> None:
    rows = 100_000
    given_column = array("i", [1]) * rows
    with opened(place, host_bytes=12 * rows) as box:
        assert len(box.call_many("add", [given_column, given_column])) == rows
        assert len(box.call_many("add", [given_column, given_column])) == rows
    with opened(place, host_bytes=12 * rows - 1) as box:
        with pytest.raises(QuotaExceeded, match=r"in row .* host_bytes") as caught:
            box.call_many("add", [given_column, given_column])
        assert caught.value.row is not None
        assert caught.value.partial is not None
        assert len(caught.value.partial) == caught.value.row < rows


# -- the host in a row -----------------------------------------------------------------------------


def test_rows_call_host_functions_and_exports_that_are_host_functions(place: str) -> None:
    with opened(place, HOSTED, {"env": {"f": lambda value: value * 10}}) as box:
        numbers = array("i", range(600))
        assert box.call_many("go", [numbers]).tolist() == [10 * n + 1 for n in range(600)]
        assert box.call_many("same", [numbers]).tolist() == [10 * n for n in range(600)]
        assert box.usage.host_calls == 1200


def test_a_host_function_that_raises_ends_its_row(place: str) -> None:
    def f(value: int) -> int:
        return 100 // (300 - value)

    with opened(place, HOSTED, {"env": {"f": f}}) as box:
        with pytest.raises(HostError, match=r"in row 300: host function env\.f raised ZeroDivisionError") as caught:
            box.call_many("go", [array("i", range(1000))])
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert caught.value.partial is not None
        assert caught.value.partial.tolist() == [100 // (300 - n) + 1 for n in range(300)]


def test_host_functions_call_over_columns_inside_calls_over_columns(place: str) -> None:
    """Oracle: the same sums. Inner calls, even of the same function, do not affect the rows of the outer one."""
    numbers = array("i", range(20))

    def f(value: int) -> int:
        if value < 0:
            return 7
        inner = sum(box.call_many("double", [numbers[:value]]))
        return inner + sum(box.call_many("go", [array("i", [-1])])) + box.call("double", value)

    with opened(place, HOSTED, {"env": {"f": f}}) as box:
        assert box.call_many("go", [numbers]).tolist() == [n * (n - 1) + 8 + 2 * n + 1 for n in range(20)]


def test_a_sandbox_serves_one_call_over_columns_at_a_time(place: str) -> None:
    errors: list[BaseException] = []

    def other() -> None:
        for attempt in (lambda: box.call_many("double", [I2]), lambda: box.call("double", 1)):
            try:
                attempt()
            except BaseException as error:
                errors.append(error)

    def f(value: int) -> int:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return value

    with opened(place, HOSTED, {"env": {"f": f}}) as box:
        box.call_many("go", [array("i", [1])])
        assert [type(e) for e in errors] == [SandboxStateError] * 2
        assert [getattr(e, "state", "") for e in errors] == ["busy"] * 2
        assert [getattr(e, "row", 0) for e in errors] == [None] * 2
        assert box.call("double", 4) == 8


def test_calls_over_columns_without_end_inside_one_another_end_with_an_error(place: str) -> None:
    def f(value: int) -> int:
        return sum(box.call_many("go", [array("i", [value])]))

    with opened(place, HOSTED, {"env": {"f": f}}) as box:
        with pytest.raises((StackExhausted, HostError), match="in row 0: ") as caught:
            box.call_many("go", [I2])
        assert caught.value.partial == array("i")
        assert box.state == "poisoned"


CALLING = """(component
  (import "f" (func $f (param "n" s32) (result s32)))
  (core func $f (canon lower (func $f)))
  (core module $m (import "" "f" (func $f (param i32) (result i32)))
    (func (export "go") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))
    (func (export "post") (param i32) (if (i32.ne (local.get 0) (i32.const 8)) (then (unreachable)))))
  (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
  (func (export "go") (param "n" s32) (result s32)
    (canon lift (core func $i "go") (post-return (core func $i "post")))))"""


@pytest.mark.parametrize("text", [HOSTED, CALLING], ids=["module", "component"])
def test_at_the_edge_of_recursion_a_row_has_its_value_or_none(text: str) -> None:
    """A callback that cannot be entered would return uninitialised stack memory."""
    aegis = Aegis(cache=False, pooled=False)
    module = aegis.load_wat(text)
    imports: Any = {"env": {"f": lambda n: n}} if text is HOSTED else {"f": lambda n: n}
    ends: list[Any] = []

    def deep(levels: int, box: Sandbox) -> Any:
        return deep(levels - 1, box) if levels else box.call_many("go", [array("i", [7, 7])]).tolist()

    def edge() -> None:
        with aegis.sandbox(module, imports=imports) as box:
            box.call_many("go", [array("i", [7])])
            for levels in range(sys.getrecursionlimit() - 120, sys.getrecursionlimit()):
                try:
                    ends.append(deep(levels, box))
                except (AegisError, RecursionError) as error:
                    ends.append(type(error))
                if box.state != "ready":
                    box.reset()

    before = threading.stack_size(64 << 20)
    try:
        worker = threading.Thread(target=edge)
        worker.start()
    finally:
        threading.stack_size(before)
    worker.join()
    assert len(ends) == 120
    assert all(end == [8, 8] or end in (RecursionError, HostError, StackExhausted) for end in ends), ends
    assert ends[0] == [8, 8]
    assert RecursionError in ends


# -- around it -------------------------------------------------------------------------------------


def test_a_call_over_columns_on_a_loop_leaves_the_loop_running(place: str) -> None:
    async def f(value: int) -> int:
        await asyncio.sleep(0)
        return value + 1

    async def main() -> list[int]:
        with opened(place, HOSTED, {"env": {"f": f}}) as box:
            made = await box.acall_many("go", [array("i", range(30))])
            out = array("i", [0])
            assert await box.acall_many("go", [array("i", [5])], out) is out
            assert out[0] == 7
        return list(made)

    assert asyncio.run(main()) == [n + 2 for n in range(30)]


def test_cancelling_its_task_ends_a_call_over_columns(place: str) -> None:
    async def main() -> None:
        with opened(place) as box:
            task = asyncio.ensure_future(box.acall_many("tick", [], rows=1 << 60))
            while not box._run.store.in_call():  # type: ignore[union-attr]
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert box.state == "poisoned"

    asyncio.run(main())


def test_an_observer_hears_of_one_call_with_its_rows(place: str) -> None:
    seen = CollectingSubscriber()
    aegis = runtime(place)
    with aegis.sandbox(aegis.load_wat(MODULE), subscribers=[seen]) as box:
        box.call_many("add", [I2, I2])
        with pytest.raises(GuestTrap):
            box.call_many("div", [I2, array("i", [1, 0])])
    messages = [event.to_dict() for event in seen.events]
    started = [(e["function"], e["arguments"], e["rows"]) for e in messages if e["kind"] == "execution_started"]
    assert started == [("add", 2, 2), ("div", 2, 2)]
    assert [e["status"] for e in messages if e["kind"] == "execution_completed"] == ["returned", "trap"]
    assert [e["message"][:10] for e in messages if e["kind"] == "error"] == ["in row 1: "]


@pytest.mark.parametrize("pooled", [True, False])
def test_loops_are_kept_and_end_with_their_store(pooled: bool) -> None:
    aegis = Aegis(pooled=pooled, cache=False)
    module = aegis.load_wat(MODULE)
    for _ in range(50):
        with aegis.sandbox(module) as box:
            for _ in range(3):
                assert box.call_many("add", [I2, I2]).tolist() == [2, 4]
                assert box.call_many("i64", [array("q", [5])]).tolist() == [5]
            assert len(box._run.store._row_loops._made) == 2  # type: ignore[union-attr]
            assert len(box._run.store._row_loops._free) == 1  # type: ignore[union-attr]
            box.reset()
            assert box.call_many("next", [], rows=2).tolist() == [1, 2]


def test_sandboxes_one_after_the_other_call_over_columns(place: str) -> None:
    """In workers: a recycled one has the loop already, and no data of the earlier sandbox."""
    aegis = shared(place)
    module = aegis.load_wat(MODULE)
    for turn in range(6):
        with aegis.sandbox(module) as box:
            assert box.call_many("next", [], rows=3).tolist() == [1, 2, 3]
            columns_of = [array("i", [turn] * 500), array("i", [1, 0] * 250)]
            with pytest.raises(GuestTrap, match="in row 1: "):
                box.call_many("div", columns_of)


def test_a_thread_with_a_small_stack_has_its_rows_called_elsewhere(place: str) -> None:
    found: list[Any] = []
    before = threading.stack_size(256 << 10)
    try:
        with opened(place, HOSTED, {"env": {"f": lambda n: -n}}) as box:
            thread = threading.Thread(target=lambda: found.append(box.call_many("go", [array("i", range(100))])))
            thread.start()
            thread.join()
    finally:
        threading.stack_size(before)
    assert found == [array("i", [1 - n for n in range(100)])]


def test_a_pool_without_room_for_the_loop_is_no_end_of_the_guest() -> None:
    aegis = Aegis(pooled=True, cache=False)
    module = aegis.load_wat('(module (func (export "same") (param i32) (result i32) (local.get 0)))')
    boxes = []
    while not boxes or boxes[-1]._run.store.plan.config.pooled:  # type: ignore[union-attr]
        boxes.append(aegis.sandbox(module))
    assert boxes[-1].call_many("same", [I2]) == I2, "without the pool there is room"
    with pytest.raises(SandboxStateError, match=r"pool has no room .*close sandboxes.*pooled=False") as caught:
        boxes[0].call_many("same", [I2])
    assert caught.value.row is None
    assert boxes[0].call("same", 5) == 5
    boxes[1].close()
    assert boxes[0].call_many("same", [I2]) == I2
    for box in boxes:
        box.close()


def test_sandboxes_on_several_threads_share_the_code_of_a_loop_and_nothing_else() -> None:
    aegis = Aegis(cache=False)
    module = aegis.load_wat(MODULE)
    found: dict[int, list[int]] = {}

    def work(number: int) -> None:
        with aegis.sandbox(module) as box:
            columns = [array("i", range(20_000)), array("i", [number]) * 20_000]
            found[number] = [sum(box.call_many("add", columns)) for _ in range(10)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: [sum(range(20_000)) + 20_000 * n] * 10 for n in range(4)}


def test_a_store_whose_memories_are_counted_has_room_for_the_loop() -> None:
    text = """(module (memory (export "memory") 1) (memory 1) (memory 1)
      (func (export "grow") (param i32) (result i32) (memory.grow 1 (local.get 0))))"""
    with Aegis(memory="256KiB", cache=False).sandbox(Aegis(cache=False).load_wat(text)) as box:
        assert box._run.store.memory_budget is not None  # type: ignore[union-attr]
        used = box._run.store.memory_size()  # type: ignore[union-attr]
        assert box.call_many("grow", [array("i", [0, 1, 1])]).tolist() == [1, 1, -1]
        assert box._run.store.memory_size() == used + 65536  # type: ignore[union-attr]


def test_a_forked_process_calls_over_columns() -> None:
    import os

    aegis = Aegis(cache=False)
    module = aegis.load_wat(MODULE)
    with aegis.sandbox(module) as box:
        box.call("add", 1, 2)
    child = os.fork()
    if not child:
        code = 1
        try:
            with aegis.sandbox(module) as box:
                code = (
                    0
                    if box.call_many("mix", [I2, array("q", [1, 2]), array("f", [1, 2]), array("d", [1, 2])])[1] == 8
                    else 2
                )
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_row_of_a_thousand_parameters_is_a_row() -> None:
    count = 1000
    text = f'(module (func (export "f") (param {"i64 " * count}) (result i64) (local.get {count - 1})))'
    with Aegis(cache=False).sandbox(Aegis(cache=False).load_wat(text)) as box:
        columns = [array("q", [n, -n] * 100) for n in range(count)]
        assert box.call_many("f", columns).tolist() == [count - 1, 1 - count] * 100


def test_recursion_deeper_than_the_stack_names_its_row(sandbox: Sandbox) -> None:
    with pytest.raises(StackExhausted, match="in row 1: stack limit exceeded") as caught:
        sandbox.call_many("deep", [array("i", [0, 5, 0])])
    assert caught.value.partial == array("i", [0])


def test_an_out_with_gaps_whose_format_cannot_be_written_is_refused_before_the_guest() -> None:
    text = '(module (func (export "f") (param i32) (result i32) (local.get 0)))'
    with Aegis(cache=False).sandbox(Aegis(cache=False).load_wat(text)) as sandbox:
        for rows in (2**63, 2**200):
            with pytest.raises(CallError, match="rows must be an int from 0"):
                sandbox.call_many("f", [array("i", [1])], rows=rows)
        with pytest.raises(CallError):
            sandbox.call_many("f", [array("i", [1, 2])], out=memoryview((ctypes.c_wchar * 4)(*"abcd"))[::2])
        assert sandbox.call_many("f", [array("i", [1, 2])]) == array("i", [1, 2])


def test_a_call_over_columns_has_no_name_that_another_call_could_have() -> None:
    runtime = Aegis(cache=False)
    with runtime.sandbox(runtime.load_wat('(module (func (export "f") (param i32) (result i32) (local.get 0)))')) as s:
        s.call_many("f", [array("i", [1])])
        with pytest.raises(ExportNotFound):
            s.call(("f",), 5)
        assert s.state == "ready"


def test_views_of_the_rows_end_with_the_sandbox() -> None:
    runtime = Aegis(cache=False)
    text = '(module (func (export "f") (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0))))'
    with runtime.sandbox(runtime.load_wat(text)) as sandbox, pytest.raises(GuestTrap) as caught:
        sandbox.call_many("f", [array("i", [1, 0])])
    frame = caught.value.__traceback__
    found = []
    while frame is not None:
        if frame.tb_frame.f_code.co_name == "call_rows":
            found += [value for value in frame.tb_frame.f_locals.values() if isinstance(value, memoryview)]
        frame = frame.tb_next
    assert found
    for view in found:
        with pytest.raises(ValueError, match="released"):
            view[0]


def test_compiling_needs_no_large_stack_of_the_caller() -> None:
    text = '(module (func (export "f") (param i32 i32) (result i32) (local.get 1)))'
    seen: list[Any] = []

    def work() -> None:
        runtime = Aegis(cache=False)
        with runtime.sandbox(runtime.load_wat(text)) as sandbox:
            seen.append(sandbox.call_many("f", [array("i", [1]), array("i", [2])]))

    before = threading.stack_size(64 << 10)
    try:
        thread = threading.Thread(target=work)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert seen == [array("i", [2])]
