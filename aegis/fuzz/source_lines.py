"""Source lines of a guest's code, from the DWARF sections of its core modules."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from aegis.dwarf.lines import LineTable, SourceLine, read_lines
from aegis.errors import ArtifactError
from aegis.wasm.admission import core_modules, sections
from aegis.wasm.binary import BinaryReader, Malformed, read_module

if TYPE_CHECKING:
    from aegis.errors import Frame

__all__ = ["CodeModule", "SourceLines"]

_DEBUG = ".debug_"
_FUNCTION_NAMES = 1
"""The id of the subsection with names of functions."""


class CodeModule:
    """The code of one core module: where its functions are, and their source lines.

    ``functions`` has start and end of each defined function's body, as offsets from the start of the module; their
    indices begin with ``first``. ``code`` is the offset from which DWARF counts addresses.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.first = sum(item.kind == "func" for item in read_module(data).imports)
        self.functions: list[tuple[int, int]] = []
        self.code = 0
        self._debug: dict[str, bytes] = {}
        for number, start, end in sections(data, 0, len(data)):
            if number == 10:
                self.code = start
                self.functions = list(_bodies(BinaryReader(data, start, end)))
            elif number == 0:
                reader = BinaryReader(data, start, end)
                name = reader.name()
                if name.startswith(_DEBUG):
                    self._debug[name] = data[reader.at : end]

    @cached_property
    def lines(self) -> LineTable:
        """The line table; empty without debugging information."""
        return read_lines(self._debug)

    @cached_property
    def names(self) -> dict[int, str]:
        """Names of functions by index, from the section ``name`` and from the exports."""
        names: dict[int, str] = {}
        for number, start, end in sections(self.data, 0, len(self.data)):
            reader = BinaryReader(self.data, start, end)
            if number == 7:
                names = dict(_exported(reader)) | names
            elif number == 0 and reader.name() == "name":
                names |= dict(_named(reader))
        return names

    def holds(self, frame: Frame) -> bool:
        """Return whether a frame may be of this module: its function has code at its offset."""
        place = frame.function_index - self.first
        return 0 <= place < len(self.functions) and (
            self.functions[place][0] <= frame.module_offset < self.functions[place][1]
        )

    def at(self, offset: int) -> SourceLine | None:
        """Return the line of an instruction by its offset in the module."""
        return self.lines.at(offset - self.code)

    def function_at(self, offset: int) -> int | None:
        """Return the index of the function whose body contains an offset."""
        place = bisect_right(self.functions, (offset, len(self.data))) - 1
        if place >= 0 and offset < self.functions[place][1]:
            return self.first + place
        return None


class SourceLines:
    """The source lines of a module, or of all core modules of a component."""

    def __init__(self, binary: bytes) -> None:
        self._binary = binary

    @cached_property
    def modules(self) -> tuple[CodeModule, ...]:
        """The core modules in the order of their bytes; none if the bytes are malformed."""
        data = self._binary
        try:
            return tuple(CodeModule(data[start:end]) for start, end in core_modules(data, 0, len(data)))
        except (ArtifactError, Malformed):
            return ()

    def of(self, frame: Frame) -> SourceLine | None:
        """Return the line of a frame; ``None`` if it is unknown, or if several modules of a component may have it."""
        found = [module for module in self.modules if module.holds(frame)]
        return found[0].at(frame.module_offset) if len(found) == 1 else None


def _bodies(r: BinaryReader) -> Iterator[tuple[int, int]]:
    for _ in range(r.count()):
        size = r.leb()
        start = r.at
        r.skip(size)
        yield start, r.at


def _exported(r: BinaryReader) -> Iterator[tuple[int, str]]:
    for _ in range(r.count()):
        name, kind, index = r.name(), r.byte(), r.leb()
        if kind == 0:
            yield index, name


def _named(r: BinaryReader) -> Iterator[tuple[int, str]]:
    """Yield the names of functions (7.4.1); stop at a violation, because the section is not validated."""
    try:
        while r.at < r.end:
            part, size = r.byte(), r.leb()
            if part != _FUNCTION_NAMES:
                r.skip(size)
                continue
            for _ in range(r.count()):
                index = r.leb()
                yield index, r.name()
            return
    except Malformed:
        return
