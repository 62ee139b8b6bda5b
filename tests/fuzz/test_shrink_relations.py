"""The shrinker ends at the least case of a planted predicate on whole test cases, also if several values are related.

The oracle is the predicate's known minimum. The target is a fake that returns from every call, so that only the
predicate decides.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.fuzz.case import Case, Finding, HandleRef, Step, StepResult, Trace
from aegis.fuzz.oracles.base import Stateless
from aegis.fuzz.shrink import shrink
from aegis.fuzz.target import TargetExport
from aegis.fuzz.values.generate import core_shape, shape_of
from aegis.wit.types import List, Option, Tuple

U64, S64, TEXT, BYTES = "u64", "s64", "string", List("u8")


class Target:
    """A target whose calls all return; ``runs`` counts the test cases."""

    def __init__(self, *exports: TargetExport) -> None:
        self.exports = {export.name: export for export in exports}
        self.runs = 0

    def run(self, case: Case) -> Trace:
        self.runs += 1
        return Trace(case, [StepResult() for _ in case.steps])


class Planted(Stateless):
    """Rejects the cases for which ``holds`` is true."""

    name, sentence, every, cost = "planted", "No case is like this.", 1, 1

    def __init__(self, holds: Callable[[Case], bool]) -> None:
        self.holds = holds

    def judge(self, target: Any, trace: Trace) -> Finding | None:
        return Finding("planted", "planted", "", trace.case) if self.holds(trace.case) else None


def _least(case: Case, target: Target, holds: Callable[[Case], bool]) -> Case:
    assert holds(case)
    oracle: Any = Planted(holds)
    found = shrink(target, oracle, Finding("planted", "planted", "", case), calls=200_000, seconds=60)  # type: ignore[arg-type]
    return found.case


def least(types: list[Any], arguments: list[Any], holds: Callable[..., Any]) -> list[Any]:
    """Return the arguments of one call at which shrinking ends."""
    target = Target(TargetExport("f", tuple(map(shape_of, types))))
    case = Case((Step("f", tuple(arguments)),))
    return list(_least(case, target, lambda one: bool(holds(*one.steps[0].arguments))).steps[0].arguments)


@given(st.integers(1, 2**32), st.integers(0, 2**30))
def test_two_equal_numbers_shrink_together(limit: int, beyond: int) -> None:
    value = limit + beyond
    assert least([U64, U64], [value, value], lambda a, b: a == b >= limit) == [limit, limit]


@given(st.integers(1, 2**32), st.integers(0, 2**32), st.integers(0, 2**32))
def test_a_sum_beyond_a_bound_shrinks_to_one_number(limit: int, one: int, two: int) -> None:
    assert least([U64, U64], [one + limit, two], lambda a, b: a + b >= limit) == [0, limit]


@given(st.integers(1, 2**32), st.integers(0, 2**40))
def test_a_difference_shrinks_to_the_difference(apart: int, base: int) -> None:
    assert least([U64, U64], [base + apart, base], lambda a, b: a - b == apart) == [apart, 0]


@given(st.integers(1, 2**31), st.integers(1, 2**16), st.integers(0, 1000))
def test_a_product_beyond_a_bound_shrinks_to_one_number(limit: int, one: int, beyond: int) -> None:
    two = limit // one + 1 + beyond
    assert least([U64, U64], [one, two], lambda a, b: a * b >= limit) == [1, limit]


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_a_product_of_two_bounded_numbers_shrinks_to_one_least_pair(one: int, two: int) -> None:
    """Oracle: the least first number that is possible, with the least second one."""
    limit, most = 1 << 20, 100_000
    if one * two >= limit:
        found = least([U64, U64], [one, two], lambda a, b: a <= most >= b and a * b >= limit)
        first = -(-limit // most)
        assert found == [first, -(-limit // first)]


@given(st.lists(st.sampled_from("xyz"), min_size=3, max_size=20))
def test_a_text_of_several_characters_of_one_kind_shrinks_to_one_of_them(chars: list[str]) -> None:
    """Only these characters count, so that no simpler one can replace them."""
    (found,) = least([TEXT], ["".join(chars)], lambda text: len(text) >= 3 and set(text) <= set("xyz"))
    assert found == "xxx"


@given(st.integers(-(2**31), 2**31 - 1))
def test_a_mask_over_a_negative_number_shrinks_to_its_bits(high: int) -> None:
    value = (high << 8 | 255) % 2**32
    value -= 2**32 * (value >= 2**31)
    target = Target(TargetExport("f", (core_shape("i32"),)))
    case = _least(Case((Step("f", (value,)),)), target, lambda one: one.steps[0].arguments[0] & 255 == 255)
    assert case.steps[0].arguments == (255,)


@given(st.integers(3, 40), st.integers(0, 40))
def test_a_number_that_is_the_length_of_a_list_shrinks_with_it(limit: int, beyond: int) -> None:
    length = limit + beyond
    found = least([U64, List("u32")], [length, list(range(length))], lambda n, items: n == len(items) >= limit)
    assert found == [limit, [0] * limit]


@given(st.integers(1, 20), st.lists(st.integers(1, 1000), min_size=20, max_size=40))
def test_two_lists_of_one_length_shrink_together(limit: int, items: list[int]) -> None:
    found = least([List("u32"), List("u32")], [items, items[::-1]], lambda a, b: len(a) == len(b) >= limit)
    assert found == [[0] * limit, [0] * limit]


@given(st.lists(st.integers(0, 2**16), min_size=2, max_size=20))
def test_a_list_whose_items_add_up_shrinks_to_one_item(items: list[int]) -> None:
    total = sum(items)
    if total:
        (found,) = least([List("u32")], [items], lambda some: sum(some) >= total)
        assert found == [total]


@given(st.lists(st.integers(1, 50), min_size=2, max_size=12, unique=True))
def test_a_list_with_a_repeated_item_shrinks_to_two_zeros(items: list[int]) -> None:
    (found,) = least([List("u32")], [[*items, items[0]]], lambda some: len(set(some)) < len(some))
    assert found == [0, 0]


@given(st.integers(1, 6), st.text(alphabet="xyz", max_size=6))
def test_balanced_brackets_shrink_to_their_depth(depth: int, filling: str) -> None:
    def nested(text: str) -> bool:
        level = deepest = 0
        for char in text:
            level += (char == "(") - (char == ")")
            if level < 0:
                return False
            deepest = max(deepest, level)
        return level == 0 and deepest >= depth

    text = f"({'(' * depth}{filling}{')' * depth}{filling})"
    assert least([TEXT], [text], nested) == ["(" * depth + ")" * depth]


@given(st.text(min_size=3, max_size=12))
def test_a_palindrome_shrinks_to_equal_characters(half: str) -> None:
    assert least([TEXT], [half + half[::-1]], lambda text: len(text) >= 3 and text == text[::-1]) == ["aaa"]


@given(st.binary(min_size=4, max_size=60))
def test_magic_bytes_shrink_to_themselves(rest: bytes) -> None:
    assert least([BYTES], [rest + b"\x7fELF" + rest], lambda data: b"\x7fELF" in data) == [b"\x7fELF"]


@given(st.integers(2, 2**40), st.integers(1, 2**20))
def test_a_multiple_of_any_number_shrinks_to_it(divisor: int, times: int) -> None:
    """The divisor's small multiples are reached for factors up to 97, so ``times`` has only those."""
    smooth = 1
    for prime in (2, 3, 5, 7, 11, 13):
        while times % prime == 0:
            times //= prime
            smooth *= prime
    value = divisor * smooth
    if value < 2**64:
        (found,) = least([U64], [value], lambda x: x > 0 and x % divisor == 0)
        assert found == divisor


