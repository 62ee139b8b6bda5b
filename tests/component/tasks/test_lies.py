"""Raw memory as elements of a stream, or as the value of a future, is the same values as in a list, or the same trap.

Oracle: a result of the type ``list`` over the same bytes, whose lifting ``tests/component/test_lies.py`` compares with
the engine's.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from aegis import GuestTrap, LimitExceeded, Sandbox
from aegis.wit.types import List, Option, Result, Tuple, WitType, show
from tests.component.aegis_side import RUNTIME, from_image
from tests.component.liars import MEMORY_BYTES, images, stream_liar
from tests.component.strategies import any_types
from tests.component.tasks.async_guests import ENCODINGS
from tests.component.tasks.copying import leftovers
from tests.echo import size_of
from tests.wit.strategies import same

ENDS = (GuestTrap, LimitExceeded)


def attempt(function: Any) -> Any:
    """Return the elements, or the class and message of the error."""
    try:
        return function()
    except ENDS as error:
        return type(error), str(error)


def read(sandbox: Sandbox, image: bytes, count: int, piece: int) -> Any:
    """Return the first elements of the stream: the guest writes once."""
    with sandbox.call("stream", image, count) as reader:
        return list(reader.read(piece))


def check(component: Any, of: WitType, image: bytes, piece: int) -> bool:
    """Compare stream, future and list over ``image``; return whether they are values."""
    count = len(image) // size_of(of)

    def ends(function: Any) -> Any:
        with RUNTIME.sandbox(component) as sandbox:
            return attempt(lambda: function(sandbox))

    listed = ends(lambda sandbox: list(sandbox.call("listed", image, count)))
    whole = ends(lambda sandbox: read(sandbox, image, count, count))
    some = ends(lambda sandbox: read(sandbox, image, count, piece))
    first = ends(lambda sandbox: sandbox.call("future", image).result())
    if isinstance(listed, tuple):
        assert whole == listed
        assert not isinstance(some, tuple) or some[0] is listed[0]
        return False
    typed = component.with_python_types(component.exports["listed"]).result.element
    neutral = [from_image(typed, value) for value in listed]
    for found in (whole, some, [first]):
        assert same([from_image(typed, value) for value in found], neutral[: len(found)])
    assert len(whole) == count
    return True


@settings(max_examples=25)
@given(st.data())
def test_any_memory_is_the_same_elements_or_the_same_trap(data: st.DataObject) -> None:
    of = data.draw(any_types(3).filter(lambda of: of != "char"))
    component = RUNTIME.load_wat(stream_liar(of, data.draw(st.sampled_from(ENCODINGS))))
    for _ in range(3):
        pieces = data.draw(st.lists(images(of), min_size=1, max_size=4))
        event(str(check(component, of, b"".join(pieces), data.draw(st.integers(1, 3)))))


LIES: list[tuple[WitType, bytes]] = [
    ("bool", b"\x00\x01\x02\xff"),
    ("string", (8).to_bytes(4, "little") + b"\xff\xff\xff\x7f"),
    ("string", (MEMORY_BYTES - 1).to_bytes(4, "little") + (2).to_bytes(4, "little")),
    ("string", (MEMORY_BYTES).to_bytes(4, "little") + bytes(4)),
    (List("u16"), (1).to_bytes(4, "little") + (1).to_bytes(4, "little")),
    (List("u64"), (8).to_bytes(4, "little") + (0x2000_0000).to_bytes(4, "little")),
    (Option("u8"), b"\x01\x07\x02\x07"),
    (Result("u8", "u8"), b"\x00\x07\xff\x07"),
    (Tuple(("u8", "string")), b"\x07\xee\xee\xee" + (8).to_bytes(4, "little") + (5).to_bytes(4, "little")),
]


@pytest.mark.parametrize("n", range(len(LIES)), ids=lambda n: show(LIES[n][0]))
def test_a_lie_is_the_same_in_a_stream_and_in_a_list(n: int) -> None:
    of, image = LIES[n]
    check(RUNTIME.load_wat(stream_liar(of)), of, image, 1)


@pytest.mark.parametrize("count", [0x1_0000, 0x0FFF_FFFF, 0x1000_0000, 0xFFFF_FFFF])
def test_more_elements_than_memory_has_trap_at_the_write(count: int) -> None:
    with RUNTIME.sandbox(RUNTIME.load_wat(stream_liar("u64"))) as sandbox:
        with pytest.raises(GuestTrap, match=r"out-of-bounds|too long"):
            sandbox.call("stream", b"12345678", count).read(1)
        assert leftovers(sandbox)["operations"] == 0
