"""Oracle: for any input, the output is one strict JSON line of printable ASCII, of bounded size."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.observe.encode import MAX_TEXT_CHARACTERS, cut, dump, plain
from aegis.text import visible

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


@given(values)
def test_any_value_becomes_one_printable_line_of_strict_json(value: object) -> None:
    line = dump(plain(value))
    assert line.isascii()
    assert line.isprintable()
    json.loads(line, parse_constant=refuse).__class__  # noqa: B018 - parsing it is the assertion


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100))
def test_text_survives_the_round_trip(text: str) -> None:
    assert json.loads(dump(plain(text))) == text


@given(st.text())
def test_visible_text_has_one_line_and_nothing_hidden(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert visible(shown) == shown


def test_a_lone_surrogate_is_written_as_text_wherever_it_hides() -> None:
    data = {"\ud800": ["\udcff", ("x", 1, None)]}
    assert json.loads(dump(data)) == {"\\ud800": ["\\udcff", ["x", 1, None]]}
    assert json.loads(dump("\U0001f600")) == "\U0001f600"
    assert json.loads(dump({"a": "\ud800"}, indent=2)) == {"a": "\\ud800"}


def test_delete_is_escaped_too() -> None:
    assert dump("\x7f") == '"\\u007f"'


def test_a_long_string_is_cut() -> None:
    assert cut("x" * MAX_TEXT_CHARACTERS) == "x" * MAX_TEXT_CHARACTERS
    assert cut("x" * (MAX_TEXT_CHARACTERS + 1)) == "x" * (MAX_TEXT_CHARACTERS - 1) + "…"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (b"a\xff", "a\\xff"),
        (object(), "<object>"),
        ({1: 2}, {"<int>": 2}),
        ({1}, [1]),
        (True, True),
        (1 << 300, "an integer of 301 bits"),
    ],
)
def test_values_that_json_lacks_become_text(value: object, expected: object) -> None:
    assert plain(value) == expected


def test_depth_breadth_and_text_have_an_end() -> None:
    deep: list[object] = []
    deep.append(deep)
    assert dump(plain(deep)).count("[") == 8
    assert len(plain(range(10))) == len("<range>")
    assert len(plain([0] * 5000)) == 1000
    assert len(dump(plain(["x" * 5000] * 5000))) < 8 * MAX_TEXT_CHARACTERS
    assert len(dump(plain({f"{n}" + "k" * 5000: n for n in range(5000)}))) < 8 * MAX_TEXT_CHARACTERS


def test_a_copy_is_detached() -> None:
    inner = [1]
    copy = plain({"a": inner})
    inner.append(2)
    assert copy == {"a": [1]}
