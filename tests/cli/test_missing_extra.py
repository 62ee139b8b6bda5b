"""A component that sends HTTP requests, without the extra ``http``: the operator and the embedder learn its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, ROOT, SECONDS

CLIENT = """(component (import "{name}" (instance))
  (core module $m (func (export "f"))) (core instance $i (instantiate $m))
  (func (export "f") (canon lift (core func $i "f"))))"""
TEXT = "HTTP needs the extra http: pip install 'aegis-wasm[http]'; without it, each HTTP request of a guest fails\n"
WITHOUT = """import sys
from importlib.machinery import PathFinder as finder
find = finder.find_spec
finder.find_spec = classmethod(lambda cls, name, *more: None if name == "h11" else find(name, *more))
"""


def ended(program: str, *words: object) -> tuple[int, str, str]:
    line = [*COMMAND[:-1], program, *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, cwd=ROOT, check=False)
    return done.returncode, done.stdout, done.stderr


def client(folder: Path, name: str = "wasi:http/outgoing-handler@0.2.0") -> Path:
    path = folder / "client.wat"
    path.write_text(CLIENT.format(name=name))
    return path


@pytest.mark.usual("wasi:http/client*")
@pytest.mark.parametrize("name", ["wasi:http/outgoing-handler@0.2.0", "wasi:http/client@0.3.0"])
def test_a_run_notes_the_missing_extra(tmp_path: Path, name: str) -> None:
    program, path = WITHOUT + COMMAND[-1], client(tmp_path, name)
    granted = ("--allow-net", "http://localhost:8099", "-e", "f", path)
    assert ended(program, "run", *granted) == (0, "", f"note: {TEXT}")
    assert ended(program, "--quiet", "run", *granted) == (0, "", "")
    assert ended(program, "run", "-e", "f", path) == (0, "", "")  # its requests are denied
    assert ended(COMMAND[-1], "run", *granted) == (0, "", "")


@pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
def test_an_isolated_run_needs_no_extra_and_notes_it_once(tmp_path: Path) -> None:
    words = ("-e", "f", client(tmp_path))
    code, _, err = ended(WITHOUT + COMMAND[-1], "run", "--isolate", "--allow-net", "http://localhost:8099", *words)
    assert (code, err.count(TEXT)) == (0, 1)
    code, _, err = ended(WITHOUT + COMMAND[-1], "run", "--isolate", *words)
    assert (code, err.count(TEXT)) == (0, 0)


def test_an_embedder_gets_a_warning_of_the_logger(tmp_path: Path) -> None:
    program = WITHOUT + "from aegis import Aegis; a = Aegis(network=['http://localhost:8099'])\n"
    program += "for _ in range(2): a.load_file(sys.argv[1])"
    assert ended(program, client(tmp_path)) == (0, "", TEXT)  # where logging is not configured, it prints warnings
