"""A guest with write access leaves links in a directory for the next run to follow: none is followed.

The test also plants links itself, as a compromised worker could that holds the granted descriptor.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from aegis import Aegis, FilesystemCapability, NetworkCapability, Policy, StdioCapability
from aegis.errors import PolicyError
from aegis.host import acquire
from aegis.host.files.protected import Protected
from aegis.host.preview1.abi import Errno
from tests.cli.command import aegis, guest
from tests.directories import Folder, every_place
from tests.file_guests import Preview1, Preview2, grants
from tests.host.harness import FIRST, Scope, tree
from tests.isolation.confined import attack
from tests.isolation.isolated import PLACES, runtime

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers, and links to /proc, are Linux's")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    filled(tmp_path)
    return tmp_path / "data"


@pytest.fixture
def either_data(either_folder: Folder) -> Folder:
    """The same on the host and in memory, for rules that both implementations of a directory keep."""
    filled(either_folder)
    return either_folder / "data"


def filled(above: Folder) -> None:
    """A directory to be granted for writing, with one in it, and secrets beside it."""
    (above / "secret").mkdir()
    (above / "secret" / "key").write_text("secret")
    (above / "data" / "cache").mkdir(parents=True)
    (above / "data" / "in.txt").write_text("input\n")


def plant(link: Path, target: str) -> None:
    """Replace an existing file by a link."""
    if link.is_dir() and not link.is_symlink():
        link.rmdir()
    else:
        link.unlink(missing_ok=True)
    link.symlink_to(target)


def refusal(capability: FilesystemCapability, place: str = "in-process", **policy: object) -> str:
    """Return the error for grants that are rejected when the guest uses the first one."""
    with pytest.raises(PolicyError) as caught, Preview1(place, capability, **policy) as made:
        made.fd_prestat_get(FIRST)
    message = str(caught.value)
    assert "\n" not in message
    return message


def works(capability: FilesystemCapability, count: int, place: str = "in-process") -> None:
    with Preview1(place, capability) as made:
        assert [made.fd_prestat_get(FIRST + n)[0] for n in range(count + 1)] == [0] * count + [Errno.BADF]


# -- grants within grants -------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", ["../secret", "{root}/secret", "in.d", "../data/in.d"])
def test_a_link_planted_beneath_a_writable_grant_is_not_followed_at_the_next_run(
    data: Path, place: str, target: str
) -> None:
    (data / "in.d").mkdir()
    both = grants((data, "/data", True), (data / "cache", "/cache", True))
    works(both, 2, place)
    plant(data / "cache", target.format(root=data.parent))
    message = refusal(both, place)
    assert "'cache' is a symbolic link" in message
    assert repr(str(data)) in message


@pytest.mark.parametrize("place", PLACES)
def test_a_guest_cannot_take_the_steps_of_the_attack(data: Path, place: str) -> None:
    both = grants((data, "/data", True), (data / "cache", "/cache", True))
    with Preview1(place, both) as made:
        assert made.path_create_directory(FIRST, "a") == made.path_create_directory(FIRST, "a/b") == 0
        assert made.path_symlink("../../secret", FIRST, "a/b/l") == Errno.PERM
        assert made.path_remove_directory(FIRST, "cache") == 0
        assert made.path_symlink("a", FIRST, "cache") == 0  # within its writable grant, so it may
    assert "'cache' is a symbolic link" in refusal(both, place)


def test_links_planted_by_a_compromised_worker_are_not_followed_in_the_next_run(data: Path) -> None:
    both = grants((data, "/data", True), (data / "cache", "/cache", True))
    planted = attack("plant_link", grant=[str(data)], writes=True, name="cache", target="../secret")
    assert planted.failure is None
    assert os.readlink(data / "cache") == "../secret"
    for place in PLACES:
        assert "'cache' is a symbolic link" in refusal(both, place)
    planted = attack("plant_link", grant=[str(data)], writes=True, name="in.txt", target="../secret/key")
    assert planted.failure is None
    done = aegis("run", "--allow-write", f"{data}::/d", "--stdin", data / "in.txt", guest("wordcount"))
    assert done.code == 125
    assert "standard input" in done.err


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ("data", "data/cache/"),
        ("data/", "data/../data/cache"),
        ("./data", "data/./cache"),
        ("alias", "data/cache"),
        ("data", "alias/cache"),
        ("alias", "data/../alias/cache"),
        ("data", "elsewhere"),  # which is a link of the embedder to data/cache
    ],
)
def test_every_spelling_of_a_grant_within_another_is_recognised(
    data: Path, place: str, outer: str, inner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data.parent / "alias").symlink_to("data")
    (data.parent / "elsewhere").symlink_to("data/cache")
    monkeypatch.chdir(data.parent)
    writing = FilesystemCapability.read_write(f"{outer}::/outer")
    capabilities = [
        writing + FilesystemCapability.read_write(f"{inner}::/inner"),
        FilesystemCapability.read_write(f"{inner}::/inner") + writing,
    ]
    for capability in capabilities:
        works(capability, 2, place)
    plant(data / "cache", "../secret")
    for capability in capabilities:
        assert "'cache' is a symbolic link" in refusal(capability, place)


@pytest.mark.parametrize("reader", ["alias/cache", "elsewhere", "alias/cache/deep"])
def test_a_grant_to_read_within_one_that_writes_is_refused_with_a_planted_link_and_without(
    data: Path, reader: str
) -> None:
    (data.parent / "alias").symlink_to("data")
    (data.parent / "elsewhere").symlink_to("data/cache")
    (data / "cache" / "deep").mkdir()
    both = grants((data, "/data", True), (data.parent / reader, "/in", False))
    assert "granted read-only" in refusal(both)
    (data / "cache" / "deep").rmdir()
    plant(data / "cache", "../secret")
    (data.parent / "secret" / "deep").mkdir()
    assert "'cache' is a symbolic link" in refusal(both)


@pytest.mark.parametrize("component", ["one", "one/two", "one/two/three"])
@pytest.mark.parametrize("reverse", [False, True])
def test_links_are_found_at_every_level_of_nesting(data: Path, component: str, reverse: bool) -> None:
    deep = data / "one" / "two" / "three"
    deep.mkdir(parents=True)
    (data.parent / "secret" / "two" / "three").mkdir(parents=True)
    (data.parent / "secret" / "three").mkdir()
    paths = [(data, "/0", True), (data / "one", "/1", True), (data / "one" / "two", "/2", True), (deep, "/3", True)]
    nested = grants(*(reversed(paths) if reverse else paths))
    works(nested, 4)
    victim = data / component
    os.rename(victim, data.parent / "moved")
    victim.symlink_to(data.parent / "secret")
    assert f"{victim.name!r} is a symbolic link" in refusal(nested)


@pytest.mark.parametrize("place", PLACES)
def test_a_file_granted_alone_is_not_found_through_a_planted_link(data: Path, place: str) -> None:
    both = grants((data, "/data", True), (data / "in.txt", "/in/in.txt", True))
    works(both, 2, place)
    plant(data / "in.txt", "../secret/key")
    assert "'in.txt' is a symbolic link" in refusal(both, place)


def test_links_of_the_embedder_outside_of_grants_are_followed(data: Path) -> None:
    (data.parent / "alias").symlink_to("data")
    (data.parent / "again").symlink_to(data.parent / "alias")
    works(grants((data.parent / "again", "/data", True), (data.parent / "secret", "/read", False)), 2)


def test_a_loop_of_links_is_one_clear_line(data: Path) -> None:
    (data.parent / "loop").symlink_to("loop")
    assert "too many levels of symbolic links" in refusal(grants((data.parent / "loop", "/x", False)))


def test_the_same_directory_mounted_elsewhere_is_recognised(data: Path) -> None:
    """A bind mount of the granted directory, and one of a directory within it."""
    (data / "sub" / "cache").mkdir(parents=True)
    (data / "sub" / "cache").rmdir()
    (data / "sub" / "cache").symlink_to(data.parent / "secret")
    plant(data / "cache", "../secret")
    for name in ("whole", "part"):
        (data.parent / name).mkdir()
    script = f"""
