"""Type checkers know the values of a status, a kind and a state, and the short forms of a keyword."""

from __future__ import annotations

from pathlib import Path

from tests.bindgen.support import typed

GOOD = """
from pathlib import Path

from aegis import Aegis, GuestTrap, Outcome, Sandbox, run


def told(outcome: Outcome, sandbox: Sandbox) -> str:
    if outcome.status == "timeout" or sandbox.state == "poisoned":
        return "late"
    return "trap" if GuestTrap.kind == "trap" and GuestTrap.blame == "guest" else ""


Aegis(network="tcp://10.0.0.1:5432", filesystem=["/data", Path("/etc/app")], memory_limit="1MiB")
run("x.wasm", environment={"TZ": "UTC"}, clock="system", fuel_limit=10)
Aegis.builder().with_network(["https://a.example"]).with_limits(stack_limit="1MiB").with_filesystem("/data")
"""
BAD = """
from aegis import Aegis, Outcome, Sandbox


def told(outcome: Outcome, sandbox: Sandbox) -> bool:
    return outcome.status == "timed-out"


def kept(sandbox: Sandbox) -> bool:
    return sandbox.state == "dead"


Aegis(network=5)
Aegis(memory_limt="1MiB")
"""


def test_correct_programs_pass_and_wrong_ones_do_not(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(GOOD)
    assert typed(tmp_path) == ""
    (tmp_path / "good.py").unlink()
    (tmp_path / "bad.py").write_text(BAD)
    lines = [line for line in typed(tmp_path).splitlines() if ": error: " in line]
    assert [int(line.split(":")[1]) for line in lines] == [6, 10, 13, 14], lines
