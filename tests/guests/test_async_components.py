"""A program for WASI 0.3, in process and isolated: with each grant it can, and without it cannot.

Python's own libraries in the guest import WASI 0.2, so each run also has both versions on one set of grants.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

import aegis
from aegis import (
    ClockCapability,
    EnvironmentCapability,
    FilesystemCapability,
    GuestTrap,
    Outcome,
    OutputExceeded,
    QuotaExceeded,
    StdioCapability,
)
from tests.guests import catalogue

pytestmark = [
    pytest.mark.parametrize("isolate", [False, True], ids=["in process", "isolated"]),
    pytest.mark.usual(one_of="isolate"),
]


def run(isolate: bool, *args: str, **policy: Any) -> Outcome:
    guest = catalogue.built("py-async")
    return aegis.run(guest, args=args, fuel=None, timeout="240s", isolation=isolate or None, **policy)


def test_output_and_environment(isolate: bool) -> None:
    assert run(isolate, "hello").stdout == b"hello nobody\n"
    named = run(isolate, "hello", environment=EnvironmentCapability(set={"NAME": "x"}))
    assert (named.status, named.exit_code, named.stdout) == ("returned", 0, b"hello x\n")


@pytest.mark.parametrize("command", ["echo", "upper"])
def test_standard_input_is_read_with_the_grant_alone(isolate: bool, command: str) -> None:
    text = b"some text\n" * 20_000
    given = run(isolate, command, stdio=StdioCapability(stdin=text))
    assert given.stdout == (text if command == "echo" else text.upper())
    assert run(isolate, command).stdout == b""


def test_waits_at_once_take_as_long_as_one(isolate: bool) -> None:
    """100 waits of 50 ms take less than two of them one after the other, on the host's clock and on the stand-in."""
    turns, seconds = run(isolate, "sleep", "100", "50", clock=ClockCapability(mode="system")).stdout.split()
    assert int(turns) < 20
    assert int(seconds) > 1_700_000_000
    assert run(isolate, "sleep", "100", "60000").stdout == b"1 60\n"


def test_a_directory_is_listed_with_the_grant_alone(isolate: bool, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "sub").mkdir()
    listed = run(isolate, "ls", ".", filesystem=FilesystemCapability.read_only(tmp_path))
    assert listed.stdout == b"file RegularFile\nsub Directory\n"
    assert run(isolate, "ls", ".").exit_code != 0


def test_a_file_is_copied_with_the_grant_alone(isolate: bool, tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    (tmp_path / "from").write_bytes(data)
    writing = FilesystemCapability.read_write(tmp_path)
    assert run(isolate, "copy", "from", "to", filesystem=writing).stdout == b"Ok(value=None)\n"
    assert (tmp_path / "to").read_bytes() == data
    assert run(isolate, "pieces", "from", filesystem=writing).stdout == b"256000\n"
    assert (tmp_path / "from.new").read_bytes() == data
    denied = run(isolate, "copy", "from", "other", filesystem=FilesystemCapability.read_only(tmp_path))
    assert denied.stdout == b"ErrorCode_NotPermitted\n"
    assert [d.action for d in denied.denials] == ["write"]
    assert not (tmp_path / "other").exists()


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../secret", "NotPermitted"), ("/etc/passwd", "NotPermitted"), ("sub/../../secret", "NotPermitted"),
        ("folder/secret", "NotPermitted"), ("link", "Loop"),  # without symlink-follow, opening a link fails
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_grant(isolate: bool, tmp_path: Path, path: str, code: str) -> None:
    granted = tmp_path / "granted"
    (granted / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (granted / "link").symlink_to(tmp_path / "secret")
    (granted / "folder").symlink_to(tmp_path)
    ended = run(isolate, "copy", path, "new", filesystem=FilesystemCapability.read_write(granted))
    assert ended.stdout.decode() == f"ErrorCode_{code}\n"
    assert not (granted / "new").exists()


def test_limits_hold_for_streams(isolate: bool, tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(bytes(300_000))
    writing = FilesystemCapability.read_write(tmp_path)
    ended = run(isolate, "copy", "from", "to", filesystem=writing, disk_written=100_000)
    assert isinstance(ended.error, QuotaExceeded)
    assert ended.error.limit == "disk_written"
    assert (tmp_path / "to").stat().st_size <= 100_000
    ended = run(isolate, "echo", stdio=StdioCapability(stdin=bytes(300_000)), stdout=100_000)
    assert isinstance(ended.error, OutputExceeded)
    assert len(ended.stdout) == 100_000


def test_other_tasks_go_on_while_one_waits_for_the_disk(
    isolate: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In process the disk waits for the guest's output, which a scheduler that waited for the disk would never see."""
    written, late = threading.Event(), []

    def store(_: int) -> None:
        late.append(not written.wait(60))

    def watch(event: Any) -> None:
        if event.kind == "host_function_called" and "write-via-stream" in getattr(event, "name", ""):
            written.set()

    if not isolate:
        monkeypatch.setattr(os, "fsync", store)
        monkeypatch.setattr(os, "fdatasync", store)
    writing = FilesystemCapability.read_write(tmp_path)
    ended = run(isolate, "store", "file", filesystem=writing, subscribers=[watch])
    assert ended.stdout == b"meanwhile\nstored\n"
    assert late == ([] if isolate else [False] * 3)
    assert run(isolate, "store", "file").exit_code != 0


def test_exit_codes(isolate: bool) -> None:
    assert [run(isolate, *words.split()).exit_code for words in ("leave 7", "fail", "hello")] == [7, 1, 0]


def test_a_wait_that_nothing_ends_is_a_deadlock(isolate: bool) -> None:
    ended = run(isolate, "wait")
    assert isinstance(ended.error, GuestTrap)
    assert "deadlock" in str(ended.error)


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("size", [0, 1, 65536, 1 << 20])
def test_a_guest_without_a_runtime_copies_by_streams(isolate: bool, tmp_path: Path, size: int) -> None:
    """The program waits in the middle of its code, for each piece of 64 KiB."""
    guest, data = catalogue.built("cat-async"), (bytes(range(251)) * (size // 251 + 1))[:size]
    settings: dict[str, Any] = {"fuel": None, "timeout": "60s", "isolation": isolate or None}
    assert aegis.run(guest, stdio=StdioCapability(stdin=data), stdout="2 MiB", **settings).stdout == data
    (tmp_path / "in").write_bytes(data)
    files = FilesystemCapability.read_write(f"{tmp_path}::/")
    assert aegis.run(guest, filesystem=files, **settings).exit_code == 0
    assert (tmp_path / "out").read_bytes() == data
    reading = FilesystemCapability.read_only(f"{tmp_path}::/")
    assert aegis.run(guest, filesystem=reading, **settings).status == "trap"
