"""Cases as text, for files and other processes: each argument in WAVE, or as a number of core WebAssembly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from aegis.fuzz.case import Case, Finding, Given, Step
from aegis.fuzz.target import DROP
from aegis.names import printable
from aegis.wit.wave import format_value, parse_value

if TYPE_CHECKING:
    from aegis.fuzz.target import Target

__all__ = ["Told", "read_case", "read_step", "write_case", "write_step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A finding as plain data. ``steps`` are ``[function, [argument, …]]``, a handle as ``#`` and its step."""

    oracle: str
    signature: str
    text: str
    steps: list[Any]
    answers: list[int] = field(default_factory=list)
    status: str = ""
    frames: list[str] = field(default_factory=list)
    command: str = ""

    @classmethod
    def of(cls, target: Target, found: Finding) -> Told:
        """Return a finding as plain data."""
        outcome = found.outcome
        frames = [] if outcome is None else [_frame(f) for f in getattr(outcome.error, "frames", ())]
        return cls(
            oracle=found.oracle, signature=found.signature, text=printable(found.text, 1000),
            steps=[write_step(target, step) for step in found.case.steps], answers=list(found.case.answers),
            status="" if outcome is None else outcome.status, frames=frames[:16],
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def _frame(frame: Any) -> str:
    return f"{frame.function_index}: {frame.name or '?'} at {frame.module_offset:#x}"


def write_step(target: Target, step: Step) -> list[Any]:
    """Return a step as text."""
    subject = target.subjects.get(step.function)
    types: Sequence[Any] = () if subject is None or subject.type is None else [of for _, of in subject.type.params]
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
    if subject is None and not str(function).startswith(DROP):
        raise ValueError(f"{printable(str(function))} is not called in this campaign")
    types: Sequence[Any] = () if subject is None or subject.type is None else [of for _, of in subject.type.params]
    if subject is not None and len(texts) != len(subject.shapes):
        raise ValueError(f"{printable(str(function))} takes {len(subject.shapes)} arguments")
    found: list[Any] = []
    for place, text in enumerate(texts):
        if text.startswith("#"):
            found.append(Given(int(text[1:])))
        else:
            found.append(parse_value(text, types[place]) if types else _number(text))
    return Step(function, tuple(found))


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
