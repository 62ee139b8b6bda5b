"""A sandbox that the application has left open when the interpreter ends prints nothing, and changes no exit code.

Oracle: the interpreter's own report on stderr of an exception in a finalizer.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.component.tasks.async_guests import copier

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import sys, aegis
runtime = aegis.Aegis(cache=sys.argv[1])
sandbox = runtime.sandbox(runtime.load_file(sys.argv[2]), isolate=sys.argv[3] == "isolated")
result = eval(sys.argv[4])
class Circle: pass
circle = Circle(); circle.sandbox, circle.result, circle.circle = sandbox, result, circle  # freed at the end
print("done")
"""
MODULE = """(module (memory (export "memory") 1)
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"""
GUESTS = {
    "module": (MODULE, "sandbox.call('add', 1, 2)"),
    "component, read to the end": (copier("u32", imports=False), "list(sandbox.call('relay', [1, 2], 1, 1))"),
    "component, with an open stream": (copier("u32", imports=False), "sandbox.call('relay', iter([1, 2]), 1, 1)"),
}


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("isolation", ["in process", "isolated"])
@pytest.mark.parametrize("name", GUESTS)
def test_nothing_is_printed_for_an_open_sandbox(name: str, isolation: str, tmp_path: Path) -> None:
    text, call = GUESTS[name]
    (tmp_path / "guest.wat").write_text(text)
    words = [sys.executable, "-c", PROGRAM, tmp_path / "cache", tmp_path / "guest.wat", isolation, call]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
