"""Each limit at its extremes: one clear line that names it, or a run that observes it.

Zero and 2^63 are not valid limits; 1 and the maximum are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, FilesystemCapability
from aegis.cli.main import main
from aegis.errors import AegisError, AegisInternalError, LimitExceeded, MemoryExceeded, PolicyError, WorkerCrashed
from aegis.limits import LIMIT_NAMES, LIMIT_ROWS, Limits, parse_limit
from aegis.policy import parse_policy
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

every_limit = pytest.mark.parametrize("name", LIMIT_NAMES)
no_limit = pytest.mark.parametrize("value", [0, 1 << 63])
FLAGS = {row.name: row.flag for row in LIMIT_ROWS}
ADD = '(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'
HELLO = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (memory (export "memory") 1) (table 1 funcref)
  (data (i32.const 0) "\\10\\00\\00\\00\\06\\00\\00\\00") (data (i32.const 16) "hello\\n")
  (func (export "_start")
    (drop (call $prestat (i32.const 3) (i32.const 32)))
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 40)) (then unreachable))))"""


def largest(name: str) -> int:
    """Find the maximum of a limit by bisection."""
    low, high = 1, 1 << 63
    while high - low > 1:
        middle = (low + high) // 2
        try:
            parse_limit(name, middle)
            low = middle
        except PolicyError:
            high = middle
    return low


def least(name: str) -> int:
    return 16 * 1024 if name == "stack" else 1


@every_limit
@no_limit
def test_an_invalid_limit_is_refused_by_the_library_in_one_line(name: str, value: int) -> None:
    with pytest.raises(PolicyError) as caught:
        Limits(**{name: value})
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(PolicyError, match=name):
        Aegis(cache=False, **{name: value})
    with pytest.raises(PolicyError, match=name):
        Aegis.builder().with_limits(**{name: value})


@every_limit
@no_limit
def test_an_invalid_limit_in_a_policy_file_is_refused_with_its_line(name: str, value: int) -> None:
    for text in (f"[limits]\n{name} = {value}\n", f'[limits]\n{name} = "{value}"\n'):
        with pytest.raises(PolicyError) as caught:
            parse_policy(text, source="aegis.toml")
        assert str(caught.value).startswith(f"aegis.toml:2: {name}")
        assert "\n" not in str(caught.value)


@every_limit
@pytest.mark.parametrize("value", ["0", str(1 << 63), "-1", "1e99"])
def test_an_invalid_limit_is_refused_by_the_command_in_one_line(
    name: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "add.wat").write_text(ADD)
    words = ["run", f"{FLAGS[name]}={value}", "-e", "add", str(tmp_path / "add.wat"), "1", "2"]
    code = main(words)
    said = capsys.readouterr()
    assert code in (2, 125)
    assert said.out == ""
    assert name in said.err.replace("-", "_")
    assert len(said.err.strip().splitlines()) == 1


@every_limit
def test_every_limit_has_a_flag_and_a_key(name: str) -> None:
    assert name in FLAGS
    assert getattr(parse_policy(f'[limits]\n{name} = "{least(name)}"\n').limits, name) == least(name)


@pytest.mark.usual(one_of="place")
@only_where_there_are_workers
@pytest.mark.parametrize("place", PLACES)
@every_limit
def test_a_guest_runs_under_the_largest_limit(name: str, place: str, tmp_path: Path) -> None:
    assert played(place, tmp_path, **{name: largest(name)}) == [3, b"hello\n"]


@pytest.mark.usual(one_of="place")
@only_where_there_are_workers
@pytest.mark.parametrize("place", PLACES)
@every_limit
def test_a_guest_under_the_smallest_limit_runs_or_names_the_limit(name: str, place: str, tmp_path: Path) -> None:
    error = how_it_failed(place, tmp_path, **{name: least(name)})
    assert not isinstance(error, (AegisInternalError, WorkerCrashed)), error
    if isinstance(error, LimitExceeded) and not isinstance(error, MemoryExceeded):
        assert error.limit == name
    assert "\n" not in str(error)


def how_it_failed(place: str, folder: Path, **limits: Any) -> AegisError | None:
    try:
        played(place, folder, **limits)
    except AegisError as error:
        return error
    return None


def played(place: str, folder: Path, **limits: Any) -> list[Any]:
    """Return the results of a function and of a program."""
    filesystem = FilesystemCapability.read_write(f"{folder}::/")
    with runtime(place, filesystem=filesystem, **limits) as made:
        with made.sandbox(made.load_wat(ADD)) as sandbox:
            found = [sandbox.call("add", 1, 2)]
        with made.sandbox(made.load_wat(HELLO)) as sandbox:
            outcome = sandbox.run("_start")
            if outcome.error is not None:
                raise outcome.error
            return [*found, outcome.stdout]
