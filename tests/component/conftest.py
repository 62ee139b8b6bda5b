"""Fixtures ``entries`` and ``ways``: run a module's tests once per way in which a call can be executed.

``entries``: step by step, or through a fused module. ``ways``: between components directly, or through the host.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.component.hot import fused_at_once, unlinked


@pytest.fixture(scope="module", params=["step by step", "fused"])
def entries(request: pytest.FixtureRequest) -> Iterator[str]:
    """Execute each function step by step, or through its fused module from the first call."""
    if request.param == "fused":
        with fused_at_once():
            yield request.param
    else:
        yield request.param


@pytest.fixture(scope="module", params=["linked", "through the host"])
def ways(request: pytest.FixtureRequest) -> Iterator[str]:
    """Let components call each other through WebAssembly adapters, or through the host."""
    if request.param == "linked":
        yield request.param
    else:
        with unlinked():
            yield request.param
