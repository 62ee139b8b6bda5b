"""A sandbox behaves in a worker as in process: the same tests, with every sandbox isolated."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 600
SUITES = {
    "tests/test_sandbox.py": 60,
    "tests/test_embedding.py": 45,
    "tests/test_deadlines.py": 20,
    "tests/component/test_echo.py": 150,
    "tests/component/test_guest_resources.py": 25,
    "tests/component/test_imported_resources.py": 12,
    "tests/component/test_world_resources.py": 1,
    "tests/component/test_host_resources.py": 1,
    "tests/component/tasks/test_cancellation.py": 14,
    "tests/component/tasks/test_inputs.py": 55,
    "tests/component/tasks/test_limits.py": 8,
    "tests/component/tasks/test_hostile.py": 120,
    "tests/guests/test_components.py": 50,
    "tests/guests/test_component_text.py": 65,
    "tests/security/test_components.py": 150,
    "tests/security/test_canonical_abi.py": 25,
}
"""The least number of isolated sandboxes that the tests of each file make, with a tenth of the random examples. Each
file has a process of its own, so that the test runner can spread them over its own processes."""
USUAL = {
    "tests/test_sandbox.py", "tests/component/test_imported_resources.py", "tests/component/test_world_resources.py",
    "tests/component/test_host_resources.py",
}  # fmt: skip
"""The files of usual runs. ``test_same_values.py``, ``test_isolated_components.py``, ``test_same_streams.py`` and
``test_overlapping.py`` always hold the rules of the others."""
LOOKS_INSIDE = {
    "test_abandoned_quota_is_released_when_its_thread_ends": "counts descriptors, and a pool keeps some",
    "test_the_outcome_of_an_abandoned_run_can_still_be_read": "counts calls that the killed worker did not tell of",
    "test_a_borrowed_object_stays_the_hosts": "looks at the handles of this process",
    "test_an_owned_object_comes_back_as_itself": "likewise",
    "test_an_owned_object_that_the_guest_drops_is_dropped_on_the_host": "likewise",
    "test_handles_inside_other_values": "likewise",
    "test_undelivered_values_are_not_lost": "likewise",
    "test_subtasks_without_end_meet_the_limit_of_handles": "likewise",
    "test_a_reader_is_passed_on_once": "passes a reader back to its guest, which an isolated one does not support",
    "test_two_tasks_that_read_one_stream_are_refused": "likewise",
}
"""Tests of behaviour that an embedder does not see."""


@pytest.mark.parametrize(
    ("path", "sandboxes"),
    [pytest.param(*item, marks=[] if item[0] in USUAL else [pytest.mark.long]) for item in SUITES.items()],
)
def test_rules_that_hold_in_process_hold_in_a_worker(path: str, sandboxes: int) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.isolation.isolate_all", "-p", "no:cacheprovider"]
    chosen = " and ".join(f"not {test}" for test in LOOKS_INSIDE)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [*command, "-n", "0", "-k", chosen, path],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    reported = re.search(r"^isolated: ([0-9]+)$", done.stdout, re.MULTILINE)
    assert reported is not None
    assert int(reported[1]) >= sandboxes