@given(st.integers(1, 100), st.integers(0, 100))
def test_a_value_inside_an_option_in_a_tuple_shrinks(limit: int, beyond: int) -> None:
    of = Tuple((Option("u32"), "string"))
    found = least([of], [(limit + beyond, "some text")], lambda pair: pair[0] is not None and pair[0] >= limit)
    assert found == [(limit, "")]


@pytest.mark.parametrize("limit", [257, 4097, 65_536])
def test_a_long_list_shrinks_to_the_length_that_matters_in_few_runs(limit: int) -> None:
    for types, value in (([BYTES], bytes(range(256)) * 400), ([List("u8")], b"\0" * 90_000), ([TEXT], "xyz" * 40_000)):
        target = Target(TargetExport("f", tuple(map(shape_of, types))))
        case = Case((Step("f", (value,)),))
        found = _least(case, target, lambda one: len(one.steps[0].arguments[0]) >= limit)
        assert found.steps[0].arguments[0] == (b"\0" if isinstance(value, bytes) else "a") * limit
        assert target.runs < 1000


# -- steps ---------------------------------------------------------------------------------------------------


def _machine() -> Target:
    return Target(
        TargetExport("make", (), gives=1), TargetExport("use", (None, shape_of("u32")), takes=(1, None)),
        TargetExport("end", (None,), takes=(1,)),
    )  # fmt: skip


