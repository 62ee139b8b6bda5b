"""In calls over columns into components, each row follows the canonical ABI like a call of its own.

The oracle is a loop of single calls in a fresh sandbox: values, traps, and the flags of component instances.
"""

from __future__ import annotations

import sys
from array import array
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis import Aegis, CallError, GuestTrap, HostError, Sandbox, SandboxStateError
from aegis.component.shims import columns
from aegis.support.buffers import SCALARS
from tests.isolation.isolated import PLACES, runtime, shared

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")

TYPES = ("bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char")
_CORE = {"s64": "i64", "u64": "i64", "f32": "f32", "f64": "f64"}
_RAW = {"i32": "u32", "i64": "u64", "f32": "u32", "f64": "u64"}


def scalars_component() -> str:
    """Return a component that reveals the core value of an argument of each type, and creates a result of any type."""
    lifted = []
    for of in TYPES:
        core = _CORE.get(of, "i32")
        raw = _RAW[core]
        into = "same32" if core == "i32" else "same64" if core == "i64" else f"bits{core[1:]}"
        out = "same32" if core == "i32" else "same64" if core == "i64" else f"float{core[1:]}"
        lifted += [
            f'(func (export "see-{of}") (param "x" {of}) (result {raw}) (canon lift (core func $i "{into}")))',
            f'(func (export "make-{of}") (param "raw" {raw}) (result {of}) (canon lift (core func $i "{out}")))',
        ]
    return f"""(component
      (core module $m
        (func (export "same32") (param i32) (result i32) (local.get 0))
        (func (export "same64") (param i64) (result i64) (local.get 0))
        (func (export "bits32") (param f32) (result i32) (i32.reinterpret_f32 (local.get 0)))
        (func (export "bits64") (param f64) (result i64) (i64.reinterpret_f64 (local.get 0)))
        (func (export "float32") (param i32) (result f32) (f32.reinterpret_i32 (local.get 0)))
        (func (export "float64") (param i64) (result f64) (f64.reinterpret_i64 (local.get 0))))
      (core instance $i (instantiate $m))
      {" ".join(lifted)})"""


def opened(place: str, text: str, imports: Any = None, **policy: Any) -> Sandbox:
    aegis: Aegis = runtime(place, **policy) if policy else shared(place)
    return aegis.sandbox(aegis.load_wat(text), imports=imports)


@cache
def kept(place: str) -> Sandbox:
    """Return a shared sandbox whose functions are stateless; no test ends it by a trap."""
    return opened(place, scalars_component())


@cache
def ended(place: str) -> Sandbox:
    """Return a sandbox that tests end by traps."""
    return opened(place, scalars_component())


def values_of(of: str) -> st.SearchStrategy[Any]:
    """Return a strategy for elements of a column of ``of``, including boundary values."""
    scalar = SCALARS[of]
    bits = 8 * scalar.width
    if of == "bool":
        return st.integers(0, 1)
    if of == "char":
        edges = st.sampled_from([0, 0x7F, 0xD7FF, 0xE000, 0x10FFFF])
        return edges | st.characters(exclude_categories=["Cs"]).map(ord)
    if scalar.family == "float":
        return st.floats(width=bits, allow_nan=False) | st.just(float("nan"))
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if scalar.family == "signed" else (0, (1 << bits) - 1)
    return st.sampled_from([low, high, 0, 1]) | st.integers(low, high)


def as_python(of: str, value: Any) -> Any:
    """Convert a column element to the argument of a single call."""
    return bool(value) if of == "bool" else chr(value) if of == "char" else value


def as_element(of: str, value: Any) -> Any:
    return ord(value) if of == "char" else int(value) if of == "bool" else value


@pytest.mark.usual(every=4)
@pytest.mark.parametrize("of", TYPES)
@given(data=st.data())
def test_an_argument_of_any_type_is_the_core_value_of_a_single_call(of: str, data: Any) -> None:
    """Oracle: the loop of single calls; in both, a NaN has the bits of ``float("nan")``."""
    elements = array(SCALARS[of].code, data.draw(st.lists(values_of(of), max_size=30)))
    for place in PLACES:
        box = kept(place)
        found = box.call_many(f"see-{of}", [elements])
        assert found.typecode == ("Q" if SCALARS[of].width == 8 else "I")
        assert found.tolist() == [box.call(f"see-{of}", as_python(of, value)) for value in elements]


