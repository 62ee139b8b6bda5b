"""Fixtures for tests of workers."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.isolation.names import Names


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """A resolver that replaces the system's."""
    made = Names()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.go.set()
