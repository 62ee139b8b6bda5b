"""The entry points of programs, and how the result of one becomes an exit code."""

from __future__ import annotations

from aegis.errors import GuestExit
from aegis.observe.outcome import Outcome
from aegis.support.lean import replace
from aegis.wit.err import Err

__all__ = ["COMMAND", "ended", "is_program"]

COMMAND = "wasi:cli/run"


def is_program(function: str) -> bool:
    """Return whether an export is the entry point of a program: ``_start``, or ``run`` of ``wasi:cli/run``."""
    return function == "_start" or function.startswith(f"{COMMAND}@") or function == f"{COMMAND}#run"


def ended(function: str, outcome: Outcome) -> Outcome:
    """Return the outcome of a program; if ``wasi:cli/run`` returned its error case, the exit code is 1."""
    if is_program(function) and isinstance(outcome.value, Err):
        return replace(outcome, status="exited", exit_code=1, value=None, error=GuestExit(1))
    return outcome
