"""The compile cache: whatever is wrong with it, the code is built again and nobody is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aegis import Aegis
from aegis.engine.cache import Cache
from tests.guests.catalogue import source


def loaded(folder: Path) -> bool:
    """Load a module and tell whether its code came from ``folder``."""
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
    monkeypatch.setattr("aegis.engine.cache._ENTRIES_KEPT", 3)
    cache = Cache(str(tmp_path))
    for n in range(6):
        cache.put(f"{n:064x}", b"code")
    assert len(entries(tmp_path)) == 3


def test_without_a_cache_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    Aegis(cache=False).load_file(source("add"))
    assert list(tmp_path.iterdir()) == []
