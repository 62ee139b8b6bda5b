"""A worker that lies about calls and reads that overlap: each violation ends it, and the calls with it.

Oracle: the application soon gets ``WorkerCrashed``, or the limit that the worker exceeded, in every call under way, and
a sandbox beside it is not affected.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis import AegisError, Cancelled, DeadlineExceeded, HostError, QuotaExceeded, SandboxStateError, WorkerCrashed
from aegis.isolation.protocol.errors import to_plain
from tests.isolation.isolated import only_where_there_are_workers
from tests.isolation.liar import GOOD, Liar, Peer, done, lying

pytestmark = only_where_there_are_workers
TAKE, DROP_STREAM = -4, -5
COMPONENT = """(component
  (import "slow" (func async (param "n" u32) (result u32)))
  (import "plain" (func (param "n" u32) (result u32)))
  (type $numbers (stream u32))
  (core module $m (func (export "f") (param i32) (result i32) local.get 0))
  (core instance $m (instantiate $m))
  (func (export "double") (param "n" u32) (result u32) (canon lift (core func $m "f")))
  (func (export "numbers") (param "s" $numbers) (result $numbers) (canon lift (core func $m "f"))))"""


def settled(number: Any, value: Any, kind: Any = "done", taken: Any = (), account: Any = GOOD) -> list[Any]:
    return ["settled", number, kind, value, list(taken) if taken == () else taken, account]


class Worker:
    """The worker's side: answers each turn with ``messages``, where ``...`` is the number of the latest operation."""

    def __init__(self, *messages: list[Any], leaves: bool = True) -> None:
        self.messages, self.leaves = messages, leaves
        self.operations: list[int] = []
        self.heard: list[list[Any]] = []

    def __call__(self, peer: Peer, message: Any) -> None:
        self.heard.append(message)
        if message[0] in ("start", "want"):
            self.operations.append(message[1])
        if message[0] != "turn":
            return
        for each in self.messages:
            peer.send([self.operations[-1] if word is ... else word for word in each], notice=True)
        if self.leaves:
            peer.send(done(None))


def box(worker: Callable[[Peer, Any], None], slow: Any = None, **policy: Any) -> tuple[Any, Liar]:
    async def waits(n: int) -> int:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    return lying(COMPONENT, worker, {"slow": slow or waits, "plain": lambda n: n}, **policy)


def test_true_ends_of_calls_arrive() -> None:
    worker = Worker(settled(..., 7))
    sandbox, liar = box(worker)
    with sandbox:
        assert asyncio.run(sandbox.acall("double", 3)) == 7
        assert not liar.killed.is_set()
    assert [message[0] for message in worker.heard[:2]] == ["start", "turn"]


