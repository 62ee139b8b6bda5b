"""A list that changes during its conversion is passed as it was, or read again, but never with a wrong length.

The guest returns the length that it received and the number of bytes that its realloc was called with.
"""

from __future__ import annotations

from typing import Any

import pytest

from aegis import Aegis

RUNTIME = Aegis(cache=False, pooled=False)
GUEST = """(component
  (core module $m (memory (export "memory") 1) (global $size (mut i32) (i32.const 0))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (if (i32.eqz (global.get $size)) (then (global.set $size (local.get 3)))) (i32.const 64))
    (func (export "f") (param i32 i32) (result i32)
      (i32.add (i32.mul (global.get $size) (i32.const 1000)) (local.get 1))))
  (core instance $m (instantiate $m))
  (func (export "f") (param "x" (list {type})) (result u32)
    (canon lift (core func $m "f") (memory (core memory $m "memory")) (realloc (core func $m "realloc")))))"""


class Changing:
    """A number that shortens or lengthens the list that contains it, when it is first read."""

    def __init__(self, values: list[Any], by: int) -> None:
        self.values, self.by = values, by

    def __index__(self) -> int:
        by, self.by = self.by, 0
        if by < 0:
            del self.values[by:]
        else:
            self.values.extend([self.values[-1]] * by)
        return 1


@pytest.mark.parametrize("by", [-3, -1, 1, 5])
@pytest.mark.parametrize(
    ("of", "size"), [("u32", 4), ("(tuple u16 u16)", 4), ("(tuple u8 string)", 12), ("(option u8)", 2)]
)
def test_the_length_is_that_of_the_elements_passed(of: str, size: int, by: int) -> None:
    values: list[Any] = []
    made = {"(tuple u16 u16)": lambda n: (n, n), "(tuple u8 string)": lambda n: (n, "x")}.get(of, lambda n: n)
    values += [made(n) for n in (Changing(values, by), 2, 3, 4, 5)]
    with RUNTIME.sandbox(RUNTIME.load_wat(GUEST.format(type=of))) as sandbox:
        asked, count = divmod(sandbox.call("f", values), 1000)
    assert asked == count * size
    assert count in (5, 5 + by)