def test_steps_of_a_handle_that_does_not_matter_are_removed_with_it() -> None:
    steps = (
        Step("make", ()), Step("use", (HandleRef(0), 3)), Step("make", ()), Step("use", (HandleRef(2), 500)),
        Step("use", (HandleRef(0), 9)), Step("end", (HandleRef(2),)),
    )  # fmt: skip

    def holds(case: Case) -> bool:
        large = [s.arguments[0] for s in case.steps if s.function == "use" and s.arguments[1] >= 100]
        return case.steps[-1].function == "end" and case.steps[-1].arguments[0] in large

    found = _least(Case(steps), _machine(), holds)
    assert found.steps == (Step("make", ()), Step("use", (HandleRef(0), 100)), Step("end", (HandleRef(0),)))


def test_two_handles_become_one_where_one_is_enough() -> None:
    steps = (Step("make", ()), Step("make", ()), Step("use", (HandleRef(0), 7)), Step("end", (HandleRef(1),)))
    found = _least(Case(steps), _machine(), lambda case: [s.function for s in case.steps][-2:] == ["use", "end"])
    assert found.steps == (Step("make", ()), Step("use", (HandleRef(0), 0)), Step("end", (HandleRef(0),)))


def test_an_answer_in_the_middle_of_the_plan_is_removed() -> None:
    case = Case((Step("make", ()),), (7, 9, 7, 3))
    found = _least(case, _machine(), lambda one: 9 in one.answers and one.answers[-1] == 3)
    assert found.answers == (9, 3)


def test_the_fake_target_is_like_a_target() -> None:
    """The shrinker uses only these attributes of a target."""
    target = SimpleNamespace(exports=_machine().exports, run=_machine().run)
    oracle: Any = Planted(lambda case: True)
    found = shrink(target, oracle, Finding("planted", "planted", "", Case((Step("make", ()),))))  # type: ignore[arg-type]
    assert found.case.steps == (Step("make", ()),)


def test_wide_characters_become_as_many_plain_ones_as_they_have_bytes() -> None:
    """A place in bytes must not move: here a character of three bytes has its second one at the place 13."""

    def holds(text: str) -> bool:
        data = text.encode()
        return len(data) > 16 and data[12] >> 4 == 0xE and data[13] >> 6 == 2

    text = "\u0800\u0800\u09ff\u13d7\u13d7\u13d7\u13d7\u13d7"
    assert least([TEXT], [text], holds) == ["a" * 12 + "\u0800" + "aa"]


def test_a_text_that_must_be_long_in_bytes_and_not_plain_becomes_one_character() -> None:
    found = least([TEXT], ["\u0800b\u09ff\u13d7c\u13d8\u0900"], lambda text: sum(char > "\u07ff" for char in text) >= 4)
    assert found == ["\u0800" * 4]


def test_texts_are_gathered_in_the_first_one() -> None:
    """Oracle: the only least case of a total length, without items and separator that do not matter."""

    def holds(parts: list[str], separator: str) -> bool:
        return len(separator.join(parts)) >= 40

    for parts, separator in ((["", ""], "a" * 40), (["aaaa"] * 10, ""), (["ab", "c"], "d" * 60)):
        assert least([List("string"), TEXT], [parts, separator], holds) == [["a" * 40], ""]


def test_a_character_that_two_texts_share_is_simplified_in_both() -> None:
    assert least([TEXT, TEXT], ["6.6", "6.6"], lambda one, two: one == two and one[1:2] == ".") == ["a.", "a."]


def test_a_field_that_is_computed_again_does_not_make_cases_take_turns() -> None:
    """The field is the sum of the rest. Candidates that are mended are kept only while the case becomes shorter."""

    def mend(case: Case) -> list[Case]:
        (data,) = case.steps[0].arguments
        return [Case((Step("f", (data[:-1] + bytes((sum(data[:-1]) % 256,)),)),))] if data else []

    def holds(case: Case) -> bool:
        (data,) = case.steps[0].arguments
        return len(data) > 4 and data[0] >= 4 and data[-1] == sum(data[:-1]) % 256

    target = Target(TargetExport("f", (shape_of(BYTES),)))
    (case,) = mend(Case((Step("f", (bytes((200, 9, 8, 77, 6, 5, 0)),)),)))
    oracle: Any = Planted(holds)
    found = shrink(target, oracle, Finding("planted", "planted", "", case), mend=mend)  # type: ignore[arg-type]
    assert found.case.steps[0].arguments == (bytes((4, 0, 0, 0, 4)),)
    assert target.runs < 2000
