"""Elements of the application's streams and futures have the same meaning in process and in a worker."""

from __future__ import annotations

from typing import Any

import pytest

from aegis import HostError, Sandbox
from aegis.wit.types import Option, WitType
from tests.component.tasks.async_guests import copier
from tests.isolation.isolated import PLACES, only_where_there_are_workers, shared

pytestmark = only_where_there_are_workers
PACE = (5, 1)
GOOD: dict[str, tuple[WitType, list[Any]]] = {
    "integers": ("u32", [0, 2**32 - 1, True]),
    "texts": ("string", ["", "ä", "\U0001f600"]),
    "floats": ("f32", [1, 0.5]),
    "options": (Option("s8"), [None, -128, 127]),
    "bytes": ("u8", [b"ab", b"", b"c"]),
}
WRONG: dict[str, tuple[WitType, list[Any], str]] = {
    "too large": ("u32", [1, 2, 2**40], "element 2: 1099511627776 is out of range for u32"),
    "negative": ("u8", [b"a", [-1]], "expected bytes"),
    "a text": ("s64", ["x"], "element 0: expected an integer"),
    "a surrogate": ("string", ["a", "\ud800"], "element 1: the text contains a lone surrogate"),
    "nothing": ("f64", [None], "element 0: "),
    "after a hundred": (Option("s8"), [*range(100), 128], "element 100: 128 is out of range"),
}


def sandbox(place: str, of: WitType) -> Sandbox:
    runtime = shared(place)
    return runtime.sandbox(runtime.load_wat(copier(of, imports=False)))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", GOOD)
def test_elements_come_back(place: str, name: str) -> None:
    of, values = GOOD[name]
    expected: Any = b"".join(values) if of == "u8" else values
    with sandbox(place, of) as guest:
        assert guest.call("collect", values, *PACE, len(expected)) == expected


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_element_is_named_with_its_position(place: str, name: str) -> None:
    of, values, message = WRONG[name]
    with sandbox(place, of) as guest, pytest.raises(HostError) as raised:
        guest.call("collect", values, *PACE, len(values))
    assert message in str(raised.value)
    assert "a stream of the host has a wrong element: " in str(raised.value)


@pytest.mark.parametrize("place", PLACES)
def test_a_wrong_value_of_a_future_is_named(place: str) -> None:
    with sandbox(place, "u32") as guest, pytest.raises(HostError, match=r"^a future of the host has a wrong value: "):
        guest.call("keep", 2**40)
