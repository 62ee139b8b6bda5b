"""Bounds on what reaches the compiler, which has none of its own (F19, F39): a compile cannot be interrupted.

One walk over every core module of an artifact, the nested ones included, before it is compiled; what comes from the
cache was walked then. The bounds that a policy can raise are limits; the constants here are far above what programs
have, and far below what makes the engine take seconds for kilobytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from aegis.errors import ArtifactError
from aegis.limits import TRUSTED, Limits, exceeded, format_bytes
from aegis.text import printable
from aegis.wasm.binary import MOST_TYPES, Malformed, Reader, counted, skip_constant
from aegis.wasm.cost import Body, Effort, Weights, effort

__all__ = ["bound"]

MOST_SEGMENTS = 10_000
"""Element segments: 30 000 took 2 s and 160 MB, in the square of their number."""
MOST_ELEMENT_BYTES = 512 << 10
"""A million elements as expressions, 3 MB, took 17 s and 2.4 GB; as numbers they take nothing, up to some millions."""
ONE_FUNCTION = 20
"""No function may have more than this part of ``complexity``: a core's memory follows the largest function."""


def bound(data: bytes, limits: Limits) -> None:
    """Refuse a binary that the compiler would take too long for; raise ``ArtifactError`` with the limit to raise.

    ``data`` has been admitted: it is read as a module or component already.
    """
    walk = _Walk(data, limits)
    try:
        for start, end in core_modules(data, 0, len(data)):
            walk.module(start, end)
    except Malformed as error:
        raise ArtifactError(f"not valid WebAssembly: {error}") from None


