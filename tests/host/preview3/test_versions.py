"""WASI 0.3 answers as 0.2 does on the same grants, and one guest's limits count both versions together."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest

from aegis import FilesystemCapability, StdioCapability
from aegis.bindings import wasi_filesystem_types as two
from aegis.bindings import wasi_filesystem_types_0_3 as three
from aegis.bindings.index import INDEX
from aegis.errors import CapabilityDenied
from aegis.host.files.error_names import error_name
from aegis.host.preview2 import filesystem_errors as errors_of_two
from aegis.host.preview3 import errors as errors_of_three
from aegis.policy import ClockCapability
from aegis.values import Ended
from aegis.wit.values import Err, Ok
from tests.host.preview2.guest import Guest


class Written:
    """A stream of a guest that has written ``data`` and closed its end."""

    def __init__(self, data: bytes = b"") -> None:
        self.data, self.closed = data, False

    def pump(self, sink: Any) -> None:
        try:
            for at in range(0, len(self.data), 1000):
                if not sink.room():
                    raise AssertionError("a file and captured output always have room")
                sink.give(self.data[at : at + 1000])
            sink.room()
        except Ended:
            pass
        sink.close()

    def close(self) -> None:
        self.closed = True


def of(guest: Guest, interface: str, version: str) -> Any:
    return guest.wasi.implementation(next(r for r in INDEX.rows if r.name == f"{interface}@{version}"))


def roots(guest: Guest) -> tuple[Any, Any]:
    """Return the same granted directory as a descriptor of 0.2 and of 0.3."""
    found = [of(guest, "wasi:filesystem/preopens", v).get_directories()[0][0] for v in ("0.2.12", "0.3.0")]
    return found[0], found[1]


def outcome(promise: Any) -> Any:
    values: list[Any] = []
    promise.attach(values.append)
    return values


def all_of(source: Any) -> bytes:
    pieces = []
    try:
        while True:
            pieces.append(source.take(1 << 20))
    except Ended:
        source.close()
    return b"".join(pieces)


def code(function: Any, *arguments: Any) -> str:
    with pytest.raises(Err) as caught:
        function(*arguments)
    return spelled(caught.value.value)


def spelled(error: Any) -> str:
    """Return the name in WIT of an ``error-code`` of either version."""
    if isinstance(error, two.ErrorCode):
        return error.value
    return re.sub("(?<!^)([A-Z])", r"-\1", type(error).__name__.removeprefix("ErrorCode")).lower()


@pytest.mark.parametrize("number", sorted(set(errno.errorcode) | {0, 4000}))
def test_an_error_of_the_system_has_the_same_code(number: int) -> None:
    error = OSError(number, "x")
    made = errors_of_three.code_of(error)
    expected = errors_of_two.code_of(error).value
    assert expected == error_name(error)
    if expected == "would-block":  # WASI 0.3 has no such code
        assert made == three.ErrorCodeOther("would-block")
    else:
        assert spelled(made) == expected


@pytest.mark.parametrize("path", ["../x", "/etc", "link", "none", "file/x", "a\0b", "x" * 5000, "", "."])
@pytest.mark.parametrize("writing", [False, True])
def test_a_path_is_judged_alike(tmp_path: Path, path: str, writing: bool) -> None:
    second, third = (judged(tmp_path / name, path, n, writing=writing) for n, name in enumerate(("two", "three")))
    assert second == third


def judged(folder: Path, path: str, version: int, *, writing: bool) -> tuple[list[str], list[Any]]:
    """Return the answers to operations on ``path``, and the decisions about them."""
    folder.mkdir()
    (folder / "file").write_text("x")
    (folder / "link").symlink_to("/etc")
    grant = FilesystemCapability.read_write if writing else FilesystemCapability.read_only
    types: Any = (two, three)[version]
    said = []
    with Guest(filesystem=grant(f"{folder}::/d")) as guest:
        root = roots(guest)[version]
        follow = types.PathFlags.SYMLINK_FOLLOW
        for name, arguments in (
            ("open_at", (follow, path, types.OpenFlags(0), types.DescriptorFlags.READ)),
            ("stat_at", (follow, path)), ("readlink_at", (path,)), ("symlink_at", (path, path)),
            ("link_at", (follow, path, root, "new")), ("link_at", (types.PathFlags(0), path, root, "new")),
            ("rename_at", (path, root, "file/x")), ("create_directory_at", (path,)), ("remove_directory_at", (path,)),
            ("unlink_file_at", (path,)),
        ):  # fmt: skip
            try:
                made = getattr(root, name)(*arguments)
            except Err as error:
                said.append(spelled(error.value))
            else:
                said.append("done")
                if hasattr(made, "__drop__"):
                    made.__drop__()
        # a remedy names the folder, which differs
        return said, [decision._replace(remedy=str(bool(decision.remedy))) for decision in guest.decisions]


def test_the_files_of_both_versions_count_together(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    with Guest(
        filesystem=FilesystemCapability.read_write(tmp_path), limits={"open_files": 2, "disk_written": 150}
    ) as g:
        second, third = roots(g)
        first = second.open_at(two.PathFlags(0), "file", two.OpenFlags(0), two.DescriptorFlags.READ)
        opening = (three.PathFlags(0), "file", three.OpenFlags(0), three.DescriptorFlags.WRITE)
        other = third.open_at(*opening)
        assert code(third.open_at, *opening) == "insufficient-memory"
        _, end = third.read_directory()
        assert outcome(end) == [Err(three.ErrorCodeInsufficientMemory())]
        first.__drop__()
        source, end = third.read_directory()
        assert [entry.name for entry in source.take(10)] == ["file"]
        source.close()
        source.close()
        assert outcome(end) == [Ok(None)]
        second.open_at(two.PathFlags(0), "file", two.OpenFlags(0), two.DescriptorFlags.READ).__drop__()
        assert outcome(other.write_via_stream(Written(bytes(150)), 0)) == [Ok(None)]
        other.__drop__()


def test_a_stream_of_a_file_has_its_bytes_and_its_end(tmp_path: Path) -> None:
    data = os.urandom(200_000)
    (tmp_path / "file").write_bytes(data)
    with Guest(filesystem=FilesystemCapability.read_write(tmp_path)) as guest:
        _, root = roots(guest)
        both = three.DescriptorFlags.READ | three.DescriptorFlags.WRITE
        file = root.open_at(three.PathFlags(0), "file", three.OpenFlags(0), both)
        source, end = file.read_via_stream(70_000)
        assert len(source.take(1 << 20)) == 65536
        source.close()
        assert outcome(end) == [Ok(None)]  # the guest stopped reading
        source, end = file.read_via_stream(70_000)
        assert all_of(source) == data[70_000:]
        assert outcome(end) == [Ok(None)]
        assert outcome(file.write_via_stream(Written(b"abc" * 1000), 10)) == [Ok(None)]
        assert outcome(file.append_via_stream(Written(b"end"))) == [Ok(None)]
        assert (tmp_path / "file").read_bytes() == data[:10] + b"abc" * 1000 + data[3010:] + b"end"
        file.__drop__()


def test_a_refused_stream_has_ended_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with Guest(filesystem=FilesystemCapability.read_write(tmp_path)) as guest:
        _, root = roots(guest)
        file = root.open_at(three.PathFlags(0), "file", three.OpenFlags(0), three.DescriptorFlags.READ)
        given = Written(b"x")
        assert outcome(file.write_via_stream(given, 0)) == [Err(three.ErrorCodeBadDescriptor())]
        assert given.closed
        assert outcome(root.append_via_stream(Written())) == [Err(three.ErrorCodeIsDirectory())]
        for source, end in (root.read_via_stream(0), file.read_directory()):
            assert source == ()
            assert isinstance(outcome(end)[0], Err)
        writing = root.open_at(three.PathFlags(0), "file", three.OpenFlags(0), three.DescriptorFlags.WRITE)
        assert outcome(writing.write_via_stream(Written(b"x"), 1 << 63)) == [Err(three.ErrorCodeInvalid())]
        assert outcome(writing.write_via_stream(Written(b"xx"), (1 << 63) - 2)) == [Err(three.ErrorCodeFileTooLarge())]
        for made in (file, writing):
            made.__drop__()


@pytest.mark.parametrize("seconds", [-5, 0, 5_000_000_000])
def test_a_time_before_or_after_the_epoch_is_set_and_read(tmp_path: Path, seconds: int) -> None:
    (tmp_path / "file").write_text("x")
    with Guest(filesystem=FilesystemCapability.read_write(tmp_path), clock=ClockCapability(mode="system")) as guest:
        _, root = roots(guest)
        stamp = three.NewTimestampTimestamp(three.Instant(seconds, 7000))
        root.set_times_at(three.PathFlags(0), "file", three.NewTimestampNoChange(), stamp)
        assert (tmp_path / "file").stat().st_mtime_ns == seconds * 10**9 + 7000
        late = three.NewTimestampTimestamp(three.Instant(1 << 40, 0))
        assert code(root.set_times_at, three.PathFlags(0), "file", late, late) == "overflow"


def test_standard_streams_are_those_of_the_grant() -> None:
    with Guest(stdio=StdioCapability(stdin=b"abc")) as guest:
        source, end = of(guest, "wasi:cli/stdin", "0.3.0").read_via_stream()
        assert all_of(source) == b"abc"
        assert outcome(end) == [Ok(None)]
        for name in ("stdout", "stderr"):
            stream = of(guest, f"wasi:cli/{name}", "0.3.0")
            assert outcome(stream.write_via_stream(Written(b"x" * 2500))) == [Ok(None)]
        assert guest.grants.stdio.stdout_bytes() == guest.grants.stdio.stderr_bytes() == b"x" * 2500
    with Guest() as guest:
        source, _ = of(guest, "wasi:cli/stdin", "0.3.0").read_via_stream()
        assert all_of(source) == b""


def test_a_denied_clock_ends_the_run_and_is_recorded() -> None:
    for call in (lambda clock: clock.now(), lambda clock: clock.wait_for(1)):
        with Guest(clock=ClockCapability(mode="deny")) as guest:
            with pytest.raises(CapabilityDenied):
                call(of(guest, "wasi:clocks/monotonic-clock", "0.3.0"))
            assert [(d.capability, d.allowed) for d in guest.decisions] == [("clock", False)]


def test_random_bytes_are_as_many_as_one_value_may_have() -> None:
    with Guest(limits={"value_bytes": 1000}) as guest:
        source = of(guest, "wasi:random/random", "0.3.0")
        assert [len(source.get_random_bytes(n)) for n in (0, 10, 1000, 1 << 60)] == [0, 10, 1000, 1000]
