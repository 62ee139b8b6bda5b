"""Running a finding again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aegis.engine.artifact import read_file
from aegis.fuzz.portable import read_case
from aegis.fuzz.work import Plan, Workshop
from aegis.policy import Policy

__all__ = ["again", "replay"]


def again(plan: Plan, finding: Mapping[str, Any]) -> str | None:
    """Run a finding's case under its oracle; return what the oracle objects to now, or ``None``."""
    shop = Workshop(replace(plan, oracles=(str(finding["oracle"]),)))
    case = read_case(shop.target, finding)
    found = shop.oracles[0].judge(shop.target, shop.target.run(case))
    return None if found is None else found.text


def replay(artifact: str | os.PathLike[str], finding: Mapping[str, Any], **policy: Any) -> str | None:
    """Run a finding of ``aegis fuzz`` again on the file ``artifact``; keywords are those of :class:`aegis.Aegis`.

    Return what its oracle objects to, or ``None`` when it objects no longer.
    """
    path = Path(artifact)
    granted = Policy.from_keywords(**policy)
    return again(Plan(data=read_file(path, granted.limits), name=str(path), policy=granted), finding)
