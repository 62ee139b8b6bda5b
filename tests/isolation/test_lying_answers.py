"""A worker lies while the parent's answer step answers the calls of the worker's own host functions.

Oracle: a message that breaks the protocol ends the worker; a value that the step sees always has its declared type.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aegis import HostCall, HostError, ResourceHandle, WorkerCrashed
from aegis.isolation.parent.handles import ParentHandles, WorkerResource
from aegis.isolation.protocol.channel import ProtocolError
from aegis.isolation.protocol.wit_values import WORKER_NUMBERS
from aegis.isolation.worker.component_host_calls import WorkerHandles
from aegis.limits import Limits
from aegis.wit.types import Resource
from tests.isolation.isolated import only_where_there_are_workers
from tests.isolation.liar import GOOD, Peer, done, host, lying

pytestmark = only_where_there_are_workers
TEXT = """(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "go") (result i32) (call $random (i32.const 0) (i32.const 8))))"""


def lies(call: list[Any], own: Any, answer: Any) -> tuple[list[HostCall], Any, bool]:
    """Send a host call, and ``own`` as the own answer; return the calls that the step saw, the outcome and the end."""
    seen: list[HostCall] = []

    def script(peer: Peer, message: Any) -> None:
        peer.send(own if message == ["own"] else done(message[3]) if message[0] == "answer" else call)

    def step(asked: HostCall) -> Any:
        seen.append(asked)
        return answer(asked)

    sandbox, liar = lying(TEXT, script, answer=step)
    outcome = sandbox.run("go")
    sandbox.close()
    return seen, outcome, liar.killed.is_set()


def asks(call: HostCall) -> Any:
    return call.answer()


def test_an_honest_worker_is_answered() -> None:
    seen, outcome, _ = lies(host(1, 0, [0, 8]), done(5), asks)
    assert (outcome.value, [call[:2] for call in seen]) == (5, [("wasi_snapshot_preview1", "random_get")])


@pytest.mark.parametrize("values", [[], [0], [0, 8, 1], [0, "8"], [0, 1 << 31], [0.0, 8], [True, 8], {}, None])
def test_a_step_never_sees_arguments_of_other_types(values: Any) -> None:
    seen, outcome, killed = lies(host(1, 0, values), done(0), asks)
    assert (seen, type(outcome.error), killed) == ([], WorkerCrashed, True)


@pytest.mark.parametrize("number", [1, -4, 1 << 40, "0", None])
def test_a_call_of_an_unknown_function_ends_the_worker(number: Any) -> None:
    seen, outcome, killed = lies(host(1, number, [0, 8]), done(0), asks)
    assert (seen, type(outcome.error), killed) == ([], WorkerCrashed, True)


@pytest.mark.parametrize(
    "own",
    [
        done("0"), done(1 << 40), done(None), done([0, 0]), done(0, b"", []), done(0, GOOD, {}),
        ["rejected", 0, GOOD, []], ["fail", ["NoSuchError", "", {}], GOOD, []], ["fail", 3, GOOD, []],
        ["fault", 3, GOOD, []], ["prepared"], ["own"],
    ],
)  # fmt: skip
def test_a_step_never_gets_an_own_answer_of_another_type(own: Any) -> None:
    got: list[Any] = []
    _, outcome, killed = lies(host(1, 0, [0, 8]), own, lambda call: got.append(call.answer()))
    assert (got, type(outcome.error), killed) == ([], WorkerCrashed, True)


def test_a_worker_without_an_answer_step_cannot_ask_for_its_own_functions() -> None:
    sandbox, liar = lying(TEXT, lambda peer, message: peer.send(host(1, 0, [0, 8])))
    assert isinstance(sandbox.run("go").error, WorkerCrashed)
    assert liar.killed.is_set()


# -- resources of the worker --------------------------------------------------------------------------------


def handles(*, answered: bool) -> tuple[ParentHandles, Resource, Resource]:
    made = ParentHandles(2, Limits().handles, lambda key: ResourceHandle, answered=answered)
    return made, Resource("a", 0), Resource("b", 1)


def test_a_resource_of_the_worker_is_one_object_of_one_type() -> None:
    made, a, b = handles(answered=True)
    value = made.find(WORKER_NUMBERS + 3, a, own=False)
    assert isinstance(value, WorkerResource)
    assert made.find(WORKER_NUMBERS + 3, a, own=True) is value
    assert made.number(value, a, own=True) == WORKER_NUMBERS + 3
    with pytest.raises(TypeError, match="of another type"):
        made.number(value, b, own=True)
    assert made.find(WORKER_NUMBERS + 3, b, own=False) is not value


def test_a_resource_of_another_workers_guest_is_refused() -> None:
    made, a, _ = handles(answered=True)
    other, _, _ = handles(answered=True)
    with pytest.raises(TypeError, match="another sandbox"):
        other.number(made.find(WORKER_NUMBERS, a, own=False), a, own=False)


def test_without_an_answer_step_a_worker_has_no_resources_to_show() -> None:
    made, a, _ = handles(answered=False)
    with pytest.raises(ProtocolError):
        made.find(WORKER_NUMBERS, a, own=False)


def test_a_worker_forgets_the_resources_that_its_guest_dropped() -> None:
    """Oracle: the number of a held resource never changes, and the table stays within twice the number of those."""
    table, a = WorkerHandles(SimpleNamespace(imported=2)), Resource("a", 0)  # type: ignore[arg-type]
    held = [SimpleNamespace(rep=object()) for _ in range(3)]
    door: Any = SimpleNamespace(handles=SimpleNamespace(objects=held))
    table.keep_own(lambda: door)
    numbers = [table.number(entry.rep, a, own=False) for entry in held]
    dropped = [table.number(object(), a, own=True) for _ in range(5000)]
    assert [table.number(entry.rep, a, own=True) for entry in held] == numbers
    assert [table.find(number, a, own=False) for number in numbers] == [entry.rep for entry in held]
    assert len({*numbers, *dropped}) == 5003
    with pytest.raises(HostError, match="dropped"):
        table.find(dropped[0], a, own=False)


def test_resources_of_the_worker_are_forgotten_with_their_last_reference() -> None:
    made, a, _ = handles(answered=True)
    kept = made.find(WORKER_NUMBERS, a, own=False)
    for n in range(1, 100):
        made.find(WORKER_NUMBERS + n, a, own=False)
    assert made.in_worker is not None
    assert list(made.in_worker.values()) == [kept]