RAWS = st.sampled_from(
    [0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x101, 0x7FFF, 0x8000, 0xFFFF, 0x1_0000, 0xD7FF, 0xD800, 0xDFFF, 0xE000,
     0x10FFFF, 0x11_0000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x7FC0_0000, 0x7F80_0000, 0x7FC1_2345]
) | st.integers(0, 0xFFFF_FFFF)  # fmt: skip
LONG_RAWS = RAWS | st.sampled_from([1 << 63, (1 << 64) - 1, 0x7FF8 << 48]) | st.integers(0, (1 << 64) - 1)


@pytest.mark.usual(every=4)
@pytest.mark.parametrize("of", TYPES)
@given(data=st.data())
def test_a_result_of_any_type_is_checked_as_that_of_a_single_call(of: str, data: Any) -> None:
    """Oracle: the loop of single calls, up to its first trap: wrapped integers, booleans, invalid characters."""
    wide = SCALARS[of].width == 8
    raws = array("Q" if wide else "I", data.draw(st.lists(LONG_RAWS if wide else RAWS, max_size=30)))
    for place in PLACES:
        expected: list[Any] = []
        trapped = None
        box = afresh(place)
        try:
            for raw in raws:
                expected.append(as_element(of, box.call(f"make-{of}", raw)))
        except GuestTrap as error:
            trapped = error
        box = afresh(place)
        if trapped is None:
            found = box.call_many(f"make-{of}", [raws])
        else:
            with pytest.raises(GuestTrap) as caught:
                box.call_many(f"make-{of}", [raws])
            assert str(caught.value) == f"in row {len(expected):,}: {trapped}"
            assert caught.value.code == trapped.code
            assert caught.value.row == len(expected)
            found = caught.value.partial
        assert found is not None
        assert found.typecode == SCALARS[of].code
        assert list(map(repr, found)) == list(map(repr, array(SCALARS[of].code, expected)))


def afresh(place: str) -> Sandbox:
    """Return the sandbox that tests end, reset if a test has ended it."""
    box = ended(place)
    if box.state != "ready":
        box.reset()
    return box


def truths() -> Any:
    return memoryview(bytes([0, 1, 1])).cast("?")


def test_truth_is_a_byte_of_0_or_1(place: str) -> None:
    box = kept(place)
    assert box.call_many("see-bool", [truths()]).tolist() == [0, 1, 1]
    assert box.call_many("see-bool", [memoryview(bytes([0, 7, 255])).cast("?")]).tolist() == [0, 1, 1], "C's bool"
    out = memoryview(bytearray(3)).cast("?")
    assert box.call_many("make-bool", [array("I", [0, 5, 256])], out).tolist() == [False, True, True]
    with pytest.raises(CallError, match=r"column 1 \(x\): the element of row 70,001 is not a valid bool"):
        box.call_many("see-bool", [array("B", [1] * 70_001 + [2, 3])])


@pytest.mark.parametrize("code", [0xD800, 0xDFFF, 0x11_0000, 0xFFFF_FFFF])
def test_a_column_of_characters_holds_code_points(code: int, place: str) -> None:
    box = kept(place)
    column = array("I", [0x41]) * 70_000
    assert box.call_many("see-char", [column]) == column
    text = array("w" if sys.version_info >= (3, 13) else "u", "aé€😀")  # type: ignore[call-overload]
    if text.itemsize == 4:
        assert box.call_many("see-char", [text]).tolist() == list(map(ord, text))
    column[69_000] = code
    with pytest.raises(CallError, match=r"column 1 \(x\): the element of row 69,000 is not a valid char"):
        box.call_many("see-char", [column])
    assert box.state == "ready"


