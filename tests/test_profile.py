"""The conditions under which tests run: property tests do not depend on the load, nor tests on inherited signals."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.cli.command import COMMAND, ROOT, guest
from tests.cli.test_signals import SPINS
from tests.conftest import IGNORED_BY_SHELLS

TESTS = Path(__file__).parent
posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


# -- property tests --------------------------------------------------------------------------------


def test_the_suites_profile_is_in_force() -> None:
    assert settings.default is not None
    assert settings.default.deadline is None
    assert {HealthCheck.too_slow, HealthCheck.data_too_large} <= set(settings.default.suppress_health_check)


def calls_of_settings() -> Iterator[tuple[str, ast.Call]]:
    for path in TESTS.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "settings" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("settings"):
                yield f"{path.relative_to(TESTS)}:{node.lineno}", node


def test_no_test_enables_a_check_that_depends_on_the_load() -> None:
    """A list of health checks replaces the profile's, so it has to include these too, or all."""
    for where, call in calls_of_settings():
        for keyword in call.keywords:
            shown = ast.unparse(keyword.value)
            if keyword.arg == "deadline":
                assert shown == "None", where
            if keyword.arg == "suppress_health_check" and "list(HealthCheck)" not in shown:
                assert {"HealthCheck.too_slow", "HealthCheck.data_too_large"} <= set(shown.strip("[]").split(", ")), (
                    where
                )
            if keyword.arg == "derandomize":
                assert shown in ("True", "_deterministic()"), where


PROPERTY = """
from hypothesis import given, settings, strategies as st
counts = [0, 0]
@settings(max_examples=60)
@given(st.integers())
def test_counts(number):
    counts[0] += 1
@settings(max_examples=15)
@given(st.integers())
def test_counts_few(number):
    counts[1] += 1
def test_of_those():
    assert counts == {expected}
    print("derandomized", settings.default.derandomize)
"""


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(
    ("variables", "expected", "fixed"),
    [
        ({}, [60, 15], False),
        ({"AEGIS_EXAMPLES": "3", "CI": "true"}, [180, 45], True),
        ({"AEGIS_EXAMPLES": "0.5"}, [30, 10], False),
        ({"AEGIS_EXAMPLES": "0.1"}, [10, 10], False),
    ],
)
def test_examples_are_multiplied_and_ci_is_deterministic(
    tmp_path: Path, variables: dict[str, str], expected: list[int], fixed: bool
) -> None:
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(PROPERTY.replace("{expected}", str(expected)))
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "AEGIS_EXAMPLES")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:randomly", str(tmp_path)],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, env=environment | variables,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert f"derandomized {fixed}" in done.stdout


REPEATED = """
import pytest
@pytest.fixture(scope="module", params=["slow way", "fast way"])
def ways(request):
    return request.param
@pytest.mark.parametrize("n", range(20))
def test_each(ways, n):
    print(f"<{n} {ways}>")
@pytest.mark.long
def test_campaign():
    print("<campaign>")
@pytest.mark.usual("b*", every=2)
@pytest.mark.parametrize("m", ["a0", "a1", "a2", "b"])
def test_some(m):
    print(f"<{m}>")
@pytest.mark.usual(one_of="place")
@pytest.mark.parametrize("place", ["here", "there"])
@pytest.mark.parametrize("n", range(12))
def test_places(n, place):
    print(f"<{n} at {place}>")
"""


