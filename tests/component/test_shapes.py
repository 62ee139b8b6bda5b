"""A component of any structure links the same functions in Aegis as in the engine.

Oracle: wasmtime-py's component classes on the same component. Each function counts its calls and those it makes, so a
wrong instance, order or alias changes a number. ``AEGIS_EXAMPLES=10`` tests ten times as many components.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from aegis import GuestTrap
from aegis.wit.types import Function
from tests.component import aegis_side
from tests.component.oracle import Native, Trapped, start_native
from tests.component.shapes import random_component

SHAPES = round(60 * max(1, float(os.environ.get("AEGIS_EXAMPLES") or 1)))
U32 = Function((("x", "u32"),), "u32")


class Host:
    """The host's function, which records its argument."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, x: int) -> int:
        self.seen.append(x)
        return (3 * x + len(self.seen)) & 0xFFFF_FFFF


def started(text: str, exports: dict[str, Function], host: Host) -> aegis_side.Guest | Trapped:
    try:
        return aegis_side.Guest(text, exports, {"i0": (U32, host)})
    except GuestTrap as error:
        return aegis_side.trapped(error)


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("seed", range(SHAPES))
def test_a_random_structure_links_the_same_functions(seed: int) -> None:
    text, count = random_component(seed)
    actual, expected = Host(), Host()
    oracle = start_native(text, {"i0": expected})
    guest = started(text, {f"e{n}": U32 for n in range(count)}, actual)
    if isinstance(oracle, Native) and not isinstance(guest, Trapped):
        with guest:
            for n in range(2 * count):
                call: tuple[str, Any] = (f"e{n % count}", 7 * n + 1)
                end = guest.call(*call)
                assert end == oracle.call(*call)
                if isinstance(end, Trapped):
                    break
    else:
        assert guest == oracle
    assert actual.seen == expected.seen
