"""Hostile text is printed on one line, escaped and truncated."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.text import count, printable, similar_names


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("é 漢", "é 漢"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("\u202eevil", "\\u202eevil"),
        ("\u200b", "\\u200b"),
        ("\ud800", "\\ud800"),
        ("a\\b", "a\\\\b"),
        (b"ok", "ok"),
        (b"\xff", "\\\\xff"),
        ("", ""),
    ],
)
def test_text_shown(text: str | bytes, shown: str) -> None:
    assert printable(text) == shown


def test_a_cut_is_marked_with_the_full_length() -> None:
    assert printable("x" * 201) == "x" * 200 + "… (201 characters)"
    assert printable("x" * 200) == "x" * 200
    assert printable("\n" * 4, 5) == "\\n\\n\\… (4 characters)"


@given(st.text() | st.binary(), st.integers(0, 50))
def test_any_text_is_shown_on_one_printable_line(text: str | bytes, limit: int) -> None:
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit + len("… (000 characters)")
    shown.encode()


def test_near_names() -> None:
    assert similar_names("memry", ["memory", "fuel"]) == ["memory"]
    assert similar_names("zzz", ["memory", "fuel"]) == []
    assert len(similar_names("name1", ["name2", "name3", "name4"], 2)) == 2


@pytest.mark.parametrize(("number", "text"), [(0, "0 files"), (1, "1 file"), (2000, "2,000 files")])
def test_a_number_with_its_noun(number: int, text: str) -> None:
    assert count(number, "file") == text


# -- suggestions ------------------------------------------------------------------------------------------


def test_a_suggestion_names_the_intended_name() -> None:
    assert similar_names("transfrom", ["other", "transform", "transmit"], 1) == ["transform"]
    assert similar_names("wasi:cli/rum", ["wasi:cli/run@0.2.0", "wasi:cli/run"]) == [
        "wasi:cli/run",
        "wasi:cli/run@0.2.0",
    ]
    assert similar_names("nothing-like-it", ["a", "b"]) == []


@pytest.mark.parametrize("size", [10, 10_000])
def test_a_suggestion_compares_a_bounded_number_of_names_of_bounded_length(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    class Counting(difflib.SequenceMatcher[str]):
        def set_seq1(self, a: Sequence[str]) -> None:
            compared.append(str(a))
            super().set_seq1(a)

    monkeypatch.setattr(difflib, "SequenceMatcher", Counting)
    names = (f"{n:06}".ljust(size, "a") for n in range(195_000))
    similar_names("000001" + "a" * (size - 6), names)
    assert len(compared) <= 257  # the matcher starts with an empty one
    assert all(len(name) <= 100 for name in compared)
