"""A grant must not reach the compile cache or Python modules, because either could change code that runs later."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, FilesystemCapability
from aegis.errors import PolicyError
from tests.cli.command import aegis
from tests.guests.catalogue import source
from tests.isolation.confined import all_but, attack
from tests.isolation.isolated import PLACES, only_where_there_are_workers

pytestmark = only_where_there_are_workers

WRITES = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "planted")
  (func (export "opened") (param $create i32) (result i32)
    (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 7) (local.get $create)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64))))"""


def opened(place: str, granted: Path, *, cache: Path | bool = False, write: bool = True, create: bool = True) -> Any:
    """Let a guest open or create a file in ``granted``; return its error number."""
    grant = FilesystemCapability.read_write if write else FilesystemCapability.read_only
    isolation = "strict" if place == "isolated" else None
    with (
        Aegis(cache=cache, pooled=False, isolation=isolation, filesystem=grant(f"{granted}::/g")) as runtime,
        runtime.sandbox(runtime.load_wat(WRITES)) as sandbox,
    ):
        return sandbox.call("opened", int(create))


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """Return a cache directory with a key and an entry, two levels below the test's own directory."""
    folder = tmp_path / "home" / "cache"
    Aegis(cache=folder, pooled=False).load_file(source("add"))
    assert (folder / "key").exists()
    return folder


def reaching(used: Path) -> dict[str, Path]:
    """Return paths that lead to the cache: itself, its parents, its contents, and other spellings of these."""
    link, below, hard = used.parent / "link", used / "below", used.parent / "hard"
    link.symlink_to(used)
    (used.parent / "up").symlink_to(used.parent)
    below.mkdir()
    (hard / "deep").mkdir(parents=True)
    return {
        "itself": used,
        "its parent": used.parent,
        "what holds its parent": used.parent.parent,
        "a directory in it": below,
        "a link to it": link,
        "a link to its parent": used.parent / "up",
        "dots": hard / "deep" / ".." / ".." / "cache",
        "its key": used / "key",
        "its key through a link": link / "key",
    }


@pytest.mark.parametrize("write", [True, False], ids=["writing", "reading"])
@pytest.mark.parametrize("place", PLACES)
def test_the_cache_is_not_granted_under_any_name(place: str, write: bool, used: Path) -> None:
    for name, path in reaching(used).items():
        with pytest.raises(PolicyError) as refused:
            opened(place, path, cache=used, write=write)
        text = str(refused.value)
        assert "\n" not in text
        if write and name == "a link to its parent":  # which is where the guest could change it
            assert "symbolic link" in text
            continue
        assert "the cache of compiled code" in text, name
        assert "XDG_CACHE_HOME" in text


@pytest.mark.parametrize("place", PLACES)
def test_paths_beside_the_cache_can_be_granted(place: str, used: Path) -> None:
    beside = used.parent / "data"
    beside.mkdir()
    assert opened(place, beside, cache=used) == 0
    assert (beside / "planted").exists()


def test_a_key_that_has_a_hard_link_is_replaced(used: Path) -> None:
    """Wherever a second, granted name of the key is, the guest would know the key."""
    beside = used.parent / "data"
    beside.mkdir()
    os.link(used / "key", beside / "planted")
    assert not Aegis(cache=used, pooled=False).load_file(source("add")).cached
    assert (used / "key").read_bytes() != (beside / "planted").read_bytes()
    assert Aegis(cache=used, pooled=False).load_file(source("add")).cached


def test_where_the_cache_will_be_made_nothing_is_granted_either(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="the cache of compiled code"):
        opened("in-process", tmp_path, cache=tmp_path / "not" / "yet")


def test_a_directory_that_holds_a_link_on_the_way_to_the_cache_is_not_granted(tmp_path: Path) -> None:
    """The guest would redirect the link to a directory of its own."""
    real, crossed = tmp_path / "real", tmp_path / "crossed"
    for folder in (real, crossed):
        folder.mkdir()
    (crossed / "link").symlink_to(real)
    with pytest.raises(PolicyError, match="the cache of compiled code"):
        opened("in-process", crossed, cache=crossed / "link" / "cache")


