"""Policy files that include others: their order, their mistakes with the line of each, and the place of each statement.

Oracle: the merge of the same files by ``Policy.merged``, and the lines of the texts that the tests write.
"""

from __future__ import annotations

import os
from functools import reduce
from pathlib import Path

import pytest

from aegis.errors import PolicyError
from aegis.policy import Policy, load_policy, parse_policy, reader
from aegis.policy.file import PolicyFiles
from aegis.policy.origins import statements_of
from aegis.policy.parts import contradiction

BASE = """\
[limits]
timeout = "5s"
memory_bytes = 1048576

[capabilities.network]
deny = ["private", "*.evil.example"]

[capabilities.keyvalue]
max_keys = 5
buckets = { jobs = "memory" }

[isolation]
strict = true
"""
TEAM = """\
include = ["base.toml"]
limits.timeout = "30s"

[capabilities.network]
allow = [
    "https://api.example.com",
    "tcp://10.0.0.0/8:5432",
]

[capabilities.environment]
set = { TZ = "UTC" }
pass = ["LANG"]

[capabilities.logging]
enabled = true
min_level = "debug"

[capabilities.random]
mode = "deny"

[isolation]
strict = false
workers = 2

[engine]
proposals = ["relaxed-simd"]

[imports."acme:shop/prices@1.2.0"]
provider = "myapp.shop:Prices"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.toml").write_text(BASE)
    (tmp_path / "team.toml").write_text(TEAM)
    return tmp_path


def error_of(path: Path) -> str:
    """Return the message of loading a file, without the folder of the test."""
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    return str(caught.value).replace(f"{path.parent}/", "").replace(str(path.parent), "FOLDER")


def test_an_include_merges_before_the_file_that_names_it(folder: Path) -> None:
    own = parse_policy(TEAM.partition("\n")[2], base=str(folder))
    assert load_policy(folder / "team.toml") == load_policy(folder / "base.toml").merged(own)
    assert load_policy(folder / "team.toml").limits.timeout == 30.0


def test_the_sources_are_all_files_so_that_no_grant_reaches_one(folder: Path) -> None:
    assert load_policy(folder / "team.toml").sources == (str(folder / "base.toml"), str(folder / "team.toml"))


def test_relative_paths_start_at_the_file_that_states_them(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "files.toml").write_text("include = ['../base.toml']\ncapabilities.filesystem.paths = ['data']")
    (folder / "top.toml").write_text("include = ['sub/files.toml']\ncapabilities.filesystem.paths = ['own']")
    policy = load_policy(os.path.relpath(folder / "top.toml"))
    assert [grant.host for grant in policy.filesystem.paths] == [f"{folder}/sub/data", f"{folder}/own"]
    assert policy.limits.timeout == 5.0


def test_a_file_that_two_others_include_counts_once_at_its_first_place(folder: Path) -> None:
    """Otherwise the second include of the base would undo the limit that the team set."""
    (folder / "net.toml").write_text("include = ['base.toml', './base.toml']\n")
    (folder / "all.toml").write_text("include = ['team.toml', 'net.toml']\n")
    assert load_policy(folder / "all.toml").limits.timeout == 30.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\ninclude = ['own.toml']", "2: include: 'own.toml' cannot be included: it includes itself (own.toml includes "
         "own.toml): remove one of these lines"),
        ("include = [\n'base.toml',\n'gone.toml']", "3: include: 'gone.toml' cannot be included: no such file or "
         "directory: a relative path starts at FOLDER"),
        ("include = ['']", "1: include: '' cannot be included: not a regular file: name a policy file"),
        ("include = ['pipe']", "1: include: 'pipe' cannot be included: not a regular file: name a policy file"),
        ("include = ['-']", "1: include: '-' cannot be included: no such file or directory: a relative path starts at "
         "FOLDER"),
        ('include = ["x\\u0000"]', "1: include: 'x\\x00' cannot be included: the name has a NUL character: a relative "
         "path starts at FOLDER"),
        ("include = 'base.toml'", "1: 'include' must be a list of files, not text"),
        ("include = ['base.toml', 3]", "1: item 2 of 'include' must be text in quotes, not a number"),
    ],
)  # fmt: skip
def test_an_include_that_fails_is_an_error_with_its_line(folder: Path, text: str, message: str) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "own.toml").write_text(text)
    assert error_of(folder / "own.toml") == f"own.toml:{message}"


def test_a_cycle_is_an_error_with_the_whole_chain(folder: Path) -> None:
    for name, inner in (("a", "b"), ("b", "c"), ("c", "a")):
        (folder / f"{name}.toml").write_text(f"# {name}\ninclude = ['{inner}.toml']")
    assert error_of(folder / "a.toml") == (
        "c.toml:2: include: 'a.toml' cannot be included: it includes itself (a.toml includes b.toml includes c.toml "
        "includes a.toml): remove one of these lines"
    )


def test_depth_and_number_of_includes_are_bounded(folder: Path) -> None:
    for number in range(10):
        (folder / f"{number}.toml").write_text(f"include = ['{number + 1}.toml']")
    message = error_of(folder / "0.toml")
    assert message.startswith("8.toml:1: include: '9.toml' cannot be included: include depth exceeded (9/8), 0.toml in")
    (folder / "9.toml").write_text("")
    assert load_policy(folder / "1.toml") == Policy(), "eight includes are allowed"
    names = [f"w{number}.toml" for number in range(65)]
    for name in names:
        (folder / name).write_text("")
    (folder / "wide.toml").write_text(f"include = {names[:64]}")
    assert load_policy(folder / "wide.toml") == Policy()
    (folder / "wide.toml").write_text(f"include = {names}")
    assert "number of included files exceeded (65/64): put several into one file" in error_of(folder / "wide.toml")


def test_a_mistake_in_an_included_file_has_its_own_name_and_line(folder: Path) -> None:
    (folder / "base.toml").write_text("[limits]\n\ntimout = 1")
    assert error_of(folder / "team.toml") == "base.toml:3: 'timout' is not a key of limits: did you mean 'timeout'?"


def test_files_that_contradict_each_other_are_an_error_of_the_later_one(folder: Path) -> None:
    (folder / "own.toml").write_text("include = ['base.toml']\n[isolation]\nwithout = ['namespaces']")
    error = error_of(folder / "own.toml")
    assert error.startswith("own.toml:3: isolation: `strict` requires every layer")
    assert error.endswith("; the other is at base.toml:13")


def test_the_lines_of_a_contradiction_are_found_among_many_statements(folder: Path) -> None:
    paths = 'capabilities.filesystem.paths = [\n"/{}::/other",\n"/{}::/data",\n]\n'
    (folder / "one.toml").write_text(paths.format("a", "a").replace("/data", "/free").replace("/other", "/own"))
    (folder / "two.toml").write_text(paths.format("b", "c"))
    (folder / "three.toml").write_text(paths.format("b", "d"))
    with pytest.raises(PolicyError) as caught:
        load_policy(folder / "one.toml", folder / "two.toml", folder / "three.toml")
    assert (caught.value.source or "").endswith("three.toml")
    assert caught.value.line == 3
    assert caught.value.reason.endswith("two.toml:3")


def test_a_contradiction_that_no_statement_shows_has_the_file_alone(folder: Path) -> None:
    """The error may come from a policy with more than its text states, or from none of the statements."""
    files = PolicyFiles()
    for name, text in (("a", "'/a::/g'"), ("b", "'/b::/g'")):
        (folder / f"{name}.toml").write_text(f"capabilities.filesystem.paths = [{text}]")
    files.load(folder / "a.toml")
    (first,) = files.parts
    other = PolicyFiles()
    other.load(folder / "b.toml")
    (second,) = other.parts
    error = PolicyError("they differ")
    assert contradiction([], second, error).line is None
    found = contradiction([first._replace(values={})], second, error)
    assert (found.reason, found.line) == ("they differ", 1)


def test_a_text_names_no_files() -> None:
    """The text of a policy may come from elsewhere, and its errors could show lines of the files that it names."""
    with pytest.raises(PolicyError, match="policy:2: include is for policy files: read the file with load_policy"):
        parse_policy("\ninclude = ['/etc/passwd']")


FAULTY = """\
include = ["gone.toml", 3, "base.toml", "bad.toml"]
limit.x = 1
[limits]
timout = "3s"
memory = "lots"
memory_bytes = 3
[capabilities.network]
allow = [
    "ok.example:1",
    5,
    "x.example:2",
    "bad pattern",
    "x.example:99999",
    "fine.example:3",
    6,
]
[capabilities.filesystem]
paths = [
    { path = "a", read = 3 },
    "b",
    { pth = "c" },
]
[capabilities.telepathy]
on = true
[imports."a:b/c"]
"""


def test_all_mistakes_of_all_files_are_collected_with_their_lines(folder: Path) -> None:
    (folder / "own.toml").write_text(FAULTY)
    (folder / "bad.toml").write_text("[limits]\nfuel = -1\n[isolation]\nworkers = 'x'\n")
    files = PolicyFiles(collect=True)
    files.load(folder / "own.toml")
    files.load(folder / "absent.toml")
    files.load(folder / "base.toml")
    found = [(Path(error.source or "").name, error.line) for error in files.errors]
    own = [1, 1, 2, 4, 5, 10, 12, 13, 15, 19, 21, 21, 23, 25]
    assert sorted(found, key=str) == sorted(
        [*(("own.toml", line) for line in own), ("bad.toml", 2), ("bad.toml", 4), ("absent.toml", None)], key=str
    )
    numbered = [error.reason for error in files.errors if "item" in error.reason]
    assert numbered == [
        "item 2 of 'include' must be text in quotes, not a number",
        "item 2 of 'allow' must be text in quotes, not a number",
        "item 7 of 'allow' must be text in quotes, not a number",
    ], "numbers of items are those of the file"
    assert [Path(part.text.source).name for part in files.parts] == ["base.toml", "base.toml"]


@pytest.mark.parametrize("text", ["[limits]\nmemory = ", "\ninclude = 3\n", "limits = 3\n[capabilities]\nclock = 1\n"])
def test_a_file_whose_tables_are_wrong_has_errors_too(folder: Path, text: str) -> None:
    (folder / "own.toml").write_text(text)
    files = PolicyFiles(collect=True)
    files.load(folder / "own.toml")
    with pytest.raises(PolicyError) as first:
        load_policy(folder / "own.toml")
    assert str(first.value) in map(str, files.errors)


def test_contradictions_between_files_are_collected_too(folder: Path) -> None:
    (folder / "own.toml").write_text("include = ['base.toml']\n[isolation]\nwithout = ['namespaces']")
    files = PolicyFiles(collect=True)
    files.load(folder / "own.toml")
    assert files.errors == []
    files.policy()
    assert ["`strict` requires every layer" in str(error) for error in files.errors] == [True]


def test_a_fault_of_the_whole_file_ends_the_search(folder: Path) -> None:
    """The table is valid by itself, and the policy is not, so there is no value to remove."""
    (folder / "own.toml").write_text("[isolation]\nstrict = true\nwithout = ['namespaces']\n")
    files = PolicyFiles(collect=True)
    files.load(folder / "own.toml")
    assert [error.line for error in files.errors] == [1]


def test_at_most_a_hundred_mistakes_are_collected(folder: Path) -> None:
    (folder / "own.toml").write_text("".join(f"x{number} = 1\n" for number in range(150)))
    files = PolicyFiles(collect=True)
    files.load(folder / "own.toml")
    assert [error.line for error in files.errors] == [*range(1, 101)]


def test_each_statement_has_the_place_of_the_file_that_decides(folder: Path) -> None:
    files = PolicyFiles()
    files.load(folder / "team.toml")
    found = [(s.kind, s.text, Path(s.source).name, s.line) for s in statements_of(files.parts, files.policy())]
    assert found == [
        ("grant", "environment TZ set", "team.toml", 11),
        ("grant", "environment LANG passed on", "team.toml", 12),
        ("denial", "random deny", "team.toml", 19),
        ("grant", "logging from debug", "team.toml", 14),
        ("grant", "network https://api.example.com", "team.toml", 6),
        ("grant", "network tcp://10.0.0.0/8:5432", "team.toml", 7),
        ("denial", "network never private:*", "base.toml", 6),
        ("denial", "network never *.evil.example:*", "base.toml", 6),
        ("grant", "key-value bucket jobs in memory", "base.toml", 10),
        ("import", "import acme:shop/prices@1.2.0 provided by myapp.shop:Prices", "team.toml", 28),
        ("proposal", "relaxed-simd", "team.toml", 26),
        ("isolation", "a worker process for each sandbox", "team.toml", 21),
        ("isolation", "strict true", "base.toml", 13),
        ("isolation", "workers 2", "team.toml", 23),
        ("limit", "memory 1 MiB", "base.toml", 3),
        ("limit", "timeout 30 s", "team.toml", 2),
    ]


def test_a_statement_that_two_files_make_together_has_the_place_of_the_later_table() -> None:
    files = PolicyFiles()
    files.decode(b"[capabilities.logging]\nenabled = true\n", source="one")
    files.decode(b"limits.fuel = 'none'\n[capabilities.logging]\nmin_level = 'warn'\n", source="two")
    files.decode(b"[isolation]\nwithout = ['namespaces', 'seccomp']\ncompile_time = 'none'\n", source="three")
    assert [tuple(s) for s in statements_of(files.parts, files.policy())] == [
        ("grant", "logging from warn", "two", 2),
        ("isolation", "a worker process for each sandbox", "three", 1),
        ("isolation", "without namespaces, seccomp", "three", 2),
        ("isolation", "compile_time none", "three", 3),
        ("limit", "fuel none", "two", 1),
    ]


def test_any_grouping_of_files_means_the_same() -> None:
    texts = [BASE, TEAM.partition("\n")[2], "limits.timeout = '1s'", "[capabilities.clock]\nmode = 'system'"]
    policies = [parse_policy(text) for text in texts]
    files = PolicyFiles()
    for number, text in enumerate(texts):
        files.decode(text.encode(), source=str(number))
    assert files.policy() == reduce(Policy.merged, policies)
    assert files.policy() == policies[0].merged(reduce(Policy.merged, policies[1:]))


def test_a_policy_without_isolation_has_no_statement_of_it() -> None:
    files = PolicyFiles()
    files.decode(b"limits.fuel = 5\n[isolation]\nenabled = false\n", source="one")
    assert [tuple(s) for s in statements_of(files.parts, files.policy())] == [("limit", "fuel 5", "one", 1)]


def test_a_fault_without_a_value_to_remove_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    values, text = reader.toml_values("[limits]\nfuel = 5\n", None, "own")

    def refuse(*_: object) -> Policy:
        raise text.error("refused", ())

    monkeypatch.setattr(reader, "policy_of", refuse)
    assert [str(error) for error in reader.all_faults(values, text)] == ["own: refused"]


def test_the_nearest_value_above_a_missing_one_is_removed() -> None:
    values, text = reader.toml_values("limits.fuel = 5\n[isolation]\n", None, "own")
    text.error("no such key", ("limits", "absent", "deeper"))
    assert text.removed_fault(values)
    assert values == {"isolation": {}}
