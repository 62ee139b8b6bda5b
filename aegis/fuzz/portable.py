"""Test cases and findings as text, for files and other processes.

Arguments of components are written in WAVE, those of core functions as numbers, and buffers as Python bytes literals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from aegis.fuzz.case import Case, Finding, HandleRef, Step
from aegis.fuzz.causes import RANDOM_ADDRESSES, cause_of, key_of
from aegis.fuzz.target import DROP
from aegis.fuzz.values.buffers import read_placed
from aegis.fuzz.values.core_signatures import BufferShape, OutShape
from aegis.text import printable
from aegis.wit.wave_read import format_value, parse_value

if TYPE_CHECKING:
    from aegis.dwarf.lines import SourceLine
    from aegis.fuzz.target import Target, TargetExport

__all__ = [
    "PortableFinding", "export_of", "format_step", "parse_step", "read_case", "read_step", "write_case", "write_step",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PortableFinding:
    """A finding as plain data. A step is ``[function, [argument, …]]``; ``#3`` is the handle that step 3 returned."""

    oracle: str
    signature: str
    text: str
    steps: list[Any]
    answers: list[int] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    """The answers that the stubs gave, as ``import -> value``."""
    status: str = ""
    frames: list[str] = field(default_factory=list)
    cause: str = ""
    """The cause as a phrase; empty if the oracle does not judge the ending of a call."""
    key: str = ""
    """A key of the finding that stays the same when the guest is compiled again, for baselines."""
    answers_imports: bool = False
    """Whether the artifact imports functions for which only the fuzzer has stubs."""
    stubs_called: bool = True
    """Whether the test case may call such a stub."""
    command: str = ""

    @classmethod
    def of(cls, target: Target, found: Finding) -> PortableFinding:
        """Convert a finding to plain data."""
        result = found.result
        function = found.case.steps[-1].function if found.case.steps else "instantiation"
        answered = target.answered(found.case)
        frames = [] if result is None else [_frame(f, target.lines.of(f)) for f in getattr(result.error, "frames", ())]
        return cls(
            oracle=found.oracle, signature=found.signature, text=printable(found.text, 1000),
            steps=[write_step(target, step) for step in found.case.steps], answers=list(found.case.answers),
            cause=cause_of(function, result), key=_key(found, function),
            answered=answered, stubs_called=target.stubs.any and target.stubs.called,
            status="" if result is None else result.status, frames=frames[:16],
            answers_imports=target.stubs.any,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as a JSON object."""
        return asdict(self)


def _frame(frame: Any, line: SourceLine | None) -> str:
    text = f"{frame.function_index}: {frame.name or '?'} at {frame.module_offset:#x}"
    return text if line is None else f"{text} ({printable(str(line), 200)})"


def _key(found: Finding, function: str) -> str:
    return found.signature if found.signature == RANDOM_ADDRESSES else key_of(found.oracle, function, found.result)


def write_step(target: Target, step: Step) -> list[Any]:
    """Return a step as plain data."""
    export = target.exports.get(step.function)
    types = () if export is None else export.types
    texts = []
    for place, argument in enumerate(step.arguments):
        if isinstance(argument, HandleRef):
            texts.append(f"#{argument.step}")
        else:
            texts.append(format_value(argument, types[place]) if types else repr(argument))
    return [step.function, texts]


def read_step(target: Target, data: Sequence[Any]) -> Step:
    """Return the step that plain data describes. Raise ``CallError`` or ``ValueError`` if the target rejects it."""
    function, texts = data
    export = target.exports.get(function)
    if export is None and function != DROP:
        raise ValueError(f"{printable(str(function))} is not a callable export")
    types = () if export is None else export.types
    if export is not None and len(texts) != len(export.shapes):
        raise ValueError(f"{printable(str(function))} takes {len(export.shapes)} arguments")
    found: list[Any] = []
    for place, text in enumerate(texts):
        if text.startswith("#"):
            found.append(HandleRef(int(text[1:])))
        else:
            found.append(parse_value(text, types[place]) if types else _core(text, export, place))
    return Step(function, tuple(found))


def parse_step(target: Target, text: str) -> Step:
    """Parse a call such as ``[method]file.read(#0, 7)``. Raise ``CallError`` or ``ValueError`` if it is invalid."""
    for name in sorted(target.exports, key=len, reverse=True):
        if text.startswith(f"{name}(") and text.endswith(")"):  # export names may contain brackets and spaces
            return read_step(target, [name, list(_split(text[len(name) + 1 : -1]))])
    found = _CALL.match(text)
    if found is None:
        raise ValueError(f"invalid call {printable(text)}: write NAME(ARGUMENT, …)")
    return read_step(target, [found[1], list(_split(found[2]))])


def format_step(step: Sequence[Any]) -> str:
    """Return a step, given as plain data, as one line that :func:`parse_step` accepts."""
    function, texts = step
    return f"{function}({', '.join(texts)})"


def export_of(finding: Mapping[str, Any]) -> str:
    """Return the export that a finding in a report is about; the source of the input if it is about Aegis itself."""
    if "source" in finding:
        return str(finding["source"])
    return str(finding["steps"][-1][0]) if finding["steps"] else "instantiation"


def _split(text: str) -> Iterator[str]:
    """Split an argument list at the commas that are outside brackets and quotes."""
    depth, quote, start = 0, "", 0
    at = 0
    while at < len(text):
        char = text[at]
        if quote:
            at += char == "\\"
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and not depth:
            yield text[start:at].strip()
            start = at + 1
        at += 1
    if text[start:].strip():
        yield text[start:].strip()


_CALL = re.compile(r"\s*(.+?)\s*\((.*)\)\s*\Z", re.DOTALL)


def _core(text: str, export: TargetExport | None, place: int) -> Any:
    shape = None if export is None else export.shapes[place]
    return read_placed(text, shape) if isinstance(shape, (BufferShape, OutShape)) else _number(text)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def write_case(target: Target, case: Case) -> dict[str, Any]:
    """Return a test case as plain data."""
    return {"steps": [write_step(target, step) for step in case.steps], "answers": list(case.answers)}


def read_case(target: Target, data: Any) -> Case:
    """Return the test case that plain data describes. Errors are those of :func:`read_step`."""
    return Case(tuple(read_step(target, step) for step in data["steps"]), tuple(int(n) for n in data["answers"]))
