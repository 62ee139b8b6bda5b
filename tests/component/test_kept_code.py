"""Generated code is stored with a component in the cache; a component from the cache compiles no code again."""

from __future__ import annotations

import marshal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aegis.component.conversion import source
from tests.echo import echo_component

PROGRAM = """
import builtins, sys
from aegis import Aegis
texts = []
compile_ = builtins.compile
def noting(text, name, *rest, **more):
    if name == "<aegis converter>":
        texts.append(text)
    return compile_(text, name, *rest, **more)
builtins.compile = noting
with Aegis(cache=sys.argv[1]) as runtime, runtime.sandbox(
    runtime.load_wat(sys.stdin.read()), imports={"echo": lambda x: x}
) as sandbox:
    print(sandbox.call("echo-back", ["one", "two"]))
print(len(texts))
"""


def lines(folder: Path) -> list[str]:
    from aegis.wit.types import List

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)], input=echo_component(List("string")), capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_second_process_compiles_no_converter(tmp_path: Path) -> None:
    first, second = lines(tmp_path), lines(tmp_path)
    assert first[0] == second[0] == "['one', 'two']"
    assert int(first[1]) > 0
    assert int(second[1]) == 0


@pytest.mark.parametrize("damage", [b"", b"\\0" * 100])
def test_altered_entries_count_as_absent(damage: bytes, tmp_path: Path) -> None:
    lines(tmp_path)
    for entry in tmp_path.iterdir():
        if entry.name != "key":
            entry.write_bytes(entry.read_bytes()[:-1] + damage)
    assert lines(tmp_path)[0] == "['one', 'two']"


def test_code_that_two_threads_take_at_once_is_taken_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_new", {bytes([n]): compile(str(n), "", "eval") for n in range(4)})
    meanwhile: list[dict[bytes, bytes]] = []

    def dumps(code: Any) -> bytes:
        if not meanwhile:
            meanwhile.append({})
            meanwhile[0] = source.take_new_code()
        return marshal.dumps(code)

    monkeypatch.setattr(source, "marshal", SimpleNamespace(dumps=dumps))
    taken = source.take_new_code()
    assert sorted([*taken, *meanwhile[0]]) == [bytes([n]) for n in range(4)]
