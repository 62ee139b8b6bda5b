"""The pytest plugin in separate pytest runs: fixtures, markers, guests from source, and failure messages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guests.catalogue import ROOT, source

TRAPS = '(module (func (export "f") (result i32) unreachable) (func (export "g") (result i32) (i32.const 5)))'
SPINS = '(module (func (export "f") (loop $l (br $l))) (func (export "g") (result i32) (i32.const 5)))'


class Run:
    """One run of pytest with the plugin, on files in a directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code, self.out = -1, ""

    def write(self, **files: str) -> Run:
        """Write files; the name ``test_a_py`` becomes ``test_a.py``."""
        for name, text in files.items():
            stem, _, suffix = name.rpartition("_")
            (self.folder / f"{stem}.{suffix}").write_text(text)
        return self

    def go(self, *words: str) -> Run:
        """Run all tests in the directory, and record exit code and output."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "aegis.testing.plugin", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        self.code, self.out = done.returncode, done.stdout + done.stderr
        return self

    def ended(self, **counts: int) -> None:
        """Assert the numbers of passed tests, failures and errors."""
        words = self.out.strip().splitlines()[-1]
        found = {what.removesuffix("s"): int(count) for count, what in re.findall(r"(\d+) ([a-z]+)[,s ]", words)}
        assert found == counts, self.out


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A pytest run in its own directory."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    return Run(tmp_path)


MARKED = """
import pytest

pytestmark = pytest.mark.guest("guest.wat", fuel=100_000)

def test_of_the_module(sandbox):
    assert sandbox.run("g").returned(5)
    assert sandbox.run("f").exceeded("fuel")

@pytest.mark.guest("below/other.wat")
class TestClass:
    def test_of_the_class(self, sandbox, aegis_runtime):
        assert sandbox.run("f").trapped("unreachable")
        assert aegis_runtime.policy.limits.fuel is None

    @pytest.mark.guest("guest.wat", fuel=None, timeout="50ms")
    def test_of_the_function(self, sandbox):
        assert sandbox.run("f").exceeded("timeout")
        sandbox.reset()
        assert sandbox.call("g") == 5

    @pytest.mark.guest(path="guest.wat", isolate=True)
    def test_isolated(self, sandbox):
        assert sandbox.layers
        assert sandbox.run("g").returned(5)

def test_the_policy_is_the_default_one_again(fresh_sandbox):
    with fresh_sandbox("below/other.wat") as one, fresh_sandbox() as two:
        assert one.run("g").returned(5)
        assert two.run("g").returned(5)
"""


def test_a_sandbox_holds_the_guest_of_the_nearest_marker_under_its_policy(run: Run) -> None:
    run.write(guest_wat=SPINS, test_marked_py=MARKED)
    (run.folder / "below").mkdir()
    (run.folder / "below" / "other.wat").write_text(TRAPS)
    run.go().ended(passed=5)


def test_a_guest_is_looked_for_beside_the_test_then_below_the_root(run: Run) -> None:
    tests = run.folder / "tests"
    tests.mkdir()
    (tests / "test_where.py").write_text(
        "import pytest\n"
        "@pytest.mark.guest('guest.wat')\n"
        "def test_found(sandbox):\n    assert sandbox.run('g').returned(5)\n"
        "@pytest.mark.guest('missing.wasm')\n"
        "def test_missing(sandbox):\n    pass\n"
        "def test_unmarked(sandbox):\n    pass\n"
    )
    run.write(guest_wat=TRAPS).go().ended(passed=1, error=2)
    assert f"guest 'missing.wasm' not found in {tests} or {run.folder}" in run.out
    assert "no guest selected: mark the test with @pytest.mark.guest" in run.out
    assert "Traceback" not in run.out


ASKS = """
import pytest
from aegis import Outcome

@pytest.mark.guest("guest.wat", fuel=100_000)
@pytest.mark.parametrize("ask", [
    lambda o: o.trapped("unreachable"), lambda o: o.denied("net"), lambda o: o.exited(3), lambda o: o.returned(6),
])
def test_asked(sandbox, ask):
    outcome = sandbox.run("g")
    assert ask(outcome)