@pytest.mark.parametrize("off", [False, True], ids=["another cache", "no cache"])
def test_the_users_own_cache_is_never_written_but_may_be_read_where_it_is_not_used(
    off: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    cache = False if off else tmp_path / "mine"
    for existing in (False, True):
        if existing:
            Aegis(pooled=False).load_file(source("add"))
        with pytest.raises(PolicyError, match="for writing"):
            opened("in-process", home, cache=cache)
        assert opened("in-process", home, cache=cache, write=False, create=False) == 44  # ENOENT


MOUNTS = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x20000) or libc.mount(None, b"/", None, 0x44000, None):  # CLONE_NEWNS; MS_REC | MS_PRIVATE
    sys.exit(77)
source, target, granted, cache = sys.argv[1:]
if libc.mount(source.encode(), target.encode(), None, 0x1000, None):  # MS_BIND
    sys.exit(77)
from pathlib import Path
from tests.security.test_cache_grants import opened
for place in ("in-process", "isolated"):
    print(opened(place, Path(granted), cache=Path(cache)))
"""


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(
    ("source_of", "refused"),
    [("cache", True), ("cache/key", True), ("", True), ("data", False)],
    ids=["the cache", "its key", "what holds it", "something else"],
)
@pytest.mark.parametrize("beneath", [False, True], ids=["granted itself", "beneath a grant"])
def test_a_bind_mount_of_the_cache_is_not_a_way_to_it(source_of: str, refused: bool, beneath: bool, used: Path) -> None:
    granted = used.parent.parent / "granted"
    target = granted / "mount" if beneath else granted
    (used.parent / "data").mkdir()
    (target.parent).mkdir(exist_ok=True)
    if source_of == "cache/key":
        target.write_text("")
    else:
        target.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", MOUNTS, str(used.parent / source_of), str(target), str(granted), str(used)],
        capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip("mounting needs more rights than this user has")
    if refused:
        assert "PolicyError" in done.stderr
        assert "the cache of compiled code" in done.stderr
    else:
        assert done.stdout == "0\n0\n", done.stderr


def test_the_command_names_the_refusal_and_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "guest.wat").write_text(WRITES)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ("run", "-e", "opened", "--allow-write", f"{tmp_path}::/g", tmp_path / "guest.wat", "1")
    ended = aegis(*words)
    assert ended.code == 125
    assert ended.err.count("\n") == 1
    assert "grant a subdirectory" in ended.err
    assert "XDG_CACHE_HOME" in ended.err
    assert aegis("-f", "json", *words).document["error"]["message"] in ended.err
    assert not (tmp_path / "planted").exists()


def test_code_that_a_strangers_folder_brings_along_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key, and an entry that it authenticates, at the path where a relative XDG_CACHE_HOME or HOME would lead."""
    monkeypatch.chdir(tmp_path)
    Aegis(cache=tmp_path / ".cache" / "aegis" / "code", pooled=False).load_file(source("add"))
    before = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*"))
    own = tmp_path.parent / "own"
    for variable, value in (("XDG_CACHE_HOME", ".cache"), ("XDG_CACHE_HOME", ""), ("HOME", ".")):
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        monkeypatch.setenv("HOME", str(own))
        monkeypatch.setenv(variable, value)
        ended = aegis("run", "-e", "add", source("add"), "2", "3", cwd=tmp_path)
        assert ended == (0, "5\n", "")
        assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*")) == before


def test_a_worker_that_was_taken_over_neither_reads_the_key_nor_plants_code(used: Path) -> None:
    beside = used.parent / "data"
    beside.mkdir()
    orders: list[tuple[str, dict[str, Any]]] = [
        ("read_file", {"path": str(used / "key")}),
        ("read_beneath", {"name": "../cache/key"}),
        ("plant", {"path": str(used / "planted")}),
        ("plant", {"path": "../cache/planted", "beneath": True}),
        ("give_another_name", {"path": str(used / "key"), "to": str(beside / "key")}),
    ]
    for name, order in orders:
        order |= {"grant": [str(beside)], "writes": True}
        assert attack(name, **order).needs("landlock-files").failure is not None, (name, order)
    assert not (used / "planted").exists()
    free = attack("plant", path=str(used / "planted"), skip=all_but())
    assert free.value == "planted", "the attack does not work even where nothing stops it"


