"""The compile cache ignores any entry, key or directory that has a defect, and compiles the code again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from aegis import Aegis
from aegis.engine.compile.cache import Cache, default_folder
from aegis.engine.compile.private_folder import NotPrivate, open_private
from tests.guests.catalogue import source


def loaded(folder: Path) -> bool:
    """Load a module, and return whether its code came from ``folder``."""
    runtime = Aegis(cache=folder, pooled=False)
    module = runtime.load_file(source("add"))
    with runtime.sandbox(module) as sandbox:
        assert sandbox.call("add", 2, 3) == 5
    return module.cached


def entries(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name != "key")


def test_the_second_load_is_from_the_cache(tmp_path: Path) -> None:
    folder = tmp_path / "code"
    assert not loaded(folder)
    assert loaded(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "key").stat().st_mode & 0o777 == 0o600
    assert len(entries(folder)) == 1


def test_another_configuration_has_another_entry(tmp_path: Path) -> None:
    assert not loaded(tmp_path)
    runtime = Aegis(cache=tmp_path, pooled=False, stack="256KiB")
    assert not runtime.load_file(source("add")).cached
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize("at", [0, 5, 20, 60, 500, -1])
def test_a_changed_byte_is_built_again(tmp_path: Path, at: int) -> None:
    assert not loaded(tmp_path)
    (entry,) = entries(tmp_path)
    data = bytearray(entry.read_bytes())
    data[at] ^= 1
    entry.write_bytes(data)
    assert not loaded(tmp_path)
    assert loaded(tmp_path)


@pytest.mark.parametrize("size", [0, 10, 45, 100])
def test_a_cut_entry_is_built_again(tmp_path: Path, size: int) -> None:
    assert not loaded(tmp_path)
    (entry,) = entries(tmp_path)
    entry.write_bytes(entry.read_bytes()[:size])
    assert not loaded(tmp_path)
    assert loaded(tmp_path)


def test_an_entry_of_another_name_or_key_does_not_count(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    name, other = "ab" * 32, "cd" * 32
    cache.put(name, b"code")
    assert cache.get(name) == b"code"
    os.replace(tmp_path / name, tmp_path / other)
    assert cache.get(other) is None
    cache.put(name, b"code")
    (tmp_path / "key").write_bytes(b"k" * 32)
    assert Cache(str(tmp_path)).get(name) is None


@pytest.mark.parametrize("key", [b"", b"short", b"x" * 33])
def test_a_key_that_is_none_is_made_anew(tmp_path: Path, key: bytes) -> None:
    assert not loaded(tmp_path)
    (tmp_path / "key").write_bytes(key)
    (tmp_path / "key").chmod(0o600)
    assert not loaded(tmp_path)
    assert loaded(tmp_path)


def test_a_key_that_others_can_read_is_made_anew(tmp_path: Path) -> None:
    assert not loaded(tmp_path)
    (tmp_path / "key").chmod(0o644)
    assert not loaded(tmp_path)
    assert loaded(tmp_path)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_others_can_enter_is_made_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    loaded(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_none_or_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not loaded(tmp_path / "file")
    assert not loaded(tmp_path / "file" / "below")
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    assert not loaded(tmp_path / "link")
    assert list(target.iterdir()) == []


def test_the_folder_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aegis.engine.compile.cache._MAX_FILES", 3)
    cache = Cache(str(tmp_path), size="1GiB")
    for n in range(6):
        cache.put(f"{n:064x}", b"code")
    assert len(entries(tmp_path)) == 3


def test_many_small_entries_do_not_displace_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aegis.engine.compile.cache._MAX_FILES", 3)
    cache = Cache(str(tmp_path), size="1GiB")
    cache.put("f" * 64, bytes(1 << 20))
    for n in range(6):
        cache.put(f"{n:064x}", b"code")
    code = cache.mapped("f" * 64)
    assert code is not None
    os.close(code)
    assert len(entries(tmp_path)) == 3 + 2


def test_large_entries_have_a_maximum_number_too_and_go_with_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aegis.engine.compile.cache._MAX_MAPPED_FILES", 2)
    cache = Cache(str(tmp_path), size="1GiB")
    cache.put("f" * 64, b"code")
    for n in range(4):
        cache.put(f"{n:064x}", bytes(1 << 20))
    assert len(entries(tmp_path)) == 1 + 2 * 2
    assert cache.get("f" * 64) == b"code"


def test_without_a_size_no_entry_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aegis.engine.compile.cache._MAX_FILES", 3)
    monkeypatch.setattr("aegis.engine.compile.cache._MAX_MAPPED_FILES", 2)
    cache = Cache(str(tmp_path), size=None)
    for n in range(6):
        cache.put(f"{n:064x}", b"code")
        cache.put(f"{n + 6:064x}", bytes(1 << 20))
    assert len(entries(tmp_path)) == 6 + 6 * 2


def test_without_a_cache_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    Aegis(cache=False).load_file(source("add"))
    assert list(tmp_path.iterdir()) == []


# -- who else could change the folder --------------------------------------------------------------

as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files away")
SOMEBODY = 12345


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_no_directory_above_the_cache_may_be_written_by_others(tmp_path: Path, mode: int) -> None:
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(mode)
    assert not loaded(above / "between" / "code")
    assert list(above.iterdir()) == []
    with pytest.raises(NotPrivate, match="above is writable by other users"):
        open_private(str(above / "between" / "code"), create=True)
    above.chmod(mode | 0o1000)  # sticky: other users can create files, but not replace those of this user
    assert not loaded(above / "between" / "code")
    assert loaded(above / "between" / "code")


@as_root
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_no_directory_above_the_cache_may_be_of_another_user(tmp_path: Path, depth: int) -> None:
    """A command that root runs with the HOME of another user has no cache there."""
    folder = tmp_path / "home" / "cache" / "code"
    folder.mkdir(parents=True)
    os.chown([folder, *folder.parents][depth], SOMEBODY, SOMEBODY)
    assert not loaded(folder)
    assert list(folder.iterdir()) == []


def test_a_link_above_the_cache_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real" / "deeper").mkdir(parents=True)
    for n, target in enumerate((tmp_path / "real", "real", "./real/deeper/..", tmp_path / "real" / ".." / "real")):
        (tmp_path / f"link{n}").symlink_to(target)
        assert loaded(tmp_path / f"link{n}" / "code") == (n > 0)
    assert (tmp_path / "real" / "code" / "key").exists()


@as_root
def test_a_link_of_another_user_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    os.chown(tmp_path / "link", SOMEBODY, SOMEBODY, follow_symlinks=False)
    with pytest.raises(NotPrivate, match="symbolic link that belongs to another user"):
        open_private(str(tmp_path / "link" / "code"), create=True)


def test_the_path_of_a_link_is_examined_too(tmp_path: Path) -> None:
    (tmp_path / "open" / "real").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to("open/real")
    with pytest.raises(NotPrivate, match="open is writable by other users"):
        open_private(str(tmp_path / "link" / "code"), create=True)


@pytest.mark.parametrize("target", ["self", "first", "/dev/null"])
def test_links_that_lead_nowhere_end(tmp_path: Path, target: str) -> None:
    (tmp_path / "self").symlink_to(target)
    (tmp_path / "first").symlink_to("self")
    assert not loaded(tmp_path / "self" / "code")


def test_a_directory_that_is_replaced_while_the_cache_is_open_changes_nothing(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "a" / "code"))
    name = "ab" * 32
    cache.put(name, b"code")
    with cache._opened() as folder:
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "a" / "code").mkdir(parents=True)
        (tmp_path / "a" / "code" / name).write_bytes(b"planted")
        assert os.stat(name, dir_fd=folder).st_ino == (tmp_path / "b" / "code" / name).stat().st_ino


@pytest.mark.parametrize("kind", ["fifo", "link", "directory", "hard link"])
@pytest.mark.parametrize("name", ["key", "entry"])
def test_only_regular_files_are_read(tmp_path: Path, name: str, kind: str) -> None:
    folder = tmp_path / "code"
    assert not loaded(folder)
    path = folder / "key" if name == "key" else entries(folder)[0]
    aside = path.rename(tmp_path / "aside")
    if kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "link":
        path.symlink_to(aside)
    elif kind == "directory":
        path.mkdir()
    else:
        os.link(aside, path)
    # The digest inside an entry verifies its integrity, whatever number of names it has.
    assert loaded(folder) == (name == "entry" and kind == "hard link")


def test_large_code_that_gets_another_name_is_not_mapped(tmp_path: Path) -> None:
    """A user who can write to the file under another name could change code that runs."""
    cache, name = Cache(str(tmp_path / "code")), "ab" * 32
    cache.put(name, bytes(2 << 20))
    mapped = cache.mapped(name)
    assert mapped is not None
    os.close(mapped)
    os.link(tmp_path / "code" / f"{name}.code", tmp_path / "other")
    assert cache.mapped(name) is None


def test_the_two_kinds_of_entry_are_not_taken_for_each_other(tmp_path: Path) -> None:
    cache, name = Cache(str(tmp_path / "code")), "ab" * 32
    cache.put(name, bytes(2 << 20))
    entry = tmp_path / "code" / name
    entry.write_bytes(entry.read_bytes().replace(b"aegis-file-2", b"aegis-code-2"))
    assert cache.get(name) is None


# -- where it is ------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have other places")
@pytest.mark.parametrize(
    ("xdg", "home", "expected"),
    [
        ("/x/cache", "/h", "/x/cache"),
        ("", "/h", "/h/.cache"),
        (None, "/h", "/h/.cache"),
        (".cache", "/h", "/h/.cache"),
        ("../cache", "/h", "/h/.cache"),
        ("~/cache", "/h", "/h/.cache"),
        ("", ".", None),
        ("", "", None),
        (None, None, None),
    ],
)
def test_only_absolute_variables_say_where_the_cache_is(
    monkeypatch: pytest.MonkeyPatch, xdg: str | None, home: str | None, expected: str | None
) -> None:
    """``None`` stands for the home directory in the user database."""
    for name, value in (("XDG_CACHE_HOME", xdg), ("HOME", home)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    if expected is None:
        import pwd

        expected = f"{pwd.getpwuid(os.geteuid()).pw_dir}/.cache"
    assert default_folder() == f"{expected}/aegis/code"


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert default_folder() is None
    cache = Cache()
    cache.put("ab" * 32, b"code")
    assert cache.get("ab" * 32) is None


def test_a_folder_that_no_path_can_name_is_no_error() -> None:
    cache = Cache("/tmp/a\0b")
    cache.put("ab" * 32, b"code")
    assert cache.get("ab" * 32) is None
    assert cache.mapped("ab" * 32) is None


def test_processes_that_make_the_key_at_once_use_the_same(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    folder = str(tmp_path / "code")
    names = [f"{n:064x}" for n in range(16)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda name: Cache(folder).put(name, b"code"), names))
    assert [Cache(folder).get(name) for name in names] == [b"code"] * 16
