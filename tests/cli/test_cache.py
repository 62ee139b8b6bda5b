"""The state of the compile cache is told as it is: by doctor, ``run -v`` and ``aegis cache``, in text and JSON.

The oracle is the folder itself: the cache works exactly if a second run finds the code of the first.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND, ROOT, SECONDS, Ended, aegis, guest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes are POSIX's")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("AEGIS_CACHE_SIZE", raising=False)
    return tmp_path / "cache"


def folder(base: Path) -> Path:
    return base / "aegis" / "code"


def limited(*words: object, before: Callable[[], None] | None = None) -> Ended:
    done = subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, timeout=SECONDS, cwd=ROOT, check=False, preexec_fn=before
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def no_room() -> None:
    """Let every file end after 100 bytes, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


def shared(base: Path) -> None:
    base.mkdir()
    base.chmod(0o777)


def foreign(base: Path) -> None:
    folder(base).mkdir(parents=True)
    os.chown(folder(base), 12345, 12345)


def a_file(base: Path) -> None:
    (base / "aegis").mkdir(parents=True)
    folder(base).write_text("")


as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files away")
BROKEN: dict[str, Any] = {
    "writable by others": (shared, None, "is writable by other users"),
    "another owner": pytest.param(foreign, None, "belongs to another user", marks=as_root),
    "a file": (a_file, None, "not a directory"),
    "a full disk": (None, no_room, "file too large"),
}


@pytest.mark.parametrize(("make", "before", "why"), BROKEN.values(), ids=BROKEN)
def test_a_cache_that_cannot_be_written_is_told_everywhere(base: Path, make: Any, before: Any, why: str) -> None:
    if make is not None:
        make(base)
    doctor = limited("doctor", before=before)
    (line,) = (line for line in doctor.out.splitlines() if line.split()[1:2] == ["cache"])
    assert line.startswith("warning")
    assert why in line
    assert doctor.code == 0
    assert limited("doctor", "--strict", before=before).code == 1
    path = base.parent / "guest.wat"
    path.write_text('(module (func (export "_start")))')  # a memory would be a file too, and find no room
    quiet, told = limited("run", path, before=before), limited("-v", "run", path, before=before)
    assert (quiet.code, told.code, quiet.err) == (0, 0, "")
    assert told.err.startswith("note: compiled code is not cached: ")
    assert why in told.err
    info = limited("-f", "json", "cache", "info", before=before).document
    assert info["usable"] is False
    assert why in info["reason"]
    assert why in limited("cache", "info", before=before).out


def test_a_user_without_home_has_no_cache_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, "relative")
    code = "import pwd; pwd.getpwuid = lambda _: (_ for _ in ()).throw(KeyError()); from aegis.cli import main; main()"
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run([*command, "-v", "run", guest("hello")], capture_output=True, cwd=ROOT, check=True)
    assert b"note: compiled code is not cached: this user has no home directory" in done.stderr
    done = subprocess.run([*command, "doctor"], capture_output=True, cwd=ROOT, check=True)
    assert b"this user has no home directory" in done.stdout


def test_a_cache_that_works_is_ok_and_gives_no_note(base: Path) -> None:
    assert aegis("-v", "run", guest("hello")).err == aegis("-v", "run", guest("hello")).err == ""
    (line,) = (line for line in aegis("doctor").out.splitlines() if line.split()[1:2] == ["cache"])
    assert line.startswith("ok")
    assert f"{folder(base)} has 1 file" in line
    assert "of 512 MiB" in line


def test_switched_off_is_said_with_v(base: Path) -> None:
    done = aegis("-v", "run", "--no-cache", guest("hello"))
    assert done.err == "note: compiled code is not cached: --no-cache\n"
    assert not base.exists()


def test_an_isolated_run_says_it_too(base: Path) -> None:
    shared(base)
    assert "note: compiled code is not cached: " in aegis("-v", "run", "--isolate", guest("hello")).err


def test_info_shows_and_clear_removes_the_entries(base: Path) -> None:
    empty = aegis("-f", "json", "cache", "info").document
    assert (empty["entries"], empty["bytes"], empty["usable"], empty["limit"]) == (0, 0, True, 512 << 20)
    for name in ("hello", "add"):
        aegis("run", *(("-e", "add") if name == "add" else ()), guest(name), *(("1", "2") if name == "add" else ()))
    info = aegis("-f", "json", "cache", "info").document
    assert (info["entries"], info["folder"]) == (2, str(folder(base)))
    assert info["bytes"] == sum(file.stat().st_size for file in folder(base).iterdir() if file.name != "key")
    assert "entries  2" in aegis("cache", "info").out
    done = aegis("cache", "clear")
    assert done.out.startswith("removed 2 files, ")
    assert [file.name for file in folder(base).iterdir()] == ["key"]
    again = aegis("-f", "json", "cache", "clear").document
    assert (again["removed"], again["bytes"], again["left"]) == (0, 0, [])
    assert aegis("run", guest("hello")).code == 0


def test_clear_leaves_what_aegis_did_not_make(base: Path) -> None:
    aegis("run", guest("hello"))
    (folder(base) / "notes.txt").write_text("mine")
    (folder(base) / ("0" * 64)).mkdir()
    (folder(base) / ("A" * 64)).write_text("upper case")
    (folder(base) / "tmp-1-0123456789abcdef").write_text("left by a killed writer")
    done = aegis("-f", "json", "cache", "clear").document
    assert (done["removed"], done["files"]) == (1, 2)
    assert done["left"] == sorted(["0" * 64, "A" * 64, "notes.txt"])
    assert (folder(base) / "notes.txt").read_text() == "mine"
    assert "3 files of other origin left: " in aegis("cache", "clear").out


def test_clear_of_a_folder_that_others_may_change_is_refused(base: Path) -> None:
    shared(base)
    done = aegis("cache", "clear")
    assert (done.code, done.out) == (125, "")
    assert done.err.startswith("error: the cache cannot be cleared: ")


def test_the_size_is_a_setting_of_the_environment(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_CACHE_SIZE", "3MiB")
    assert aegis("-f", "json", "cache", "info").document["limit"] == 3 << 20
    monkeypatch.setenv("AEGIS_CACHE_SIZE", "none")
    assert aegis("-f", "json", "cache", "info").document["limit"] is None
    monkeypatch.setenv("AEGIS_CACHE_SIZE", "1KiB")
    assert "is larger than the cache (1 KiB)" in aegis("-v", "run", guest("hello")).err
    monkeypatch.setenv("AEGIS_CACHE_SIZE", "huge")
    assert (aegis("run", guest("hello")).code, "AEGIS_CACHE_SIZE" in aegis("cache", "info").err) == (125, True)
