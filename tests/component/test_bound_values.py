"""A call without bindings takes instances of the classes that bindings generate, for every kind of named type.

Oracle: the echoed value equals the one that the dynamic classes echo. A class generated for another type is refused.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from aegis import Aegis, Some
from aegis.errors import CallError
from aegis.wit.flags import BitFlags
from aegis.wit.types import Enum, Flags, List, Option, Record, Tuple, Variant
from tests.echo import echo_component


@dataclass(frozen=True, slots=True)
class Line:
    item_name: str
    count: int


@dataclass(frozen=True, slots=True)
class T3Unknown:
    pass


@dataclass(frozen=True, slots=True)
class T3SoldOut_:
    value: Line


class Size(enum.Enum):
    SMALL = "small"
    EXTRA_LARGE = "extra-large"


class Wishes(BitFlags):
    GIFT = 1 << 0
    BY_AIR = 1 << 1


class Colour(enum.Enum):
    SMALL = "small"
    RED = "red"


class Wants(BitFlags):
    GIFT = 1 << 0
    BY_SEA = 1 << 1


@dataclass(frozen=True, slots=True)
class FaultUnknown:
    pass


# The guests of tests.echo name the types of their world by number: this variant is t3.
LINE = Record("line", (("item-name", "string"), ("count", "u32")))
PROBLEM = Variant("variant", (("unknown", None), ("sold-out", LINE)))
SIZE = Enum("size", ("small", "extra-large"))
WISHES = Flags("wishes", ("gift", "by-air"))
LINES = {"item-name": "tea", "count": 2}
CASES = {
    "record": (LINE, Line("tea", 2), LINES),
    "case without payload": (PROBLEM, T3Unknown(), "unknown"),
    "case with payload": (PROBLEM, T3SoldOut_(Line("tea", 2)), ("sold-out", LINES)),
    "enum": (SIZE, Size.EXTRA_LARGE, "extra-large"),
    "flags": (WISHES, Wishes.GIFT | Wishes.BY_AIR, {"gift", "by-air"}),
    "no flags": (WISHES, Wishes(0), set()),
    "deep": (
        List(Tuple((LINE, Option(Option(SIZE))))),
        [(Line("tea", 2), Some(Size.SMALL)), (Line("x", 1), None)],
        [(LINES, Some("small")), ({"item-name": "x", "count": 1}, None)],
    ),
}
WRONG = {
    "enum": (SIZE, Colour.SMALL),
    "flags": (WISHES, Wants.GIFT),
    "variant": (PROBLEM, FaultUnknown()),
    "record": (LINE, T3Unknown()),
}


@pytest.fixture(scope="module", params=[None, {"workers": 1}], ids=["in process", "isolated"])
def runtime(request: pytest.FixtureRequest) -> Iterator[Aegis]:
    with Aegis(cache=False, pooled=False, isolation=request.param) as made:
        yield made


class Echo:
    """The host's side: it returns what it gets."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda x: x


def echoed(runtime: Aegis, of: Any, *values: Any) -> list[Any]:
    guest = runtime.load_wat(echo_component(of))
    names = [name for name in guest.callables() if "echo" in name]
    provided = {
        name: Echo() if hasattr(item, "functions") else (lambda x: x) for name, item in guest.world.imports.items()
    }
    with runtime.sandbox(guest, imports=provided) as sandbox:
        return [sandbox.call(names[0], value) for value in values]


@pytest.mark.parametrize("kind", CASES)
def test_instances_of_generated_classes_are_accepted_wherever_their_type_is_expected(runtime: Aegis, kind: str) -> None:
    of, bound, plain = CASES[kind]
    first, second = echoed(runtime, of, bound, plain)
    assert first == second


@pytest.mark.parametrize("kind", WRONG)
def test_an_instance_of_a_class_for_another_type_is_refused(runtime: Aegis, kind: str) -> None:
    of, value = WRONG[kind]
    with pytest.raises(CallError, match="argument 1"):
        echoed(runtime, of, value)
