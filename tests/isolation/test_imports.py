"""A confined worker imports no modules: everything a guest needs is loaded before, whatever the guest is.

Imports are rejected after confinement, so every guest that runs here shows that it needs none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, ClockCapability, FilesystemCapability, LoggingCapability, NetworkCapability
from aegis.errors import AegisInternalError
from aegis.isolation.parent.backend import _modules
from aegis.isolation.protocol.errors import to_plain
from tests.guests.catalogue import GUESTS
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

pytestmark = only_where_there_are_workers

PROGRAM = """(component
  (core module $m (func (export "run") (result i32) i32.const 0))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (component $c (import "run" (func $run (result (result)))) (export "run" (func $run)))
  (instance $run (instantiate $c (with "run" (func $run))))
  (export "wasi:cli/run@0.2.0" (instance $run)))"""
CLOCK = """(component
  (core module $m (func (export "now") (result i64) i64.const 7))
  (core instance $i (instantiate $m))
  (func $now (result u64) (canon lift (core func $i "now")))
  (component $c (import "now" (func $now (result u64))) (export "resolution" (func $now)))
  (instance $clock (instantiate $c (with "now" (func $now))))
  (export "wasi:clocks/monotonic-clock@0.2.0" (instance $clock)))"""
RANDOM = CLOCK.replace("resolution", "get-random-u64").replace("clocks/monotonic-clock", "random/random")
STREAMS = CLOCK.replace("resolution", "of-its-own").replace("clocks/monotonic-clock", "io/streams")
RENAMED = CLOCK.replace("result u64", "result s32").replace("i64", "i32")
EXPORTS = {
    "wasi:cli/run": (PROGRAM, "wasi:cli/run@0.2.0#run", None),
    "wasi:clocks": (CLOCK, "wasi:clocks/monotonic-clock@0.2.0#resolution", 7),
    "wasi:random": (RANDOM, "wasi:random/random@0.2.0#get-random-u64", 7),
    "a function that WASI's interface lacks": (STREAMS, "wasi:io/streams@0.2.0#of-its-own", 7),
    "a function of another type than WASI's": (RENAMED, "wasi:clocks/monotonic-clock@0.2.0#resolution", 7),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", EXPORTS)
def test_a_component_may_export_a_wasi_interface_that_it_does_not_import(place: str, name: str) -> None:
    text, function, value = EXPORTS[name]
    made = runtime(place)
    with made.sandbox(made.load_wat(text)) as sandbox:
        assert sandbox.call(function) == value


def test_the_modules_of_exports_are_imported_beforehand() -> None:
    made = Aegis(cache=False)
    assert "aegis.bindings.wasi_cli_run" not in _modules(made.load_wat("(component)"), made.policy)
    wanted = _modules(made.load_wat(CLOCK), made.policy)
    assert "aegis.bindings.wasi_clocks_monotonic_clock" in wanted


def test_an_unexpected_error_of_a_worker_reveals_no_path() -> None:
    kind, text, _ = to_plain(PermissionError(13, "Permission denied", "/home/me/lib/python/secret.py"))
    assert (kind, text) == ("AegisInternalError", "PermissionError: Permission denied")


BUILT = sorted((GUESTS / "build").glob("*.wasm"))
GRANTS: dict[str, Any] = {
    "clock": ClockCapability.parse("system"), "logging": LoggingCapability.production(),
    "network": NetworkCapability(allow=["tcp://127.0.0.1:1"]), "isolation": "strict", "fuel": None,
}  # fmt: skip


@pytest.mark.usual(every=5)
@pytest.mark.parametrize("grants", [False, True], ids=["without grants", "with grants"])
@pytest.mark.parametrize("guest", BUILT, ids=lambda path: path.stem)
def test_a_worker_needs_no_import_after_it_was_confined(guest: Path, grants: bool, tmp_path: Path) -> None:
    """However the guest ends, it does not end with an internal error."""
    options = {**GRANTS, "filesystem": FilesystemCapability.read_write(f"{tmp_path}::/")} if grants else {
        "isolation": "strict", "fuel": None}  # fmt: skip
    with Aegis(pooled=False, timeout="20s", **options) as made:
        artifact = made.load_file(guest)
        names = artifact.callables() if artifact.kind == "component" else [e.name for e in artifact.exports]
        with made.sandbox(artifact, args=("guest", "x"), trap_missing=True) as sandbox:
            for name in names[:2]:
                try:
                    outcome = sandbox.run(name)
                except TypeError:
                    continue  # it has parameters, or is not a function
                assert "was not imported" not in str(outcome.error)
                assert not isinstance(outcome.error, AegisInternalError)
                if sandbox.state != "ready":
                    break
