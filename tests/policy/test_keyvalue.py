"""Which buckets a policy grants, in Python, in the policy file and on the command line.

Oracle: the three ways make equal policies; each mistake names the bucket or the line, and what to write instead.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, KeyValueCapability, MemoryStore, Policy, PolicyError, parse_policy
from aegis.cli.main import main
from aegis.policy.remedies import explained
from aegis.values import Decision


def test_nothing_is_granted_unless_it_is_named() -> None:
    assert Policy().keyvalue is None
    assert KeyValueCapability().store_of("") is None
    assert KeyValueCapability(buckets={"a": "memory"}).store_of("A") is None


def test_the_file_the_keywords_and_the_builder_grant_the_same(tmp_path: Path) -> None:
    text = """
        [capabilities.keyvalue]
        buckets = { cache = "memory", jobs = "sqlite:data/jobs.db" }
        max_keys = 10
        max_bytes = "1MiB"
        max_value_bytes = "none"
    """
    jobs = f"sqlite:{tmp_path}/data/jobs.db"
    capability = KeyValueCapability(
        buckets={"cache": "memory", "jobs": jobs},
        max_keys=10,
        max_bytes="1MiB",
        max_value_bytes=None,  # type: ignore[arg-type]
    )
    expected = Policy(keyvalue=capability)
    assert parse_policy(text, base=str(tmp_path)) == expected
    assert Policy.from_keywords(keyvalue=capability) == expected
    assert Aegis.builder().with_keyvalue(capability).build().policy == expected
    assert capability.max_key_bytes == 1024
    assert capability.files() == [("jobs", f"{tmp_path}/data/jobs.db")]
    assert expected.describe() == [
        "key-value bucket cache in memory", f"key-value bucket jobs in {jobs}",
        "no limit on max_value_bytes of buckets",
    ]  # fmt: skip


def test_an_option_adds_a_bucket_and_keeps_the_quotas() -> None:
    file = KeyValueCapability(buckets={"a": "memory", "b": "memory"}, max_keys=3)
    both = file + KeyValueCapability.parse("b=sqlite:/x/y.db") + KeyValueCapability.parse("c")
    assert dict(both.buckets) == {"a": "memory", "b": "sqlite:/x/y.db", "c": "memory"}
    assert both.max_keys == 3


def test_a_relative_file_begins_at_the_folder_of_the_policy_or_here() -> None:
    assert KeyValueCapability.parse("a=sqlite:x.db", "/base").files() == [("a", "/base/x.db")]
    assert KeyValueCapability(buckets={"a": "sqlite:x.db"}).files() == [("a", os.path.abspath("x.db"))]


def test_a_path_is_never_a_uri_of_sqlite() -> None:
    """An absolute path is none, whatever SQLite was built with."""
    for text in ("file:x?mode=memory", ":memory:", "file:///etc/passwd"):
        ((_, path),) = KeyValueCapability(buckets={"a": f"sqlite:{text}"}).files()
        assert path.startswith("/")


@pytest.mark.parametrize(
    ("buckets", "message"),
    [
        ({"": "memory"}, "'' is not a valid name of a bucket"),
        ({"a\0": "memory"}, "is not a valid name of a bucket"),
        ({"a\n": "memory"}, "is not a valid name of a bucket"),
        ({"x" * 257: "memory"}, "is not a valid name of a bucket"),
        ({"\udc80": "memory"}, "has a lone surrogate"),
        ({1: "memory"}, "the name of a bucket must be text, not int"),
        ({"a": "redis:x"}, "'redis:x' is not a store for 'a': use"),
        ({"a": "sqlite:"}, "'sqlite:' is not a store for 'a': use"),
        ({"a": "sqlite:x\0"}, "'sqlite:x"),
        ({"a": ""}, "'' is not a store for 'a': use"),
        ({"a": 7}, "is a int without a method transaction()"),
        ({"a": None}, "without a method transaction()"),
        (("a",), "expected buckets with their stores"),
        ("a", "expected buckets with their stores"),
        (7, "expected buckets with their stores"),
    ],
)
def test_a_bucket_that_cannot_be_is_an_error(buckets: Any, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        KeyValueCapability(buckets=buckets)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('buckets = { a = "disk" }', "'disk' is not a store for 'a'"),
        ("buckets = { a = 1 }", "'a' must be text in quotes, not a number"),
        ('buckets = ["a"]', "'buckets' must be a table, not a list"),
        ("max_keys = -1", "max_keys"),
        ('max_bytes = "much"', "max_bytes"),
        ("max_value = 3", "did you mean 'max_value_bytes'?"),
    ],
)
def test_a_mistake_in_the_file_has_its_line(line: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(f"[capabilities.keyvalue]\n{line}\n")
    assert caught.value.line == 2
    assert message in str(caught.value)


def test_another_kind_of_value_is_no_capability() -> None:
    with pytest.raises(PolicyError, match="keyvalue: expected KeyValueCapability, not dict"):
        Policy(keyvalue={"a": "memory"})  # type: ignore[arg-type]


def test_a_worker_is_told_neither_files_nor_stores() -> None:
    policy = Policy(keyvalue=KeyValueCapability(buckets={"a": "sqlite:/x.db", "b": MemoryStore()}))
    assert policy.for_workers() == Policy()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("cache", "--allow-keyvalue cache"),
        ("two words", "--allow-keyvalue 'two words'"),
        ("-x", "--allow-keyvalue=-x"),
        ("$(reboot)", "--allow-keyvalue '$(reboot)'"),
        ("a=sqlite:/etc/passwd", ""),
        ("a=memory", ""),
        ("", ""),
        ("a\n--allow-write /", ""),
        ("x" * 300, ""),
    ],
)
def test_a_denied_name_has_an_option_that_grants_it_and_nothing_else(name: str, remedy: str) -> None:
    denied = Decision("keyvalue", "open", name, False, "no rule grants this bucket", wanted=name)
    assert explained(Policy(), denied).remedy == remedy


def test_the_option_is_known_to_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--allow-keyvalue", "a=floppy:x", "no-such.wasm"]) == 125
    assert "'floppy:x' is not a store for 'a'" in capsys.readouterr().err


def test_the_argument_of_the_option_must_be_text() -> None:
    with pytest.raises(PolicyError, match="keyvalue: expected text, not int"):
        KeyValueCapability.parse(1)  # type: ignore[arg-type]
