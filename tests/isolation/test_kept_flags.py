"""Combinations of flags that a guest chooses do not accumulate in the embedder's memory.

Oracle: the number of values in the class's table, which is bounded however many values are converted.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from aegis.bindgen import generate
from aegis.component.conversion.lift import Lift
from aegis.component.conversion.lower import Lower
from aegis.engine.call.door import Door
from aegis.isolation.protocol.wit_values import unpacker
from aegis.limits import Limits
from aegis.wit.flags import MAX_CACHED_COMBINATIONS, BitFlags
from aegis.wit.python_types import with_python_types
from aegis.wit.types import Flags, List, Record
from aegis.wit.wasm_tools import read_wit
from tests.bindgen.support import package
from tests.echo import echo_component
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

NAMES = tuple(f"f{n}" for n in range(18))
BITS = Flags("bits", NAMES)
CALLS, VALUES = 10, 4_000
"""40,000 distinct values, of the 262,144 possible ones: far more than may be kept."""


def distinct(number: int) -> int:
    """Return a different 18-bit integer for each number below 2**18."""
    return number * 2_654_435_761 & 0x3_FFFF


def kept(of: Any) -> int:
    """Return how many combinations a class has cached."""
    return len(of._value2member_map_) - len(of.__members__)


@only_where_there_are_workers
@pytest.mark.parametrize("place", PLACES)
def test_ever_different_flags_of_a_guest_do_not_grow_their_class(place: str) -> None:
    heard: list[Any] = []

    def echo(values: list[Any]) -> list[Any]:
        heard[:] = [values[0], values[-1]]
        return values

    made = runtime(place, timeout="120s", value_bytes=None)
    with made.sandbox(made.load_wat(echo_component(List(BITS))), imports={"echo": echo}) as sandbox:
        first = sandbox.call("echo-back", [["f0", "f1"], ["f17"]])
        cls = type(first[0])
        assert first == [cls(3), cls["F17"]]
        assert first[1] is cls["F17"]
        for call in range(CALLS):
            bits = [distinct(number) for number in range(call * VALUES, (call + 1) * VALUES)]
            returned = sandbox.call("echo-back", [cls(value) for value in bits])
            assert [value.value for value in returned] == bits
            assert heard == [returned[0], returned[-1]]
        again = sandbox.call("echo-back", [cls(3), cls(distinct(7)), cls(distinct(CALLS * VALUES - 1))])
    assert kept(cls) <= MAX_CACHED_COMBINATIONS
    assert type(again[0]) is cls
    assert again == [first[0], cls(distinct(7)), returned[-1]]


@only_where_there_are_workers
@pytest.mark.parametrize("place", PLACES)
def test_flags_inside_records_of_guests_do_not_grow_their_class(place: str) -> None:
    made = runtime(place, timeout="120s", value_bytes=None)
    component = made.load_wat(echo_component(List(Record("entry", (("mode", BITS),)))))
    with made.sandbox(component, imports={"echo": lambda values: values}) as sandbox:
        entry = type(sandbox.call("echo-back", [{"mode": ["f0"]}])[0])
        cls = type(sandbox.call("echo-back", [{"mode": ["f0"]}])[0].mode)
        values = [entry(cls(distinct(number))) for number in range(2_000)]
        assert sandbox.call("echo-back", values) == values
    assert kept(cls) <= MAX_CACHED_COMBINATIONS


def test_flags_of_generated_bindings_keep_a_bounded_number_of_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        f"package a:b; interface i {{ flags bits {{ {', '.join(NAMES)} }} f: func() -> bits; }} world w {{ import i; }}"
    )
    (tmp_path / "bits.wit").write_text(text)
    package(tmp_path / "kept_bits", generate(read_wit(str(tmp_path / "bits.wit"))))
    monkeypatch.syspath_prepend(str(tmp_path))
    made: Any = import_module("kept_bits.a_b_i")
    assert issubclass(made.Bits, BitFlags)
    unpack = unpacker(made.BITS, None, Door(Limits()))  # type: ignore[arg-type]  # no handle is in it
    for number in range(CALLS * VALUES):
        unpack(distinct(number))
    assert kept(made.Bits) <= MAX_CACHED_COMBINATIONS


def test_converters_of_flags_keep_a_bounded_number_of_values() -> None:
    of = with_python_types(BITS)
    assert isinstance(of, Flags)
    assert of.python is not None
    lift, lower = Lift("utf8"), Lower("utf8")
    read = lift.module(f"def convert(w): return {lift.value(of, ['w'])}")
    lower.packed(of, "value")
    body = "\n    ".join([*lower.lines, "return block"])
    write = lower.module(f"def convert(cx, value):\n    {body}")
    for number in range(4 * MAX_CACHED_COMBINATIONS):
        bits = distinct(number)
        value = read["convert"](bits)
        assert (type(value), value.value) == (of.python, bits)
        assert write["convert"](None, value) == bits.to_bytes(4, "little")
    assert tables(read)
    assert all(len(table) <= MAX_CACHED_COMBINATIONS for table in tables(read) + tables(write))


def tables(scope: dict[str, Any]) -> list[dict[Any, Any]]:
    """Return the mappings that a converter has cached."""
    return [known for name, known in scope.items() if isinstance(known, dict) and name != "__builtins__"]