from aegis import FilesystemCapability
from aegis.errors import PolicyError
from aegis.host.files.preopens import acquire_filesystem
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
root = {str(data.parent)!r}
for source, target in (("data", "whole"), ("data/sub", "part")):
    arguments = (os.path.join(root, source).encode(), os.path.join(root, target).encode(), None, 4096, None)
    if libc.mount(*arguments):
        raise SystemExit(77)
for inner in ("whole/cache", "part/cache"):
    grants = FilesystemCapability.read_write(root + "/data::/d", root + "/" + inner + "::/in")
    try:
        acquire_filesystem(grants)
    except PolicyError as error:
        print(error)
"""
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this user may not mount")
    assert done.stderr == ""
    assert [("'cache' is a symbolic link" in line) for line in done.stdout.splitlines()] == [True, True]


def test_a_directory_mounted_beneath_a_writable_grant_is_written_by_its_guests(data: Path) -> None:
    """A link planted through the mount is not followed, and files granted for reading stay unchanged."""
    (data.parent / "other" / "sub").mkdir(parents=True)
    (data.parent / "other" / "link").symlink_to(data.parent / "secret")
    script = f"""
from aegis import FilesystemCapability
from aegis.errors import PolicyError
from aegis.host.files.preopens import acquire_filesystem
import ctypes
root = {str(data.parent)!r}
if ctypes.CDLL(None).mount(f"{{root}}/other".encode(), f"{{root}}/data/cache".encode(), None, 4096, None):
    raise SystemExit(77)
