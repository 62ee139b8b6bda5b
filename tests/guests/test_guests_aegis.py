"""The C programs in Aegis: with their grants they work, without them they cannot."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

import aegis
from aegis import FilesystemCapability, Outcome, StdioCapability
from tests.guests.catalogue import GUESTS, built

TEXT = b"the quick brown fox\n" * 50


def run(name: str, *args: str, stdin: bytes = b"", **policy: Any) -> Outcome:
    """Run a built guest."""
    return aegis.run(built(name), args=args, stdio=StdioCapability(stdin=stdin), **policy)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text").write_bytes(TEXT)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "inner").write_bytes(b"x")
    return tmp_path


def reading(folder: Path) -> dict[str, Any]:
    return {"filesystem": FilesystemCapability.read_only(f"{folder}::.")}


def writing(folder: Path) -> dict[str, Any]:
    return {"filesystem": FilesystemCapability.read_write(f"{folder}::.")}


def test_hello_greets_by_its_environment() -> None:
    assert run("hello").stdout == b"hello, world\n"
    granted = run("hello", environment=aegis.EnvironmentCapability.parse("GREETING=salve"))
    assert b"salve" in granted.stdout


def test_cat_reads_its_grants(folder: Path) -> None:
    assert run("cat", "text", **reading(folder)).stdout == TEXT
    assert run("cat", stdin=b"from stdin").stdout == b"from stdin"
    assert run("cat", "text").exit_code != 0
    assert run("cat", "-o", "copy", "text", **reading(folder)).exit_code != 0
    assert run("cat", "-o", "copy", "text", **writing(folder)).ok
    assert (folder / "copy").read_bytes() == TEXT


def test_ls_lists_recursively(folder: Path) -> None:
    lines = run("ls", ".", **reading(folder)).stdout.decode().splitlines()
    assert [line.split()[-1] for line in lines] == ["sub/", "sub/inner", "text"]
    assert run("ls", ".").exit_code != 0


def test_sha256_is_right(folder: Path) -> None:
    assert run("sha256", "text", **reading(folder)).stdout.split()[0].decode() == hashlib.sha256(TEXT).hexdigest()
    assert run("sha256", stdin=b"abc").stdout.split()[0].decode() == hashlib.sha256(b"abc").hexdigest()


def test_lz_there_and_back(folder: Path) -> None:
    packed = run("lz", "c", stdin=TEXT)
    assert packed.ok
    assert len(packed.stdout) < len(TEXT) / 5
    assert run("lz", "d", stdin=packed.stdout).stdout == TEXT
    assert run("lz", "c", "text", "text.lz", **writing(folder)).ok
    assert run("lz", "d", "text.lz", **reading(folder)).stdout == TEXT


@pytest.mark.parametrize("name", ["primes", "words"])
def test_the_interpreter_passes_its_own_tests(name: str) -> None:
    tests = GUESTS / "interp" / "tests"
    outcome = run("interp", f"{name}.fs", **reading(tests))
    assert outcome.ok, outcome.stderr
    assert outcome.stdout == (tests / f"{name}.out").read_bytes()


def test_a_reactor_is_initialised_first() -> None:
    runtime = aegis.Aegis(pooled=False)
    module = runtime.load_file(built("reactor"))
    with runtime.sandbox(module) as sandbox:
        sandbox.call("_initialize")
        assert sandbox.call("initialised") == 1
    assert aegis.run(built("reactor"), function="initialised").value == 1


def test_the_same_program_twice_is_the_same_run(folder: Path) -> None:
    first, second = (run("sha256", "text", **reading(folder)) for _ in range(2))
    assert (first.stdout, first.usage.fuel, first.usage.host_calls) == (
        second.stdout,
        second.usage.fuel,
        second.usage.host_calls,
    )