# -- the code that Python imports -----------------------------------------------------------------


def test_a_folder_of_pythons_modules_is_granted_for_reading_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aegis imports modules after the guest has begun, and so does the fork server, which is not confined."""
    modules, data = tmp_path / "modules", tmp_path / "modules" / "data"
    data.mkdir(parents=True)
    assert opened("in-process", modules) == 0
    monkeypatch.syspath_prepend(str(modules))
    for place in PLACES:
        with pytest.raises(PolicyError, match=r"code that Aegis runs on.*: grant a subdirectory"):
            opened(place, modules)
        with pytest.raises(PolicyError, match="code that Aegis runs on"):
            opened(place, tmp_path)
        assert opened(place, modules, write=False, create=False) == 0
        assert opened(place, data) == 0


def test_a_package_that_was_imported_is_granted_for_reading_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imported_before" / "data").mkdir(parents=True)
    (tmp_path / "not_imported").mkdir()
    (tmp_path / "imported_before" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("imported_before")
    for place in PLACES:
        for path in (tmp_path / "imported_before", tmp_path / "imported_before" / "data"):
            with pytest.raises(PolicyError, match="code that Aegis runs on"):
                opened(place, path)
            assert opened(place, path, write=False, create=False) == 44
        assert opened(place, tmp_path / "not_imported") == 0


def test_where_python_will_find_modules_at_its_next_start_is_granted_for_reading_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest has created bytecode files of a directory of modules, and the user's site-packages directory."""
    modules, local = tmp_path / "modules", tmp_path / ".local"
    (modules / "__pycache__").mkdir(parents=True)
    (local / "share").mkdir(parents=True)
    assert opened("in-process", local) == 0
    monkeypatch.syspath_prepend(str(modules))
    monkeypatch.setattr("site.ENABLE_USER_SITE", True)
    monkeypatch.setattr("site.USER_SITE", str(local / "lib" / "python3" / "site-packages"))
    for place in PLACES:
        for folder in (modules / "__pycache__", local):
            with pytest.raises(PolicyError, match=r"code that Aegis runs on.*: grant a subdirectory"):
                opened(place, folder, create=False)
            opened(place, folder, write=False, create=False)
        assert opened(place, local / "share") == 0
    monkeypatch.setattr("site.ENABLE_USER_SITE", False)
    assert opened("in-process", local) == 0


def test_nothing_in_the_package_itself_is_granted_for_writing() -> None:
    import aegis

    package = Path(aegis.__file__).parent
    for path in (package, package / "host", package / "host" / "preview2"):
        with pytest.raises(PolicyError, match="code that Aegis runs on"):
            opened("in-process", path, create=False)
        assert opened("in-process", path, write=False, create=False) == 44


@pytest.mark.parametrize("flags", [["-m", "aegis"], ["-P", "-m", "aegis"]])
def test_the_working_directory_may_be_granted_since_the_command_imports_nothing_from_it(
    tmp_path: Path, flags: list[str]
) -> None:
    (tmp_path / "guest.wat").write_text(WRITES)
    words = ["run", "--no-cache", "-e", "opened", "--allow-write", ".::/g", "guest.wat", "1"]
    command = [sys.executable, *flags, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_no_command_imports_from_the_current_directory(tmp_path: Path) -> None:
    """A foreign directory, or one that a guest wrote to, may be the working directory."""
    for name in ("json", "signal", "resource", "h11", "wasmtime", "hashlib"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    for folder in ("aegis", "aegis/isolation", "aegis/isolation/confine"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    for words in (["doctor"], ["run", "--isolate", source("hello")], ["validate", source("hello")]):
        assert aegis(*words, cwd=tmp_path).code == 0
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("value", ["", "0", "-1", "many", "999999999999999999999", "\udcff"])
def test_variables_of_the_engine_end_no_process(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAYON_NUM_THREADS", "RAYON_RS_NUM_CPUS", "WASMTIME_BACKTRACE_DETAILS", "RUST_BACKTRACE"):
        monkeypatch.setenv(name, value)
    assert aegis("run", "--no-cache", source("hello")) == (0, "hello, world\n", "")
