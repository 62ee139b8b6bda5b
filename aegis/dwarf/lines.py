"""Line tables: the source file and line of each address, from ``.debug_line`` of DWARF versions 2 to 5."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple, TypeVar

from aegis.dwarf.cursor import BadDwarf, Cursor

__all__ = ["MAX_BYTES", "LineTable", "SourceLine", "read_lines"]

MAX_BYTES = 16 << 20
"""Largest ``.debug_line`` that is read, in bytes; a program of 20 MB has some 3 MB. A byte can make a row of 20."""
_MAX_PATH_ENTRIES = 1 << 20
"""Most directories and files of all units."""
_MAX_PATH_BYTES = 1024
_LINES_END = 1 << 31
_ADDRESSES_END = 1 << 32
_PATH, _DIRECTORY_INDEX = 1, 2
_SIZES = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}
"""Forms of a fixed size: data1, data2, data4, data8 and data16 (7.5.6)."""
_STRING, _BLOCK, _UDATA, _STRP, _LINE_STRP, _STRX = 0x08, 0x09, 0x0F, 0x0E, 0x1F, 0x1A
_OFFSETS = {_STRP: ".debug_str", _LINE_STRP: ".debug_line_str"}


_T = TypeVar("_T")


class SourceLine(NamedTuple):
    """A line of a source file; the path is relative to the directory of the compilation if the table tells it."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


class _Path(NamedTuple):
    """A path in a section, not decoded yet: many entries may refer to the same long string."""

    section: str
    start: int
    stop: int
    directory: int


class _Unit:
    """The files of one unit. ``first`` is the number of the first file."""

    __slots__ = ("directories", "files", "first", "version")

    def __init__(self, version: int) -> None:
        self.version, self.first = version, 0 if version >= 5 else 1
        self.directories: list[_Path] = []
        self.files: list[_Path] = []


