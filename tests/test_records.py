"""Classes of ``aegis.support.records`` behave like those of the standard library.

Oracle: the same class body, given to ``dataclasses.dataclass`` and to ``typing.NamedTuple``.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import typing
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from aegis.errors import Frame
from aegis.limits import Limits
from aegis.policy import Policy
from aegis.support import records

Make = Callable[..., Callable[[type], Any]]


def made(dataclass: Make, field: Any, **options: bool) -> Any:
    """Return a class with every kind of field."""

    class Sample:
        first: int
        second: str = "two"
        many: list[int] = field(default_factory=list)
        hidden: int = field(default=7, repr=False, compare=False)
        kind: ClassVar[str] = "sample"

        def __post_init__(self) -> None:
            seen.append(self.first)

    seen: list[int] = []
    return dataclass(**options)(Sample)


OPTIONS = [
    {"frozen": frozen, "slots": slots, "kw_only": kw_only}
    for frozen in (False, True)
    for slots in (False, True)
    for kw_only in (False, True)
]


@pytest.fixture(params=OPTIONS, ids=str)
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return (
        made(records.dataclass, records.field, **request.param),
        made(dataclasses.dataclass, dataclasses.field, **request.param),
    )


def outcome(call: Callable[[], Any]) -> Any:
    """Return the result of a call, or the type and text of its exception."""
    try:
        return call()
    except Exception as error:
        return type(error), str(error)


CALLS: list[Callable[[Any], Any]] = [
    lambda c: repr(c(first=1)),
    lambda c: repr(c(first=1, second="x", many=[1])),
    lambda c: repr(c(1, "x")),
    lambda c: c(first=1) == c(first=1, hidden=8),
    lambda c: c(first=1) == c(first=2),
    lambda c: c(first=1) == 1,
    lambda c: c(),
    lambda c: c(first=1, third=3),
    lambda c: c(1, 2, 3, 4, 5),
    lambda c: c(1, first=1),
    lambda c: c(first=1).many is c(first=1).many,
    lambda c: setattr(c(first=1), "first", 2),
    lambda c: delattr(c(first=1), "second"),
    # versions of Python differ in which error comes first
    lambda c: type(outcome(lambda: setattr(c(first=1), "other", 2))),
    lambda c: hash(c(first=1)) and "hashable",
    lambda c: c.__match_args__,
    lambda c: str(inspect.signature(c)),
    lambda c: [f.name for f in dataclasses.fields(c)],
    lambda c: dataclasses.asdict(c(first=1)),
    lambda c: repr(dataclasses.replace(c(first=1), first=2)),
    lambda c: dataclasses.is_dataclass(c),
    lambda c: hasattr(c(first=1), "__dict__"),
    lambda c: copy.copy(c(first=1)) == c(first=1),
    lambda c: c.kind,
    lambda c: [c(first=n).first for n in range(9)],
]


@pytest.mark.usual(every=5)
@pytest.mark.parametrize("call", CALLS)
def test_a_dataclass_behaves_as_the_standard_librarys(pair: tuple[Any, Any], call: Callable[[Any], Any]) -> None:
    actual, expected = pair
    for _ in range(5):  # before its __init__ is compiled, and after
        assert outcome(lambda: call(actual)) == outcome(lambda: call(expected))


def test_only_frozen_classes_are_hashable(pair: tuple[Any, Any]) -> None:
    actual, expected = pair
    assert (actual.__hash__ is None) == (expected.__hash__ is None)


def test_replacing_goes_through_the_checks() -> None:
    assert records.replace(Limits(), memory="1MiB") == Limits(memory=1 << 20)
    with pytest.raises(TypeError):
        records.replace(Limits(), nonsense=1)


def test_a_shared_default_is_refused() -> None:
    class Shared:
        values: list[int] = []  # noqa: RUF012 - it is the mistake

    with pytest.raises(ValueError, match="mutable default"):
        records.dataclass()(Shared)


def test_values_survive_a_pickle() -> None:
    for value in (Policy(), Limits(fuel=3), Frame(1, "a", 2)):
        assert pickle.loads(pickle.dumps(value)) == value


class Theirs(typing.NamedTuple):
    first: int
    second: str = "two"

    def both(self) -> str:
        return f"{self.first}{self.second}"


AegisDriver = type(records.NamedTuple)("Theirs", (records.NamedTuple,), {**{
    "__annotations__": {"first": "int", "second": "str"}, "second": "two", "__module__": __name__,
    "both": Theirs.both, "__qualname__": "Theirs",
}})  # fmt: skip

TUPLES: list[Callable[[Any], Any]] = [
    lambda c: repr(c(1)),
    lambda c: repr(c(first=1, second="x")),
    lambda c: c(1) == (1, "two"),
    lambda c: c(1).both(),
    lambda c: (c(1).first, c(1).second, c._fields, c._field_defaults, c.__match_args__),
    lambda c: c(1)._asdict(),
    lambda c: repr(c(1)._replace(second="y")),
    lambda c: c(1)._replace(third="y"),
    lambda c: repr(c._make([1, 2])),
    lambda c: c._make([1]),
    lambda c: setattr(c(1), "first", 2),
    lambda c: hash(c(1)),
    lambda c: len(c(1)),
    lambda c: copy.copy(c(1)) == c(1),
]


@pytest.mark.parametrize("call", TUPLES)
def test_a_named_tuple_behaves_as_the_standard_librarys(call: Callable[[Any], Any]) -> None:
    for _ in range(3):
        assert outcome(lambda: call(AegisDriver)) == outcome(lambda: call(Theirs))


@pytest.mark.parametrize("values", [(), (1, 2, 3)])
def test_a_named_tuple_takes_as_many_values_as_it_has_fields(values: tuple[int, ...]) -> None:
    for kind in (AegisDriver, Theirs):
        with pytest.raises(TypeError):
            kind(*values)
