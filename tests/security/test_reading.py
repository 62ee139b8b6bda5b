"""The cost of reading an artifact before compilation is bounded by counts, because the reader has no deadline.

Oracle: bytes that declare excessive contents are rejected with the count, in less processor time than reading them
takes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest

from aegis import Aegis, ArtifactError, Limits
from aegis.sandbox.artifacts import admit_artifact

CORE, COMPONENT = b"\0asm\1\0\0\0", b"\0asm\x0d\0\1\0"


def leb(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | 0x80 if value else low)
        if not value:
            return bytes(out)


def section(number: int, count: int, items: Iterable[bytes] | bytes) -> bytes:
    body = leb(count) + b"".join([items] if isinstance(items, bytes) else items)
    return bytes([number]) + leb(len(body)) + body


def name(text: str) -> bytes:
    return leb(len(text)) + text.encode()


TYPE, GLOBAL = b"\x60\0\0", b"\x7f\0\x41\0\x0b"
BOMBS = {
    "1,000,000 types": section(1, 1_000_000, TYPE * 1_000_000),
    "1,000,000 imports": section(1, 1, TYPE) + section(2, 1_000_000, b"\0\0\0\0" * 1_000_000),
    "1,000,000 exports": section(1, 1, TYPE) + section(7, 1_000_000, b"\0\0\0" * 1_000_000),
    "1,000,000 globals": section(6, 1_000_000, GLOBAL * 1_000_000),
    "1,000,000 parameters of one function": section(1, 1, b"\x60" + leb(1_000_000) + b"\x7f" * 1_000_000 + b"\0"),
    "1,001 results of one function": section(1, 1, b"\x60\0" + leb(1001) + b"\x7f" * 1001),
    "two type sections": section(1, 1, TYPE) * 9_000,
    "two global sections": section(6, 100_000, GLOBAL * 100_000) * 50,
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_module_that_says_too_much_of_itself_is_refused_by_its_count(what: str) -> None:
    number, _, noun = what.partition(" ")
    message = rf"too many {noun} \({number}/" if number[0] == "1" else f"the module has {what}"
    before = time.process_time()
    with pytest.raises(ArtifactError, match=rf"^m: .*{message}"):
        admit_artifact(CORE + BOMBS[what], Limits(), None, "m")
    assert time.process_time() - before < 3


def test_declarations_of_a_components_modules_are_counted_together() -> None:
    module = CORE + section(1, 1, TYPE) + section(2, 1, name("env") + name("f" * 200_000) + b"\0\0")
    with pytest.raises(ArtifactError, match="the declarations of its modules take more than 4,194,304 bytes"):
        admit_artifact(COMPONENT + (b"\x01" + leb(len(module)) + module) * 30, Limits(), None, "c")


@pytest.mark.parametrize("inside", [False, True], ids=["imports", "members"])
def test_a_component_with_more_names_than_the_engine_can_check_in_time_is_refused(inside: bool) -> None:
    """The engine searches for the next name from the start: 50,000 of them took it minutes."""
    names = [f"f{n}" for n in range(11_000)]
    if inside:
        listed = "".join(f'(export "{n}" (func))' for n in names)
        text = f'(component (import "a:b/c" (instance {listed})))'
    else:
        listed = "".join(f'(import "{n}" (func))' for n in names)
        text = f"(component {listed})"
    with pytest.raises(ArtifactError, match="too many imports, exports and members of interfaces"):
        Aegis(cache=False).load_wat(text)


def test_large_programs_are_read() -> None:
    """A hundred thousand names, ten thousand types and a thousand parameters are still admitted."""
    types = section(1, 10_000, [b"\x60" + leb(1000) + b"\x7f" * 1000 + leb(1000) + b"\x7e" * 1000, TYPE * 9_999])
    exports = section(7, 100_000, [name(f"{n}") + b"\0\0" for n in range(100_000)])
    found = admit_artifact(CORE + types + section(2, 1, b"\0\0\0\1") + exports, Limits(), None, "m")
    assert len(found.exports) == 100_000
