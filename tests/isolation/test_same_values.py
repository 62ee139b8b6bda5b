"""Oracle: both backends give a value the same meaning, or reject it with the same error.

Many types share one component, because creating an isolated sandbox costs as much as a hundred calls.
"""

from __future__ import annotations

import math
import os
import random
import re
import struct
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegis import Aegis, CallError, Err, Ok, Sandbox, Some
from aegis.errors import AegisError
from aegis.wit.python_types import with_python_types
from aegis.wit.types import PRIMITIVES, List, Option, Record, Result, Tuple, Variant, WitType, show
from tests.conftest import is_long
from tests.echo import echo_component, echo_many_component
from tests.guests.catalogue import GUESTS
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime
from tests.wit.misfits import ODD, Make, distorted
from tests.wit.strategies import typed_values

pytestmark = only_where_there_are_workers
EXAMPLES = max(2, round(10 * float(os.environ.get("AEGIS_EXAMPLES") or 1)))
"""Components of the property test, each with 20 types and 6 values of each."""
TYPES, VALUES = 20, 6
_ADDRESS = re.compile("0x[0-9a-f]+")


@pytest.fixture(scope="module")
def runtimes() -> list[Aegis]:
    made = [runtime(place, isolation={"recycle": 200}) for place in PLACES]
    return made


End = tuple[str, Any, list[Any]]
"""How a call ended: the error's class or ``returned``, its message or the value, and the values that the host received.
"""


class Pair:
    """The same component in process and isolated, whose host functions return ``answer``, or their argument."""

    def __init__(self, runtimes: Sequence[Aegis], types: Sequence[WitType]) -> None:
        self.types = types
        self.answer: Make | None = None
        self.seen: list[Any] = []
        text = echo_many_component(types)
        imports = {f"echo-{n}": self._echo for n in range(len(types))}
        self._stack = ExitStack()
        self.boxes = [self._stack.enter_context(r.sandbox(r.load_wat(text), imports=imports)) for r in runtimes]

    def _echo(self, value: Any) -> Any:
        self.seen.append(value)
        if self.answer is not None:
            return self.answer()
        return value

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def ends(self, number: int, argument: Make, answer: Make | None = None) -> list[End]:
        """Call in both backends and return both outcomes."""
        self.answer = answer
        return [self._end(box, number, argument) for box in self.boxes]

    def _end(self, box: Sandbox, number: int, argument: Make) -> End:
        self.seen = []
        try:
            value = box.call(f"echo-back-{number}", argument())
            return "returned", value, self.seen
        except Err as declared:
            return "declared", declared.value, self.seen
        except AegisError as error:
            return type(error).__name__, _ADDRESS.sub("0x", str(error)), self.seen
        finally:
            if box.state == "poisoned":
                box.reset()

    def compare(self, number: int, argument: Make, answer: Make | None = None) -> End:
        """Call in both backends and check that the outcomes agree; return the outcome."""
        here, there = self.ends(number, argument, answer)
        reported = f"{show(self.types[number])} of {argument()!r}, answer {answer and answer()!r}: {here} and {there}"
        assert all(map(alike, here, there)), reported
        return here


def alike(one: Any, two: Any) -> bool:
    """Return whether values of the two backends are the same; each has its own classes for the same types."""
    if isinstance(one, float) and isinstance(two, float):
        return struct.pack("<d", one) == struct.pack("<d", two)
    if isinstance(one, (list, tuple)):
        return type(one) is type(two) and len(one) == len(two) and all(map(alike, one, two))
    if type(one).__name__ != type(two).__name__:
        return False
    fields = getattr(type(one), "__dataclass_fields__", None)
    if fields is not None:
        return all(alike(getattr(one, name), getattr(two, name)) for name in fields)
    return alike(one.value, two.value) if hasattr(one, "value") else bool(one == two)


# -- random types and values ------------------------------------------------------------------------

Batch = Sequence[tuple[WitType, Any]]
batches = st.lists(typed_values(), min_size=TYPES, max_size=TYPES)


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(batch=batches, seed=st.integers(0, 2**32))
def test_every_value_means_the_same_in_both_tiers(runtimes: list[Aegis], batch: Batch, seed: int) -> None:
    draw = random.Random(seed)
    with Pair(runtimes, [of for of, _ in batch]) as pair:
        for number, (of, value) in enumerate(batch):
            pair.compare(number, lambda value=value: value)
            for _ in range(VALUES):
                pair.compare(number, distorted(of, value, 0.15, draw))
            pair.compare(number, lambda value=value: value, distorted(of, value, 0.1, draw))


# -- every primitive at every position --------------------------------------------------------------


def _positions(of: str) -> list[WitType]:
    return [
        of, List(of), List(Option(of)), Tuple((of,)), Option(of), Option(Option(of)), Result(of, None),
        Result(None, of),
        Result(Result(of, of), of), Record("record", (("values", of), ("b", "bool"))),
        Variant("variant", (("some", of), ("none", None))), List(List(of)),
    ]  # fmt: skip


