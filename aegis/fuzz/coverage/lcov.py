"""Coverage by source lines, as lcov's tracefiles have it: for ``genhtml``, editors and coverage services."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from aegis.fuzz.source_lines import CodeModule
from aegis.wasm.binary import Malformed
from aegis.wasm.flow import executed
from aegis.wasm.instructions import END

if TYPE_CHECKING:
    from aegis.dwarf.lines import SourceLine
    from aegis.wasm.edges import Counted, Site

__all__ = ["to_lcov"]


class _SourceFile:
    """The lines, functions and branches of one source file."""

    def __init__(self) -> None:
        self.lines: dict[int, bool] = {}
        self.functions: dict[str, tuple[int, bool]] = {}
        self.branches: dict[tuple[int, int, int], list[bool | None]] = {}
        """The edges of each decision, by line, module and place: not reached, not taken or taken."""


def to_lcov(
    parts: Sequence[tuple[CodeModule, Counted, bytes]], proposals: Collection[str] = ()
) -> str:  # fmt: skip
    """Return a tracefile; empty if no module has debugging information.

    ``parts`` has for each core instance its original module, the module with counters, and the bits of its edges.
    """
    files: dict[str, _SourceFile] = {}
    numbers: dict[bytes, int] = {}
    for module, counted, bits in parts:
        if len(module.lines):
            number = numbers.setdefault(module.data, len(numbers))
            _add(files, number, module, counted, bits, proposals)
    return "".join(_record(path, files[path]) for path in sorted(files))


def _add(
    files: dict[str, _SourceFile],
    of: int,
    module: CodeModule,
    counted: Counted,
    bits: bytes,
    proposals: Collection[str],
) -> None:
    sites: dict[int, list[Site]] = {}
    for site in counted.sites:
        sites.setdefault(site.function, []).append(site)
    by_function = _rows(module)
    for function, (start, end) in enumerate(module.functions, module.first):
        entry, *decisions = sites[function]
        entered = bool(bits[entry.first])
        ranges = _ranges(module, start, end, decisions, bits, proposals) if entered else []
        starts = [first for first, _ in ranges]
        rows = by_function.get(function, [])
        for at, until, line in rows:
            begin = _first_instruction(module.data, at, until)
            place = bisect_right(starts, begin) - 1
            hit = place >= 0 and begin < ranges[place][1]
            known = files.setdefault(line.path, _SourceFile()).lines
            known[line.line] = known.get(line.line, False) or hit
        if rows:
            first = rows[0][2]
            functions = files[first.path].functions
            name = module.names.get(function) or f"function {function}"
            before = functions.get(name)
            functions[name] = first.line, entered or bool(before and before[1])
        for site in decisions:
            _branch(files, of, module, site, bits)


def _first_instruction(data: bytes, at: int, until: int) -> int:
    """Return the offset of the first instruction of a row that does something: branches to an ``end`` land after it."""
    begin = at
    while begin < until and data[begin] == END:
        begin += 1
    return at if begin == until else begin


def _rows(module: CodeModule) -> dict[int, list[tuple[int, int, SourceLine]]]:
    """Return the rows of the line table by function, with offsets in the module."""
    found: dict[int, list[tuple[int, int, SourceLine]]] = {}
    for at, until, line in module.lines.rows():
        function = module.function_at(at + module.code)
        if function is not None:
            found.setdefault(function, []).append((at + module.code, until + module.code, line))
    return found


def _ranges(
    module: CodeModule, start: int, end: int, decisions: Sequence[Site], bits: bytes, proposals: Collection[str]
) -> list[tuple[int, int]]:
    edges = {site.offset: [n for n in range(site.counters) if bits[site.first + n]] for site in decisions}
    try:
        return executed(module.data, start, end, lambda at: edges.get(at, ()), proposals)
    except Malformed:
        return []


def _branch(files: dict[str, _SourceFile], of: int, module: CodeModule, site: Site, bits: bytes) -> None:
    line = module.at(site.offset)
    if line is None:
        return
    taken = [bool(bits[site.first + n]) for n in range(site.counters)]
    branches = files.setdefault(line.path, _SourceFile()).branches
    key = line.line, of, site.offset
    before = branches.setdefault(key, [None] * len(taken))
    if any(taken):
        branches[key] = [bool(one) or two for one, two in zip(before, taken, strict=True)]


def _record(path: str, file: _SourceFile) -> str:
    return "".join(f"{line}\n" for line in _lines_of(path, file))


def _lines_of(path: str, file: _SourceFile) -> Iterator[str]:
    """Yield the record of a source file, in the order of geninfo(1)."""
    yield "TN:aegis fuzz"
    yield f"SF:{_plain(path)}"
    for name, (line, _) in file.functions.items():
        yield f"FN:{line},{_plain(name)}"
    for name, (_, hit) in file.functions.items():
        yield f"FNDA:{int(hit)},{_plain(name)}"
    yield f"FNF:{len(file.functions)}"
    yield f"FNH:{sum(hit for _, hit in file.functions.values())}"
    found = hits = 0
    blocks: dict[int, int] = {}
    for (line, _, _), taken in sorted(file.branches.items()):
        block = blocks[line] = blocks.get(line, -1) + 1
        for number, one in enumerate(taken):
            yield f"BRDA:{line},{block},{number},{'-' if one is None else int(one)}"
        found, hits = found + len(taken), hits + sum(map(bool, taken))
    yield f"BRF:{found}"
    yield f"BRH:{hits}"
    for line, hit in sorted(file.lines.items()):
        yield f"DA:{line},{int(hit)}"
    yield f"LF:{len(file.lines)}"
    yield f"LH:{sum(file.lines.values())}"
    yield "end_of_record"


def _plain(text: str) -> str:
    """Return text on one line: names come from the guest."""
    return "".join(char if char.isprintable() else "?" for char in text)