VIOLATIONS: dict[str, tuple[list[Any], ...]] = {
    "a call that was never made": (settled(99, 1),),
    "a call twice": (settled(..., 1), settled(..., 1)),
    "a call that waits": (),
    "a negative number": (settled(-1, 1),),
    "a truth for a number": (settled(True, 1),),
    "a text for a number": (settled("1", 1),),
    "a huge number": (settled(1 << 200, 1),),
    "no words": (["settled"],),
    "too few words": (["settled", ..., "done", 1, []],),
    "too many words": ([*settled(..., 1), 1],),
    "an unknown end": (settled(..., 1, "perhaps"),),
    "a number for an end": (settled(..., 1, 5),),
    "a cancellation that was not requested": (settled(..., None, "cancelled"),),
    "a result of another type": (settled(..., "one"),),
    "a result out of range": (settled(..., 1 << 32),),
    "no result": (settled(..., None),),
    "a refusal without an error": (settled(..., None, "refused"),),
    "a refusal with a false error": (settled(..., ["NoError", "", {}], "refused"),),
    "a start twice": (["begun", ...], ["begun", ...]),
    "a start of nothing": (["begun", 99],),
    "a start without a number": (["begun"],),
    "a start of the first": (["begun", 1],),
    "false handles": (settled(..., 1, taken=None),),
    "false counters": (settled(..., 1, account=b"x"),),
    "no counters": (settled(..., 1, account=None),),
    "an unknown message": (["unsettled", ...],),
    "a message of the parent": (["start", 1, False, "double", [1]],),
    "a request forgotten without a number": (["forget"],),
    "a request forgotten by name": (["forget", "1"],),
    "a wait without a number": (["idle"],),
    "a wait for a text": (["idle", "1"],),
    "a plain function that takes its time": (["later", 1, 1, [1]],),
    "a function that does not exist": (["later", 1, 77, [1]],),
    "a negative function": (["later", 1, -9, [1]],),
    "arguments of another type": (["later", 1, 0, ["x"]],),
    "a list for a request": (["later", [1], 0, [1]],),
    "the same request twice": (["later", 1, 0, [1]], ["later", 1, 0, [1]]),
    "elements of nothing": (["later", 1, TAKE, [5, 1]],),
    "elements without a count": (["later", 1, TAKE, [1]],),
    "elements at once": (["host", 1, TAKE, [1, 1]],),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_in_a_turn_ends_the_worker_and_all_calls(name: str) -> None:
    sandbox, liar = box(Worker(*VIOLATIONS[name]))

    async def main() -> list[Any]:
        return await asyncio.gather(*[sandbox.acall("double", n) for n in range(3)], return_exceptions=True)

    with sandbox:
        ends = asyncio.run(main())
        assert any(isinstance(end, WorkerCrashed) for end in ends)
        assert all(isinstance(end, (WorkerCrashed, int)) for end in ends)
        assert liar.killed.is_set()
        assert sandbox.state == "poisoned"


def test_a_call_that_the_worker_refuses_fails_alone() -> None:
    full = QuotaExceeded("full", limit="tasks", used=1, allowed=1)
    sandbox, liar = box(Worker(settled(1, to_plain(full), "refused"), settled(2, 5)))

    async def main() -> list[Any]:
        return await asyncio.gather(*[sandbox.acall("double", n) for n in range(2)], return_exceptions=True)

    with sandbox:
        refused, value = asyncio.run(main())
        assert isinstance(refused, QuotaExceeded)
        assert value == 5
        assert not liar.killed.is_set()
        assert sandbox.state == "ready"


def test_a_worker_that_never_ends_a_call_meets_its_deadline() -> None:
    sandbox, liar = box(Worker(leaves=False), timeout="0.2s")
    with sandbox, pytest.raises(DeadlineExceeded):
        asyncio.run(sandbox.acall("double", 1))
    assert liar.killed.is_set()


def test_the_time_of_a_call_counts_from_its_start_in_the_worker() -> None:
    """The worker starts the second call when the code of the first has ended; both take longer than one may."""

    def script(peer: Peer, message: Any) -> None:
        if message[0] == "turn":
            first, second = operations
            time.sleep(0.6)
            peer.send(settled(first, 1), notice=True)
            peer.send(["begun", second], notice=True)
            time.sleep(0.6)
            peer.send(settled(second, 2), notice=True)
            peer.send(done(None))
        elif message[0] == "start":
            operations.append(message[1])

    async def main() -> list[int]:
        return await asyncio.gather(sandbox.acall("double", 1), sandbox.acall("double", 2))

    operations: list[int] = []
    sandbox, _ = box(script, timeout="1s")
    with sandbox:
        assert asyncio.run(main()) == [1, 2]


def test_a_call_that_the_worker_never_starts_has_a_deadline() -> None:
    worker = Worker(settled(1, 1), leaves=False)
    sandbox, liar = box(worker, timeout="0.2s")

    async def main() -> list[Any]:
        calls = [sandbox.acall("double", n) for n in range(2)]
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)

    with sandbox:
        first, second = asyncio.run(main())
        assert first == 1
        assert isinstance(second, DeadlineExceeded)
    assert liar.killed.is_set()


def test_a_worker_that_sends_without_end_meets_the_deadline() -> None:
    def flood(peer: Peer, message: Any) -> None:
        while message[0] == "turn":
            peer.send(["idle", 0], notice=True)

    sandbox, liar = box(flood, timeout="0.2s")
    with sandbox, pytest.raises(DeadlineExceeded):
        asyncio.run(sandbox.acall("double", 1))
    assert liar.killed.is_set()


def test_a_worker_that_does_not_confirm_a_cancellation_is_ended_after_a_second() -> None:
    worker = Worker(leaves=False)
    sandbox, _ = box(worker)

    async def main() -> None:
        call, other = (asyncio.create_task(sandbox.acall("double", n)) for n in range(2))
        while len(worker.operations) < 2:
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(Cancelled):
            await other

    with sandbox:
        asyncio.run(main())
        assert sandbox.state == "poisoned"
        assert ["cancel", worker.operations[0]] in worker.heard


def test_requests_that_stay_pending_are_bounded_by_the_handles_and_tasks_of_the_guest() -> None:
    begun: list[int] = []

    async def slow(n: int) -> int:
        begun.append(n)
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    worker = Worker(*[["later", n, 0, [n]] for n in range(1, 100)], leaves=False)
    sandbox, _ = box(worker, slow, handles=20, tasks=10)
    with sandbox, pytest.raises(WorkerCrashed):
        asyncio.run(sandbox.acall("double", 1))
    assert len(begun) <= 30


