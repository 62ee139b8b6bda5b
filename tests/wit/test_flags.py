"""Flags behave like an ``enum.Flag`` with the same members, except that their class caches few combinations.

Oracle: the standard library's class with the same members, for every operation on every value.
"""

from __future__ import annotations

import copy
import enum
import operator
import pickle
from typing import Any

import pytest

from aegis.wit.flags import MAX_CACHED_COMBINATIONS, BitFlags

VALUES = 200_000


class Mode(BitFlags):
    """Flags at module level, which can be pickled."""

    READ = 1 << 0
    WRITE = 1 << 1
    RUN = 1 << 2


class Wide(BitFlags):
    """Flags with more combinations than a class caches."""

    A = 1 << 0
    B = 1 << 1
    C = 1 << 2
    D = 1 << 3
    E = 1 << 4
    F = 1 << 5
    G = 1 << 6
    H = 1 << 7
    I = 1 << 8  # noqa: E741  the name is that of a flag
    J = 1 << 9


Plain: Any = enum.Flag("Mode", {member.name: member.value for member in Mode})
OPERATIONS = [operator.or_, operator.and_, operator.xor]


def wide() -> Any:
    """Return a new class of 32 flags, with no combination cached yet."""
    return BitFlags("Bits", {f"F{n}": 1 << n for n in range(32)})


def table(of: Any) -> int:
    """Return how many values a class has cached."""
    return len(of._value2member_map_)


def distinct(number: int) -> int:
    """Return a different 32-bit integer for each number below 2**32."""
    return number * 2_654_435_761 & 0xFFFF_FFFF


def shown(of: Any) -> tuple[Any, ...]:
    """Return all properties of a value that can be compared between two classes."""
    members = [member.name for member in of]
    return repr(of), str(of), format(of), of.name, of.value, members, len(of), bool(of), (~of).value


def test_a_class_of_flags_keeps_a_bounded_number_of_values() -> None:
    cls = wide()
    for number in range(VALUES):
        cls(distinct(number))
        cls(~distinct(number))
    assert table(cls) <= 32 + MAX_CACHED_COMBINATIONS


def test_operations_on_many_values_keep_no_more_of_them() -> None:
    cls = wide()
    for number in range(VALUES // 20):
        value = cls(distinct(number))
        _ = value | cls.F3, value & ~cls.F3, value ^ cls.F3, repr(value), hash(value), cls.F3 in value
    assert table(cls) <= 32 + MAX_CACHED_COMBINATIONS


def test_an_inverse_does_not_hold_the_values_that_it_was_made_of() -> None:
    cls = wide()
    for number in range(2 * MAX_CACHED_COMBINATIONS):
        cls(distinct(number))
    first = value = cls(0x1234_5678)
    for _ in range(9):
        value = ~value
    assert value == ~first
    assert set(vars(first)) <= {"_value_", "_name_"}


def test_values_are_equal_before_and_after_the_class_is_full() -> None:
    cls = wide()
    early = [cls(distinct(number)) for number in range(MAX_CACHED_COMBINATIONS)]
    late = [cls(distinct(number)) for number in range(MAX_CACHED_COMBINATIONS, 3000)]
    again = [cls(distinct(number)) for number in range(3000)]
    assert early + late == again
    assert list(map(hash, early + late)) == list(map(hash, again))
    assert len({*early, *late, *again}) == 3000
    assert {value: value.value for value in late} == {value: value.value for value in again[MAX_CACHED_COMBINATIONS:]}


def test_named_members_are_singletons_when_the_class_is_full() -> None:
    cls = wide()
    for number in range(2 * MAX_CACHED_COMBINATIONS):
        cls(distinct(number))
    assert all(cls(1 << n) is cls[f"F{n}"] for n in range(32))
    assert (cls.F0 | cls.F9) & cls.F9 is cls.F9
    assert ~(~cls.F9) is cls.F9
    assert [member.value for member in cls] == [1 << n for n in range(32)]
    assert cls.F9 in cls(0x201)
    assert cls.F9 not in cls(0x101)


@pytest.mark.parametrize("value", range(-8, 8))
def test_each_value_looks_as_that_of_the_standard_library(value: int) -> None:
    assert shown(Mode(value)) == shown(Plain(value))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_gives_the_value_that_the_standard_library_gives(operation: Any) -> None:
    for one in range(8):
        for other in range(8):
            made = operation(Mode(one), Mode(other))
            assert shown(made) == shown(operation(Plain(one), Plain(other)))
            assert made == Mode(made.value)
            assert (Mode(one) in Mode(other)) == (Plain(one) in Plain(other))


@pytest.mark.parametrize("value", [8, -9, 1 << 64, 1.5, "READ", None, ()])
def test_a_value_that_is_no_combination_is_refused_and_not_kept(value: Any) -> None:
    before = table(Mode)
    with pytest.raises(ValueError, match="Mode"):
        Mode(value)
    assert table(Mode) == before


def test_values_of_other_classes_are_not_equal() -> None:
    other: Any = BitFlags("Mode", {"READ": 1, "WRITE": 2, "RUN": 4})
    assert Mode(3) != other(3)
    assert Mode.READ != other.READ
    assert Mode(3) != Plain(3)
    assert Mode(3) != 3
    with pytest.raises(TypeError):
        Mode(3) | other(4)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_each_value_can_be_pickled_and_copied(protocol: int) -> None:
    for number in range(1 << 10):
        value = Wide(number)
        loaded = pickle.loads(pickle.dumps(value, protocol))
        assert loaded == value == copy.copy(value) == copy.deepcopy(value)
        assert repr(loaded) == repr(value)
    assert table(Wide) <= 10 + MAX_CACHED_COMBINATIONS
    assert pickle.loads(pickle.dumps(Wide.C, protocol)) is Wide.C


def test_an_attribute_that_a_value_lacks_is_an_attribute_error() -> None:
    assert not hasattr(Mode(3), "missing")
    with pytest.raises(AttributeError, match="'Mode' object has no attribute 'missing'"):
        _ = Mode(3).missing  # type: ignore[attr-defined]
