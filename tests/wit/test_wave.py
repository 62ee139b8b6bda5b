"""WAVE: a formatted value parses to the same value, and any text parses to a value or gives a clear error."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.errors import CallError
from aegis.wit.python_types import with_python_types
from aegis.wit.types import Borrow, Flags, Function, List, Option, Record, Resource, Result, Tuple, Variant, WitType
from aegis.wit.values import Err, Ok, Some
from aegis.wit.wave_read import format_value, parse_arguments, parse_call, parse_value
from tests.wit.strategies import same, typed_values, wit_types


@given(typed_values())
def test_formatted_values_read_back(pair: tuple[WitType, Any]) -> None:
    of, value = pair
    assert same(parse_value(format_value(value, of), of), value)


@given(wit_types(), st.text(st.sampled_from(" (){}[]\"'\\:,%-.0123456789abcdefnosmerk"), max_size=30))
def test_any_text_is_a_value_or_a_clear_error(of: WitType, text: str) -> None:
    try:
        value = parse_value(text, of)
    except CallError as error:
        message = str(error)
    else:
        message = "read"
        assert same(parse_value(format_value(value, of), of), value)
    assert message
    assert "\n" not in message


POINT = with_python_types(Record("point", (("x", "s32"), ("tag", Option("string")))))
SHAPE = with_python_types(Variant("shape", (("none", None), ("circle", "f32"))))
MODE = with_python_types(Flags("mode", ("read", "write")))

READS: list[tuple[str, WitType, Any]] = [
    ("true", "bool", True),
    (" -7 ", "s8", -7),
    ("1e3", "f64", 1000.0),
    ("-inf", "f32", float("-inf")),
    (r"'\u{1F600}'", "char", "😀"),
    (r"'\''", "char", "'"),
    (r'"a\n\"b\\"', "string", 'a\n"b\\'),
    ('"""\n  one\n  two\n  """', "string", "one\ntwo"),
    ('"""\n"""', "string", ""),
    ('"""\n\n one\n\n"""', "string", "\n one\n"),
    ('"""\r\n  one\r\n  two\r\n  """', "string", "one\ntwo"),
    ('"""\n  "" \\u{22}""\\"\n  """', "string", '"" """"'),
    ("3.4028234664e38", "f32", 3.4028234663852886e38),
    ("0.1", "f32", 0.10000000149011612),
    ("1.4012984643e-46", "f32", 0.0),
    ("-0.0", "f64", -0.0),
    ("[1, 2, 255,]", List("u8"), b"\x01\x02\xff"),
    ("[[], [1]]", List(List("u16")), [[], [1]]),
    ('(1, "a")', Tuple(("u8", "string")), (1, "a")),
    ("some(3)", Option("u8"), 3),
    ("3", Option("u8"), 3),
    ("none", Option("u8"), None),
    ("some(none)", Option(Option("u8")), Some(None)),
    ("ok", Result(), Ok(None)),
    ("err(4)", Result(None, "u8"), Err(4)),
    ("5", Result("u8"), Ok(5)),
    ("circle(1.5) // a comment", SHAPE, SHAPE.python[1](1.5)),  # type: ignore[union-attr, index, misc]
    ("%none", SHAPE, SHAPE.python[0]()),  # type: ignore[union-attr, index, misc]
    ("{write, read}", MODE, MODE.python(3)),  # type: ignore[union-attr, operator, misc]
    ("{}", MODE, MODE.python(0)),  # type: ignore[union-attr, operator, misc]
    ("{x: 1}", POINT, POINT.python(1, None)),  # type: ignore[union-attr, operator, misc]
    ('{tag: "t", x: 2}', POINT, POINT.python(2, "t")),  # type: ignore[union-attr, operator, misc]
]


@pytest.mark.parametrize(("text", "of", "value"), READS, ids=[t[:20] for t, _, _ in READS])
def test_a_text_reads_as_its_value(text: str, of: WitType, value: Any) -> None:
    assert same(parse_value(text, of), value)


REFUSED: list[tuple[str, WitType, str]] = [
    ("256", "u8", "column 1: 256 is out of range for u8: 0 to 255"),
    ("1.5", "u8", "expected an integer for u8, found '1.5'"),
    ("1e400", "f64", "out of range for f64"),
    ("True", "bool", "expected true or false, found 'True'"),
    (r"'\u{d800}'", "char", "expected an escape"),
    ('"open', "string", "expected the closing quote, found the end of the text"),
    ("[1 2]", List("u8"), "column 4: expected ']', found '2]'"),
    ("(1)", Tuple(("u8", "u8")), "expected 2 values"),
    ("{}", POINT, "the record point lacks x"),
    ("{y: 1}", POINT, "column 2: expected a field of point: x, tag, found 'y: 1}'"),
    ('"circle"', SHAPE, "column 1: expected a case of shape, without quotes: none, circle"),
    ("'n'", SHAPE, "column 1: expected a case of shape, without quotes: none, circle"),
    ("7", SHAPE, "column 1: expected a case of shape: none, circle"),
    ("square", SHAPE, "expected a case of shape: none, circle"),
    ("{execute}", MODE, "expected a flag of mode: read, write"),
    ("{read, read}", MODE, "column 8: expected a flag of mode: write, found 'read}'"),
    ("{x: 1, x: 2}", POINT, "column 8: expected a field of point: tag"),
    ("3.4028235678e38", "f32", "out of range for f32"),
    ('"""one"""', "string", 'expected a line break after """'),
    ('"""\none', "string", 'a closing """'),
    ('"""\none"""', "string", 'column 5: expected the closing """ on a line of its own'),
    ('"""\n one\n  """', "string", "column 5: expected a line with the indentation"),
    ('"""\n  a\\q\n  """', "string", "column 9: expected an escape"),
    ("1\u00a0", "u8", "expected the end"),
    ("some()", Option("u8"), "expected an integer"),
    ("ok()", Result(), "expected the end"),
    ("1", Option(Option("u8")), "expected some(…) or none"),
    ("1", Borrow(Resource("file")), "a handle of file has no text form"),
    ("1 2", "u8", "expected the end, found '2'"),
    ("[" * 5000, List("u8"), "expected an integer"),
]


