"""WAVE: what is written reads back as the same value, and any text at all is a value or a clear error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.errors import CallError
from aegis.wit.images import imaged
from aegis.wit.types import Borrow, Flags, Function, List, Option, Record, Resource, Result, Tuple, Variant, WitType
from aegis.wit.values import Err, Ok, Some
from aegis.wit.wave import format_value, parse_arguments, parse_call, parse_value
from tests.wit.strategies import same, typed_values, wit_types


@given(typed_values())
def test_what_is_written_reads_back(pair: tuple[WitType, Any]) -> None:
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


POINT = imaged(Record("point", (("x", "s32"), ("tag", Option("string")))))
SHAPE = imaged(Variant("shape", (("none", None), ("circle", "f32"))))
MODE = imaged(Flags("mode", ("read", "write")))

READS: list[tuple[str, WitType, Any]] = [
    ("true", "bool", True),
    (" -7 ", "s8", -7),
    ("1e3", "f64", 1000.0),
    ("-inf", "f32", float("-inf")),
    (r"'\u{1F600}'", "char", "😀"),
    (r"'\''", "char", "'"),
    (r'"a\n\"b\\"', "string", 'a\n"b\\'),
    ('"""\n  one\n  two\n  """', "string", "one\ntwo"),
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
    ("square", SHAPE, "expected a case of shape: none, circle"),
    ("{execute}", MODE, "expected a flag of mode: read, write"),
    ("1", Option(Option("u8")), "expected some(…) or none"),
    ("1", Borrow(Resource("file")), "a handle of file cannot be written"),
    ("1 2", "u8", "expected the end, found '2'"),
    ("[" * 5000, List("u8"), "expected an integer"),
]


@pytest.mark.parametrize(("text", "of", "message"), REFUSED, ids=[t[:20] for t, _, _ in REFUSED])
def test_a_refused_text_says_where_and_what_was_expected(text: str, of: WitType, message: str) -> None:
    with pytest.raises(CallError) as caught:
        parse_value(text, of)
    assert message in str(caught.value)


def test_nesting_has_a_bound() -> None:
    of: WitType = "u8"
    for _ in range(300):
        of = List(of)
    with pytest.raises(CallError, match="nested deeper"):
        parse_value("[" * 300 + "]" * 300, of)


def test_a_call_is_a_target_and_its_arguments() -> None:
    assert parse_call('acme:kv/store@1.2.0#get("a(b)", 2)') == ("acme:kv/store@1.2.0#get", '"a(b)", 2')
    function = Function((("key", "string"), ("times", Option("u8"))))
    assert parse_arguments('"a"', function) == ["a", None]
    with pytest.raises(CallError, match=r"no more than 2 arguments"):
        parse_arguments('"a", 1, 2', function)
    with pytest.raises(CallError, match=r"takes 2 arguments \(key: string, times: option<u8>\), not 0"):
        parse_arguments("", function)
    with pytest.raises(CallError, match="is not a call"):
        parse_call("name")
