"""Key-value buckets on the command line: an option grants one, and a denial names the option.

Oracle: the same guest in pairs, with the option and without it; a file keeps its bucket from run to run.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import aegis
from tests.isolation.isolated import only_where_there_are_workers
from tests.keyvalue_guest import guest


@pytest.fixture
def component(tmp_path: Path) -> str:
    """The guest as a file."""
    (tmp_path / "kv.wat").write_text(guest())
    return str(tmp_path / "kv.wat")


def test_a_denied_bucket_names_the_option_that_grants_it(component: str) -> None:
    denied = aegis("run", "--invoke", 'open("jobs")', component)
    assert "access-denied" in denied.out
    assert "--allow-keyvalue jobs" in denied.err
    granted = aegis("run", "--allow-keyvalue", "jobs", "--invoke", 'open("jobs")', component)
    assert (granted.code, granted.err) == (0, "")
    assert "access-denied" not in granted.out


@only_where_there_are_workers
@pytest.mark.parametrize("isolate", [[], ["--isolate"]], ids=["in-process", "isolated"])
def test_a_bucket_of_a_file_and_one_of_the_policy_file_are_opened(
    component: str, isolate: list[str], tmp_path: Path
) -> None:
    (tmp_path / "aegis.toml").write_text('[capabilities.keyvalue]\nbuckets = { cache = "sqlite:cache.db" }\n')
    config = ["--config", str(tmp_path / "aegis.toml")]
    option = ["--allow-keyvalue", f"jobs=sqlite:{tmp_path}/jobs.db"]
    for name in ("cache", "jobs"):
        ended = aegis("run", *config, *option, *isolate, "--invoke", f'open("{name}")', component)
        assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "jobs.db").exists()
    assert (tmp_path / "cache.db").exists()


def test_inspect_shows_what_a_component_asks_of_key_value_stores(component: str) -> None:
    needs = aegis("inspect", "--format", "json", component).document["needs"]
    assert [need["what"] for need in needs] == ["key-value store"]
    assert "--allow-keyvalue BUCKET" in needs[0]["grant"]


def test_a_mistaken_store_is_an_error_before_anything_runs(component: str) -> None:
    ended = aegis("run", "--allow-keyvalue", "a=floppy", "--invoke", 'open("a")', component)
    assert ended.code == 125
    assert 'use "memory" or "sqlite:PATH"' in ended.err
