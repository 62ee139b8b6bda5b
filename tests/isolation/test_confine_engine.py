"""The engine works under all layers: it compiles, calls and traps, and guests reach their grants."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aegis.isolation.confine import LAYERS
from tests.guests.catalogue import built
from tests.isolation.confined import Ended, attack

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the layers are Linux's")

USERS = [0, 1000]
WANTED = {"data_bytes": 1 << 30, "cpu_seconds": 60}


def run(name: str, /, guests: dict[str, Path] | None = None, **order: Any) -> Ended:
    """Run one of the orders of ``tests.isolation.guests`` under all layers."""
    if order.get("user") and os.geteuid():
        pytest.skip("only root changes its user")
    wanted = {**WANTED, **order.pop("wanted", {})}
    return attack(name, module="tests.isolation.guests", wanted=wanted, guests=guests or {}, **order)


@pytest.mark.usual("0")
@pytest.mark.parametrize("user", USERS)
def test_a_core_module_runs_and_traps_cleanly(user: int) -> None:
    assert run("core_module", user=user).value == {
        "add": 5,
        "grow": 1,
        "beyond": "trap",
        "deep": "stack-exhausted",
        "spin": "timeout",
        "divide": "trap",
    }


@pytest.mark.usual("1000")
@pytest.mark.parametrize("user", USERS)
def test_a_component_runs_and_traps_cleanly(user: int) -> None:
    assert run("component", user=user).value == {"twice": 42, "beyond": "trap"}


@pytest.fixture
def tree() -> Iterator[Path]:
    """A directory that any user may enter and write, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o777)
        yield Path(path)


@pytest.mark.usual("-1000")
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("form", ["", pytest.param("-component", marks=pytest.mark.long)])
def test_a_guest_reads_and_writes_its_grants(tree: Path, user: int, form: str) -> None:
    (tree / "text").write_text("granted")
    guests = {"cat": built(f"cat{form}")}
    order = {"grant": [str(tree)], "writes": True, "tree": str(tree), "guest": "cat", "user": user}
    assert run("guest", guests, words=["text"], **order).value["stdout"] == "granted"
    assert run("guest", guests, words=["-o", "copy", "text"], **order).value["code"] == 0
    assert (tree / "copy").read_text() == "granted"


def test_a_guest_without_a_grant_works_too() -> None:
    ended = run("guest", {"cat": built("cat")}, guest="cat", words=[])
    assert ended.value == {"code": 0, "stdout": "from stdin", "status": "returned"}


def test_a_directory_that_only_the_policy_grants_is_out_of_reach(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not granted")
    ended = run("guest", {"cat": built("cat")}, guest="cat", words=["text"], tree=str(tmp_path))
    assert ended.value is None or "not granted" not in ended.value["stdout"]


def test_sandboxes_run_on_many_threads() -> None:
    assert run("many_threads").value == 8


def test_memory_in_total_is_a_refusal_to_the_guest() -> None:
    assert run("exceeds_memory", wanted={"data_bytes": 1 << 29}).value == "returned -1"
    assert run("exceeds_memory", wanted={"data_bytes": 3 << 30}).value == "returned 1"


def test_all_layers_together_cost_little() -> None:
    times = [run("measure", skip=LAYERS).value for _ in range(3)]
    assert statistics.median(times) < 500
