"""Running a finding again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aegis.engine.compile.artifact import read_file
from aegis.fuzz.case import Case, Given
from aegis.fuzz.oracles import Oracle
from aegis.fuzz.plan import Plan
from aegis.fuzz.portable import parse_step, read_case
from aegis.fuzz.target import EVERY, Target
from aegis.fuzz.work import Workshop
from aegis.policy import Policy
from aegis.text import printable

__all__ = ["again", "called", "replay"]


def again(plan: Plan, finding: Mapping[str, Any]) -> str | None:
    """Run a finding's case under its oracle; return what the oracle objects to now, or ``None``."""
    hostile = bool(finding.get("hostile", plan.hostile))
    buffers = not finding.get("numbers", not plan.buffers)
    oracles = (str(finding["oracle"]),)
    shop = Workshop(replace(plan, oracles=oracles, hostile=hostile, buffers=buffers, functions=EVERY))
    return _judged(shop.target, shop.oracles[0], read_case(shop.target, finding))


def called(plan: Plan, calls: Sequence[str], answers: Sequence[int]) -> list[tuple[str, str]]:
    """Run one case, its calls as text, under the plan's oracles; return each that objects, and to what."""
    shop = Workshop(replace(plan, functions=EVERY))
    case = Case(tuple(parse_step(shop.target, text) for text in calls), tuple(answers))
    for number, step in enumerate(case.steps):
        if any(isinstance(a, Given) and not 0 <= a.step < number for a in step.arguments):
            raise ValueError(f"call {number} is given what a later call returns, or none: {printable(calls[number])}")
    found = [(oracle.name, _judged(shop.target, oracle, case)) for oracle in shop.oracles]
    return [(name, text) for name, text in found if text is not None]


def _judged(target: Target, oracle: Oracle, case: Case) -> str | None:
    found = oracle.thorough().judge(target, target.run(case))
    return None if found is None else found.text


def replay(artifact: str | os.PathLike[str], finding: Mapping[str, Any], **policy: Any) -> str | None:
    """Run a finding of ``aegis fuzz`` again on the file ``artifact``; keywords are those of :class:`aegis.Aegis`.

    Without a limit of fuel it runs under that of a campaign, 1e9.
    Return what its oracle objects to, or ``None`` when it objects no longer.
    """
    path = Path(artifact)
    granted = Policy.from_keywords(**policy)
    return again(Plan(data=read_file(path, granted.limits), name=str(path), policy=granted), finding)