@pytest.mark.guest("guest.wat", fuel=100_000)
def test_plainly(sandbox):
    outcome = sandbox.run("f")
    assert outcome.trapped("unreachable")
"""


def test_a_failing_assertion_names_the_actual_ending(run: Run) -> None:
    run.write(guest_wat=SPINS, test_asks_py=ASKS).go().ended(failed=5)
    for line in (
        "not trapped with unreachable: it returned 5", "not denied network: it returned 5",
        "not exited with 3: it returned 5", "not returned 6: it returned 5",
    ):  # fmt: skip
        assert f"assert {line}" in run.out
    assert "assert not trapped with unreachable: it ended with out-of-fuel: " in run.out


def test_a_policy_that_means_nothing_is_one_clear_line(run: Run) -> None:
    run.write(
        guest_wat=TRAPS,
        test_wrong_py="import pytest\n"
        "@pytest.mark.guest('guest.wat', tmieout='5s')\n"
        "def test_key(sandbox):\n    pass\n"
        "@pytest.mark.guest('guest.wat', timeout='soon')\n"
        "def test_value(sandbox):\n    pass\n"
        "@pytest.mark.guest('guest.wat', 'other.wat')\n"
        "def test_two(sandbox):\n    pass\n",
    ).go().ended(error=3)
    assert "@pytest.mark.guest: " in run.out
    assert "tmieout" in run.out
    assert "soon" in run.out
    assert "takes one path, not 2" in run.out
    assert "Traceback" not in run.out


def test_a_runtime_of_the_users_own_replaces_the_fixture(run: Run) -> None:
    run.write(
        conftest_py="import pytest\nfrom aegis import Aegis\n"
        "@pytest.fixture\ndef aegis_runtime():\n    with Aegis(fuel=5000) as made:\n        yield made\n",
        guest_wat=SPINS,
        test_own_py="import pytest\n"
        "@pytest.mark.guest('guest.wat')\n"
        "def test_own(sandbox):\n    assert sandbox.run('f').error.allowed == 5000\n"
        "@pytest.mark.guest('guest.wat', fuel=7)\n"
        "def test_both(sandbox):\n    pass\n",
    ).go().ended(passed=1, error=1)
    assert "policy keywords have no effect, because the fixture aegis_runtime is replaced" in run.out


def test_imports_and_arguments_are_of_the_marker_or_of_the_call(run: Run) -> None:
    run.write(
        guest_wat='(module (import "env" "f" (func $f (result i32))) (func (export "g") (result i32) (call $f)))',
        test_imports_py="import pytest\n"
        "@pytest.mark.guest('guest.wat', imports={'env': {'f': lambda: 7}})\n"
        "def test_marker(sandbox, fresh_sandbox):\n"
        "    assert sandbox.run('g').returned(7)\n"
        "    assert fresh_sandbox(imports={'env': {'f': lambda: 8}}).run('g').returned(8)\n",
    ).go().ended(passed=1)


PROPERTY = """
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

calm = settings(suppress_health_check=list(HealthCheck), max_examples=20, deadline=None)

@pytest.mark.guest("guest.wat", fuel=100_000)
@calm
@given(st.integers())
def test_fresh(fresh_sandbox, number):
    with fresh_sandbox() as sandbox:
        assert sandbox.run("f").exceeded("fuel")

@pytest.mark.guest("guest.wat", fuel=100_000)
@calm
@given(st.integers())
def test_reset(sandbox, number):
    sandbox.reset()
    assert sandbox.run("f").exceeded("fuel")
"""


def test_hypothesis_takes_a_fresh_sandbox_each_time(run: Run) -> None:
    run.write(guest_wat=SPINS, test_property_py=PROPERTY).go().ended(passed=2)


BUILD = """
import sys
import pytest

COMPILER = [sys.executable, "compiler.py", "{source}", "{output}"]

