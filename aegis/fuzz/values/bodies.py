"""Static facts about the functions of a core module: parameter names, and whether a function accesses memory.

Parameter names come from the name section (core specification 2.0, appendix A.4.1). The section is untrusted; it only
affects which arguments the fuzzer generates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from aegis.support.proposals import OPTIONAL, PROPOSALS
from aegis.wasm.admission import sections
from aegis.wasm.binary import BinaryReader, Malformed
from aegis.wasm.instructions import BranchTable, TryTable, patterns_for, runs

if TYPE_CHECKING:
    from aegis.engine.compile.artifact import Module

__all__ = ["AMOUNT_NAME", "Bodies"]

AMOUNT_NAME = re.compile(
    r"(.*_)?(n|l|len|length|size|sz|count|cnt|num|bytes|nbytes|cap|capacity|x|y|z|i|j|k|width|height|index|flags?|mode"
    r"|level|seed|code|type|kind|value|number|year|month|day|c|ch|char)\d*$|.*(len|length|size|count)$"
)
"""Names of parameters that are no addresses."""

_CODE_SECTION, _EXPORT_SECTION = 10, 7
_CALL_OPCODES = b"\x10\x12"
"""``call`` and ``return_call``."""
_KNOWN = patterns_for(row.name for row in PROPOSALS if row.state == OPTIONAL)
"""Patterns for the instructions of every proposal that a policy can enable."""
_LOCAL_NAMES = 2
"""The id of the subsection with local names."""


class Bodies:
    """The function bodies of a module."""

    def __init__(self, module: Module) -> None:
        self.data = module.binary
        self._memory = bool(module.memories(1))
        self.imported = sum(item.kind == "func" for item in module.imports)

    def touches_memory(self, name: str) -> bool:
        """Return whether an exported function may read or write memory, directly or in a function it calls.

        Indirect calls, imports and bodies that cannot be decoded count as memory accesses if there is a memory.
        """
        if not self._memory:
            return False
        seen: set[int] = set()
        waiting = [self._functions.get(name, -1)]
        while waiting:
            index = waiting.pop()
            if index in seen:
                continue
            seen.add(index)
            body = self._bodies.get(index)
            if body is None:
                return True
            called = self._called(*body)
            if called is None:
                return True
            waiting += called
        return False

    def takes_address(self, name: str, kinds: Sequence[str]) -> bool:
        """Return whether a number among the parameters may be an address: the function accesses memory.

        ``kinds`` are the parameters as they are generated. A name that looks like an amount is no address. Without
        names, a buffer is certain only if it is the only one: among more numbers, another pair may be the buffer.
        """
        if not {"i32", "buffer"} & set(kinds) or not self.touches_memory(name):
            return False
        names = self.parameter_names(name)
        if not names and "buffer" in kinds:
            return kinds.count("buffer") > 1 or "i32" in kinds
        place, found = 0, False
        for kind in kinds:
            found = found or (kind == "i32" and not AMOUNT_NAME.match(names.get(place, "").lower()))
            place += 2 if kind == "buffer" else 1
        return found

    def parameter_names(self, name: str) -> dict[int, str]:
        """Return the names of an exported function's parameters and locals by index; empty without a name section."""
        try:
            return self._names.get(self._functions.get(name, -1), {})
        except Malformed:
            return {}

    def _called(self, start: int, end: int) -> list[int] | None:
        """Return the indices of the functions that a body calls, or ``None`` if the body may access memory."""
        found = []
        try:
            for run in runs(self.data, start, end, _KNOWN, _KNOWN.reaches):
                if isinstance(run, (BranchTable, TryTable)):
                    continue
                for token in filter(None, run):
                    if token[0] not in _CALL_OPCODES:
                        return None
                    found.append(BinaryReader(token, 1).leb())
        except Malformed:
            return None
        return found

    def _section(self, number: int) -> Iterator[BinaryReader]:
        for found, start, end in sections(self.data, 0, len(self.data)):
            if found == number:
                yield BinaryReader(self.data, start, end)

    @cached_property
    def _functions(self) -> dict[str, int]:
        found = {}
        for r in self._section(_EXPORT_SECTION):
            for _ in range(r.count()):
                name, kind, index = r.name(), r.byte(), r.leb()
                if kind == 0:
                    found[name] = index
        return found

    @cached_property
    def _bodies(self) -> dict[int, tuple[int, int]]:
        found = {}
        for r in self._section(_CODE_SECTION):
            for number in range(r.count()):
                size = r.leb()
                start = r.at
                r.skip(size)
                head = BinaryReader(self.data, start, r.at)
                for _ in range(head.count()):
                    head.leb()
                    head.byte()
                found[self.imported + number] = head.at, r.at
        return found

    @cached_property
    def _names(self) -> dict[int, dict[int, str]]:
        for r in self._section(0):
            if r.name() == "name":
                return _local_names(r)
        return {}


def _local_names(r: BinaryReader) -> dict[int, dict[int, str]]:
    """Return the names of locals by function index, from subsection 2 of the name section."""
    while r.at < r.end:
        part, size = r.byte(), r.leb()
        if part != _LOCAL_NAMES:
            r.skip(size)
            continue
        return {r.leb(): {r.leb(): r.name() for _ in range(r.count())} for _ in range(r.count())}
    return {}
