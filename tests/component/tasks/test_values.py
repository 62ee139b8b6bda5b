"""Values of any type cross in asynchronous calls as in synchronous ones.

Oracle: the value itself. ``own`` returns its argument by ``task.return``; ``through`` passes it to the host's ``echo``,
lowered as sync or async, which returns it at once or later. The arguments that the host receives, and the results, are
the values that were passed, as for a guest that is lifted and lowered as sync (``tests/component/test_echo.py``).
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis import Bound
from aegis.wit.python_types import function_with_python_types
from aegis.wit.types import (
    Enum,
    Flags,
    Function,
    Interface,
    List,
    Option,
    Record,
    Result,
    Tuple,
    Variant,
    WitType,
    show,
)
from aegis.wit.values import Err, Ok, Some
from tests.component.aegis_side import RUNTIME, from_image, to_image
from tests.component.strategies import any_types, neutral
from tests.component.tasks.async_guests import ENCODINGS, async_echo
from tests.wit.strategies import same

LOWERS = ("async", "sync")


class Echo:
    """A guest of :func:`async_echo`, and the values that its host function received."""

    def __init__(self, of: WitType, encoding: str, lower: str, later: bool) -> None:
        plain = Function((("x", of),), of, is_async=True)
        typed = function_with_python_types(plain, {})
        self.of = typed.params[0][1]
        listed = Function((("x", self.of),), List(self.of), is_async=True)
        self.seen: list[Any] = []

        def echo(x: Any) -> Any:
            self.seen.append(from_image(self.of, x))
            return x

        async def echo_later(x: Any) -> Any:
            await asyncio.sleep(0)
            return echo(x)

        provider = Bound(Interface("", {"echo": typed}), echo_later if later else echo)
        component = RUNTIME.load_wat(async_echo(of, encoding=encoding, lower=lower))
        self.sandbox = RUNTIME.sandbox(component, imports={"echo": provider})
        self.table = Interface("", {"own": typed, "through": listed})

    def check(self, value: Any) -> None:
        """Pass a value in synchronous calls."""
        bound = self.sandbox.bind(self.table)
        given = to_image(self.of, value)
        try:
            own = bound.own(given)
            own = Ok(own) if isinstance(self.of, Result) else own
        except Err as declared:
            own = declared
        self.compare(value, own, bound.through(given))

    async def acheck(self, value: Any) -> None:
        """Pass a value in calls on an event loop, which the host answers later."""
        bound = self.sandbox.abind(self.table)
        given = to_image(self.of, value)
        try:
            own = await bound.own(given)
            own = Ok(own) if isinstance(self.of, Result) else own
        except Err as declared:
            own = declared
        self.compare(value, own, await bound.through(given))

    def compare(self, value: Any, own: Any, through: Any) -> None:
        assert same(from_image(self.of, own), value)
        assert same([from_image(self.of, one) for one in through] if self.of != "u8" else list(through), [value])
        assert same(self.seen.pop(), value)
        assert not self.seen


@settings(max_examples=60)
@given(st.data())
def test_a_value_of_any_type_comes_back(data: st.DataObject) -> None:
    of = data.draw(any_types(5))
    echo = Echo(of, data.draw(st.sampled_from(ENCODINGS)), data.draw(st.sampled_from(LOWERS)), later=False)
    with echo.sandbox:
        for _ in range(3):
            echo.check(data.draw(neutral(of)))


@settings(max_examples=40)
@given(st.data())
def test_a_value_of_any_type_comes_back_from_a_host_that_answers_later(data: st.DataObject) -> None:
    of = data.draw(any_types(5))
    echo = Echo(of, data.draw(st.sampled_from(ENCODINGS)), data.draw(st.sampled_from(LOWERS)), later=True)

    async def main() -> None:
        for _ in range(3):
            await echo.acheck(data.draw(neutral(of)))

    with echo.sandbox:
        asyncio.run(main())


def _wide(count: int) -> tuple[WitType, Any]:
    kinds: tuple[WitType, ...] = ("u8", "s64", "f32", "u32")
    return Tuple(tuple(kinds[n % 4] for n in range(count))), tuple(n if n % 4 != 2 else n / 2 for n in range(count))


EDGES: list[tuple[WitType, Any]] = [
    *(_wide(count) for count in (3, 4, 5, 15, 16, 17, 40)),
    (Tuple(("string", "string")), ("\u00e4\u20ac\U0001f600", "")),
    (Tuple(("string",) * 3), ("a", "\u00e4", "\u20ac")),
    (Tuple(("string",) * 9), tuple(chr(0x100 + n) * n for n in range(9))),
    (Variant("v", (("a", "f32"), ("b", "s64"), ("c", None))), ("b", -(2**63))),
    (Variant("v", (("a", Tuple(("f64",) * 5)), ("b", "string"))), ("a", (1.5,) * 5)),
    (Record("r", tuple((f"f{n}", Option("string")) for n in range(8))), {f"f{n}": Some("x") for n in range(8)}),
    (Result(None, None), Err(None)),
    (Result("string", Tuple(("u8",) * 20)), Err(tuple(range(20)))),
    (Option(Option("u64")), Some(Some(2**64 - 1))),
    (Flags("f", tuple(f"f{n}" for n in range(32))), frozenset({"f31", "f0"})),
    (Enum("e", tuple(f"c{n}" for n in range(257))), "c256"),
    (List(Tuple(("u8", "string"))), [(n, "x" * n) for n in range(50)]),
]


@pytest.mark.usual(every=5)
@pytest.mark.parametrize("lower", LOWERS)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("n", range(len(EDGES)), ids=lambda n: show(EDGES[n][0])[:50])
def test_values_around_the_bounds_of_flat_parameters_come_back(n: int, encoding: str, lower: str) -> None:
    of, value = EDGES[n]
    echo = Echo(of, encoding, lower, later=False)
    with echo.sandbox:
        echo.check(value)
    later = Echo(of, encoding, lower, later=True)
    with later.sandbox:
        asyncio.run(later.acheck(value))