def test_answers_that_come_later_are_sent_once_and_tell_nothing_of_an_exception() -> None:
    secret = "/home/secret/path"

    async def slow(n: int) -> int:
        await asyncio.sleep(0)
        if n == 2:
            raise FileNotFoundError(2, "No such file", secret)
        return n

    heard: list[Any] = []

    def script(peer: Peer, message: Any) -> None:
        if message[0] == "turn":
            for request in (1, 2):
                peer.send(["later", request, 0, [request]])
                assert peer.recv() == ["pending", request]
                heard.append(peer.recv())
            peer.send(["fail", to_plain(HostError("a host function raised")), GOOD, []])

    sandbox, _ = box(script, slow)
    with sandbox, pytest.raises(HostError, match="raised FileNotFoundError"):
        asyncio.run(sandbox.acall("double", 1))
    assert heard[0] == ["gave", 1, False, 1]
    assert heard[1][:3] == ["gave", 2, True]
    assert secret not in repr(heard)


def test_an_answer_that_is_given_up_cancels_the_coroutine() -> None:
    ends: list[str] = []

    async def slow(n: int) -> int:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ends.append("cancelled")
        raise AssertionError

    heard: list[Any] = []

    def script(peer: Peer, message: Any) -> None:
        if message[0] == "start":
            heard.append(message[1])
        if message[0] == "turn":
            peer.send(["later", 1, 0, [1]])
            assert peer.recv() == ["pending", 1]
            peer.send(["forget", 1], notice=True)
            heard.append(peer.recv())
            peer.send(["forget", 1], notice=True)  # the second time it may have crossed the answer
            peer.send(settled(heard[0], 1), notice=True)
            peer.send(done(None))

    async def main(sandbox: Any) -> None:
        assert await sandbox.acall("double", 1) == 1
        for _ in range(5):
            await asyncio.sleep(0)

    sandbox, _ = box(script, slow)
    with sandbox:
        asyncio.run(main(sandbox))
    assert heard[1] == ["gave", 1, None, None]
    assert set(ends) <= {"cancelled"}


