"""JSON by WIT type: a written value parses to the same value, and any text is a value or an error with a path."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.errors import CallError
from aegis.wit import from_json, to_json
from aegis.wit.python_types import with_python_types
from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
    List,
    Option,
    Own,
    Record,
    Resource,
    Result,
    Tuple,
    Variant,
    WitType,
)
from aegis.wit.values import Err, Ok, Some
from tests.wit.strategies import same, typed_values, wit_types

ORDER: Any = with_python_types(
    Record("order", (("item-id", "u64"), ("note", Option("string")), ("tags", List("string"))))
)
SHAPE: Any = with_python_types(Variant("shape", (("empty", None), ("circle", "f64"), ("many", List("u8")))))
COLOUR: Any = with_python_types(Enum("colour", ("red", "dark-green")))
RIGHTS: Any = with_python_types(Flags("rights", ("read", "write", "run-it")))


@given(typed_values())
def test_written_values_parse_to_the_same_value(pair: tuple[WitType, Any]) -> None:
    of, value = pair
    assert same(from_json(to_json(value, of), of), value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("ok", "err", "some", "a")), inner),
    max_leaves=8,
)


@given(
    wit_types(), _JSON.map(json.dumps) | st.text(st.sampled_from('[]{}",:.0123456789eE+-nulNaIfity\\ud8'), max_size=20)
)
def test_any_text_is_a_value_or_a_clear_error(of: WitType, text: str) -> None:
    try:
        value = from_json(text, of)
    except CallError as error:
        message = str(error)
    else:
        message = "$"
        assert same(from_json(to_json(value, of), of), value)
    assert message.startswith(("$", "line ", "the JSON"))
    assert "\n" not in message


@pytest.mark.parametrize(
    ("of", "value", "text"),
    [
        ("u64", 2**64 - 1, '"18446744073709551615"'),
        ("u64", 2**53 - 1, "9007199254740991"),
        ("u64", 2**53, '"9007199254740992"'),
        ("s64", -(2**63), '"-9223372036854775808"'),
        ("f64", math.inf, '"inf"'),
        ("f64", -math.inf, '"-inf"'),
        ("f32", 0.10000000149011612, "0.1"),
        ("char", "é", '"é"'),
        (List("u8"), b"\x00\xff", '"AP8="'),
        (List("u16"), [1, 2], "[1, 2]"),
        (Tuple(("u8", "bool")), (1, True), "[1, true]"),
        (Option("u8"), None, "null"),
        (Option(Option("u8")), Some(None), '{"some": null}'),
        (Result("u8", None), Err(None), '{"err": null}'),
        (Result("u8", None), Ok(3), '{"ok": 3}'),
    ],
)
def test_the_mapping_is_the_documented_one(of: WitType, value: Any, text: str) -> None:
    assert to_json(value, of) == text
    assert from_json(text, of) == value


def test_named_types_are_written_by_their_wit_names() -> None:
    order = ORDER.python(2**60, None, ["a"])
    assert json.loads(to_json(order, ORDER)) == {"item-id": str(2**60), "note": None, "tags": ["a"]}
    assert to_json(SHAPE.python[0](), SHAPE) == '"empty"'
    assert to_json(SHAPE.python[1](0.5), SHAPE) == '{"circle": 0.5}'
    assert to_json(COLOUR.python("dark-green"), COLOUR) == '"dark-green"'
    assert to_json(RIGHTS.python(5), RIGHTS) == '["read", "run-it"]'


def test_the_forms_that_a_call_accepts_are_written_too() -> None:
    assert json.loads(to_json({"item_id": 1, "tags": ()}, ORDER)) == {"item-id": 1, "note": None, "tags": []}
    assert to_json(("circle", 1), SHAPE) == '{"circle": 1.0}'
    assert to_json("empty", SHAPE) == '"empty"'
    assert to_json("red", COLOUR) == '"red"'
    assert to_json({"write"}, RIGHTS) == '["write"]'


def test_a_missing_option_of_a_record_is_none() -> None:
    assert from_json('{"item-id": 1, "tags": []}', ORDER).note is None


def test_json_by_type_needs_no_python_classes() -> None:
    value = from_json('{"circle": 2}', Variant("shape", (("circle", "f64"),)))
    assert (value.case, value.value) == ("circle", 2.0)


@pytest.mark.parametrize(
    ("of", "text", "message"),
    [
        (List(ORDER), '[{"item-id": 1, "tags": [1]}]', "$[0].tags[0]: expected a string for string, found the number"),
        (ORDER, '{"item-id": 1, "tags": [], "tag": 1}', "$: the record order has no field 'tag': did you mean tags?"),
        (ORDER, '{"tags": []}', "$: the record order lacks item-id"),
        (ORDER, '{"item-id": 1, "item-id": 2, "tags": []}', "$: the key 'item-id' occurs twice: keep one"),
        (ORDER, "[]", "$: expected an object for order, found an array"),
        ("u64", "18446744073709551616", "$: 18446744073709551616 is out of range for u64: 0 to 18446744073709551615"),
        ("u8", '"5"', "$: expected an integer for u8, found the string '5'"),
        ("u8", "1.0", "$: expected an integer for u8, found the number 1.0"),
        ("u8", "true", "$: expected an integer for u8, found true"),
        ("u32", "1" * 5000, "is out of range for u32"),
        ("f64", "1e999", "$: the number is out of range for f64"),
        ("f32", "1e39", "$: the number is out of range for f32"),
        ("f64", "NaN", "NaN, which is not JSON"),
        ("string", "Infinity", "Infinity, which is not JSON"),
        ("bool", "1", "$: expected true or false for bool, found the number 1"),
        ("char", '"ab"', "$: expected one character for char"),
        ("string", '"\\ud800"', "$: the text contains a lone surrogate"),
        (List("u8"), '"AP8"', "$: expected a string in base64"),
        (List("u8"), "[256]", "$[0]: 256 is out of range for u8"),
        (Tuple(("u8", "u8")), "[1]", "$: expected 2 values for tuple<u8, u8>, found 1"),
        (Option(Option("u8")), "5", '$: expected null or {"some": …}'),
        (Result("u8", None), '{"ok": 1, "err": null}', '$: expected {"ok": …} or {"err": …}'),
        (Result(None, None), '{"ok": 1}', "$.ok: expected null, as this case has no payload,"),
        (SHAPE, '"circle"', '$: the case circle of shape has a payload: write {"circle": …}'),
        (SHAPE, '{"empty": 1}', "$.empty: expected null"),
        (SHAPE, '"cirle"', "$: 'cirle' is not one of shape: did you mean circle?"),
        (SHAPE, '{"circle": 1, "circle": 2}', "occurs twice"),
        (COLOUR, '"blue"', "$: 'blue' is not one of colour: red, dark-green"),
        (RIGHTS, '["read", "fly"]', "$[1]: 'fly' is not one of rights"),
        (Own(Resource("bucket")), "1", "$: a handle of bucket has no JSON form"),
        (List(Borrow(Resource("bucket"))), "[1]", "$[0]: a handle of bucket has no JSON form"),
        ("u8", "[1", "line 1, column 3: invalid JSON"),
        ("u8", "\ufeff1", "invalid JSON"),
    ],
)  # fmt: skip
def test_a_wrong_part_is_named_with_its_path(of: WitType, text: str, message: str) -> None:
    with pytest.raises(CallError) as caught:
        from_json(text, of)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"ok":'])
def test_deep_json_is_rejected_before_it_is_parsed(opening: str) -> None:
    with pytest.raises(CallError, match=r"JSON nested too deeply \(limit 300 levels\)"):
        from_json(opening * 100_000, List("u8"))


def test_brackets_in_a_string_are_not_nesting() -> None:
    assert from_json('"' + "[" * 1000 + '\\""', "string") == "[" * 1000 + '"'


@pytest.mark.parametrize("text", ['"' + "é" * 60 + '"', '"' + "a" * 120 + '"', b'"' + b"a" * 120 + b'"'])
def test_json_beyond_its_size_is_rejected(text: str | bytes) -> None:
    with pytest.raises(CallError, match=r"JSON too large \(122/100 bytes\): raise it with max_bytes"):
        from_json(text, "string", max_bytes=100)
    assert len(from_json(text, "string", max_bytes=122)) in (60, 120)


def test_bytes_that_are_not_utf8_are_rejected() -> None:
    with pytest.raises(CallError, match="not valid UTF-8"):
        from_json(b'"\xff"', "string")


@pytest.mark.parametrize(
    ("of", "value", "message"),
    [
        ("u8", True, "$: expected an integer for u8, not bool"),
        (List("u32"), [1, -1], "$[1]: -1 is out of range for u32"),
        (ORDER, {"item-id": 1}, "$: the record order lacks tags"),
        (ORDER, {"item-id": 1, "tags": [], "x": 1}, "has no field 'x'"),
        (SHAPE, ("circle", "a"), "$.circle: expected a number for f64, not str"),
        (SHAPE, ("empty", 1), "$: expected a case for shape, not tuple"),
        (COLOUR, "blue", "$: expected a case for colour"),
        (RIGHTS, ["fly"], "$: expected names of rights for rights, not str"),
        (Option(Option("u8")), 1, "$: expected None or Some(…)"),
        (Own(Resource("bucket")), object(), "$: a handle of bucket has no JSON form"),
        ("f32", 1e39, "$: 1e+39 is out of range for f32"),
    ],
)
def test_a_value_of_another_type_is_not_written(of: WitType, value: Any, message: str) -> None:
    with pytest.raises(CallError) as caught:
        to_json(value, of)
    assert message in str(caught.value)
