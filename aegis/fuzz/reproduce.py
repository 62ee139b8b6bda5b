"""A finding as something to run: a command with its call in WAVE, and a file for pytest."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["command_of", "file_name", "pytest_file"]


def command_of(artifact: str, kind: str, finding: Mapping[str, Any], saved: str | None = None) -> str:
    """Return the command line that shows a finding.

    One call of a component or module is ``aegis run``; what takes more calls, or answers of imports, is replayed
    from its file (``saved``).
    """
    steps = finding["steps"]
    if len(steps) == 1 and not finding["answers"] and finding["oracle"] in ("no-trap", "no-limit"):
        function, texts = steps[0]
        if kind == "component":
            return f"aegis run --invoke {shlex.quote(_call(function, texts))} {shlex.quote(artifact)}"
        return " ".join(["aegis run -e", shlex.quote(function), shlex.quote(artifact), "--", *map(shlex.quote, texts)])
    return f"aegis fuzz {shlex.quote(artifact)} --replay {shlex.quote(saved or 'FINDING.json')}"


def _call(function: str, texts: Sequence[str]) -> str:
    return f"{function}({', '.join(texts)})"


def file_name(finding: Mapping[str, Any]) -> str:
    """Return the name of a finding's files, without suffix: what it is of, and the start of its signature's digest."""
    from hashlib import sha256

    steps = finding["steps"]
    function = steps[-1][0] if steps else "start"
    words = re.sub(r"[^a-z0-9]+", "_", f"{finding['oracle']} {function}".lower()).strip("_")[:60]
    return f"{words}_{sha256(finding['signature'].encode()).hexdigest()[:8]}"


_TEST = '''"""Found by aegis fuzz: {text}"""

from aegis.fuzz import replay

FINDING = {finding}


def test_{name}() -> None:
    found = replay({artifact!r}, FINDING)
    assert found is None, found
'''


def pytest_file(artifact: str, finding: Mapping[str, Any]) -> str:
    """Return a file for pytest that fails as long as the oracle objects to the finding's case."""
    kept = {key: finding[key] for key in ("oracle", "signature", "steps", "answers")}
    text = str(finding["text"]).replace("\\", "\\\\").replace('"""', "'''")
    return _TEST.format(
        text=text, finding=json.dumps(kept, indent=4, ensure_ascii=True), name=file_name(finding), artifact=artifact
    )
