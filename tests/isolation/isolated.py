"""The same runtime twice, in process and isolated, for tests of behaviour that must be equal."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import pytest

from aegis import Aegis, Isolation

__all__ = ["PLACES", "isolated", "only_where_there_are_workers", "runtime", "shared"]

PLACES = ["in-process", "isolated"]
only_where_there_are_workers = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")


def runtime(place: str, **policy: Any) -> Aegis:
    """Return a runtime whose sandboxes run in ``place``. It keeps no idle workers, which few tests would use."""
    made = {"cache": False, "pooled": False, "timeout": "20s", **policy}
    isolation = made.pop("isolation", Isolation(workers=0))
    return Aegis(isolation=isolation if place == "isolated" else None, **made)


def isolated(**policy: Any) -> Aegis:
    """Return a runtime of isolated sandboxes."""
    return runtime("isolated", **policy)


@cache
def shared(place: str) -> Aegis:
    """Return a runtime with the default policy, shared by all tests of this process."""
    return runtime(place)
