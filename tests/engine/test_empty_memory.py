"""Reads and writes of zero bytes: in a memory without pages, and as the first access of another memory."""

from __future__ import annotations

from typing import Any

import pytest

import aegis
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

pytestmark = only_where_there_are_workers
every_place = pytest.mark.parametrize("place", PLACES)
every_size = pytest.mark.parametrize("pages", [0, 1])

PREVIEW1 = """(module
  (import "wasi_snapshot_preview1" "environ_get" (func $environment (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $arguments (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") {pages})
  (func (export "environment") (result i32) (call $environment (i32.const 0) (i32.const 0)))
  (func (export "arguments") (result i32) (call $arguments (i32.const 0) (i32.const 0)))
  (func (export "random") (result i32) (call $random (i32.const 0) (i32.const 0))))"""

HOST = """(module
  (import "env" "at" (func $at (param i32)))
  (memory (export "memory") {pages})
  (func (export "at") (param i32) (call $at (local.get 0))))"""


@every_place
@every_size
@pytest.mark.parametrize("name", ["environment", "arguments", "random"])
def test_a_wasi_function_writes_no_bytes_as_its_first_access(place: str, pages: int, name: str) -> None:
    made = runtime(place)
    with made.sandbox(made.load_wat(PREVIEW1.format(pages=pages)), args=[]) as sandbox:
        assert sandbox.call(name) == 0


@every_place
@every_size
def test_a_host_function_reads_and_writes_no_bytes(place: str, pages: int) -> None:
    seen = []

    @aegis.with_caller
    def at(guest: aegis.Caller, offset: int) -> None:
        guest.write(offset, b"")
        seen.append(guest.read(offset, 0))

    made = runtime(place)
    imports: dict[str, Any] = {"env": {"at": at}}
    with made.sandbox(made.load_wat(HOST.format(pages=pages)), imports=imports) as sandbox:
        sandbox.call("at", 0)
        sandbox.call("at", pages * 65536)
        assert seen == [b"", b""]
    with (
        made.sandbox(made.load_wat(HOST.format(pages=pages)), imports=imports) as sandbox,
        pytest.raises(aegis.GuestTrap, match="0 bytes at 65537" if pages else "0 bytes at 1"),
    ):
        sandbox.call("at", pages * 65536 + 1)


@every_place
@every_size
def test_an_embedder_reads_and_writes_no_bytes(place: str, pages: int) -> None:
    made = runtime(place)
    with made.sandbox(made.load_wat(HOST.format(pages=pages)), imports={"env": {"at": lambda _: None}}) as sandbox:
        memory = sandbox.memory
        memory.write(0, b"")
        assert memory.read(0, 0) == b""