@pytest.mark.parametrize(("text", "of", "message"), REFUSED, ids=[t[:20] for t, _, _ in REFUSED])
def test_a_refused_text_names_the_position_and_the_expected_token(text: str, of: WitType, message: str) -> None:
    with pytest.raises(CallError) as caught:
        parse_value(text, of)
    assert message in str(caught.value)


@pytest.mark.parametrize(("opening", "closing", "wrap"), [("[", "]", List), ("some(", ")", Option)])
def test_nesting_has_a_bound(opening: str, closing: str, wrap: Callable[[WitType], WitType]) -> None:
    of: WitType = "u8"
    for _ in range(300):
        of = wrap(of)
    with pytest.raises(CallError, match="nested deeper"):
        parse_value(opening * 300 + closing * 300, of)


def test_nesting_up_to_the_bound_fits_beneath_a_deep_caller() -> None:
    of: WitType = "u16"
    for _ in range(100):
        of = List(of)

    def beneath(frames: int) -> Any:
        return beneath(frames - 1) if frames else parse_value("[" * 100 + "7" + "]" * 100, of)

    value = beneath(300)
    assert format_value(value, of) == "[" * 100 + "7" + "]" * 100


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_an_f32_is_written_with_no_more_digits_than_it_has(value: float) -> None:
    text = format_value(value, "f32")
    assert same(parse_value(text, "f32"), value)
    assert len(re.sub(r"e.*|[-.]", "", text).strip("0")) <= 9


def test_numbers_are_written_as_people_write_them() -> None:
    numbers = [(0.10000000149011612, "f32", "0.1"), (100000000.0, "f32", "100000000"), (-0.0, "f32", "-0")]
    numbers += [(0.1, "f64", "0.1"), (1e16, "f64", "1e+16"), (3.4028234663852886e38, "f32", "3.4028235e+38")]
    assert [format_value(value, of) for value, of, _ in numbers] == [text for _, _, text in numbers]


def test_a_call_is_a_target_and_its_arguments() -> None:
    target, arguments = parse_call('acme:kv/store@1.2.0#get("a(b)", 2)')
    assert (target, arguments.strip()) == ("acme:kv/store@1.2.0#get", '"a(b)", 2')
    assert arguments.index('"') == len("acme:kv/store@1.2.0#get(")  # columns in errors are those of the call
    function = Function((("key", "string"), ("times", Option("u8"))))
    assert parse_arguments('"a"', function) == ["a", None]
    with pytest.raises(CallError, match=r"no more than 2 arguments"):
        parse_arguments('"a", 1, 2', function)
    with pytest.raises(CallError, match=r"takes 2 arguments \(key: string, times: option<u8>\), not 0"):
        parse_arguments("", function)
    with pytest.raises(CallError, match="is not a call"):
        parse_call("name")


@pytest.mark.parametrize("unit", ["a", '"', "\\", "\n\t\\'\"", "\0x", "".join(map(chr, range(48))), "é\u202e" * 3])
@pytest.mark.parametrize("length", [1, 1023, 1024, 5000])
@pytest.mark.parametrize("end", ["", "\\", "\x01"])
def test_long_texts_that_repeat_themselves_read_back(unit: str, length: int, end: str) -> None:
    text = (unit * (length // len(unit) + 1))[:length] + end
    written = format_value(text, "string")
    assert parse_value(written, "string") == text
    # Each character is written as it is alone.
    assert written == '"' + "".join(format_value(char, "string")[1:-1] for char in text) + '"'