SIGNS = [("see-u32", "i"), ("see-s32", "I"), ("see-u8", "b"), ("see-s8", "B"), ("see-u64", "q"), ("see-char", "i"),
         ("see-bool", "b"), ("see-f32", "d"), ("see-f64", "f"), ("see-u16", "I"), ("see-s16", "H")]  # fmt: skip


@pytest.mark.parametrize(("name", "code"), SIGNS)
def test_elements_of_another_sign_or_width_are_refused(name: str, code: str) -> None:
    box = kept(PLACES[0])
    with pytest.raises(CallError, match=rf"column 1 \(x\) has elements of format '{code}'"):
        box.call_many(name, [array(code, [1])])
    with pytest.raises(CallError, match=r"make-u8\(raw: u32\) -> u8: out has elements of format 'b'"):
        box.call_many("make-u8", [array("I", [1])], array("b", [0]))


COMPOUND = """(component
  (core module $m (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
    (func (export "one") (param i32) (result i32) (local.get 0))
    (func (export "text") (param i32 i32))
    (func (export "spilled") (param i32)))
  (core instance $i (instantiate $m))
  (type $e (enum "a" "b")) (export $e2 "e" (type $e)) (type $f (flags "x")) (export $f2 "f" (type $f))
  (func (export "text") (param "t" string)
    (canon lift (core func $i "text") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func (export "enumerated") (param "t" $e2) (result u32) (canon lift (core func $i "one")))
  (func (export "flagged") (param "n" u32) (result $f2) (canon lift (core func $i "one")))
  (func (export "failing") (param "n" u32) (result (result)) (canon lift (core func $i "one")))
  (func (export "many") PARAMS
    (canon lift (core func $i "spilled")
      (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))""".replace(
    "PARAMS", " ".join(f'(param "p{n}" u32)' for n in range(17))
)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "text",
            "its parameter 't' has the type string, but a call over columns allows numbers, bool and char",
        ),
        ("enumerated", "its parameter 't' has the type e"),
        ("flagged", "its result has the type f"),
        ("failing", "its result has the type result"),
        ("many", "has 17 parameters, but a call over columns allows 16"),
    ],
)
def test_functions_of_other_values_are_refused_with_the_type(name: str, message: str, place: str) -> None:
    with opened(place, COMPOUND) as box:
        with pytest.raises(CallError, match=message):
            box.call_many(name, [array("I", [1])])
        assert box.state == "ready"


# -- post-return and the flags of instances --------------------------------------------------------

POSTED = """(component
  (import "f" (func $f (param "n" u32) (result u32)))
  (core module $memory (memory (export "memory") 1))
  (core func $f (canon lower (func $f)))
  (core module $m
    (import "" "f" (func $f (param i32) (result i32)))
    (global $returned (mut i32) (i32.const 0)) (global $last (mut i64) (i64.const 0))
    (func (export "plain") (param i32) (result i64) (i64.extend_i32_u (i32.mul (local.get 0) (i32.const 3))))
    (func (export "calling") (param i32) (result i64) (i64.extend_i32_u (call $f (local.get 0))))
    (func (export "odd") (param i32) (result i64)
      (if (result i64) (i32.and (local.get 0) (i32.const 1))
        (then (i64.extend_i32_u (call $f (local.get 0)))) (else (i64.const 5))))
    (func (export "nothing") (param i32) (drop (call $f (local.get 0))))
    (func (export "post") (param i64)
      (global.set $returned (i32.add (global.get $returned) (i32.const 1)))
      (global.set $last (local.get 0)))
    (func (export "post-nothing") (global.set $returned (i32.add (global.get $returned) (i32.const 1))))
    (func (export "post-trap") (param i64) (if (i64.eq (local.get 0) (i64.const 1500)) (then (unreachable))))
    (func (export "post-call") (param i64) (drop (call $f (i32.const 1))))
    (func (export "returned") (result i32) (global.get $returned))
    (func (export "last") (result i64) (global.get $last)))
  (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
  (func (export "plain") (param "n" u32) (result u64)
    (canon lift (core func $i "plain") (post-return (core func $i "post"))))
  (func (export "calling") (param "n" u32) (result u64)
    (canon lift (core func $i "calling") (post-return (core func $i "post"))))
  (func (export "odd") (param "n" u32) (result u64)
    (canon lift (core func $i "odd") (post-return (core func $i "post"))))
  (func (export "nothing") (param "n" u32)
    (canon lift (core func $i "nothing") (post-return (core func $i "post-nothing"))))
  (func (export "trapping") (param "n" u32) (result u64)
    (canon lift (core func $i "plain") (post-return (core func $i "post-trap"))))
  (func (export "trapping-after") (param "n" u32) (result u64)
    (canon lift (core func $i "calling") (post-return (core func $i "post-trap"))))
  (func (export "leaving") (param "n" u32) (result u64)
    (canon lift (core func $i "plain") (post-return (core func $i "post-call"))))
  (func (export "leaving-after") (param "n" u32) (result u64)
    (canon lift (core func $i "calling") (post-return (core func $i "post-call"))))
  (func (export "returned") (result u32) (canon lift (core func $i "returned")))
  (func (export "last") (result u64) (canon lift (core func $i "last"))))"""


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def three(n: int) -> int:
    return 3 * n


