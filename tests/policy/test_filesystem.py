"""File grants: paths are normalised, contradictory grants and paths of the host's own state are rejected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.errors import PolicyError
from aegis.policy import FilesystemCapability, PathGrant


@pytest.mark.parametrize(
    ("text", "host", "guest"),
    [
        ("/a", "/a", "/a"),
        ("/a/b/..//c/.", "/a/c", None),
        ("//a", "/a", "/a"),
        ("data", "/base/data", "data"),
        ("./data/", "/base/data", "data"),
        (".", "/base", "."),
        ("/", "/", "/"),
        ("../x::/x", "/x", "/x"),
        ("data::/in//deep/./", "/base/data", "/in/deep"),
        ("a::b::c", "/base/a", "b::c"),
        ("/devices::d", "/devices", "d"),
    ],
)
def test_a_grant(text: str, host: str, guest: str | None) -> None:
    if guest is None:
        with pytest.raises(PolicyError, match=r"contains '\.\.': name a guest path after '::'"):
            PathGrant.parse(text, base="/base")
        text, guest = f"{text}::g", "g"
    assert PathGrant.parse(text, base="/base") == PathGrant(host=host, guest=guest)
    assert PathGrant.parse(text, base="/base", write=True).write


def test_a_grant_starts_here_without_a_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert PathGrant.parse(Path("data")).host == f"{tmp_path}/data"


STATE = "exposes the state of the host: grant a copy of the file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty path grants nothing: name a file or a directory, such as ./data"),
        ("::b", "an empty path grants nothing: name a file or a directory, such as ./data"),
        ("a::", "'a::' has no guest path after '::': write a::/data, or just a"),
        ("a\0::b", "a host path contains a NUL: remove it"),
        ("a::b\0", "a guest path contains a NUL: remove it"),
        ("a::..", "the guest path '..' contains '..': name a guest path after '::'"),
        ("\udcff", "the guest path '\\udcff' is not valid Unicode, which WASI paths must be: name one with '::'"),
        ("/proc", f"'/proc' cannot be granted: /proc {STATE}"),
        ("/proc/self::x", f"'/proc/self' cannot be granted: /proc {STATE}"),
        ("//proc//1", f"'/proc/1' cannot be granted: /proc {STATE}"),
        ("/a/../sys::x", f"'/sys' cannot be granted: /sys {STATE}"),
        ("/dev/shm", f"'/dev/shm' cannot be granted: /dev {STATE}"),
        (b"a", "a path must be text, not bytes"),
    ],
)
def test_a_rejected_grant(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        PathGrant.parse(text, base="/base")
    assert str(caught.value) == f"filesystem: {message}"


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"host": "a"}, "the host path 'a' is not absolute"),
        ({"host": 5}, "the host path must be text, not int"),
        ({"guest": 5}, "the guest path must be text, not int"),
        ({"guest": ""}, "the guest path is empty: write '.' for the guest's working directory"),
        ({"read": False}, "'/a' is granted with read=False: leave the grant out to deny it"),
        ({"write": "yes"}, "write must be true or false, not 'yes'"),
        ({"host": "/a/../proc/1"}, f"'/proc/1' cannot be granted: /proc {STATE}"),
        ({"host": "/./dev/"}, f"'/dev' cannot be granted: /dev {STATE}"),
    ],
)
def test_a_rejected_grant_made_by_hand(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        PathGrant(**{"host": "/a", "guest": "a", **keywords})  # type: ignore[arg-type]
    assert str(caught.value) == f"filesystem: {message}"


def test_an_empty_path_in_parts() -> None:
    from aegis.policy.filesystem import absolute

    with pytest.raises(PolicyError, match="an empty path grants nothing"):
        absolute("", "/base")


@given(st.lists(st.sampled_from(["", ".", "..", "a", "proc", "dev"]), max_size=6).map("/".join))
def test_a_host_path_is_tidy_or_refused(tail: str) -> None:
    try:
        host = PathGrant(host=f"/{tail}", guest="g").host
    except PolicyError:
        assert os.path.normpath(f"/{tail}").lstrip("/").split("/")[0] in ("proc", "dev")
    else:
        assert PathGrant(host=host, guest="g").host == host
        assert not set(host[1:].split("/")) & {".", ".."}


# -- many grants --------------------------------------------------------------------------------

read_only, read_write = FilesystemCapability.read_only, FilesystemCapability.read_write


def test_grants_of_one_path_unite_to_the_wider() -> None:
    wide = read_write("/a::x")
    assert read_only(["/a::x", "/b::y"]) == read_only("/a::x", "/b::y")
    assert read_only("/a::x") + wide == wide == wide + read_only("/a::x")
    assert read_only("/a::x", "/a::x") == read_only("/a::x")


def test_grants_side_by_side_and_nested() -> None:
    assert len(read_write("/a", "/a/b").paths) == 2
    assert len((read_only("/a") + read_write("/a/b")).paths) == 2
    assert len((read_only("/ab") + read_write("/a")).paths) == 2
    assert FilesystemCapability() + FilesystemCapability() == FilesystemCapability()


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (
            read_only("/a::x"), read_only("/b::x"),
            "the guest path 'x' is granted for both '/a' and '/b': give one of them another guest path with '::'",
        ),
        (
            read_only("/a/b::x"), read_write("/a::y"),
            "'/a/b' is granted read-only as 'x', but '/a' is granted for writing as 'y' and contains it: "
            "grant writing to another directory",
        ),
        (
            read_write("/a::y"), read_only("/a::x"),
            "'/a' is granted read-only as 'x', but '/a' is granted for writing as 'y' and contains it: "
            "grant writing to another directory",
        ),
    ],
)  # fmt: skip
def test_grants_that_contradict(left: FilesystemCapability, right: FilesystemCapability, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        left + right
    assert str(caught.value) == f"filesystem: {message}"


def test_an_untidy_host_path_hides_no_contradiction() -> None:
    writer = PathGrant(host="/a", guest="y", write=True)
    with pytest.raises(PolicyError, match="and contains it"):
        FilesystemCapability(paths=(PathGrant(host="/c/../a/b", guest="x"), writer))


@pytest.mark.parametrize("paths", ["/a", ("/a",), 5, PathGrant(host="/a", guest="a")])
def test_paths_are_grants(paths: object) -> None:
    if isinstance(paths, PathGrant):
        assert FilesystemCapability(paths=paths).paths == (paths,)  # type: ignore[arg-type]
        return
    with pytest.raises(PolicyError, match="paths must hold PathGrant values: create them with"):
        FilesystemCapability(paths=paths)  # type: ignore[arg-type]
