"""A pytest plugin that isolates every sandbox created without an explicit place, and counts them."""

from __future__ import annotations

from typing import Any

import pytest

from aegis import Aegis

_sandbox = Aegis.sandbox
_isolated = 0


def _elsewhere(self: Aegis, *positional: Any, **options: Any) -> Any:
    global _isolated
    made = _sandbox(self, *positional, **{"isolate": True, **options})
    _isolated += bool(made.layers)
    return made


Aegis.sandbox = _elsewhere  # type: ignore[method-assign]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the count."""
    terminalreporter.write_line(f"isolated: {_isolated}")
