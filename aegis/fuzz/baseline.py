"""The baseline: findings that are known already and do not fail a build.

A finding is recognised by its key, which holds no address and no function number (:mod:`aegis.fuzz.causes`). Findings
with equal keys are counted: if the baseline has two of them, the third is new.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from aegis.errors import PolicyError
from aegis.text import printable

__all__ = ["Baseline"]


class Baseline:
    """The known findings, by key; read from a report, from a list of findings, or from ``findings.jsonl`` of a corpus.

    Raise :class:`~aegis.errors.PolicyError` for any other text.
    """

    def __init__(self, text: str, name: str = "the baseline") -> None:
        self._keys: Counter[str] = Counter()
        for finding in _findings(text, name):
            key = finding.get("key") or finding.get("signature")
            if not isinstance(key, str):
                raise PolicyError(f"{printable(name)}: a finding has no key: name a report.json of aegis fuzz")
            self._keys[key] += 1

    def known(self, findings: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Return for each finding whether the baseline has it."""
        left = self._keys.copy()
        known = []
        for finding in findings:
            key = next((key for key in _keys(finding) if left[key] > 0), None)
            if key is not None:
                left[key] -= 1
            known.append(key is not None)
        return known

    def absent(self, findings: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return the keys of the baseline that no finding has."""
        found = {key for finding in findings for key in _keys(finding)}
        return sorted(key for key in self._keys if key not in found)


def _keys(finding: Mapping[str, Any]) -> tuple[str, str]:
    return finding["key"], finding["signature"]


def _findings(text: str, name: str) -> list[dict[str, Any]]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = _lines(text, name)
    found = data.get("findings", [data]) if isinstance(data, dict) else data
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise PolicyError(f"{printable(name)} has no list of findings: name a report.json of aegis fuzz")
    return found


def _lines(text: str, name: str) -> list[Any]:
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        raise PolicyError(f"{printable(name)} is not JSON: name a report.json of aegis fuzz") from None