def test_text(guest_build, fresh_sandbox):
    path = guest_build('(module (func (export "g") (result i32) (i32.const 5)))')
    assert fresh_sandbox(path).run("g").returned(5)
    assert guest_build("guest.wat") == guest_build("guest.wat") != path

def test_command(guest_build, fresh_sandbox):
    path = guest_build("source.txt", COMPILER, inputs=["compiler.py"])
    assert fresh_sandbox(path).run("g").returned(5)

def test_compiler_fails(guest_build):
    guest_build("broken.txt", COMPILER)

def test_not_text(guest_build):
    guest_build("(module (func")

def test_no_output(guest_build):
    guest_build("source.txt", ["cc", "{source}"])

def test_no_command(guest_build):
    guest_build("source.txt", ["no-such-compiler", "{source}", "{output}"])

def test_no_file(guest_build):
    guest_build("nothing.txt", COMPILER)

def test_nothing_made(guest_build):
    guest_build("source.txt", [sys.executable, "-c", "print('{output}' * 0)"])
"""
COMPILER = """
import pathlib, sys
from aegis.engine.compile.artifact import text_to_binary
source, output = map(pathlib.Path, sys.argv[1:])
with open("count.txt", "a") as count:
    count.write("x")
if "broken" in source.name:
    sys.exit("broken.txt:1: error: \\x1b[31mthis is no program")
output.write_bytes(text_to_binary(source.read_text()))
"""


def test_a_guest_is_built_once_per_set_of_inputs_and_a_failure_quotes_the_compiler(run: Run) -> None:
    run.write(guest_wat=TRAPS, source_txt=TRAPS, broken_txt="?", compiler_py=COMPILER, test_build_py=BUILD).go().ended(
        passed=2, failed=6
    )
    assert "broken.txt:1: error: \\x1b[31mthis is no program" in run.out
    for reported in (
        "exited with status 1:",
        "has no {output}",
        "command not found: 'no-such-compiler'",
        "nothing.txt",
        "did not create {output}",
    ):
        assert reported in run.out, run.out
    assert (run.folder / "count.txt").read_text() == "xx"
    run.go("-k", "test_command").ended(passed=1, deselected=7)
    assert (run.folder / "count.txt").read_text() == "xx"
    (run.folder / "source.txt").write_text(TRAPS + "\n")
    run.go("-k", "test_command").ended(passed=1, deselected=7)
    assert (run.folder / "count.txt").read_text() == "xxx"


def test_the_entry_point_registers_it_and_naming_it_besides_does_no_harm(run: Run) -> None:
    """Oracle: installed by its entry point, with and without ``-p``, the plugin is registered once."""
    import tomllib

    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    installed = run.folder / "site" / "guest_plugin-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: guest-plugin\nVersion: 1\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (installed / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines, ""]))
    run.write(
        guest_wat=TRAPS,
        conftest_py="pytest_plugins = ['aegis.testing.plugin']\n",
        test_once_py="import pytest\n@pytest.mark.guest('guest.wat')\ndef test_it(sandbox):\n"
        "    assert sandbox.run('g').returned(5)\n",
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed.parent), str(ROOT)])}
    for words in ([], ["-p", "aegis.testing.plugin"]):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *words],
            cwd=run.folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert "1 passed" in done.stdout, done.stdout + done.stderr
        (run.folder / "conftest.py").unlink(missing_ok=True)


def test_the_plugin_alone_needs_no_hypothesis() -> None:
    text = "import sys, aegis.testing.plugin; assert 'hypothesis' not in sys.modules"
    subprocess.run([sys.executable, "-c", text], check=True, cwd=ROOT, timeout=120)


def test_a_denial_is_an_assertion_that_reads_well(run: Run) -> None:
    guest = source("hostile/escape-truncate")
    run.write(
        test_denied_py="import pytest\nfrom aegis import FilesystemCapability\n"
        f"@pytest.mark.guest({str(guest)!r}, filesystem=FilesystemCapability.read_only({f'{run.folder}::/'!r}))\n"
        "def test_it(sandbox):\n    assert sandbox.run('_start').denied('file')\n",
    ).go().ended(passed=1)