@pytest.mark.usual("isolated-calling", "in-process-*")
@pytest.mark.parametrize("name", ["plain", "calling", "odd"])
def test_post_return_runs_for_each_row_with_its_result(name: str, place: str) -> None:
    """Oracle: the loop of single calls. The host function ends the rows that call it; the loop ends the others."""
    numbers = array("I", range(1000))
    with opened(place, POSTED, {"f": three}) as box:
        single = [box.call(name, n) for n in numbers]
        ended = box.call("returned"), box.call("last")
    with opened(place, POSTED, {"f": three}) as box:
        assert box.call_many(name, [numbers]).tolist() == single
        assert (box.call("returned"), box.call("last")) == ended == (1000, single[-1])
        assert box.call_many("nothing", [numbers]) is None
        assert box.call("returned") == 2000


@pytest.mark.parametrize(
    ("name", "row", "code"),
    [("trapping", 500, "unreachable"), ("trapping-after", 500, "unreachable"), ("leaving", 0, "cannot-leave-instance"),
     ("leaving-after", 0, "cannot-leave-instance")],
)  # fmt: skip
def test_a_post_return_that_traps_or_calls_out_ends_its_row(name: str, row: int, code: str, place: str) -> None:
    """Oracle: the single call with that row."""
    numbers = array("I", range(1000))
    with opened(place, POSTED, {"f": three}) as box, pytest.raises(GuestTrap) as single:
        box.call(name, row)
    with opened(place, POSTED, {"f": three}) as box:
        with pytest.raises(GuestTrap) as caught:
            box.call_many(name, [numbers])
        assert (caught.value.row, caught.value.code) == (row, code) == (row, single.value.code)
        assert str(caught.value) == f"in row {row}: {single.value}"
        assert caught.value.partial == array("Q", [3 * n for n in range(row)])
        assert box.state == "poisoned"


def test_a_component_is_not_entered_by_its_host_functions_in_a_row_either(place: str) -> None:
    def f(n: int) -> int:
        return sum(box.call_many("plain", [array("I", [n])]))

    with opened(place, POSTED, {"f": f}) as box, pytest.raises((SandboxStateError, HostError), match="while a call"):
        box.call_many("calling", [array("I", [1])])


COMPOSED = """(component
  (component $inner
    (core module $m (func (export "go") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))
    (core instance $i (instantiate $m))
    (func (export "go") (param "n" u32) (result u32) (canon lift (core func $i "go"))))
  (instance $inner (instantiate $inner))
  (core func $go (canon lower (func $inner "go")))
  (core module $m (import "" "go" (func $go (param i32) (result i32)))
    (func (export "go") (param i32) (result i32) (i32.mul (call $go (local.get 0)) (i32.const 2))))
  (core instance $i (instantiate $m (with "" (instance (export "go" (func $go))))))
  (func (export "go") (param "n" u32) (result u32) (canon lift (core func $i "go"))))"""