def _placed(of: WitType, make: Make) -> Make:
    """Return a function that creates a value of type ``of`` with the value of ``make`` at its position."""
    match of:
        case List(List()):
            return lambda: [[], [make(), make()]]
        case List():
            return lambda: [make()]
        case Tuple():
            return lambda: (make(),)
        case Option(Option()):
            return lambda: Some(make())
        case Result(Result(), _):
            return lambda: Ok(Err(make()))
        case Result(None, _):
            return lambda: Err(make())
        case Result():
            return lambda: Ok(make())
        case Record():
            return lambda: {"values": make(), "b": True}
        case Variant():
            return lambda: ("some", make())
    return make


def test_each_odd_argument_means_the_same_at_each_position_of_each_primitive(runtimes: list[Aegis]) -> None:
    """A usual run has each argument for a third of the types."""
    step = 1 if is_long() else 3
    types = [with_python_types(of) for primitive in PRIMITIVES for of in _positions(primitive)]
    with Pair(runtimes, types) as pair:
        ends = [pair.compare(n, _placed(of, odd))[0] for n, of in enumerate(types) for odd in ODD[n % step :: step]]
    assert min(map(ends.count, ("returned", "declared", "CallError"))) > 100 / step


def test_each_odd_answer_of_the_host_means_the_same_for_each_primitive(runtimes: list[Aegis]) -> None:
    """A value that does not fit ends the run, so fewer are tested; a usual run has half as many."""
    step = 9 if is_long() else 18
    types = [with_python_types(of) for primitive in PRIMITIVES for of in _positions(primitive)[::3]]
    ends = []
    with Pair(runtimes, types) as pair:
        for number, of in enumerate(types):
            good = _placed(of, lambda of=PRIMITIVES[number // 4]: _GOOD[of])
            ends += [pair.compare(number, good, _placed(of, odd))[0] for odd in ODD[number % step :: step]]
    assert min(map(ends.count, ("returned", "HostError"))) > 50 * 9 / step


_GOOD: dict[str, Any] = {
    **dict.fromkeys(PRIMITIVES, 1),
    "bool": True,
    "f32": 0.5,
    "f64": 0.5,
    "char": "c",
    "string": "s",
}


# -- core modules -----------------------------------------------------------------------------------

CORE = ("i32", "i64", "f32", "f64")
MODULE = f"""(module
  {" ".join(f'(import "h" "{t}" (func $h{t} (param {t}) (result {t})))' for t in CORE)}
  (import "h" "two" (func $two (param f32 i64) (result f32 i64)))
  {" ".join(f'(func (export "{t}") (param {t}) (result {t}) (call $h{t} (local.get 0)))' for t in CORE)}
  {" ".join(f'(global (export "g{t}") (mut {t}) ({t}.const 0))' for t in CORE)}
  (func (export "two") (param f32 i64) (result f32 i64) (call $two (local.get 0) (local.get 1)))
  (func (export "wide") (param v128)))"""


class CorePair(Pair):
    """The module in both backends. Functions are called by name; globals are set and read by ``g`` and their type."""

    types = CORE

    def __init__(self, runtimes: Sequence[Aegis]) -> None:
        self.answer, self.seen, self._stack = None, [], ExitStack()
        imports = {"h": {**dict.fromkeys(CORE, self._echo), "two": self._both}}
        self.boxes = [self._stack.enter_context(r.sandbox(r.load_wat(MODULE), imports=imports)) for r in runtimes]

    def _both(self, one: float, two: int) -> Any:
        self.seen.append((one, two))
        return self.answer() if self.answer is not None else (one, two)

    def _end(self, box: Sandbox, number: int, argument: Make) -> End:
        self.seen = []
        try:
            return "returned", self._called(box, number, argument()), self.seen
        except AegisError as error:
            return type(error).__name__, _ADDRESS.sub("0x", str(error)), self.seen
        finally:
            if box.state == "poisoned":
                box.reset()

    def _called(self, box: Sandbox, number: int, value: Any) -> Any:
        if number < 4:
            return box.call(CORE[number], value)
        if number == 8:
            return box.call("two", *value) if isinstance(value, tuple) else box.call("two", value, value)
        if number == 9:
            return box.call("wide", value)
        name = f"g{CORE[number - 4]}"
        box.globals[name] = value
        return box.globals[name]


def test_each_odd_value_means_the_same_in_a_core_module(runtimes: list[Aegis]) -> None:
    with CorePair(runtimes) as pair:
        pair.types = (*CORE, *CORE, List("f32"), "s8")
        ends = [pair.compare(number, odd)[0] for number in range(10) for odd in ODD]
        ends += [pair.compare(number, lambda: 1, odd)[0] for number in range(4) for odd in ODD[number::4]]
        for answer in ((1, 2), (0.1, 2**63), (1e39, 1), (1,), [1, 2], (True, 1), (1.0, 1.0), None, 1):
            ends.append(pair.compare(8, lambda: (0.1, 2**64 - 1), lambda answer=answer: answer)[0])
    assert min(map(ends.count, ("returned", "CallError", "HostError"))) > 30


@pytest.mark.parametrize("place", PLACES)
def test_an_f32_of_a_core_module_is_rounded_and_never_becomes_infinite(place: str) -> None:
    with CorePair([runtime(place)]) as pair:
        box = pair.boxes[0]
        assert box.call("f32", 0.1) == 0.10000000149011612
        assert box.call("f32", 3.4028235e38) == 3.4028234663852886e38
        assert box.call("f32", math.inf) == math.inf
        for refused in (1e39, 2**128, True, "1", b"1"):
            with pytest.raises(CallError, match="f32"):
                box.call("f32", refused)
            with pytest.raises(CallError, match="f32"):
                box.globals["gf32"] = refused


# -- values that only one of the ways accepts -------------------------------------------------------

TWO = """(component
  (import "colour" (type $c (enum "red" "green")))
  (core module $m (memory (export "memory") 1) (global $n (mut i32) (i32.const 64))
    (func (export "f") (param i32 i32 i32) (result i32) (local.get 1))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.get $n) (global.set $n (i32.add (global.get $n) (local.get 3)))))
  (core instance $m (instantiate $m))
  (type $colour (enum "red" "green"))
  (export $e "colour" (type $colour))
  (func (export "count") (param "bytes" (list u8)) (param "c" $e) (result u32)
    (canon lift (core func $m "f") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (func (export "numbers") (param "list" (list u32)) (param "c" $e) (result u32)
    (canon lift (core func $m "f") (memory (core memory $m "memory")) (realloc (core func $m "realloc")))))"""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["count", "numbers"])
def test_an_iterator_is_read_once_although_another_argument_has_to_be_made_fit(place: str, name: str) -> None:
    aegis = runtime(place)
    with aegis.sandbox(aegis.load_wat(TWO.replace('  (import "colour" (type $c (enum "red" "green")))\n', ""))) as box:
        assert box.call(name, iter([1, 2, 3]), "green") == 3
        with pytest.raises(CallError):
            box.call(name, iter([1, 2**40]), "green")


@pytest.mark.parametrize("place", PLACES)
def test_a_number_is_never_taken_for_so_many_zero_bytes(place: str) -> None:
    class Three:
        def __index__(self) -> int:
            return 3

    aegis = runtime(place)
    with aegis.sandbox(aegis.load_wat(echo_component(List("u8"))), imports={"echo": lambda x: x}) as box:
        for number in (Three(), 3, True):
            with pytest.raises(CallError, match="expected bytes for list<u8>"):
                box.call("echo-back", number)
        for octets in (b"\1\2", [1, 2], (1, 2), iter([1, 2]), (n for n in (1, 2)), array("H", [513]), range(1, 3)):
            assert box.call("echo-back", octets) == b"\1\2"


@pytest.mark.parametrize("place", PLACES)
def test_an_object_with_a_method_encode_is_no_string(place: str) -> None:
    class Fake:
        def encode(self) -> bytes:
            return b"abc"

    class Shouting(str):
        __slots__ = ()

        def encode(self, *_: Any) -> bytes:
            return b"other"

    aegis = runtime(place)
    with aegis.sandbox(aegis.load_wat(echo_component("string")), imports={"echo": lambda x: x}) as box:
        with pytest.raises(CallError, match="expected text for string, not Fake"):
            box.call("echo-back", Fake())
        assert box.call("echo-back", Shouting("text")) == "text"


@pytest.mark.parametrize("place", PLACES)
def test_the_bits_of_a_nan_are_the_same_in_both_tiers(place: str) -> None:
    aegis = runtime(place)
    odd = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_1234_5678))[0]
    with aegis.sandbox(aegis.load_wat(echo_component("f64")), imports={"echo": lambda x: x}) as box:
        assert struct.pack("<d", box.call("echo-back", odd)) == struct.pack("<d", odd)


@pytest.mark.parametrize("place", PLACES)
def test_a_handle_given_away_twice_in_one_call_is_refused_in_the_same_words(place: str) -> None:
    aegis = runtime(place)
    with aegis.sandbox(aegis.load_file(GUESTS / "components" / "counter.wat")) as box:
        exports = box.exports["test:counters/counters"]
        one = exports.Counter(1)
        with pytest.raises(CallError) as refused:
            one.merge(one)
        assert str(refused.value).count("counter.merge") == 1
        assert "the handle is given away in a call that uses it twice" in str(refused.value)
        assert one.increment(1) == 2
