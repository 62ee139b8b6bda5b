"""Calls in three entries and in one: tests of a module that asks for ``entries`` run in both ways."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.component.hot import fused_at_once


@pytest.fixture(scope="module", params=["step by step", "fused"])
def entries(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have each function called step by step, or through a module of its own from the first call on."""
    if request.param == "fused":
        with fused_at_once():
            yield request.param
    else:
        yield request.param
