"""The result of a campaign as JUnit XML, which every CI server reads: one test case per export, or source of inputs.

An export with new findings fails, one that the campaign could not test is skipped. Problems of the campaign itself are
an error of the test case ``campaign``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

from aegis.fuzz.portable import export_of, format_step
from aegis.text import visible

__all__ = ["to_junit"]

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""The characters that XML 1.0 cannot hold, even escaped (section 2.2)."""


def to_junit(data: Mapping[str, Any], began: float, host: str) -> str:
    """Return a report, as :func:`aegis.fuzz.report.to_data` made it, as a JUnit document.

    ``began`` is the start of the campaign in seconds since the epoch, ``host`` the name of the machine.
    """
    artifact, seconds = _text(str(data["artifact"])), f"{data['seconds']:.3f}"
    cases = [_case(artifact, row, data["findings"]) for row in data["exports"]]
    named = {row["name"] for row in data["exports"]}
    others = [finding for finding in data["findings"] if export_of(finding) not in named]
    cases += (
        [_failing(_element("testcase", name="instantiation", classname=artifact, time="0"), others)] if others else []
    )
    cases += [_skipped(artifact, name, reason) for name, reason in data["left_out"].items()]
    campaign = _element("testcase", name="campaign", classname=artifact, time=seconds)
    for problem in data["problems"]:
        campaign.append(_element("error", type="problem", message=_text(problem)))
    cases.append(campaign)
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
        "time": seconds,
    }
    when = datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    suite = _element("testsuite", name=f"aegis fuzz {artifact}", timestamp=when, hostname=_text(host), **counts)
    properties = _element("properties")
    properties.extend(
        _element("property", name=name, value=str(data[name])) for name in ("seed", "cases", "behaviours")
    )
    suite.append(properties)
    suite.extend(cases)
    counts.pop("skipped")
    suites = _element("testsuites", name="aegis fuzz", **counts)
    suites.append(suite)
    ElementTree.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n'


def _case(artifact: str, row: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> ElementTree.Element:
    case = _element("testcase", name=_text(row["name"]), classname=artifact, time="0")
    case = _failing(case, [finding for finding in findings if export_of(finding) == row["name"]])
    if row["warning"] and case.find("failure") is None:
        case.append(_element("skipped", message=_text(row["warning"])))
    return case


def _failing(case: ElementTree.Element, findings: Sequence[Mapping[str, Any]]) -> ElementTree.Element:
    """Add the findings to a test case: new ones as one failure, as several readers expect, known ones as output."""
    new = [finding for finding in findings if not finding["known"]]
    if new:
        more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
        failure = _element("failure", type=_text(new[0]["oracle"]), message=f"{_text(new[0]['text'])}{more}")
        failure.text = "\n\n".join(map(_described, new))
        case.append(failure)
    known = [finding for finding in findings if finding["known"]]
    if known:
        output = _element("system-out")
        output.text = "\n\n".join(["known by the baseline:", *map(_described, known)])
        case.append(output)
    return case


def _described(finding: Mapping[str, Any]) -> str:
    calls = [f"  {_text(format_step(step))}" for step in finding["steps"]]
    frames = [f"  {_text(frame)}" for frame in finding["frames"]]
    return "\n".join(
        [f"{_text(finding['oracle'])}: {_text(finding['text'])}", *calls, _text(finding["command"]), *frames]
    )


def _skipped(artifact: str, name: str, reason: str) -> ElementTree.Element:
    case = _element("testcase", name=_text(name), classname=artifact, time="0")
    case.append(_element("skipped", message=_text(reason)))
    return case


def _element(tag: str, /, **attributes: str) -> ElementTree.Element:
    return ElementTree.Element(tag, attributes)


def _text(text: str) -> str:
    """Return text on one line without characters that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", visible(text))
