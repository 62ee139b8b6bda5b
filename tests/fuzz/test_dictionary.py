"""The dictionary has constants of the guest, entries of the user and results; values are drawn from it."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis import Aegis
from aegis.errors import PolicyError
from aegis.fuzz.dictionary import Dictionary, read_entries
from aegis.fuzz.values.documents import changed_document, new_document
from aegis.fuzz.values.generate import shape_of
from aegis.wasm.constants import code_constants, data_segments
from aegis.wit.types import List
from tests.guests.catalogue import source

MODULE = """(module (memory 1)
  (data (i32.const 1024) "levelwindowbits")
  (data (i32.const 2048) "a message of the guest\\00second\\00")
  (data "passive")
  (func (export "f") (param i32 i64) (result i32)
    (drop (call $same (i32.const 1024) (i32.const 5)))
    (drop (call $same (i32.const 1029) (i32.const 10)))
    (drop (i64.eq (local.get 1) (i64.const -77777777777)))
    (drop (i32.add (i32.const 4242) (local.get 0)))
    (block (br_table 0 0 (local.get 0)))
    (i32.eq (local.get 0) (i32.const 0x1a4b4151)))
  (func $same (param i32 i32) (result i32) (i32.const 0)))"""


def _binary(text: str) -> bytes:
    with Aegis(cache=False) as runtime:
        return runtime.load_wat(text).binary


@pytest.fixture(scope="module")
def dictionary() -> Dictionary:
    made = Dictionary()
    made.read_guest(_binary(MODULE))
    return made


def _texts(dictionary: Dictionary) -> set[str]:
    rng = random.Random(1)
    return {text for text in (dictionary.text(rng) for _ in range(4000)) if text is not None}


def test_the_constants_of_a_module_are_read_with_their_comparisons() -> None:
    found = {(c.value, c.bits): c.compared for c in code_constants(_binary(MODULE))}
    assert found[0x1A4B4151, 32]
    assert found[-77777777777, 64]
    assert not found[4242, 32]
    segments = [(segment.offset, segment.data) for segment in data_segments(_binary(MODULE))]
    assert segments[0] == (1024, b"levelwindowbits")
    assert segments[2] == (None, b"passive")


@given(st.binary(max_size=200), st.integers(0, 400))
def test_broken_bytes_have_no_constants_and_no_error(junk: bytes, at: int) -> None:
    """Oracle: a module with any bytes in it, or cut anywhere, is read without an exception."""
    whole = BINARY
    for data in (whole[:at], whole[:at] + junk + whole[at:], junk):
        list(code_constants(data))
        list(data_segments(data))


BINARY = _binary(MODULE)


def test_strings_are_found_by_the_address_and_length_in_the_code(dictionary: Dictionary) -> None:
    """Oracle: compilers store literals without an end, so ``level`` and ``windowbits`` are no strings."""
    assert {"level", "windowbits", "second", "a message of the guest", "passive"} <= _texts(dictionary)


def test_a_magic_number_is_bytes_in_both_orders(dictionary: Dictionary) -> None:
    rng = random.Random(1)
    words = {dictionary.word(rng) for _ in range(4000)}
    assert {b"QAK\x1a", b"\x1aKAQ"} <= words


def test_the_modules_of_a_component_are_read() -> None:
    made = Dictionary()
    with Aegis(cache=False) as runtime:
        made.read_guest(runtime.load_file(source("buggy/magic")).binary)
    rng = random.Random(1)
    assert b"QAK\x1a" in {made.word(rng) for _ in range(2000)}


def test_values_of_each_type_are_drawn_from_the_dictionary(dictionary: Dictionary) -> None:
    """Oracle: without the dictionary none of the values occurs in as many draws."""
    rng = random.Random(4)
    for of, wanted in [("u32", 0x1A4B4151), ("s64", -77777777777), ("string", "level"), (List("u8"), b"QAK\x1a")]:
        shapes: list[Any] = [shape_of(of, None, dictionary), shape_of(of)]
        mine, plain = ([shape.random(rng, 32) for _ in range(6000)] for shape in shapes)
        assert wanted in mine
        assert wanted not in plain


def test_a_compared_constant_is_drawn_with_its_neighbours(dictionary: Dictionary) -> None:
    rng = random.Random(4)
    found = {dictionary.integer(rng, 0, 2**32 - 1) for _ in range(3000)}
    assert {0x1A4B4151 - 1, 0x1A4B4151, 0x1A4B4151 + 1} <= found


# -- AFL's format ----------------------------------------------------------------------------------------------


def test_a_file_in_the_format_of_afl_is_read() -> None:
    text = b'# words\n\nmagic="QAK\\x1a"\n"plain"\nquote@2="a\\"b\\\\c"\n  spaced = "x y"  # why\nhigh="\\xff\\x00"\n'
    assert read_entries(text, "words.dict") == [b"QAK\x1a", b"plain", b'a"b\\c', b"x y", b"\xff\x00"]


@pytest.mark.parametrize("line", ["word", 'x="unfinished', 'x=y"z"', '"a" "b"'])
def test_another_line_is_an_error_with_its_number(line: str) -> None:
    with pytest.raises(PolicyError, match=r"words\.dict:2: invalid entry"):
        read_entries(f'ok="1"\n{line}\n'.encode(), "words.dict")


@given(st.lists(st.binary(min_size=1, max_size=12)))
def test_any_entry_is_read_back(entries: list[bytes]) -> None:
    escaped = ["".join(map("\\x{:02x}".format, entry)) for entry in entries]
    text = "".join(f'w{n}="{entry}"\n' for n, entry in enumerate(escaped))
    assert read_entries(text.encode(), "x") == entries


def test_a_numeric_entry_is_an_integer_too() -> None:
    made, rng = Dictionary([b"123456789", b"\x10\x27\x00\x00"]), random.Random(1)
    assert {123456789, 10_000} <= {made.integer(rng, -(2**63), 2**63 - 1) for _ in range(2000)}


# -- learning --------------------------------------------------------------------------------------------------


def test_words_are_learned_from_an_error_message() -> None:
    made = Dictionary()
    made.begin()
    made.learn_text("missing field `window-bits` at line 1 column 17, expected one of 'zlib', \"gzip\"")
    assert {"window-bits", "zlib", "gzip"} <= _texts(made)
    made.learn_integer(987654321)
    assert made.integer(random.Random(0), 0, 2**32 - 1) is not None


def test_a_chunk_starts_without_what_another_one_learned() -> None:
    """Oracle: what is learned is returned as plain data, forgotten by ``begin``, and known again with it."""
    made = Dictionary()
    made.begin()
    made.learn_text('{"properties": {"level": {"type": "integer"}}}')
    made.learn_bytes(b"\x00\xff!")
    made.learn_integer(-5_000_000)
    kept = json.loads(json.dumps(made.learned()))
    before = _texts(made)
    made.begin()
    assert (made.text(random.Random(0)), made.documents, made.learned()) == (None, [], [])
    made.begin(kept)
    assert _texts(made) == before
    assert made.documents
    assert made.learned() == []


def test_the_oldest_words_are_forgotten() -> None:
    made = Dictionary()
    made.begin()
    for n in range(3000):
        made.learn_integer(10_000 + n)
    assert len(made.learned()) <= 512
    assert made.learned()[-1] == ["integer", 12_999]
    assert len(made) <= 512


SCHEMA = {
    "type": "object",
    "properties": {
        "level": {"type": "integer", "minimum": 1, "maximum": 9},
        "mode": {"$ref": "#/$defs/mode"},
        "dtype": {"oneOf": [{"const": "f32"}, {"const": "f64"}]},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "ratio": {"type": "number", "exclusiveMinimum": 0},
    },
    "required": ["level", "mode", "dtype", "tags"],
    "$defs": {"mode": {"enum": ["fast", "best"]}},
}


def test_documents_follow_the_schema_that_the_guest_returned() -> None:
    """Oracle: most documents have all required members, of their types and within their bounds."""
    made, rng = Dictionary(), random.Random(2)
    made.begin()
    made.learn_text(json.dumps(SCHEMA))
    documents = [json.loads(new_document(rng, made)) for _ in range(400)]
    good = [
        d for d in documents
        if isinstance(d, dict) and {"level", "mode", "dtype", "tags"} <= d.keys()
        and d["level"] in range(1, 10) and d["mode"] in ("fast", "best") and d["dtype"] in ("f32", "f64") and d["tags"]
    ]  # fmt: skip
    assert len(good) > 0.6 * len(documents)
    assert {d["level"] for d in good} >= {1, 9}


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.sampled_from(
                        ["type", "properties", "items", "oneOf", "$ref", "minimum", "required", "enum", "allOf"]),
                        inner, max_size=5), max_leaves=20), st.integers(0, 1000))  # fmt: skip
def test_any_document_may_be_a_schema(schema: Any, seed: int) -> None:
    """Oracle: a schema is the guest's word; sampling and changing documents never fails and writes JSON."""
    made, rng = Dictionary(), random.Random(seed)
    made.begin()
    made.learn_text(json.dumps(schema if isinstance(schema, dict) else {"properties": schema}))
    text = new_document(rng, made)
    json.loads(text)
    changed = changed_document(rng, text, made)
    assert changed is None or json.loads(changed) is not NotImplemented