def core_modules(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where each core module of a module or component lies."""
    if data[start + 6 : start + 8] != b"\1\0":
        yield start, end
        return
    for number, begin, until in sections(data, start, end):
        if number == 1:
            yield begin, until
        elif number == 4:
            yield from core_modules(data, begin, until)


def sections(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of each section."""
    reader = Reader(data, start + 8, end)
    while reader.at < reader.end:
        number, size = reader.byte(), reader.leb()
        begin = reader.at
        reader.skip(size)
        yield number, begin, reader.at


class _Walk:
    """What all modules of an artifact have together."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self.data, self.limits = data, limits
        self.functions = 0
        self.microseconds = 0

    def module(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.imported = 0
        self.signatures: list[tuple[int, int]] = []
        types: list[int] = []
        for number, begin, until in sections(self.data, start, end):
            reader = Reader(self.data, begin, until)
            match number:
                case 1:
                    self.types(reader)
                case 2:
                    self.imported = _imported_functions(reader)
                case 3:
                    types = self.declared(reader)
                case 9:
                    self.elements(reader)
                case 10:
                    self.code(reader, types)
                case 11:
                    self.data_segments(reader)

    def types(self, r: Reader) -> None:
        for _ in range(counted(r, MOST_TYPES, "types")):
            r.byte()
            params = r.count()
            r.skip(params)
            results = r.count()
            r.skip(results)
            self.signatures.append((params, results))

    def declared(self, r: Reader) -> list[int]:
        count = r.count()
        self.functions += count
        most = self.limits.functions
        if most is not None and self.functions > most:
            raise _refusal("functions", self.functions, most)
        return [r.leb() for _ in range(count)]

    def elements(self, r: Reader) -> None:
        size = r.end - r.at
        if size > MOST_ELEMENT_BYTES:
            raise ArtifactError(
                f"its element segments have {size:,} bytes; Aegis compiles at most {format_bytes(MOST_ELEMENT_BYTES)}"
            )
        counted(r, MOST_SEGMENTS, "element segments")

    def data_segments(self, r: Reader) -> None:
        for _ in range(r.count()):
            mode = r.leb()
            if mode == 2:
                r.leb()
            if mode != 1:
                skip_constant(r)
            r.skip(r.leb())

    # -- code ----------------------------------------------------------------------------------

    def code(self, r: Reader, types: list[int]) -> None:
        count = r.count()
        if count != len(types):
            raise Malformed("it declares one number of functions and holds another")
        weights = Weights([params + results for params, results in self.signatures])
        nesting = self.limits.nesting
        for index, signature in enumerate(types):
            body = self.body(r, index, self.params(signature))
            try:
                found = effort(self.data, body, weights, nesting if nesting is not None else 1 << 62)
            except Malformed as error:
                raise ArtifactError(f"{self.called(index)}: {error}") from None
            self.judge(index, found)

    def params(self, signature: int) -> int:
        if signature >= len(self.signatures):
            raise Malformed(f"type {signature} does not exist")
        return self.signatures[signature][0]

    def body(self, r: Reader, index: int, count: int) -> Body:
        """Read a body's size and locals, and leave the reader after it."""
        size = r.leb()
        start = r.at
        r.skip(size)
        most = self.limits.function_size
        if most is not None and size > most:
            raise _refusal("function_size", size, most, f"bytes of code in {self.called(index)}")
        head = Reader(r.data, start, r.at)
        for _ in range(head.count()):
            count += head.leb()
            head.byte()
        if self.limits.locals is not None and count > self.limits.locals:
            raise _refusal("locals", count, self.limits.locals, f"locals in {self.called(index)}")
        return Body(head.at, r.at, size, count)

    def judge(self, index: int, found: Effort) -> None:
        self.microseconds += found.microseconds
        nesting, most = self.limits.nesting, self.limits.complexity
        if nesting is not None and found.depth > nesting:
            raise _refusal("nesting", found.depth, nesting, f"blocks inside one another in {self.called(index)}")
        if most is None:
            return
        if found.microseconds > most // ONE_FUNCTION:
            unit = f"µs on one core for {self.called(index)}, which may have a {ONE_FUNCTION}th of {most:,}"
            raise _refusal("complexity", found.microseconds, most // ONE_FUNCTION, unit)
        if self.microseconds > most:
            raise _refusal("complexity", self.microseconds, most, "µs on one core, or more")

    def called(self, index: int) -> str:
        """Name a function for an error: its index among all, and its name if there is one."""
        number = self.imported + index
        name = _name_of(self.data, self.start, self.end, number)
        return f"function {number}" + (f" '{printable(name, 60)}'" if name else "")


def _refusal(limit: str, used: int, allowed: int, unit: str = "") -> ArtifactError:
    return ArtifactError(exceeded(limit, used, allowed, unit=unit, remedy=TRUSTED))


def _imported_functions(r: Reader) -> int:
    """Count the functions among the imports, of a section that was read without error before."""
    found = 0
    for _ in range(r.count()):
        r.skip(r.leb())
        r.skip(r.leb())
        kind = r.byte()
        found += kind == 0
        if kind == 0:
            r.leb()
            continue
        if kind != 2:
            r.byte()
        if kind == 3:
            r.byte()
            continue
        flags = r.byte()
        r.leb(64)
        if flags & 1:
            r.leb(64)
    return found


_NAME = re.compile(rb"\x04name")


def _name_of(data: bytes, start: int, end: int, number: int) -> str | None:
    """Find a function in the name section (appendix, custom sections); whatever is wrong with it means no name."""
    try:
        for kind, begin, until in sections(data, start, end):
            if kind == 0 and _NAME.match(data, begin, until):
                return _search(Reader(data, begin + 5, until), number)
    except Malformed:
        pass
    return None


def _search(r: Reader, number: int) -> str | None:
    while r.at < r.end:
        part, size = r.byte(), r.leb()
        if part != 1:
            r.skip(size)
            continue
        for _ in range(r.count()):
            index, length = r.leb(), r.leb()
            begin = r.at
            r.skip(length)
            if index == number:
                return r.data[begin : r.at].decode("utf-8", "replace")
        return None
    return None
