"""Oracle: in every way of calling, the cases of nested results and options remain distinct."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, Bound, Err, HostError, Ok, Outcome, Some
from aegis.fuzz.case import Case
from aegis.fuzz.portable import format_step, parse_step, write_step
from aegis.fuzz.target import Target
from aegis.observe import ExecutionReport
from aegis.wit.results import as_result, attempt, unwrap
from aegis.wit.types import Function, Interface, List, Option, Result, Tuple, WitType
from tests.cli.command import aegis as aegis_command
from tests.echo import echo_component, own_echo_component
from tests.isolation.isolated import PLACES, shared

NESTED = Result(Result("u32", "string"), "string")
VALUES = [Ok(Ok(3)), Ok(Err("x")), Err("x")]
TEXTS = ["ok(ok(3))", 'ok(err("x"))', 'err("x")']


@pytest.fixture(params=PLACES)
def aegis(request: pytest.FixtureRequest) -> Aegis:
    return shared(str(request.param))


def ways(box: Any, value: Any) -> dict[str, Any]:
    """Return the complete result of ``echo-back`` for each way of calling it."""
    call = box.exports["echo-back"]
    bound = box.bind(Interface("", {"echo-back": Function((("x", NESTED),), NESTED)}))
    return {
        "call": attempt(lambda: box.call("echo-back", value)),
        "run": as_result(box.run("echo-back", value).value),
        "exports": attempt(lambda: call(value)),
        "bind": attempt(lambda: bound.echo_back(value)),
        "acall": attempt(lambda: asyncio.run(box.acall("echo-back", value))),
    }


@pytest.mark.parametrize("value", VALUES, ids=TEXTS)
def test_every_way_to_call_distinguishes_the_cases_of_nested_results(aegis: Aegis, value: Any) -> None:
    with aegis.sandbox(aegis.load_wat(own_echo_component(NESTED))) as box:
        assert ways(box, value) == dict.fromkeys(("call", "run", "exports", "bind", "acall"), value)


@pytest.mark.usual(every=5)
@pytest.mark.parametrize("value", VALUES, ids=TEXTS)
@pytest.mark.parametrize("observed", [False, True])
def test_a_host_function_returns_ok_or_err_of_its_own_result(aegis: Aegis, value: Any, observed: bool) -> None:
    seen: list[Any] = []

    answers: list[Any] = [lambda given: given, lambda given: Ok(unwrap(given))]

    def echo(given: Any) -> Any:
        seen.append(given)
        return answers[-1](given)

    subscribers = [lambda event: None] if observed else []
    component = aegis.load_wat(echo_component(NESTED))
    with aegis.sandbox(component, imports={"echo": echo}, subscribers=subscribers) as box:
        while answers:
            assert attempt(lambda: box.call("echo-back", value)) == value
            assert seen.pop() == value
            answers.pop()


def test_a_nested_result_that_a_host_function_returns_without_ok_is_refused(aegis: Aegis) -> None:
    refusal = pytest.raises(HostError, match=r"its result.ok: expected Ok\(…\) or Err\(…\)")
    component = aegis.load_wat(echo_component(NESTED))
    with aegis.sandbox(component, imports={"echo": lambda _: Ok(3)}) as box, refusal:
        box.call("echo-back", Ok(Ok(3)))


OTHERS: list[tuple[WitType, list[Any]]] = [
    (Option(Option("u32")), [None, Some(None), Some(3)]),
    (Option(Option(Option("u32"))), [None, Some(None), Some(Some(None)), Some(Some(3))]),
    (Option(Result("u32", "u32")), [None, Ok(1), Err(1)]),
    (Option(Result(None, None)), [None, Ok(None), Err(None)]),
    (Result(Option("u32"), Option("u32")), [Ok(None), Ok(1), Err(None), Err(1)]),
    (Result(None, Result(None, "u32")), [Ok(None), Err(Ok(None)), Err(Err(1))]),
    (Result(Result(Result(None, None), None), None), [Ok(Ok(Ok(None))), Ok(Ok(Err(None))), Ok(Err(None)), Err(None)]),
    (List(NESTED), [VALUES, []]),
    (Tuple((NESTED, Option(NESTED))), [(Ok(Err("a")), None), (Err("a"), Ok(Err("b"))), (Ok(Ok(1)), Err("c"))]),
]


@pytest.mark.usual(every=5)
@pytest.mark.parametrize(("of", "values"), OTHERS, ids=lambda item: "" if isinstance(item, list) else str(item)[:60])
def test_options_and_results_inside_one_another_come_back_as_they_were(aegis: Aegis, of: Any, values: Any) -> None:
    function = Function((("x", of),), of)
    provider = Bound(Interface("", {"echo": function}), lambda given: given)
    with aegis.sandbox(aegis.load_wat(echo_component(of)), imports={"echo": provider}) as box:
        for value in values:
            back = (attempt if isinstance(of, Result) else lambda call: call())(
                lambda v=value: box.call("echo-back", v)
            )
            assert (back, repr(back)) == (value, repr(value))
            outcome = box.run("echo-back", value)
            assert (as_result(outcome.value) if isinstance(of, Result) else outcome.value) == value


@pytest.mark.parametrize("isolation", [(), ("--isolate",)], ids=["in-process", "isolated"])
def test_the_command_line_prints_each_case_of_nested_results(tmp_path: Path, isolation: tuple[str, ...]) -> None:
    file = tmp_path / "echo.wat"
    file.write_text(own_echo_component(NESTED))
    for text in TEXTS:
        call = ("run", *isolation, "--invoke", f"echo-back({text})")
        assert aegis_command(*call, file)[:2] == (0, f"{text}\n")
        assert aegis_command(*call, "--format", "json", file).document["value"] == text


def test_a_finding_of_the_fuzzer_keeps_the_cases_of_nested_results_apart() -> None:
    runtime = shared("in-process")
    target = Target(runtime, runtime.load_wat(own_echo_component(NESTED)))
    for text, value in zip(TEXTS, VALUES, strict=True):
        step = parse_step(target, f"echo-back({text})")
        assert format_step(write_step(target, step)) == f"echo-back({text})"
        result = target.run(Case((step,))).results[0]
        assert (as_result(result.value), result.declared) == (value, isinstance(value, Err))


def test_a_report_keeps_the_cases_of_nested_results_apart() -> None:
    values = [ExecutionReport.of(Outcome(value=value)).to_dict()["value"] for value in (*VALUES, Some(None))]
    assert values == [{"ok": {"ok": 3}}, {"ok": {"err": "x"}}, {"err": "x"}, {"some": None}]
