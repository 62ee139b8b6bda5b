"""Examples of calls that the user gives, as text: the search starts from them, and uses them verbatim for handles.

A file has one call a line, written as in a finding. Lines without an empty line between them are one sequence, where
``#N`` is the handle that call N of the sequence returned, counted from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from aegis.errors import AegisError, PolicyError
from aegis.fuzz.case import Case, HandleRef
from aegis.fuzz.portable import parse_step
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.fuzz.target import Target

__all__ = ["example_cases", "group_examples", "read_examples"]


def read_examples(text: str) -> list[tuple[str, ...]]:
    """Return the sequences of calls in a file. Lines that begin with ``//`` are comments."""
    found: list[tuple[str, ...]] = []
    calls: list[str] = []
    for line in [*text.splitlines(), ""]:
        line = line.strip()
        if line and not line.startswith("//"):
            calls.append(line)
        elif calls and not line:
            found.append(tuple(calls))
            calls = []
    return found


def group_examples(calls: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the sequences of calls of the command line: one if a call uses the handle of another, else one a call."""
    return [tuple(calls)] if any("(#" in call or " #" in call for call in calls) else [(call,) for call in calls]


def example_cases(target: Target, examples: Sequence[Sequence[str]]) -> Iterator[Case]:
    """Yield the test cases of examples: each sequence, and each of its calls with those that return its handles.

    Raise :class:`~aegis.errors.PolicyError` for a call that cannot be parsed or that uses a missing handle.
    """
    for calls in examples:
        steps = []
        for number, text in enumerate(calls):
            try:
                step = parse_step(target, text)
            except (ValueError, IndexError, AegisError) as error:
                raise PolicyError(f"example {printable(text, 120)}: {printable(str(error), 200)}") from None
            if any(isinstance(a, HandleRef) and not 0 <= a.step < number for a in step.arguments):
                raise PolicyError(
                    f"example {printable(text, 120)}: no earlier call of its sequence returned the handle: "
                    "#N is the result of call N, counted from 0"
                )
            steps.append(step)
        whole = Case(tuple(steps))
        if len(steps) > 1:
            yield whole
        yield from (whole.closure(number) for number in range(len(steps)) if target.exports.get(steps[number].function))
