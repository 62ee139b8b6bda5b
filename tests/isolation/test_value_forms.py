"""The forms of a value that a call accepts, in process and isolated.

Oracle: every accepted form is the same value as that of the type's own Python class; any other is a ``CallError`` that
names the part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from aegis import CallError, Err, HostError, Ok, Sandbox, Some
from aegis.wit import from_json, to_json
from aegis.wit.types import Enum, Flags, List, Option, Record, Result, Tuple, Variant, WitType
from tests.echo import echo_many_component
from tests.isolation.isolated import PLACES, only_where_there_are_workers, shared

pytestmark = only_where_there_are_workers
NOTE = Record("note", (("text", "string"), ("sub-title", Option("string")), ("rank", Option(Option("u8")))))
SHAPE = Variant("shape", (("empty", None), ("circle", "f64"), ("nested", Result("u8", "string"))))
INTEGERS = ("s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64")
TYPES: tuple[WitType, ...] = (
    NOTE, SHAPE, Result("u8", "string"), *INTEGERS, *(List(of) for of in INTEGERS), Tuple(("bool", "u32")),
    Option("u16"), Record("pair", (("a", "u8"), ("b", "s64"))), List(Tuple(("u32", "string"))),
    Enum("colour", ("red", "blue")), Flags("rights", ("read", "write")), "f32", "f64", List("f32"), List("f64"),
)  # fmt: skip
NUMBER = {of: n for n, of in enumerate(TYPES)}


class Echo:
    """A guest that passes its argument to the host and returns the host's answer, the same value unless changed."""

    def __init__(self, place: str) -> None:
        self.answer: Any = self
        made = shared(place)
        imports = {f"echo-{n}": self._echo for n in range(len(TYPES))}
        self.box: Sandbox = made.sandbox(made.load_wat(echo_many_component(TYPES)), imports=imports)

    def _echo(self, value: Any) -> Any:
        self.seen = value
        return value if self.answer is self else self.answer

    def __call__(self, of: WitType, value: Any) -> Any:
        return self.box.call(f"echo-back-{NUMBER[of]}", value)

    def type_of(self, of: WitType) -> WitType:
        component = self.box.module
        assert component is not None
        function = component.exports[f"echo-back-{NUMBER[of]}"]  # type: ignore[call-overload]
        return function.result  # type: ignore[no-any-return]


@pytest.fixture(params=PLACES, scope="module")
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def echo(place: str) -> Iterator[Echo]:
    made = Echo(place)
    with made.box:
        yield made


def test_a_missing_option_of_a_record_is_none(echo: Echo) -> None:
    for given in ({"text": "a"}, {"text": "a", "sub_title": None}, {"text": "a", "sub-title": None, "rank": None}):
        value = echo(NOTE, given)
        assert (value.text, value.sub_title, value.rank) == ("a", None, None)
    assert echo(NOTE, {"text": "a", "rank": Some(None)}).rank == Some(None)
    with pytest.raises(CallError, match=r"the record .* lacks text"):
        echo(NOTE, {"sub-title": "b"})
    with pytest.raises(CallError, match="has no field 'title'"):
        echo(NOTE, {"text": "a", "title": "b"})


def test_a_variant_without_bindings_has_case_and_value(echo: Echo) -> None:
    for given, case, value in (
        ("empty", "empty", None), (("circle", 1.5), "circle", 1.5), (("nested", Ok(3)), "nested", Ok(3)),
        (("nested", Err("no")), "nested", Err("no")),
    ):  # fmt: skip
        made = echo(SHAPE, given)
        assert (made.case, made.value) == (case, value)
        assert (echo.seen.case, echo.seen.value) == (case, value)
        assert echo(SHAPE, made) == made
    match echo(SHAPE, ("circle", 2.0)):
        case other if other.case == "circle":
            assert other.value == 2.0
        case _:
            pytest.fail("another case")


def test_results_and_options_have_a_case_too(echo: Echo) -> None:
    nested = echo(SHAPE, ("nested", Err("no"))).value
    assert (nested.case, nested.value) == ("err", "no")
    nested = echo(SHAPE, ("nested", Ok(1))).value
    assert (nested.case, nested.value) == ("ok", 1)
    assert echo(NOTE, {"text": "a", "rank": Some(4)}).rank.case == "some"


def test_a_variant_that_is_none_of_its_cases_is_an_error(echo: Echo) -> None:
    for given in ("square", ("empty", 1), "circle", ("circle",), 5, None):
        with pytest.raises(CallError, match="expected a case"):
            echo(SHAPE, given)


@pytest.mark.usual(every=5)
@pytest.mark.parametrize("of", INTEGERS)
def test_a_bool_is_not_an_integer(echo: Echo, of: WitType) -> None:
    for flag in (True, False):
        with pytest.raises(CallError, match=r"expected an integer for .*, not bool"):
            echo(of, flag)
        echo.answer = flag
        with pytest.raises(HostError):
            echo(of, 1)
        echo.box.reset()
        echo.answer = echo
    assert echo(of, int(True)) == 1


class Indexed:
    """An integer of another class, which no fast path takes."""

    def __index__(self) -> int:
        return 7


@pytest.mark.usual(every=5)
@pytest.mark.parametrize("of", INTEGERS)
@pytest.mark.parametrize("more", [[], [2] * 2000, [Indexed()]], ids=["short", "long", "coerced"])
def test_in_a_list_of_integers_a_bool_is_0_or_1(echo: Echo, of: str, more: list[Any]) -> None:
    """Looking at the class of each item would take longer than packing the list, which ``array`` and ``bytes`` do."""
    given = [True, 5, False, *more]
    wanted = [1, 5, 0, *(7 if isinstance(item, Indexed) else item for item in more)]
    result = echo(List(of), given)
    assert list(result) == wanted
    assert not any(isinstance(item, bool) for item in (*result, *echo.seen))


def test_a_bool_is_not_a_number_inside_other_values(echo: Echo) -> None:
    for of, given in (
        (Tuple(("bool", "u32")), (True, True)), (Option("u16"), True), (TYPES[21], {"a": 1, "b": False}),
        (List(Tuple(("u32", "string"))), [(True, "x")]), (Result("u8", "string"), Ok(True)), ("f32", True),
        ("f64", False), (List("f32"), [True]), (List("f64"), [1.0, True]),
    ):  # fmt: skip
        with pytest.raises(CallError, match="bool"):
            echo(of, given)
    assert echo(Tuple(("bool", "u32")), (True, 1)) == (True, 1)


def test_json_by_the_types_of_a_component_goes_in_and_comes_out(echo: Echo) -> None:
    for of, text in (
        (NOTE, '{"text": "a", "sub-title": null, "rank": {"some": null}}'), (SHAPE, '{"nested": {"err": "no"}}'),
        (SHAPE, '"empty"'), ("u64", '"18446744073709551615"'), (List("u8"), '"AAE="'), ("f64", '"-inf"'),
        (Enum("colour", ("red", "blue")), '"blue"'), (Flags("rights", ("read", "write")), '["write"]'),
    ):  # fmt: skip
        stated = echo.type_of(of)
        assert to_json(echo(of, from_json(text, stated)), stated) == text
