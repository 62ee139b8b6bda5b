"""scripts/guests builds every guest once, and reports clearly if it cannot."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.guests.catalogue import GUESTS, SCRIPT, built

MODULE = b"\0asm\x01\0\0\0"
COMPONENT = b"\0asm\x0d\0\1\0"


def run_script(*args: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, str(SCRIPT), *args], capture_output=True, text=True, timeout=600)


def tables() -> dict[str, dict[str, object]]:
    return tomllib.loads((GUESTS / "guests.toml").read_text())


def names() -> list[str]:
    return list(tables())


@pytest.mark.parametrize("name", names())
def test_every_guest_is_built(name: str) -> None:
    start = COMPONENT if {"app", "adapter", "js", "wit"} & tables()[name].keys() else MODULE
    assert built(name).read_bytes().startswith(start)


def test_a_second_run_builds_nothing() -> None:
    path = built("hello")
    before = path.stat().st_mtime_ns
    again = run_script("hello")
    assert (again.returncode, again.stdout) == (0, "guests: everything is up to date\n")
    assert path.stat().st_mtime_ns == before


def test_a_damaged_output_is_built_again() -> None:
    path = built("hostile/compile-bomb")
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert run_script("hostile/compile-bomb").stdout == "guests: built guests/build/hostile/compile-bomb.wasm\n"
    assert path.read_bytes() == whole


def test_force_builds_again_and_gives_the_same() -> None:
    path = built("hello")
    before = path.read_bytes()
    assert "built guests/build/hello.wasm" in run_script("--force", "hello").stdout
    assert path.read_bytes() == before


def test_a_missing_compiler_is_named_with_its_remedy() -> None:
    built("hello")
    done = run_script("--force", "--python", str(Path(sys.base_prefix) / "no-such-python"), "hello")
    assert done.returncode == 3
    assert done.stderr.startswith("guests: the guests' toolchains are missing: install them with")
    assert done.stderr.count("\n") == 1


def test_an_up_to_date_guest_needs_no_compiler() -> None:
    built("hello")
    assert run_script("--python", "no-such-python", "hello").returncode == 0


def test_an_unknown_guest_is_wrong_usage() -> None:
    done = run_script("helo")
    assert done.returncode == 2
    assert "no such guest: helo; there are hello, cat," in done.stderr


@pytest.mark.parametrize("args", [("--jobs", "0"), ("--jobs", "many"), ("--nonsense",)])
def test_wrong_options_are_wrong_usage(args: tuple[str, ...]) -> None:
    assert run_script(*args).returncode == 2


def test_list_names_every_output() -> None:
    lines = run_script("--list").stdout.splitlines()
    assert lines == [f"{name} guests/build/{name}.wasm" for name in names()]


def test_every_source_is_listed_and_every_guest_has_a_readme() -> None:
    keys = ("sources", "headers")
    listed = {str(path) for table in tables().values() for key in keys for path in list(table.get(key, ()))}  # type: ignore[call-overload]
    listed |= {str(table["app"]) for table in tables().values() if "app" in table}
    found = {path.relative_to(GUESTS).as_posix() for path in GUESTS.rglob("*.[ch]")}
    found |= {path.relative_to(GUESTS).as_posix() for path in GUESTS.glob("py-*/*.py")}
    assert listed == found
    folders = {path.parent for path in GUESTS.rglob("*") if path.suffix in (".wat", ".c", ".py")}
    assert [folder for folder in sorted(folders) if not (folder / "README.md").is_file()] == []


def test_every_folder_is_in_an_index() -> None:
    for parent in (GUESTS, GUESTS / "hostile"):
        index = (parent / "README.md").read_text()
        folders = [path.name for path in parent.iterdir() if (path / "README.md").is_file()]
        assert [name for name in sorted(folders) if f"]({name})" not in index] == []