FALSE_ELEMENTS: dict[str, Any] = {
    "more than requested": [1] * 3000, "none": [], "out of range": [1 << 32], "texts": ["a"], "a number": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", FALSE_ELEMENTS)
def test_false_elements_of_a_read_end_the_worker(name: str) -> None:
    turns = 0

    def script(peer: Peer, message: Any) -> None:
        nonlocal turns
        if message[0] in ("start", "want"):
            worker.append(message[1])
        if message[0] == "turn":
            turns += 1
            peer.send(settled(worker[-1], 5 if turns == 1 else FALSE_ELEMENTS[name]), notice=True)
            peer.send(done(None))

    async def main(sandbox: Any) -> None:
        reader = await sandbox.acall("numbers", [])
        with pytest.raises(WorkerCrashed):
            await reader.aread(1024)
        with pytest.raises(SandboxStateError):
            await reader.aread(1)

    worker: list[int] = []
    sandbox, liar = box(script)
    with sandbox:
        asyncio.run(main(sandbox))
        assert liar.killed.is_set()


def test_a_stream_that_is_asked_for_twice_at_once_ends_the_worker() -> None:
    begun: list[bool] = []
    closed: list[bool] = []

    async def numbers() -> AsyncIterator[int]:
        begun.append(True)
        try:
            await asyncio.get_running_loop().create_future()
            yield 1
        finally:
            closed.append(True)

    def script(peer: Peer, message: Any) -> None:
        if message[0] == "start":
            number = message[4][0]
            for request in (1, 2):
                peer.send(["later", request, TAKE, [number, 1]], notice=True)

    async def main(sandbox: Any) -> None:
        with pytest.raises(WorkerCrashed):
            await sandbox.acall("numbers", numbers())
        while len(closed) < len(begun):  # a generator that was closed before its first step runs no code
            await asyncio.sleep(0)

    sandbox, _ = box(script)
    with sandbox:
        asyncio.run(main(sandbox))


FULL = to_plain(QuotaExceeded("full", limit="tasks", used=1, allowed=1))
CLOSED_TWICE: dict[str, Callable[[int, int], list[Any]]] = {
    "dropped, and a violation": lambda call, end: [["host", 2, DROP_STREAM, [end]], ["settled"]],
    "dropped, and a wait": lambda call, end: [["host", 2, DROP_STREAM, [end]]],
    "a refused call": lambda call, end: [settled(call, FULL, "refused"), done(None)],
    "a refused call, and forgotten": lambda call, end: [settled(call, FULL, "refused"), ["forget", 1], done(None)],
}


@pytest.mark.parametrize("name", CLOSED_TWICE)
def test_a_stream_whose_elements_are_awaited_can_be_closed_in_each_way(name: str) -> None:
    """The request for its elements is given up with the sandbox, when the stream is closed already."""

    async def numbers() -> AsyncIterator[int]:
        await asyncio.get_running_loop().create_future()
        yield 1

    def script(peer: Peer, message: Any) -> None:
        if message[0] == "start":
            _, call, _, _, (end,) = message
            for each in [["later", 1, TAKE, [end, 1]], *CLOSED_TWICE[name](call, end)]:
                peer.send(each, notice=True)

    sandbox, liar = box(script, timeout="0.3s")
    with sandbox, pytest.raises((WorkerCrashed, QuotaExceeded, DeadlineExceeded)):
        asyncio.run(sandbox.acall("numbers", numbers()))
    assert sandbox.state == "closed"
    assert liar.channel.socket.fileno() == -1


def test_failures_of_host_functions_are_bounded_like_pending_requests() -> None:
    begun: list[int] = []

    async def fails(n: int) -> int:
        begun.append(n)
        raise KeyError(n)

    def script(peer: Peer, message: Any) -> None:
        for request in range(1, 100) if message[0] == "turn" else ():
            peer.send(["later", request, 0, [1]], notice=True)
            assert [peer.recv()[0], peer.recv()[0]] == ["pending", "gave"]

    sandbox, _ = box(script, fails, handles=20, tasks=10)
    with sandbox, pytest.raises(WorkerCrashed):
        asyncio.run(sandbox.acall("double", 1))
    assert len(begun) <= 30


def test_the_first_function_that_failed_is_named_though_others_were_called_since() -> None:
    async def slow(n: int) -> int:
        if n == 1:
            raise KeyError(n)
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    def script(peer: Peer, message: Any) -> None:
        if message[0] == "turn":
            peer.send(["later", 1, 0, [1]])
            assert [peer.recv()[0], peer.recv()[0]] == ["pending", "gave"]
            peer.send(["later", 2, 0, [2]])
            assert peer.recv() == ["pending", 2]
            peer.send(["host", 3, 1, [3]])
            assert peer.recv() == ["answer", 3, False, 3]
            peer.send(["fail", to_plain(HostError("a host function raised")), GOOD, []])

    sandbox, _ = box(script, slow)
    with sandbox, pytest.raises(HostError, match="host function slow raised KeyError: 1"):
        asyncio.run(sandbox.acall("double", 1))


def test_a_liar_does_not_reach_another_sandbox() -> None:
    good, _ = box(Worker(settled(..., 7)))
    bad, liar = box(Worker(settled(99, 1)))

    async def main() -> None:
        value, crash = await asyncio.gather(good.acall("double", 1), bad.acall("double", 1), return_exceptions=True)
        assert value == 7
        assert isinstance(crash, WorkerCrashed)

    with good, bad:
        asyncio.run(main())
        assert good.state == "ready"
    assert liar.killed.is_set()


_WORDS = st.sampled_from(
    (..., 1, 2, 0, -1, -4, -5, 1 << 40, True, None, "x", "done", "cancelled", "refused", 1.5, b"raw", GOOD)
) | st.lists(st.sampled_from((1, 0, "x", None)), max_size=3)
_KINDS = st.sampled_from(
    ("settled", "settled", "forget", "idle", "later", "later", "host", "out", "in", "watch", "called", "decided", "log",
     "rows", "resolve", "socket", "times", "done", "fail", "rejected", "pending", "gave", "start", "turn")
)  # fmt: skip
_NEARLY_TRUE = st.tuples(
    st.just("settled"), st.sampled_from((..., 1, 2)), st.sampled_from(("done", "cancelled", "refused")), _WORDS,
    st.just([]), st.just(GOOD),
) | st.tuples(st.just("later"), st.integers(0, 3), st.sampled_from((0, 1, TAKE)), st.just([1]))  # fmt: skip
_MESSAGES = _NEARLY_TRUE | st.tuples(_KINDS, st.lists(_WORDS, max_size=5)).map(lambda pair: (pair[0], *pair[1]))


@settings(max_examples=40)
@given(st.lists(_MESSAGES, max_size=8), st.booleans())
def test_any_messages_in_a_turn_end_each_call_soon(messages: list[Any], leaves: bool) -> None:
    """Oracle: each call has a result or an error of Aegis, soon after its deadline at the latest."""
    worker = Worker(*[list(message) for message in messages], leaves=leaves)
    sandbox, _ = box(worker, timeout="0.1s")

    async def main() -> list[Any]:
        calls = [sandbox.acall("double", n) for n in range(2)]
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)

    with sandbox:
        for end in asyncio.run(main()):
            assert isinstance(end, (int, AegisError)), end
