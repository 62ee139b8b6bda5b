"""Log lines of a guest reach the logger ``aegis.guest`` of the standard library, if logging is granted.

Oracle: each grant in pairs, in process and isolated; importing Aegis imports no ``logging``.
"""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from aegis import LoggingCapability
from tests.cli.command import guest
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

pytestmark = only_where_there_are_workers
everywhere = pytest.mark.parametrize("place", PLACES)


def logged(place: str, caplog: pytest.LogCaptureFixture, **policy: object) -> list[tuple[str, int, str]]:
    made = runtime(place, **policy)
    with caplog.at_level(1, logger="aegis.guest"), made.sandbox(made.load_file(guest("logging"))) as sandbox:
        sandbox.run("_start")
    return [(record.name, record.levelno, record.getMessage()) for record in caplog.records]


@everywhere
def test_lines_reach_the_logger_by_default(place: str, caplog: pytest.LogCaptureFixture) -> None:
    found = logged(place, caplog, logging=LoggingCapability.production())
    assert [(name, level) for name, level, _ in found] == [
        ("aegis.guest", n) for n in (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
    ]


@everywhere
def test_the_lowest_level_and_the_grant_decide(place: str, caplog: pytest.LogCaptureFixture) -> None:
    found = logged(place, caplog, logging="error")
    assert [level for _, level, _ in found] == [logging.ERROR, logging.CRITICAL]
    caplog.clear()
    assert logged(place, caplog) == []


def test_importing_aegis_and_making_a_runtime_imports_no_logging() -> None:
    program = "import sys, aegis; aegis.Aegis(cache=False); assert 'logging' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
