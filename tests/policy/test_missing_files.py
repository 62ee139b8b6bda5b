"""A granted file or directory that does not exist is an error of the first sandbox, with its line.

The oracle is the file system: the same policy is accepted once the path exists.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import aegis
from aegis import FilesystemCapability, KeyValueCapability, PolicyError, StdioCapability
from tests.cli.command import aegis as command
from tests.cli.command import guest

POLICIES = {
    "a directory": ('[capabilities.filesystem]\npaths = [\n  "here",\n  { path = "gone", write = true },\n]\n', 4),
    "with a guest path": ('[capabilities.filesystem]\npaths = ["here::/a",\n "gone::/b"]\n', 3),
    "in a table": (
        '[[capabilities.filesystem.paths]]\npath = "here"\n[[capabilities.filesystem.paths]]\npath = "gone"\n', 3,
    ),
    "not tidy": ('capabilities.filesystem.paths = [\n"./here/../gone/::g"]\n', 2),
    "a link to nowhere": ('capabilities.filesystem.paths = [\n"here",\n"dangling"]\n', 3),
    "beneath a file": ('capabilities.filesystem.paths = [\n"here",\n\n"file/x"]\n', 4),
    "the directory of a store": ('[capabilities.keyvalue.buckets]\na = "memory"\nb = "sqlite:gone/b.db"\n', 3),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    return tmp_path


def start(runtime: aegis.Aegis) -> None:
    """Run a guest that uses no file."""
    with runtime, runtime.sandbox(runtime.load_wat('(module (func (export "f")))')) as sandbox:
        sandbox.call("f")


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("case", POLICIES)
def test_the_runtime_names_the_line_of_the_policy_file(folder: Path, case: str) -> None:
    text, line = POLICIES[case]
    path = folder / "aegis.toml"
    path.write_text(text)
    with pytest.raises(PolicyError) as raised:
        start(aegis.Aegis.from_config(path, cache=False))
    assert (raised.value.source, raised.value.line) == (str(path), line)
    assert str(raised.value).startswith(f"{path}:{line}: ")
    done = command("-c", path, "run", guest("hello"))
    assert (done.code, done.err) == (125, f"error: {raised.value}\n")
    as_json = command("-f", "json", "-c", path, "run", guest("hello"))
    assert (as_json.document["error"]["source"], as_json.document["error"]["line"]) == (str(path), line)
    if case != "beneath a file":
        (folder / "gone").mkdir()
        start(aegis.Aegis.from_config(path, cache=False))
        assert command("-c", path, "run", guest("hello")).code == 0


@pytest.mark.parametrize("isolation", [None, True], ids=["in process", "isolated"])
@pytest.mark.parametrize("write", [False, True])
def test_a_missing_grant_of_the_library_is_an_error_before_any_guest(
    tmp_path: Path, write: bool, isolation: object
) -> None:
    granted = FilesystemCapability.read_write if write else FilesystemCapability.read_only
    with pytest.raises(PolicyError, match="no such file or directory"):
        start(aegis.Aegis(filesystem=granted(tmp_path / "gone"), isolation=isolation, cache=False))  # type: ignore[arg-type]
    (tmp_path / "gone").touch()
    start(aegis.Aegis(filesystem=granted(tmp_path / "gone"), isolation=isolation, cache=False))  # type: ignore[arg-type]


def test_a_missing_input_and_a_store_without_directory_are_errors_too(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"stdin: .*no such file"):
        start(aegis.Aegis(stdio=StdioCapability(stdin=f"file:{tmp_path}/gone"), cache=False))
    with pytest.raises(PolicyError, match=r"the bucket 'b' has no directory .*create it first"):
        start(aegis.Aegis(keyvalue=KeyValueCapability.parse(f"b=sqlite:{tmp_path}/gone/b.db"), cache=False))
    start(aegis.Aegis(keyvalue=KeyValueCapability.parse(f"b=sqlite:{tmp_path}/b.db"), cache=False))
    assert not (tmp_path / "b.db").exists(), "the check creates nothing"


def test_an_option_has_no_line_even_beside_a_policy_file(folder: Path) -> None:
    path = folder / "aegis.toml"
    path.write_text('capabilities.filesystem.paths = ["here"]\n')
    done = command("-c", path, "run", "--allow-read", folder / "lost", guest("hello"))
    assert (done.code, done.err.startswith("error: filesystem: ")) == (125, True)


def test_a_directory_that_disappears_later_is_an_error_of_the_sandbox_with_its_line(folder: Path) -> None:
    path = folder / "aegis.toml"
    path.write_text('capabilities.filesystem.paths = [\n"here"]\n')
    runtime = aegis.Aegis.from_config(path, cache=False)
    module = runtime.load_file(guest("wordcount"))
    runtime.sandbox(module).close()
    (folder / "here").rmdir()
    with pytest.raises(PolicyError, match=r"aegis\.toml:2: .*no such file"):  # noqa: SIM117
        with runtime.sandbox(module, args=["wc", "here/x"]) as sandbox:
            sandbox.call("_start")


def test_a_policy_file_that_changed_since_it_was_read_has_no_line(folder: Path) -> None:
    path = folder / "p.toml"
    path.write_text('[capabilities.filesystem]\npaths = ["gone"]\n')
    policy = aegis.load_policy(path)
    path.write_text("[[")
    with pytest.raises(PolicyError) as caught:
        start(aegis.Aegis(policy))
    assert caught.value.line is None


@pytest.mark.parametrize("mark", ":=")
def test_a_grant_in_the_form_of_containers_has_a_remedy(tmp_path: Path, mark: str) -> None:
    runtime = aegis.Aegis(cache=False, pooled=False, filesystem=[f"{tmp_path}{mark}/data"])
    with pytest.raises(PolicyError, match="write HOST::GUEST, with two colons"):
        runtime.sandbox()
