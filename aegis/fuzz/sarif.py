"""The findings of a campaign as SARIF 2.1.0, which code-scanning services read.

A result points at the source line of its innermost frame that has one, otherwise at the artifact. Its fingerprint is
the finding's key, which stays the same when the guest is compiled again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aegis.fuzz.portable import export_of, format_step
from aegis.text import visible

__all__ = ["source_of", "to_sarif"]

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_SOURCE = re.compile(r"(?:^|\s|\()(?P<file>[^\s()]+?\.[A-Za-z0-9_]{1,6}):(?P<line>[1-9]\d{0,8})(?::\d+)?(?:$|[\s),])")
"""A source line in the text of a frame."""
_MAX_RESULTS = 5000
"""Most results of one run; GitHub's code scanning rejects more than 25,000."""


def to_sarif(data: Mapping[str, Any], sentences: Mapping[str, str], version: str) -> dict[str, Any]:
    """Return a report, as :func:`aegis.fuzz.report.to_data` made it, as a SARIF log.

    ``sentences`` has the property that each oracle states, ``version`` is that of Aegis.
    """
    findings = data["findings"][:_MAX_RESULTS]
    names = list(dict.fromkeys([*sentences, *(finding["oracle"] for finding in findings)]))
    rules = {name: number for number, name in enumerate(names)}
    base = {"startLine": 1}
    uri = _uri(str(data["artifact"]))
    run = {
        "tool": {
            "driver": {
                "name": "aegis fuzz",
                "semanticVersion": version,
                "rules": [_rule(name, sentences.get(name, f"{name} holds of every call.")) for name in names],
            }
        },
        "automationDetails": {"id": f"aegis-fuzz/{quote(Path(str(data['artifact'])).name)}/"},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": not data["problems"],
                "toolExecutionNotifications": [
                    {"level": "error", "message": {"text": visible(problem)}} for problem in data["problems"]
                ],
            }
        ],
        "artifacts": [{"location": {"uri": uri}, "roles": ["analysisTarget"]}],
        "results": [_result(finding, rules, uri, base) for finding in findings],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(name: str, sentence: str) -> dict[str, Any]:
    return {
        "id": visible(name),
        "name": "".join(word.capitalize() for word in re.findall(r"\w+", name)) or "Oracle",
        "shortDescription": {"text": visible(sentence)},
        "fullDescription": {"text": visible(sentence)},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": ["fuzzing", "webassembly"], "precision": "very-high"},
    }


def _result(
    finding: Mapping[str, Any], rules: Mapping[str, int], artifact: str, base: Mapping[str, int]
) -> dict[str, Any]:
    calls = [visible(format_step(step)) for step in finding["steps"]]
    source = source_of(finding["frames"])
    place = {"artifactLocation": {"uri": artifact}, "region": dict(base)}
    if source is not None:
        place = {"artifactLocation": {"uri": _uri(source[0])}, "region": {"startLine": source[1]}}
    text = f"{visible(finding['text'])}\n\nReproduce: {visible(finding['command'])}"
    found = {
        "ruleId": visible(finding["oracle"]),
        "ruleIndex": rules[finding["oracle"]],
        "level": "error",
        "kind": "fail",
        "message": {"text": text},
        "locations": [
            {
                "physicalLocation": place,
                "logicalLocations": [{"fullyQualifiedName": visible(export_of(finding)), "kind": "function"}],
            }
        ],
        "partialFingerprints": {
            "aegisFinding/v1": sha256((finding["key"] or finding["signature"]).encode()).hexdigest()
        },
        "properties": {"calls": calls, "cause": visible(finding["cause"]), "signature": visible(finding["signature"])},
    }
    if finding["frames"]:
        found["stacks"] = [
            {"message": {"text": "stack, the innermost frame first"}, "frames": list(_frames(finding["frames"]))}
        ]
    if finding["known"]:
        found["suppressions"] = [{"kind": "external", "justification": "the finding is in the baseline"}]
    return found


def _frames(frames: Sequence[str]) -> Iterator[dict[str, Any]]:
    for frame in frames:
        location: dict[str, Any] = {"message": {"text": visible(frame)}}
        source = source_of([frame])
        if source is not None:
            location["physicalLocation"] = {
                "artifactLocation": {"uri": _uri(source[0])}, "region": {"startLine": source[1]},
            }  # fmt: skip
        yield {"location": location}


def source_of(frames: Sequence[str]) -> tuple[str, int] | None:
    """Return file and line of the innermost frame that has a source line, ``None`` if there is none."""
    for frame in frames:
        found = _SOURCE.search(frame)
        if found is not None:
            return found["file"], int(found["line"])
    return None


def _uri(path: str) -> str:
    """Return a path as a URI: relative to the current directory if it is below, as code scanning expects."""
    if path == "-":
        return "stdin"
    absolute = os.path.abspath(path)
    below = os.path.relpath(absolute)
    if not below.startswith(os.pardir):
        return quote(Path(below).as_posix())
    return f"file://{quote(Path(absolute).as_posix())}"