@pytest.mark.parametrize(
    ("variables", "words", "expected"),
    [({}, [], 35), ({"AEGIS_LONG": "1"}, [], 69), ({}, ["test_it.py::test_campaign"], 1)],
)
def test_long_tests_and_repetitions_are_left_to_long_runs(
    tmp_path: Path, variables: dict[str, str], words: list[str], expected: int
) -> None:
    """Oracle: a usual run has each repeated test once, and each way in several; a long run, or a name, has it all."""
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(REPEATED)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = long: a long test\n")
    environment = {name: value for name, value in os.environ.items() if name != "AEGIS_LONG"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", *words], capture_output=True, text=True, timeout=120, check=False,
        cwd=tmp_path, env=environment | variables | {"PYTHONPATH": str(TESTS.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.findall("<(.*?)>", done.stdout)
    assert len(set(ran)) == len(ran) == expected
    if not words:
        for alternatives in (("slow way", "fast way"), ("at here", "at there")):
            assert min(sum(way in one for one in ran) for way in alternatives) >= 3
        assert {"a0", "a2", "b"} <= set(ran)
        assert ("a1" in ran) == bool(variables)


def test_a_pattern_of_usual_parameters_that_matches_no_test_is_an_error(tmp_path: Path) -> None:
    """Otherwise a parameter that was renamed would drop its test from usual runs."""
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(REPEATED.replace('"b*"', '"c*"'))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = long: a long test\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], capture_output=True, text=True, timeout=120, check=False,
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(TESTS.parent)},
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "test_it.py::test_some: no test matches 'c*'" in done.stderr


# -- signals ---------------------------------------------------------------------------------------

MASKS = "print(*(line.split()[1] for line in open('/proc/self/status') if line.startswith(('SigBlk', 'SigIgn'))))"
AS_A_BAD_PARENT = """
import os, signal, subprocess, sys
for name in ("SIGINT", "SIGQUIT", "SIGHUP", "SIGTERM", "SIGCHLD", "SIGUSR1"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGXCPU})
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def badly_started(*words: str, **options: object) -> subprocess.Popen[str]:
    """Start Python as a child of a process that ignores and blocks signals."""
    command = [sys.executable, "-c", AS_A_BAD_PARENT, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_children_of_tests_have_all_signals_whatever_the_tests_parent_did() -> None:
    shows = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {MASKS!r}])"
    with badly_started("-c", shows) as without:
        blocked, ignored = without.communicate(timeout=60)[0].split()
    assert int(blocked, 16)
    assert int(ignored, 16) & 1 << signal.SIGINT - 1
    with badly_started("-c", f"import tests.conftest; {shows}") as restored:
        blocked, ignored = restored.communicate(timeout=60)[0].split()
    assert int(blocked, 16) == 0
    for name in ("SIGINT", *IGNORED_BY_SHELLS):
        assert not int(ignored, 16) & 1 << getattr(signal, name) - 1, name


@posix
@pytest.mark.parametrize("isolate", [False, True], ids=["in process", "isolated"])
def test_the_command_works_with_signals_ignored_and_blocked(isolate: bool) -> None:
    """The guest outlives the worker that compiled it; meanwhile the fork server learns of that worker's end."""
    if isolate and sys.platform != "linux":
        pytest.skip("workers need Linux")
    options = ["--no-cache", "--fuel-limit=none", "--timeout=3s", *(["--isolate"] if isolate else [])]
    with badly_started(*COMMAND[1:], "run", *options, str(guest("hostile/spin"))) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 124, err


IGNORES = """
import os, signal, sys
signal.signal({ignored}, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@posix
@pytest.mark.parametrize(
    ("ignored", "ends", "code"), [(signal.SIGINT, signal.SIGTERM, 143), (signal.SIGTERM, signal.SIGINT, 130)]
)
def test_a_signal_that_the_command_was_started_to_ignore_stays_ignored(
    tmp_path: Path, ignored: signal.Signals, ends: signal.Signals, code: int
) -> None:
    """A shell without job control protects its background commands from Ctrl-C in this way."""
    (tmp_path / "spin.wat").write_text(SPINS)
    words = ["run", "--fuel-limit=none", "--timeout=50s", str(tmp_path / "spin.wat")]
    command = [sys.executable, "-c", IGNORES.format(ignored=int(ignored)), *COMMAND[1:], *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(ignored)
            process.send_signal(ends)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code
