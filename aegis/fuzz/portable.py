"""Cases as text, for files and other processes: each argument in WAVE, or as a number of core WebAssembly.

A buffer is text as Python has bytes: ``b"..."``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from aegis.fuzz.case import Case, Finding, Given, Step
from aegis.fuzz.target import DROP
from aegis.fuzz.values.buffers import Buffer, BufferShape, read_buffer
from aegis.text import printable
from aegis.wit.wave import format_value, parse_value

if TYPE_CHECKING:
    from aegis.fuzz.target import Subject, Target

__all__ = ["Told", "format_step", "parse_step", "read_case", "read_step", "write_case", "write_step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A finding as plain data. ``steps`` are ``[function, [argument, …]]``, a handle as ``#`` and its step."""

    oracle: str
    signature: str
    text: str
    steps: list[Any]
    answers: list[int] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    """What the imports answered by that plan."""
    status: str = ""
    frames: list[str] = field(default_factory=list)
    answers_imports: bool = False
    """Whether the artifact imports functions that only a campaign answers."""
    command: str = ""

    @classmethod
    def of(cls, target: Target, found: Finding) -> Told:
        """Return a finding as plain data."""
        reply = found.reply
        frames = [] if reply is None else [_frame(f) for f in getattr(reply.error, "frames", ())]
        return cls(
            oracle=found.oracle, signature=found.signature, text=printable(found.text, 1000),
            steps=[write_step(target, step) for step in found.case.steps], answers=list(found.case.answers),
            answered=target.answered(found.case), status="" if reply is None else reply.status, frames=frames[:16],
            answers_imports=target.answers.any,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def _frame(frame: Any) -> str:
    return f"{frame.function_index}: {frame.name or '?'} at {frame.module_offset:#x}"


def write_step(target: Target, step: Step) -> list[Any]:
    """Return a step as text."""
    subject = target.subjects.get(step.function)
    types = () if subject is None else subject.types
    texts = []
    for place, argument in enumerate(step.arguments):
        if isinstance(argument, Given):
            texts.append(f"#{argument.step}")
        else:
            texts.append(format_value(argument, types[place]) if types else repr(argument))
    return [step.function, texts]


def read_step(target: Target, told: Sequence[Any]) -> Step:
    """Return the step that a text tells; raise ``CallError`` or ``ValueError`` where it is none of this target."""
    function, texts = told
    subject = target.subjects.get(function)
    if subject is None and function != DROP:
        raise ValueError(f"{printable(str(function))} is no export that can be called")
    types = () if subject is None else subject.types
    if subject is not None and len(texts) != len(subject.shapes):
        raise ValueError(f"{printable(str(function))} takes {len(subject.shapes)} arguments")
    found: list[Any] = []
    for place, text in enumerate(texts):
        if text.startswith("#"):
            found.append(Given(int(text[1:])))
        else:
            found.append(parse_value(text, types[place]) if types else _core(text, subject, place))
    return Step(function, tuple(found))


def parse_step(target: Target, text: str) -> Step:
    """Return the step that a text such as ``[method]file.read(#0, 7)`` tells; raise ``CallError`` or ``ValueError``."""
    for name in sorted(target.subjects, key=len, reverse=True):
        if text.startswith(f"{name}(") and text.endswith(")"):  # a name may hold brackets and spaces of its own
            return read_step(target, [name, list(_split(text[len(name) + 1 : -1]))])
    found = _CALL.match(text)
    if found is None:
        raise ValueError(f"{printable(text)} is no call: write NAME(ARGUMENT, …)")
    return read_step(target, [found[1], list(_split(found[2]))])


def format_step(step: Sequence[Any]) -> str:
    """Return a step that is text already as one line, which :func:`parse_step` reads."""
    function, texts = step
    return f"{function}({', '.join(texts)})"


def _split(text: str) -> Iterator[str]:
    """Yield the arguments in a text, split at commas that are neither within brackets nor within quotes."""
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


def _core(text: str, subject: Subject | None, place: int) -> int | float | Buffer:
    wanted = subject is not None and isinstance(subject.shapes[place], BufferShape)
    return read_buffer(text) if wanted else _number(text)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def write_case(target: Target, case: Case) -> dict[str, Any]:
    """Return a case as plain data."""
    return {"steps": [write_step(target, step) for step in case.steps], "answers": list(case.answers)}


def read_case(target: Target, told: Any) -> Case:
    """Return the case that plain data tells; errors as for :func:`read_step`."""
    return Case(tuple(read_step(target, step) for step in told["steps"]), tuple(int(n) for n in told["answers"]))
