"""Calls in three entries and in one, between components with and without the host: the tests of a module that asks for
``entries`` or ``ways`` run in both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.component.hot import fused_at_once, unlinked


@pytest.fixture(scope="module", params=["step by step", "fused"])
def entries(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have each function called step by step, or through a module of its own from the first call on."""
    if request.param == "fused":
        with fused_at_once():
            yield request.param
    else:
        yield request.param


@pytest.fixture(scope="module", params=["linked", "through the host"])
def ways(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have components call each other by adapters in WebAssembly, or through the host."""
    if request.param == "linked":
        yield request.param
    else:
        with unlinked():
            yield request.param