class LineTable:
    """The rows of all line tables of a module. A row is for the addresses from its own to that of the next row."""

    def __init__(self, sections: Mapping[str, bytes]) -> None:
        self._sections = sections
        self._units: list[_Unit] = []
        self._addresses = array("Q")
        self._lines, self._files, self._unit_of = array("I"), array("I"), array("I")
        self._complete = 0
        """The number of rows of sequences that have ended."""
        self._paths_left = _MAX_PATH_ENTRIES
        self._sequences: list[tuple[int, int, int, int]] = []
        """First address, end, first row and last row of each sequence of ascending addresses; sorted at the end."""
        self._paths: dict[tuple[int, int], str] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def at(self, address: int) -> SourceLine | None:
        """Return the line of an address, ``None`` if no table has it."""
        place = bisect_right(self._sequences, (address, _ADDRESSES_END, 0, 0)) - 1
        if place < 0:
            return None
        first, last, start, stop = self._sequences[place]
        if not first <= address < last:
            return None
        row = bisect_right(self._addresses, address, start, stop) - 1
        return self._source(row) if row >= start and self._lines[row] else None

    def rows(self) -> Iterator[tuple[int, int, SourceLine]]:
        """Yield first address, end and source line of each row with a line, by ascending address in each sequence."""
        for _, last, start, stop in self._sequences:
            for row in range(start, stop):
                end = self._addresses[row + 1] if row + 1 < stop else last
                if self._lines[row] and end > self._addresses[row]:
                    yield self._addresses[row], end, self._source(row)

    def _source(self, row: int) -> SourceLine:
        key = self._unit_of[row], self._files[row]
        path = self._paths.get(key)
        if path is None:
            path = self._paths[key] = self._path(self._units[key[0]], key[1])
        return SourceLine(path, self._lines[row])

    def _path(self, unit: _Unit, number: int) -> str:
        number -= unit.first
        if not 0 <= number < len(unit.files):
            return "?"
        file = unit.files[number]
        name = self._text(file)
        # Before version 5, directory 0 is that of the compilation and the list begins with directory 1.
        place = file.directory - unit.first
        if name.startswith("/") or not 0 <= place < len(unit.directories):
            return name
        directory = self._text(unit.directories[place])
        if unit.version >= 5 and directory == self._text(unit.directories[0]):
            return name
        return f"{directory.rstrip('/')}/{name}" if directory else name

    def _text(self, path: _Path) -> str:
        data = self._sections[path.section]
        stop = path.stop if path.stop >= 0 else data.find(b"\0", path.start, path.start + _MAX_PATH_BYTES)
        stop = path.start + _MAX_PATH_BYTES if stop < 0 else min(stop, path.start + _MAX_PATH_BYTES)
        return data[path.start : stop].decode("utf-8", "replace")

    # -- building ------------------------------------------------------------------------------

    def read_unit(self, cursor: Cursor, offset_size: int) -> None:
        """Add one unit, whose length the caller has read; the cursor ends with it."""
        version = cursor.number(2)
        if not 2 <= version <= 5:
            return
        unit = _Unit(version)
        if version >= 5:
            address_size, selectors = cursor.number(1), cursor.number(1)
            if address_size > 8 or selectors:
                return
        length = cursor.number(offset_size)
        program = cursor.at + length
        header = _Header(cursor, version)
        if version >= 5:
            unit.directories = list(self._entries(cursor, offset_size))
            unit.files = list(self._entries(cursor, offset_size))
        else:
            unit.directories = [_Path(".debug_line", *text, 0) for text in self._counted(_strings(cursor))]
            for start, stop in self._counted(_strings(cursor)):
                unit.files.append(_Path(".debug_line", start, stop, cursor.unsigned()))
                cursor.unsigned()
                cursor.unsigned()
        self._units.append(unit)
        if program < cursor.at or program > cursor.end:
            raise BadDwarf("the header has a false length")
        cursor.at = program
        self._program(cursor, header, unit)

    def _counted(self, items: Iterable[_T]) -> Iterator[_T]:
        """Yield the items as long as there may be more directories and files."""
        for item in items:
            self._paths_left -= 1
            if self._paths_left < 0:
                raise BadDwarf(f"there are more than {_MAX_PATH_ENTRIES:,} files")
            yield item

    def _entries(self, cursor: Cursor, offset_size: int) -> Iterator[_Path]:
        """Yield the directories or files of version 5 (6.2.4.1)."""
        formats = [(cursor.unsigned(), cursor.unsigned()) for _ in range(cursor.number(1))]
        count = cursor.unsigned()
        if count > (cursor.end - cursor.at if formats else 0):  # each entry takes at least a byte
            raise BadDwarf("a count is larger than its table")
        for _ in self._counted(range(count)):
            found = _Path(".debug_line", 0, 0, 0)
            for content, form in formats:
                start, value, section = _form(cursor, form, offset_size)
                if content == _PATH and section in self._sections:
                    if section == ".debug_line":
                        found = found._replace(section=section, start=start, stop=value)
                    elif value < len(self._sections[section]):
                        found = found._replace(section=section, start=value, stop=-1)
                elif content == _DIRECTORY_INDEX:
                    found = found._replace(directory=value)
            yield found

    def _program(self, cursor: Cursor, header: _Header, unit: _Unit) -> None:
        """Run the line number program (6.2.5). Each opcode takes at least a byte, and adds at most one row."""
        number = len(self._units) - 1
        address, file, line = 0, 1, 1
        start = len(self._addresses)
        data, least = cursor.data, header.least_instruction
        base, span, first = header.line_base, header.line_range, header.opcode_base

        def row() -> None:
            self._addresses.append(address)
            self._lines.append(line if 0 < line < _LINES_END else 0)
            self._files.append(file)
            self._unit_of.append(number)

        while cursor.at < cursor.end:
            op = data[cursor.skip(1)]
            if op >= first:
                steps = op - first
                address += steps // span * least
                line += base + steps % span
                row()
            elif op == 0:
                length = cursor.unsigned()
                until = cursor.skip(length) + length
                kind = data[until - length] if length else 0
                if kind == 1:  # end_sequence
                    self._end(start, address)
                    address, file, line = 0, 1, 1
                    start = len(self._addresses)
                elif kind == 2:  # set_address
                    address = int.from_bytes(data[until - length + 1 : until], "little")
                elif kind == 3:  # define_file
                    inner = Cursor(data, until - length + 1, until)
                    (text,) = self._counted([inner.string()])
                    unit.files.append(_Path(".debug_line", *text, inner.unsigned()))
            elif op == 1:
                row()
            elif op == 2:
                address += cursor.unsigned() * least
            elif op == 3:
                line += cursor.signed()
            elif op == 4:
                file = cursor.unsigned()
            elif op == 8:  # const_add_pc
                address += (255 - first) // span * least
            elif op == 9:  # fixed_advance_pc
                address += cursor.number(2)
            else:
                for _ in range(header.operands[op - 1]):
                    cursor.unsigned()
            if not 0 <= address < 1 << 64 or file >= 1 << 32:
                raise BadDwarf("an address is too large")
        self._end(start, None)

    def _end(self, start: int, last: int | None) -> None:
        """End a sequence. Drop one that is empty, not ascending, or of a function that the linker removed."""
        addresses = self._addresses[start:]
        kept = (
            bool(addresses) and last is not None and 0 < addresses[0] < last <= _ADDRESSES_END
            and all(one <= two for one, two in pairwise(addresses)) and addresses[-1] <= last
        )  # fmt: skip
        if kept:
            self._sequences.append((addresses[0], last, start, start + len(addresses)))  # type: ignore[arg-type]
            self._complete = len(self._addresses)
        else:
            for column in (self._addresses, self._lines, self._files, self._unit_of):
                del column[start:]

    def drop_open(self, before: int) -> None:
        """Drop the rows of a sequence that has no end; ``before`` is the number of rows before the unit."""
        self._end(max(before, self._complete), None)

    def finish(self) -> LineTable:
        """Sort the sequences, and return the table."""
        self._sequences.sort()
        return self


