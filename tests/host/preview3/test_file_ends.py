"""Streams of files at their edges: offsets that no file has, descriptors that are gone, files that change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aegis import FilesystemCapability
from aegis.bindings import wasi_filesystem_types_0_3 as types
from aegis.values import Ended
from aegis.wit.values import Err, Ok
from tests.host.preview2.guest import Guest
from tests.host.preview3.test_versions import Written, all_of, outcome, roots

FLAGS = types.DescriptorFlags
EDGES = [2**63 - 1, 2**63, 2**64 - 1]


def opened(guest: Guest, flags: Any = FLAGS.READ | FLAGS.WRITE) -> Any:
    return roots(guest)[1].open_at(types.PathFlags(0), "file", types.OpenFlags(0), flags)


@pytest.mark.parametrize("offset", EDGES)
def test_at_an_offset_that_no_file_has_there_is_nothing_to_read_and_nothing_is_written(
    tmp_path: Path, offset: int
) -> None:
    (tmp_path / "file").write_bytes(b"text")
    with Guest(filesystem=FilesystemCapability.read_write(tmp_path)) as guest:
        file = opened(guest)
        source, end = file.read_via_stream(offset)
        assert all_of(source) == b""
        assert outcome(end) == [Ok(None)]
        (written,) = outcome(file.write_via_stream(Written(b"more"), offset))
        assert isinstance(written, Err)
        source, _ = file.read_via_stream(0)
        assert all_of(source) == b"text"
    assert (tmp_path / "file").read_bytes() == b"text"


def test_what_is_appended_follows_the_end_that_the_file_has_by_then(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one ")

    class Slow(Written):
        def pump(self, sink: Any) -> None:
            sink.give(b"two ")
            with path.open("ab") as other:
                other.write(b"three ")
            sink.give(b"four")
            sink.close()

    with Guest(filesystem=FilesystemCapability.read_write(tmp_path)) as guest:
        assert outcome(opened(guest).append_via_stream(Slow())) == [Ok(None)]
    assert path.read_bytes() == b"one two three four"


def test_streams_outlive_their_descriptor_and_count_as_its_open_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    with Guest(filesystem=FilesystemCapability.read_write(tmp_path), limits={"open_files": 1}) as guest:
        file = opened(guest)
        source, end = file.read_via_stream(0)
        file.__drop__()
        with pytest.raises(Err):
            opened(guest)
        assert all_of(source) == b"text"
        assert outcome(end) == [Ok(None)]
        opened(guest).__drop__()


@pytest.mark.parametrize("writing", [False, True])
def test_a_stream_needs_what_its_descriptor_was_opened_for(tmp_path: Path, writing: bool) -> None:
    (tmp_path / "file").write_bytes(b"text")
    with Guest(filesystem=FilesystemCapability.read_write(tmp_path)) as guest:
        file = opened(guest, FLAGS.WRITE if writing else FLAGS.READ)
        source, end = file.read_via_stream(0)
        read = b"" if source == () else all_of(source)
        given = Written(b"new!")
        written = outcome(file.write_via_stream(given, 0))
        assert (read, isinstance(outcome(end)[0], Ok)) == ((b"", False) if writing else (b"text", True))
        assert isinstance(written[0], Ok) == writing
        assert given.closed != writing, "a refused stream is dropped"
    assert (tmp_path / "file").read_bytes() == (b"new!" if writing else b"text")


def test_a_listing_is_of_the_moment_when_it_began(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    with Guest(filesystem=FilesystemCapability.read_write(tmp_path), limits={"open_files": 1}) as guest:
        source, end = roots(guest)[1].read_directory()
        assert [entry.name for entry in source.take(1)] == ["a"]
        (tmp_path / "b").unlink()
        (tmp_path / "d").touch()
        refused, why = roots(guest)[1].read_directory()
        assert refused == ()
        assert isinstance(outcome(why)[0], Err), "a listing counts as an open file"
        assert [entry.name for entry in source.take(100)] == ["b", "c"]
        with pytest.raises(Ended):
            source.take(1)
        source.close()
        assert outcome(end) == [Ok(None)]
        again, _ = roots(guest)[1].read_directory()
        assert [entry.name for entry in again.take(100)] == ["a", "c", "d"]
