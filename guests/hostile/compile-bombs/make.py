#!/usr/bin/env python3
"""Write a compile bomb to stdout: ``make.py KIND [NUMBER ...]``. Every kind is a valid module.

Without numbers a bomb is as large as its class needs to hurt a compiler without bounds. Never compile one in a process
that you need.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

I32, FUNCREF = b"\x7f", b"\x70"
LOAD = b"\x41\x00\x28\x02\x00"  # i32.const 0; i32.load: a value that no compiler knows
GET, BRANCH = b"\x20\x00", b"\x20\x00\x0d\x00"  # the parameter; a branch out if it is set
ADD = b"\x41\x01\x6a"
END = b"\x0b"


def leb(value: int) -> bytes:
    """Encode an unsigned LEB128 number."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def section(number: int, *items: bytes) -> bytes:
    """Return a section that is a vector of ``items``."""
    body = leb(len(items)) + b"".join(items)
    return bytes([number]) + leb(len(body)) + body


def kind(params: int, results: int) -> bytes:
    """Return a function type on i32."""
    return b"\x60" + leb(params) + I32 * params + leb(results) + I32 * results


def body(code: bytes, count: int = 0) -> bytes:
    """Return a function's code with ``count`` locals beside its parameter."""
    whole = (b"\x01" + leb(count) + I32 if count else b"\x00") + code + END
    return leb(len(whole)) + whole


def module(*bodies: bytes, types: tuple[bytes, ...] = (), elements: bytes = b"") -> bytes:
    """Return a module of functions from i32 to nothing, with a memory and a table, exporting the first as ``run``."""
    return b"\0asm\x01\0\0\0" + b"".join(
        (
            section(1, kind(1, 0), *types),
            section(3, *[b"\x00"] * len(bodies)),
            section(4, FUNCREF + b"\x00\x0a"),
            section(5, b"\x00\x01"),
            section(7, b"\x03run\x00\x00"),
            elements,
            section(10, *bodies),
        )
    )


def loaded(count: int) -> bytes:
    """Return code that gives ``count`` locals values."""
    return b"".join(LOAD + b"\x21" + leb(n + 1) for n in range(count))


def changed(count: int) -> bytes:
    """Return code that gives each local a new value."""
    return b"".join(b"\x20" + leb(n + 1) + ADD + b"\x21" + leb(n + 1) for n in range(count))


def summed(count: int) -> bytes:
    """Return code that reads every local."""
    return b"\x41\x00" + b"".join(b"\x20" + leb(n + 1) + b"\x6a" for n in range(count)) + b"\x1a"


def functions(count: int = 200_000) -> bytes:
    """Many functions that do nothing."""
    return module(*[body(b"")] * count)


def function(size: int = 4_000_000, times: int = 1) -> bytes:
    """Functions of straight code."""
    return module(*[body((GET + ADD + b"\x21\x00") * (size // 7))] * times)


def locals_(count: int = 40_000) -> bytes:
    """Many locals, which two loops change."""
    return module(body(loaded(count) + (b"\x03\x40" + changed(count) + BRANCH + END) * 2, count))


def nesting(count: int = 50_000) -> bytes:
    """Blocks inside each other."""
    return module(body(b"\x02\x40" * count + (BRANCH + END) * count))


def loops(count: int = 20_000) -> bytes:
    """Loops one after the other: fuel is a variable that every one of them passes on."""
    return module(body((b"\x03\x40" + BRANCH + END) * count))


def values(count: int = 6000, each: int = 200) -> bytes:
    """Blocks one after the other that take and give values."""
    code = LOAD * each + (b"\x02\x01" + BRANCH + END) * count + b"\x1a" * each
    return module(body(code), types=(kind(each, each),))


def labels(count: int = 1000, each: int = 1000) -> bytes:
    """A br_table out of nested blocks that give values."""
    table = GET + b"\x0e" + leb(count) + b"".join(leb(n) for n in range(count)) + b"\x00"
    code = b"\x02\x01" * count + LOAD * each + table + END * count + b"\x1a" * each
    return module(body(code), types=(kind(0, each),))


def targets(count: int = 60_000, times: int = 16) -> bytes:
    """Tables of branches with many targets."""
    table = b"\x02\x40" + GET + b"\x0e" + leb(count) + bytes(count + 1) + END
    return module(body(table * times))


def merges(count: int = 1000, times: int = 100) -> bytes:
    """Locals that one side of every branch changes."""
    code = loaded(count) + (b"\x02\x40" + BRANCH + changed(count) + END) * times + summed(count)
    return module(body(code, count))


def carried(count: int = 4000, times: int = 4000) -> bytes:
    """Locals that live through loops which do not touch them: 76 KB."""
    return module(body(loaded(count) + (b"\x03\x40" + BRANCH + END) * times + summed(count), count))


def indirect(count: int = 100_000) -> bytes:
    """Calls through a table, which the compiler turns into branches."""
    return module(body((GET + GET + b"\x11\x00\x00") * count))


def growing(count: int = 50_000, times: int = 1) -> bytes:
    """Calls of memory.grow, at each of which the compiled code saves and reloads the fuel."""
    return module(*[body((GET + b"\x40\x00\x1a") * count)] * times)


def elements(count: int = 1_000_000) -> bytes:
    """One element segment of expressions."""
    content = b"\x01\x05\x70" + leb(count) + b"\xd2\x00\x0b" * count
    return module(body(b""), elements=b"\x09" + leb(len(content)) + content)


def segments(count: int = 100_000) -> bytes:
    """Element segments of one element."""
    return module(body(b""), elements=section(9, *[b"\x01\x00\x01\x00"] * count))


def types(count: int = 100_000) -> bytes:
    """Many distinct types."""
    letters = (b"\x7f", b"\x7e", b"\x7d", b"\x7c")
    made = (b"".join(letters[n >> 2 * place & 3] for place in range(10)) for n in range(count))
    return module(body(b""), types=tuple(b"\x60\x0a" + params + b"\x00" for params in made))


def constant(count: int = 1_000_000) -> bytes:
    """The initial value of a global as a sum of many constants."""
    whole = b"\x01" + I32 + b"\x00\x41\x00" + ADD * count + END
    return b"\0asm\x01\0\0\0\x06" + leb(len(whole)) + whole


def offset(count: int = 1_000_000) -> bytes:
    """The same for the offset of a data segment."""
    whole = b"\x01\x00\x41\x00" + ADD * count + END + b"\x00"
    return b"\0asm\x01\0\0\0" + section(5, b"\x00\x01") + b"\x0b" + leb(len(whole)) + whole


def sections(count: int = 1_000_000) -> bytes:
    """Empty custom sections."""
    return b"\0asm\x01\0\0\0" + b"\x00\x02\x01a" * count


KINDS: dict[str, Callable[..., bytes]] = {
    made.__name__.rstrip("_"): made
    for made in (
        functions, function, locals_, nesting, loops, values, labels, targets, merges, carried, indirect, growing,
        elements, segments, types, constant, offset, sections,
    )
}  # fmt: skip


if __name__ == "__main__":
    sys.stdout.buffer.write(KINDS[sys.argv[1]](*map(int, sys.argv[2:])))
