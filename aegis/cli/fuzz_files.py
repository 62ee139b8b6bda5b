"""The files that ``aegis fuzz`` writes: the report, the findings, SARIF and JUnit, and the state of the campaign."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aegis.cli.input_files import read_bounded
from aegis.errors import PolicyError
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.fuzz.baseline import Baseline
    from aegis.fuzz.campaign import Campaign
    from aegis.fuzz.plan import CampaignPlan

__all__ = [
    "FINDINGS_FOLDER",
    "read_baseline",
    "write_ci_files",
    "write_folder",
    "write_replay_files",
    "write_report",
]

_MAX_BASELINE_BYTES = 1 << 28

FINDINGS_FOLDER = "aegis-findings"
"""Directory for findings that are too long for a command line, if ``--out`` names none."""


def write_folder(folder: Path, data: dict[str, Any], campaign: Campaign, plan: CampaignPlan, command: str) -> None:
    """Write the report as JSON and HTML, each finding as JSON and as a test for pytest, and the campaign's state.

    ``command`` continues the campaign.
    """
    from aegis.fuzz.continuation import STATE_FILE, to_state
    from aegis.fuzz.report_html import to_html
    from aegis.fuzz.reproduce import file_name, pytest_file
    from aegis.observe.encode import dump

    files = {"report.json": dump(data, indent=2), "report.html": to_html(data, campaign.result, command)}
    files[STATE_FILE] = dump(to_state(campaign.result), indent=None)
    for finding in data["findings"]:
        name = file_name(finding)
        files[f"{name}.json"] = dump(finding, indent=2)
        files[f"test_{name}.py"] = pytest_file(os.path.abspath(plan.name), finding, plan.policy)
    _write({folder / name: text for name, text in files.items()})


def write_report(folder: Path, data: Mapping[str, Any]) -> None:
    """Write the report of an attack on Aegis, whose findings are saved already."""
    from aegis.observe.encode import dump

    _write({folder / "report.json": dump(data, indent=2)})


def write_replay_files(data: Mapping[str, Any]) -> int:
    """Write the findings whose command reads a file to :data:`FINDINGS_FOLDER`, and return their number."""
    from aegis.fuzz.regular_files import results_folder
    from aegis.fuzz.reproduce import file_name, needs_file
    from aegis.observe.encode import dump

    found = [finding for finding in data["findings"] if needs_file(finding)]
    if found:
        folder = results_folder(FINDINGS_FOLDER)
        _write({folder / f"{file_name(finding)}.json": dump(finding, indent=2) for finding in found})
    return len(found)


def read_baseline(path: str | None) -> Baseline | None:
    """Read the baseline, before the campaign starts. Raise :class:`~aegis.errors.PolicyError` if that fails."""
    from aegis.fuzz.baseline import Baseline

    if path is None:
        return None
    try:
        text = read_bounded(path, _MAX_BASELINE_BYTES)
    except OSError as error:
        raise PolicyError(f"{printable(path)} cannot be read: {error.strerror or error}") from None
    return Baseline(text if isinstance(text, str) else text.decode("utf-8", "replace"), path)


def write_ci_files(
    data: Mapping[str, Any], sentences: Mapping[str, str], *, sarif: str | None, junit: str | None, began: float
) -> None:  # fmt: skip
    """Write the reports for CI servers.

    ``sentences`` has the property that each oracle states. ``began`` is the start of the campaign in seconds since the
    epoch.
    """
    files = {}
    if sarif is not None:
        from aegis import __version__
        from aegis.fuzz.sarif import to_sarif
        from aegis.observe.encode import dump

        files[Path(sarif)] = dump(to_sarif(data, sentences, __version__), indent=2)
    if junit is not None:
        from aegis.fuzz.junit import to_junit

        files[Path(junit)] = to_junit(data, began, socket.gethostname())
    _write(files)


def _write(files: Mapping[Path, str]) -> None:
    from aegis.fuzz.regular_files import write_regular

    for path, text in files.items():
        try:
            write_regular(path, text)
        except OSError as error:
            raise PolicyError(f"{printable(str(path))} cannot be written: {error.strerror or error}") from None