def test_rows_call_other_components_and_instances_are_left_again(place: str) -> None:
    with opened(place, COMPOSED) as box:
        assert box.call_many("go", [array("I", range(300))]).tolist() == [2 * (n + 1) for n in range(300)]
        assert box.call("go", 4) == 10
        assert box.call_many("go", [array("I", [1])]).tolist() == [4]


NAMED = """(component
  (core module $m (func (export "go") (param i32 i32) (result i32) (i32.sub (local.get 0) (local.get 1))))
  (core instance $i (instantiate $m))
  (func $go (param "left" s8) (param "right" s8) (result s8) (canon lift (core func $i "go")))
  (instance $api (export "minus" (func $go)))
  (export "test:numbers/api@1.2.0" (instance $api)))"""


@pytest.mark.parametrize("name", ["minus", "test:numbers/api#minus", "test:numbers/api@1.2.0#minus"])
def test_functions_of_interfaces_are_named_as_in_calls(name: str, place: str) -> None:
    with opened(place, NAMED) as box:
        found = box.call_many(name, [array("b", [1, -128, 127]), array("b", [2, 1, -1])])
        assert found == array("b", [-1, 127, -128]), "integers wrap, as a single result does"
        assert found.tolist() == [box.call(name, a, b) for a, b in ((1, 2), (-128, 1), (127, -1))]
        with pytest.raises(CallError, match=r"column 2 \(right\) has elements of format 'h'"):
            box.call_many(name, [array("b", [1]), array("h", [1])])


def test_values_that_another_thread_changed_reach_no_guest(place: str) -> None:
    """A host function acts as another thread: it runs while later rows are still in the caller's buffer."""
    text = """(component
      (import "f" (func $f (param "n" u32)))
      (core func $f (canon lower (func $f)))
      (core module $m (import "" "f" (func $f (param i32)))
        (func (export "go") (param i32) (result i32) (call $f (local.get 0)) (local.get 0)))
      (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
      (func (export "go") (param "c" char) (result u32) (canon lift (core func $i "go"))))"""
    column = array("I", [0x41]) * 5000
    seen = []

    def f(n: int) -> None:
        seen.append(n)
        column[4000] = 0xD800

    with opened(place, text, {"f": f}) as box:
        with pytest.raises(CallError, match="the element of row 4,000 is not a valid char") as caught:
            box.call_many("go", [column])
        assert caught.value.row is not None
        assert 64 <= caught.value.row == len(seen) <= 4000
        assert set(seen) == {0x41}
        assert box.state == "poisoned"


def test_rows_of_an_instance_that_others_call_are_ended_by_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(columns._Rules, "left", lambda rules, status: left.append(status))
    inner = """(component $b
        (core module $m (memory (export "m") 1)
          (global $calls (mut i32) (i32.const 0))
          (func (export "f") (param i32) (result i32) (i32.add (local.get 0) (global.get $calls)))
          (func (export "post") (param i32) (global.set $calls (i32.add (global.get $calls) (i32.const 1)))))
        (core instance $m (instantiate $m))
        (func (export "f") (param "x" u8) (result u8)
          (canon lift (core func $m "f") (post-return (core func $m "post")))))"""
    outer = """(component $a (import "f" (func $f (param "x" u8) (result u8)))
        (core func $f (canon lower (func $f)))
        (core module $m (import "" "f" (func $f (param i32) (result i32)))
          (func (export "go") (param i32) (result i32) (call $f (local.get 0))) (func (export "post") (param i32)))
        (core instance $m (instantiate $m (with "" (instance (export "f" (func $f))))))
        (func (export "go") (param "x" u32) (result u32)
          (canon lift (core func $m "go") (post-return (core func $m "post")))))"""
    text = f"""(component {inner} {outer} (instance $b (instantiate $b))
        (instance $a (instantiate $a (with "f" (func $b "f")))) (export "go" (func $a "go")))"""
    with Aegis(cache=False).sandbox(Aegis(cache=False).load_wat(text)) as sandbox:
        assert sandbox.call_many("go", [array("I", [5, 5, 5])]) == array("I", [5, 6, 7])
    assert not left
