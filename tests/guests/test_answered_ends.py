"""An answer step sees the calls of WASI 0.3 with their streams and futures, in process and isolated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, FilesystemCapability, HostError, Outcome, StdioCapability
from aegis.wit.values import Ok
from tests.guests import catalogue

pytestmark = [
    pytest.mark.parametrize("isolate", [False, True], ids=["in process", "isolated"]),
    pytest.mark.usual(one_of="isolate"),
]
RUN = "wasi:cli/run@0.3.0#run"
TEXT = b"some text\n" * 20_000


def run(isolate: bool, step: Callable[[Any], Any] | None, *args: str, **policy: Any) -> Outcome:
    with Aegis(fuel=None, timeout="120s", **policy) as runtime:
        program = runtime.load_file(catalogue.built("py-async"))
        with runtime.sandbox(program, args=["py-async", *args], isolate=isolate, answer=step) as sandbox:
            return sandbox.run(RUN)


class Step:
    """Answers each call by the function itself, unless ``instead`` has its name."""

    def __init__(self, **instead: Callable[[Any], Any]) -> None:
        self.instead, self.seen = instead, list[str]()

    def __call__(self, call: Any) -> Any:
        self.seen.append(call.function)
        instead = self.instead.get(call.function.replace("-", "_"))
        return call.answer() if instead is None else instead(call)


def test_a_step_that_lets_all_pass_changes_nothing(isolate: bool, tmp_path: Path) -> None:
    step = Step()
    assert run(isolate, step, "echo", stdio=StdioCapability(stdin=TEXT)).stdout == TEXT
    assert {"read-via-stream", "write-via-stream"} <= set(step.seen)
    (tmp_path / "from").write_bytes(TEXT)
    step = Step()
    writing = FilesystemCapability.read_write(tmp_path)
    assert run(isolate, step, "copy", "from", "to", filesystem=writing).stdout == b"Ok(value=None)\n"
    assert (tmp_path / "to").read_bytes() == TEXT
    assert any(name.endswith("open-at") for name in step.seen)


def test_a_wait_of_a_function_is_part_of_its_answer(isolate: bool) -> None:
    step = Step()
    outcome = run(isolate, step, "sleep", "3", "60000")
    assert outcome.status == "returned", outcome.error
    assert "wait-for" in step.seen or "wait-until" in step.seen


def test_a_step_may_give_streams_of_its_own(isolate: bool) -> None:
    step = Step(read_via_stream=lambda call: ([b"other ", b"text\n"], Ok(None)))
    assert run(isolate, step, "upper", stdio=StdioCapability(stdin=TEXT)).stdout == b"OTHER TEXT\n"
    assert run(isolate, Step(), "upper", stdio=StdioCapability(stdin=TEXT)).stdout == TEXT.upper()


def test_a_step_that_raises_ends_the_run(isolate: bool) -> None:
    def refuse(call: Any) -> Any:
        raise ValueError("refused")

    outcome = run(isolate, Step(write_via_stream=refuse), "hello")
    assert isinstance(outcome.error, HostError)
    assert "refused" in str(outcome.error)
    assert outcome.stdout == b""


def test_what_a_step_has_seen_in_one_call_is_no_answer_to_another(isolate: bool) -> None:
    kept: list[Any] = []

    def keep(call: Any) -> Any:
        kept.append(call.arguments[-1])
        return call.answer()

    def repeat(call: Any) -> Any:
        return kept[0], Ok(None)

    outcome = run(
        isolate, Step(write_via_stream=keep, read_via_stream=repeat), "upper", stdio=StdioCapability(stdin=TEXT)
    )
    assert outcome.status != "returned" or outcome.stdout == b""
