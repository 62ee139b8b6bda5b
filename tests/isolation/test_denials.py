"""The denials of a call are part of its outcome, in process and isolated."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from aegis import FilesystemCapability
from aegis.values import Decision
from tests.guests.catalogue import source
from tests.isolation.isolated import PLACES, runtime

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")

OFTEN = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "../x")
  (func (export "ask") (param $times i32)
    (block $done (loop $again
      (br_if $done (i32.eqz (local.get $times)))
      (local.set $times (i32.sub (local.get $times) (i32.const 1)))
      (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 0) (i64.const 2)
        (i64.const 0) (i32.const 0) (i32.const 64)))
      (br $again)))))"""


def _denials(place: str, folder: Path, *times: int, **options: Any) -> list[tuple[Decision, ...]]:
    with runtime(place, filesystem=FilesystemCapability.read_only(f"{folder}::/")) as aegis:
        with aegis.sandbox(aegis.load_wat(OFTEN), **options) as box:
            outcomes = [box.run("ask", n) for n in times]
        assert [outcome.usage.denials for outcome in outcomes] == list(times)
        return [outcome.denials for outcome in outcomes]


@pytest.mark.parametrize("place", PLACES)
def test_each_call_has_its_own_denials_the_first_of_many(place: str, tmp_path: Path) -> None:
    """Oracle: in both places an outcome has the denials of its own call, and at most sixteen."""
    none, two, many, one = _denials(place, tmp_path, 0, 2, 50, 1)
    assert [len(none), len(two), len(many), len(one)] == [0, 2, 16, 1]
    assert one[0].capability == "filesystem"
    assert not one[0].allowed
    assert one[0].rule.startswith("the path leaves /")
    assert not one[0].remedy


@pytest.mark.parametrize("place", PLACES)
def test_every_denial_is_reported_to_subscribers(place: str, tmp_path: Path) -> None:
    heard: list[Decision] = []
    _denials(place, tmp_path, 30, denied=heard.append)
    assert len(heard) == 30


def test_both_places_say_the_same_of_a_guest_that_tries(tmp_path: Path) -> None:
    found = []
    for place in PLACES:
        with runtime(place, filesystem=FilesystemCapability.read_only(f"{tmp_path}::/")) as aegis:
            module = aegis.load_file(source("hostile/escape-truncate"))
            with aegis.sandbox(module) as box:
                found.append(box.run("_start").denials)
    assert found[0] == found[1]
    assert found[0]


ASKS = {
    "clock": ("clock_time_get", "(param i32 i64 i32)", "(i32.const 0) (i64.const 0) (i32.const 8)", "--allow-clock"),
    "file": (
        "path_create_directory",
        "(param i32 i32 i32)",
        "(i32.const 3) (i32.const 0) (i32.const 3)",
        "--allow-write",
    ),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("listener", ["none", "denied", "subscriber"])
@pytest.mark.parametrize("kind", ASKS)
def test_a_denial_that_is_shown_has_the_option_and_no_text_of_the_guest(
    place: str, listener: str, kind: str, tmp_path: Path
) -> None:
    """Oracle: for every listener, the remedy is the option that Aegis made, and ``wanted`` is empty."""
    name, params, arguments, option = ASKS[kind]
    text = f"""(module (import "wasi_snapshot_preview1" "{name}" (func $ask {params} (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) "new")
      (func (export "ask") (drop (call $ask {arguments}))))"""
    heard: list[Decision] = []
    events: list[Any] = []
    options: dict[str, Any] = {"denied": {"denied": heard.append}, "subscriber": {"subscribers": (events.append,)}}
    granted: Any = {"clock": "deny", "filesystem": FilesystemCapability.read_only(f"{tmp_path}::/")}
    with runtime(place, **granted) as aegis, aegis.sandbox(aegis.load_wat(text), **options.get(listener, {})) as box:
        (shown,) = box.run("ask").denials
    checked = [event for event in events if type(event).__name__ == "CapabilityChecked"]
    assert [event.remedy for event in checked] == ([shown.remedy] if listener == "subscriber" else [])
    assert heard == ([shown] if listener == "denied" else [])
    assert shown.remedy.startswith(option)
    assert not shown.wanted