class _Header:
    """The fields of a header that the line number program needs (6.2.4)."""

    __slots__ = ("least_instruction", "line_base", "line_range", "opcode_base", "operands")

    def __init__(self, cursor: Cursor, version: int) -> None:
        self.least_instruction = cursor.number(1)
        if version >= 4:
            cursor.number(1)  # operations of one instruction: 1, except for VLIW machines
        cursor.number(1)
        base = cursor.number(1)
        self.line_base = base - 256 if base > 127 else base
        self.line_range, self.opcode_base = cursor.number(1), cursor.number(1)
        if not self.line_range or not self.opcode_base:
            raise BadDwarf("a header has an empty range")
        self.operands = [cursor.number(1) for _ in range(self.opcode_base - 1)]


def _strings(cursor: Cursor) -> Iterator[tuple[int, int]]:
    """Yield start and end of each string of a list that ends with an empty one."""
    while True:
        start, stop = cursor.string()
        if start == stop:
            return
        yield start, stop


def _form(cursor: Cursor, form: int, offset_size: int) -> tuple[int, int, str]:
    """Read an attribute value: its start, the value or the end of an inline string, and the section of a string."""
    if form == _STRING:
        return (*cursor.string(), ".debug_line")
    if form in _OFFSETS:
        return 0, cursor.number(offset_size), _OFFSETS[form]
    if form == _UDATA:
        return 0, cursor.unsigned(), ""
    if form == _BLOCK:
        return cursor.skip(cursor.unsigned()), 0, ""
    if form == _STRX:
        cursor.unsigned()
        return 0, 0, ""
    if form in _SIZES:
        return 0, cursor.number(_SIZES[form]), ""
    raise BadDwarf(f"the form 0x{form:x} is not one of a line table")


def read_lines(sections: Mapping[str, bytes]) -> LineTable:
    """Return the line table of a module, from its custom sections by name; an empty one without ``.debug_line``."""
    data = sections.get(".debug_line", b"")
    table = LineTable(sections)
    if len(data) > MAX_BYTES:
        return table
    cursor = Cursor(data)
    try:
        while cursor.at < cursor.end:
            length, size = cursor.number(4), 4
            if length == 0xFFFFFFFF:  # 64-bit DWARF (7.4)
                length, size = cursor.number(8), 8
            start = cursor.skip(length)
            _unit(table, Cursor(data, start, cursor.at), size)
    except BadDwarf:
        pass
    return table.finish()


def _unit(table: LineTable, cursor: Cursor, offset_size: int) -> None:
    """Read one unit; keep the sequences before a violation, and read on with the next unit."""
    rows = len(table)
    try:
        table.read_unit(cursor, offset_size)
    except BadDwarf:
        table.drop_open(rows)
