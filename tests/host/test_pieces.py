"""Preview 1 copies data out of a guest in chunks: the host holds one chunk, however much is written at once.

Oracle: the file or stream receives every byte in order, and no read of guest memory is larger than a chunk.
"""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from aegis import FilesystemCapability
from aegis.errors import OutputExceeded, QuotaExceeded
from tests.host.harness import AegisDriver
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

CREATE, APPEND = 1, 1
PIECE = 10_000
SIZES = [
    (200_000,), (10_000,), (10_001,), (9_999, 1), (9_999, 2), (0, 0), (1,) * 200, (3, 70_000, 0, 29_997, 15),
    (20_000, 20_000), (0, 10_000, 0),
]  # fmt: skip


def parts(sizes: tuple[int, ...]) -> list[bytes]:
    return [bytes((n + k) % 251 for k in range(size)) for n, size in enumerate(sizes)]


class Watched(AegisDriver):
    """Preview 1 with a small ``value_bytes``; it records the sizes of reads from guest memory."""

    def __init__(self, folder: Path, **policy: Any) -> None:
        super().__init__(folder, **{"value_bytes": PIECE, **policy})
        self.reads: list[int] = []
        read = self.memory.read

        def watched(offset: int, length: int) -> bytes:
            self.reads.append(length)
            return read(offset, length)

        self.memory.read = watched  # type: ignore[method-assign]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("call", ["fd_write", "fd_pwrite", "append"])
def test_a_file_gets_all_of_a_large_write_in_pieces(tmp_path: Path, call: str, sizes: tuple[int, ...]) -> None:
    guest, data = Watched(tmp_path), parts(sizes)
    whole = b"".join(data)
    descriptor = guest.opened("f", CREATE, fdflags=APPEND if call == "append" else 0)
    if call == "fd_pwrite":
        assert guest.fd_pwrite(descriptor, whole, 7) == (0, len(whole))
        whole = bytes(7 if whole else 0) + whole
    else:
        assert guest.fd_write(descriptor, b"begin") == (0, 5)
        assert guest.fd_write(descriptor, *data) == (0, len(whole))
        assert guest.fd_tell(descriptor) == (0, 5 + len(whole))
        whole = b"begin" + whole
    assert (tmp_path / "f").read_bytes() == whole
    assert max(guest.reads) <= PIECE
    guest.close()


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_stream_gets_all_of_a_large_write_in_pieces(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    guest, data = Watched(tmp_path), parts(sizes)
    assert guest.fd_write(1, *data) == (0, sum(sizes))
    assert guest.grants.stdio.stdout_bytes() == b"".join(data)
    assert max(guest.reads) <= PIECE
    guest.close()


@pytest.mark.parametrize("limit", [PIECE - 1, PIECE, PIECE + 1, 25_000])
def test_a_stream_that_fills_up_in_a_later_chunk_has_as_much_as_its_limit_allows(tmp_path: Path, limit: int) -> None:
    guest, data = Watched(tmp_path, stdout=limit), parts((30_000,))
    with pytest.raises(OutputExceeded) as caught:
        guest.fd_write(1, *data)
    assert (caught.value.used, caught.value.allowed) == (limit + 1, limit)
    assert guest.grants.stdio.stdout_bytes() == data[0][:limit]
    guest.close()


def test_a_write_beyond_the_disk_quota_writes_nothing_of_its_first_pieces(tmp_path: Path) -> None:
    guest = Watched(tmp_path, disk_written=29_999)
    descriptor = guest.opened("f", CREATE)
    with pytest.raises(QuotaExceeded) as caught:
        guest.fd_write(descriptor, bytes(30_000))
    assert caught.value.limit == "disk_written"
    assert (tmp_path / "f").read_bytes() == b""
    guest.close()


def test_a_read_gives_no_more_than_a_piece(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(range(250)) * 400)
    guest = Watched(tmp_path)
    descriptor = guest.opened("f")
    assert guest.fd_read(descriptor, 50_000) == (0, (bytes(range(250)) * 400)[:PIECE])
    assert guest.fd_pread(descriptor, 50_000, 500) == (0, (bytes(range(250)) * 400)[:PIECE])
    guest.close()


WRITES = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1040)
  (data (i32.const 0) "f")
  (data (i32.const 16) "\\00\\00\\01\\00\\00\\00\\00\\04")  ;; 64 MiB at 64 KiB
  (func (export "run") (result i32)
    (memory.fill (i32.const 65536) (i32.const 120) (i32.const 67108864))
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1) (i64.const 64) (i64.const 0)
      (i32.const 0) (i32.const 8)) (then unreachable))
    (if (call $write (i32.load (i32.const 8)) (i32.const 16) (i32.const 1) (i32.const 24)) (then unreachable))
    (i32.load (i32.const 24))))"""


@only_where_there_are_workers
@pytest.mark.parametrize("place", PLACES)
def test_a_write_of_more_than_value_bytes_takes_little_memory(tmp_path: Path, place: str) -> None:
    limits: dict[str, Any] = {"memory": "128MiB", "value_bytes": "2MiB", "disk_written": None}
    with runtime(place, filesystem=FilesystemCapability.read_write(f"{tmp_path}::/"), **limits) as made:
        module = made.load_wat(WRITES)
        with made.sandbox(module) as sandbox:
            tracemalloc.start()
            try:
                assert sandbox.call("run") == 64 << 20
                assert tracemalloc.get_traced_memory()[1] < 8 << 20
            finally:
                tracemalloc.stop()
    written = tmp_path / "f"
    assert written.stat().st_size == 64 << 20
    with written.open("rb") as file:
        assert file.read(1 << 20) == b"x" * (1 << 20)
        file.seek(-100, 2)
        assert file.read() == b"x" * 100


def test_the_vector_of_a_write_is_a_value(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"memory": "128MiB", "value_bytes": 7}
    made = runtime("in-process", filesystem=FilesystemCapability.read_write(f"{tmp_path}::/"), **limits)
    with made.sandbox(made.load_wat(WRITES)) as sandbox, pytest.raises(QuotaExceeded) as caught:
        sandbox.call("run")
    assert (caught.value.limit, caught.value.used, caught.value.allowed) == ("value_bytes", 8, 7)
