"""Reject artifacts that would take too long to compile, because compilation cannot be interrupted (F19, F39).

The check is one pass over every core module of an artifact, including nested ones. Code from the cache was checked
when it was compiled. Bounds that depend on the program are limits of the policy. The constants in this module are far
above the needs of real programs, and far below the sizes for which the engine takes seconds per kilobyte.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from aegis.errors import ArtifactError
from aegis.limits import TRUSTED, Limits, exceeded
from aegis.text import printable
from aegis.wasm.binary import MAX_TYPES, BinaryReader, Malformed, counted, skip_constant
from aegis.wasm.cost import CompileCost, FunctionBody, Weights, compile_cost
from aegis.wasm.instructions import patterns_for

__all__ = ["check_compile_cost"]

MAX_ELEMENT_SEGMENTS = 10_000
"""Element segments of a module: 30 000 took 2 s and 160 MB, and the cost is quadratic in their number."""
MAX_ELEMENT_SECTION_BYTES = 512 << 10
"""Bytes of an element section: a million elements as expressions (3 MB) took 17 s and 2.4 GB to compile."""
FUNCTION_SHARE = 20
"""The limit ``complexity`` divided by this bounds one function, because memory grows with the largest function."""


def check_compile_cost(data: bytes, limits: Limits, proposals: Collection[str] = ()) -> None:
    """Check the cost of compiling ``data``, which was read successfully as a module or component before.

    ``proposals`` are the enabled ones beyond the default; code that uses another one is rejected by its name.

    Raise :class:`~aegis.errors.ArtifactError` with the name of the exceeded limit.
    """
    walk = _AdmissionCheck(data, limits, proposals)
    try:
        for start, end in core_modules(data, 0, len(data)):
            walk.module(start, end)
    except Malformed as error:
        raise ArtifactError(f"not valid WebAssembly: {error}") from None


def core_modules(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each core module in a module or component."""
    if data[start + 6 : start + 8] != b"\1\0":
        yield start, end
        return
    for number, begin, until in sections(data, start, end):
        if number == 1:
            yield begin, until
        elif number == 4:
            yield from core_modules(data, begin, until)


def sections(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield id, start and end of each section (5.5.2)."""
    reader = BinaryReader(data, start + 8, end)
    while reader.at < reader.end:
        number, size = reader.byte(), reader.leb()
        begin = reader.at
        reader.skip(size)
        yield number, begin, reader.at


class _AdmissionCheck:
    """The totals over all modules of one artifact."""

    def __init__(self, data: bytes, limits: Limits, proposals: Collection[str]) -> None:
        self.data, self.limits = data, limits
        self.known = patterns_for(proposals)
        self.functions = 0
        self.microseconds = 0

    def module(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.imported = 0
        self.signatures: list[tuple[int, int]] = []
        types: list[int] = []
        for number, begin, until in sections(self.data, start, end):
            reader = BinaryReader(self.data, begin, until)
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

    def types(self, r: BinaryReader) -> None:
        for _ in range(counted(r, MAX_TYPES, "types")):
            r.byte()
            params = r.count()
            r.skip(params)
            results = r.count()
            r.skip(results)
            self.signatures.append((params, results))

    def declared(self, r: BinaryReader) -> list[int]:
        count = r.count()
        self.functions += count
        most = self.limits.functions
        if most is not None and self.functions > most:
            raise _refusal("functions", self.functions, most)
        return [r.leb() for _ in range(count)]

    def elements(self, r: BinaryReader) -> None:
        size = r.end - r.at
        if size > MAX_ELEMENT_SECTION_BYTES:
            raise ArtifactError(
                f"element section too large ({size:,}/{MAX_ELEMENT_SECTION_BYTES:,} bytes): split the module"
            )
        counted(r, MAX_ELEMENT_SEGMENTS, "element segments")

    def data_segments(self, r: BinaryReader) -> None:
        for _ in range(r.count()):
            mode = r.leb()
            if mode == 2:
                r.leb()
            if mode != 1:
                skip_constant(r)
            r.skip(r.leb())

    # -- code ----------------------------------------------------------------------------------

    def code(self, r: BinaryReader, types: list[int]) -> None:
        count = r.count()
        if count != len(types):
            raise Malformed("the function section and the code section have different lengths")
        weights = Weights([params + results for params, results in self.signatures], self.known)
        nesting = self.limits.nesting
        for index, signature in enumerate(types):
            body = self.body(r, index, self.params(signature))
            try:
                found = compile_cost(self.data, body, weights, nesting if nesting is not None else 1 << 62)
            except Malformed as error:
                raise ArtifactError(f"{self.called(index)}: {error}") from None
            self.judge(index, found)

    def params(self, signature: int) -> int:
        if signature >= len(self.signatures):
            raise Malformed(f"type {signature} does not exist")
        return self.signatures[signature][0]

    def body(self, r: BinaryReader, index: int, count: int) -> FunctionBody:
        """Read the size and locals of a body, and advance the reader past it."""
        size = r.leb()
        start = r.at
        r.skip(size)
        most = self.limits.function_size
        if most is not None and size > most:
            raise _refusal("function_size", size, most, f"bytes of code in {self.called(index)}")
        head = BinaryReader(r.data, start, r.at)
        for _ in range(head.count()):
            count += head.leb()
            head.byte()
        if self.limits.locals is not None and count > self.limits.locals:
            raise _refusal("locals", count, self.limits.locals, f"locals in {self.called(index)}")
        return FunctionBody(head.at, r.at, size, count)

    def judge(self, index: int, found: CompileCost) -> None:
        self.microseconds += found.microseconds
        nesting, most = self.limits.nesting, self.limits.complexity
        if nesting is not None and found.depth > nesting:
            raise _refusal("nesting", found.depth, nesting, f"nested blocks in {self.called(index)}")
        if most is None:
            return
        if found.microseconds > most // FUNCTION_SHARE:
            unit = f"µs on one core for {self.called(index)}, 1/{FUNCTION_SHARE} of {most:,}"
            raise _refusal("complexity", found.microseconds, most // FUNCTION_SHARE, unit)
        if self.microseconds > most:
            raise _refusal("complexity", self.microseconds, most, "µs on one core")

    def called(self, index: int) -> str:
        """Return a function's index, and its name if there is one, for an error message."""
        number = self.imported + index
        name = _name_of(self.data, self.start, self.end, number)
        return f"function {number}" + (f" '{printable(name, 60)}'" if name else "")


def _refusal(limit: str, used: int, allowed: int, unit: str = "") -> ArtifactError:
    return ArtifactError(exceeded(limit, used, allowed, unit=unit, remedy=TRUSTED))


def _imported_functions(r: BinaryReader) -> int:
    """Count the functions in an import section that was read successfully before."""
    found = 0
    for _ in range(r.count()):
        r.skip(r.leb())
        r.skip(r.leb())
        kind = r.byte()
        found += kind == 0
        if kind in (0, 4):  # a function or a tag: the latter's attribute is 0
            r.skip(kind // 4)
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
    """Return a function's name from the name section (7.4.1), ``None`` if it is missing or invalid."""
    try:
        for kind, begin, until in sections(data, start, end):
            if kind == 0 and _NAME.match(data, begin, until):
                return _search(BinaryReader(data, begin + 5, until), number)
    except Malformed:
        pass
    return None


def _search(r: BinaryReader, number: int) -> str | None:
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