writing = FilesystemCapability.read_write(f"{{root}}/data::/d")
for inner in (FilesystemCapability.read_write(f"{{root}}/other/link::/in"),
              FilesystemCapability.read_only(f"{{root}}/other/link::/in"),
              FilesystemCapability.read_only(f"{{root}}/other/sub::/in")):
    try:
        acquire_filesystem(writing + inner)
    except PolicyError as error:
        print(error)
"""
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this user may not mount")
    assert done.stderr == ""
    planted, again, promise = done.stdout.splitlines()
    assert "'link' is a symbolic link" in planted
    assert "'link' is a symbolic link" in again
    assert "is granted read-only, but" in promise


# -- links that are moved -------------------------------------------------------------------------

MOVES: dict[str, Callable[[Preview1], int]] = {
    "rename": lambda g: g.path_rename(FIRST, "a/l", FIRST, "l"),
    "rename in its directory": lambda g: g.path_rename(FIRST, "a/l", FIRST, "a/m"),
    "hard link": lambda g: g.path_link(FIRST, 0, "a/l", FIRST, "l"),
    "rename of its directory": lambda g: g.path_rename(FIRST, "a", FIRST, "b/a"),
    "rename of a directory above": lambda g: g.path_rename(FIRST, "b/deep", FIRST, "deep"),
}


@pytest.mark.usual(every=4)
@every_place
@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("target", ["../x", "../../x", "/etc", "b/../../x", "./.."])
def test_a_link_that_leads_away_is_not_moved(either_data: Folder, place: str, move: str, target: str) -> None:
    for folder in ("a", "b/deep/er"):
        (either_data / folder).mkdir(parents=True)
    (either_data / "a" / "l").symlink_to(target)
    (either_data / "b" / "deep" / "er" / "l").symlink_to(f"../{target}" if target[0] != "/" else target)
    with Preview1(place, grants((either_data, "/data", True))) as made:
        before = tree(either_data)
        assert MOVES[move](made) == Errno.PERM
        assert tree(either_data) == before


@pytest.mark.parametrize("move", MOVES)
def test_a_link_that_leads_beneath_itself_is_moved(either_data: Folder, move: str) -> None:
    for folder in ("a", "b/deep/er"):
        (either_data / folder).mkdir(parents=True)
    (either_data / "a" / "l").symlink_to("x/y")
    (either_data / "b" / "deep" / "er" / "l").symlink_to("../beside")  # which stays within b/deep
    with Preview1("in-process", grants((either_data, "/data", True))) as made:
        assert MOVES[move](made) == 0


def test_a_directory_gets_a_new_name_in_its_place_whatever_is_in_it(either_data: Folder) -> None:
    (either_data / "a").mkdir()
    (either_data / "a" / "l").symlink_to("../x")
    with Preview1("in-process", grants((either_data, "/data", True))) as made:
        assert made.path_rename(FIRST, "a", FIRST, "b") == 0


@every_place
def test_guests_of_wasi_0_2_neither_make_nor_move_links_that_lead_away(either_data: Folder, place: str) -> None:
    (either_data / "a").mkdir()
    (either_data / "a" / "l").symlink_to("../../secret")
    with Preview2(place, grants((either_data, "/data", True))) as made:
        for target in ("../x", "/etc/passwd", "a/../x", ".."):
            assert made.symlink(target, "a/new") == "not-permitted"
        assert made.symlink("in.txt", "good") == ""
        assert made.rename("a/l", "l") == made.link("a/l", "l") == made.rename("a", "cache/a") == "not-permitted"
        assert made.rename("good", "cache/good") == ""
    assert str((either_data / "a" / "l").readlink()) == "../../secret"


# -- files of Aegis's own -------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("via", ["data/in.txt", "alias/in.txt", "data/cache/../in.txt", "link"])
def test_standard_input_is_not_read_where_a_guest_may_write(data: Path, place: str, via: str) -> None:
    (data.parent / "alias").symlink_to("data")
    (data.parent / "link").symlink_to("data/in.txt")
    policy = {"stdio": StdioCapability(stdin=f"file:{data.parent / via}")}
    assert "standard input" in refusal(grants((data, "/data", True)), place, **policy)
    with Preview1(place, grants((data, "/data", False)), **policy) as made:
        assert made.fd_read(0, 100) == (0, b"input\n")


def test_standard_input_is_refused_to_a_guest_that_never_asks_for_files(data: Path) -> None:
    plant(data / "in.txt", "../secret/key")
    policy = Policy.from_keywords(
        filesystem=grants((data, "/data", True)), stdio=StdioCapability(stdin=f"file:{data / 'in.txt'}")
    )
    with closing(acquire(policy, scope=Scope())) as held, pytest.raises(PolicyError, match="standard input"):
        held.stdio  # noqa: B018


OPTIONS = {
    "--stdin": ("run", "--stdin={}", "in.txt"),
    "--events": ("run", "--events={}", "new.jsonl"),
    "--config": ("run", "--config={}", "aegis.toml"),
    "--out": ("fuzz", "--out={}", "out"),
    "--corpus": ("fuzz", "--corpus={}", "corpus"),
    "--replay": ("fuzz", "--replay={}", "in.txt"),
    "--policy": ("fuzz", "--policy={}", "aegis.toml"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_no_file_of_the_command_lies_where_a_guest_may_write(data: Path, option: str) -> None:
    command, flag, name = OPTIONS[option]
    (data / "aegis.toml").write_text('[limits]\nfuel = "1e6"\n')
    outside = data.parent / "own"
    outside.mkdir()
    for file in ("aegis.toml", "in.txt"):
        (outside / file).write_bytes((data / file).read_bytes())
    before = tree(data)
    write = ("--allow-write", f"{data}::/data")
    done = aegis("--format=json", command, flag.format(data / name), *write, guest("hello"))
    assert done.code == 125
    assert "granted for writing" in done.document["error"]["message"]
    assert tree(data) == before, "nothing was opened, made or cut"
    more = ("--runs=1", "--jobs=1") if command == "fuzz" else ()
    for allowed in (("--allow-read", f"{data}::/data"), write):
        where = outside if allowed == write else data
        done = aegis(command, flag.format(where / name), *allowed, *more, guest("hello"))
        assert "granted for" not in done.err, done.err


def test_the_policy_file_is_out_of_reach_of_the_guests_that_it_grants_something(data: Path) -> None:
    for writes, path in ((True, "."), (True, "aegis.toml"), (False, ".")):
        (data / "aegis.toml").write_text(
            f'[capabilities.filesystem]\npaths = [{{ path = "{path}", guest = "/d/x", write = {str(writes).lower()} }}]'
        )
        with Aegis.from_config(data / "aegis.toml", cache=False) as made:
            box = made.sandbox(made.load_wat(Preview1.text))
            if writes:
                with pytest.raises(PolicyError, match="the policy file"):
                    box.call("fd_prestat_get", FIRST, 0)
            else:
                assert box.call("fd_prestat_get", FIRST, 0) == 0
            box.close()


def test_a_provider_that_a_policy_names_is_no_file_that_a_guest_may_write(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "planted_provider.py").write_text("raise AssertionError('executed')\n")
    (data / "__pycache__").mkdir()
    monkeypatch.syspath_prepend(str(data))
    imports = (("a:b/c", "planted_provider:Store"),)
    for path in (data, data / "__pycache__", data / "planted_provider.py"):
        refused = refusal(grants((path, "/d/x", True)), imports=imports)
        assert "provider 'planted_provider'" in refused or (path.is_dir() and "code that Aegis runs on" in refused)
    works(grants((data / "cache", "/cache", True)), 1)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_no_guest_writes_the_certificates_that_its_connections_are_checked_by(
    data: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = {"network": NetworkCapability(allow=["https://a.example"])}
    monkeypatch.setenv(variable, str(data / "roots"))
    assert "certificates" in refusal(grants((data, "/data", True)), **network)
    assert "certificates" in refusal(grants((Path("/etc"), "/etc", True)), **network)
    works(grants((data, "/data", True)), 1)
    monkeypatch.delenv(variable)
    with Preview1("in-process", grants((data, "/data", True)), **network) as made:
        assert made.fd_prestat_get(FIRST)[0] == 0


@pytest.mark.parametrize("place", PLACES)
def test_no_guest_writes_the_code_of_aegis_or_of_its_interpreter(place: str) -> None:
    package = Path(sys.modules["aegis"].__file__ or "").parent
    standard = Path(os.__file__).parent
    places = [package, package.parent, package / "host", package / "cli" / "run.py", standard, Path(sys.prefix)]
    for path in (*places, Path(sys.executable), Path("/")):
        assert "code that Aegis runs on" in refusal(grants((path, "/d/x", True)), place)
        works(grants((path, "/d/x", False)), 1, place)


def test_further_files_can_be_protected_from_reading_too(data: Path) -> None:
    made = runtime("in-process", filesystem=grants((data, "/data", False)))
    made._backend.protected = (Protected(path=str(data / "key"), reason="a key", readable=False),)
    with made.sandbox(made.load_wat(Preview1.text)) as box, pytest.raises(PolicyError, match="which is a key"):
        box.call("fd_prestat_get", FIRST, 0)


def test_a_policy_says_which_files_it_was_read_from_and_is_equal_to_one_that_was_not(data: Path) -> None:
    from aegis.policy import load_policy

    (data / "aegis.toml").write_text("")
    policy = load_policy(data / "aegis.toml")
    assert policy.sources == (str(data / "aegis.toml"),)
    assert policy == Policy()


def test_the_artifact_may_lie_where_the_guest_writes(data: Path) -> None:
    (data / "app.wat").write_bytes(guest("hello").read_bytes())
    assert aegis("run", "--allow-write", ".", "app.wat", cwd=data).code == 0


def test_modules_in_the_working_directory_are_not_imported_by_the_command(data: Path) -> None:
    """Where ``--allow-write .`` is common, a late import could load a module that the guest wrote."""
    (data / "app.wat").write_bytes(guest("hello").read_bytes())
    for name in ("difflib", "click", "json"):
        (data / f"{name}.py").write_text("import sys\nsys.stderr.write('planted')\n")
    command = [sys.executable, "-m", "aegis", "run", "--allow-write", ".", "-f", "helo", "app.wat"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=data, timeout=60)
    assert done.returncode == 127
    assert "planted" not in done.stderr
