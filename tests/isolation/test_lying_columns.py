"""A worker that sends invalid messages in a call over columns repeats no row, corrupts no output, and is ended.

The oracle: the call ends in ``WorkerCrashed``, which names the protocol, and ``out`` has the results of the rows before
the invalid message, and nothing of it.
"""

from __future__ import annotations

from array import array
from functools import partial
from typing import Any

import pytest

from aegis import CallError, DeadlineExceeded, GuestTrap, WorkerCrashed
from aegis.isolation.parent.columns import ColumnCalls, RowExchange, serve_rows
from aegis.isolation.protocol.channel import ProtocolError
from aegis.support.buffers import SCALARS, ColumnBatch
from tests.isolation.isolated import only_where_there_are_workers
from tests.isolation.liar import GOOD, Peer, Script, done, lying, said

pytestmark = only_where_there_are_workers
TEXT = """(module
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "take") (param i32))
  (func (export "next") (result i64) (i64.const 0)))"""
ROWS = 1000


def rows(mine: Any, done_rows: Any, results: Any, wanted: Any) -> list[Any]:
    """Return a worker's message about the rows."""
    return ["rows", mine, done_rows, results, wanted]


def speaking(*steps: Any) -> tuple[Script, list[Any]]:
    """Return a script that answers each message with one step, and the list of the messages that it received."""
    left, heard = [[done(None)], *steps], []  # the first message asks to compile the loop

    def script(peer: Peer, message: Any) -> None:
        heard.append(message if message[0] != "answer" else [*message[:3], [bytes(part) for part in message[3]]])
        for each in left.pop(0):
            peer.send(each)

    return script, heard


def ended_by(*steps: Any, name: str = "add", **options: Any) -> tuple[BaseException, array[Any] | None, list[Any]]:
    """Return the error of a call over columns, its ``out``, and the messages that the worker received."""
    script, heard = speaking(*steps)
    sandbox, liar = lying(TEXT, script, **options)
    out = array("i", [-1]) * ROWS if name == "add" else None
    columns = [array("i", range(ROWS))] * {"add": 2, "take": 1, "next": 0}[name]
    try:
        with pytest.raises((WorkerCrashed, CallError, DeadlineExceeded, GuestTrap)) as caught:
            sandbox.call_many(name, columns, out, rows=ROWS)
        return caught.value, out, heard
    finally:
        sandbox.close()
        liar.thread.join(10)
        assert not liar.thread.is_alive()


FIRST = [rows(1, 0, b"", 100)]
"""The first answer of an honest worker."""

LIES: dict[str, list[Any]] = {
    "too little in it": [["rows"]],
    "too much in it": [[*rows(1, 0, b"", 1), 1]],
    "a number that is none": [rows("x", 0, b"", 1)],
    "truth for a number": [rows(True, 0, b"", 1)],
    "rows that are text": [rows(1, "0", b"", 1)],
    "results that are text": [rows(1, 0, "", 1)],
    "results that are a list": [rows(1, 0, [], 1)],
    "a want that is none": [rows(1, 0, b"", None)],
    "results before the first row was given": [rows(1, 1, b"\0\0\0\0", 1)],
    "results of no row": [rows(1, 0, b"\0\0\0\0", 1)],
    "fewer rows than none": [rows(1, -1, b"", 1)],
    "request for too many rows": [rows(1, 0, b"", ROWS + 1)],
    "no rows": [rows(1, 0, b"", 0)],
    "less than no rows": [rows(1, 0, b"", -1)],
    "an absurd count": [rows(1, 0, b"", 1 << 62)],
    "the end before the beginning": [done(None)],
    "a value for an answer": [done(1)],
    "a result of one call": [done([1])],
    "a host call that there is not": [["host", 1, 0, [1]]],
    "an answer of the parent's": [["answer", 1, False, []]],
}
LATER: dict[str, list[Any]] = {
    "the same rows again": [rows(2, 0, b"", 100)],
    "rows before their results": [rows(2, 50, bytes(200), 10)],
    "too few bytes": [rows(2, 100, bytes(399), 10)],
    "too many bytes": [rows(2, 100, bytes(401), 10)],
    "results of more rows": [rows(2, 101, bytes(404), 10)],
    "all results at once": [rows(None, ROWS, bytes(4 * ROWS), 0)],
    "more rows than are left": [rows(2, 100, bytes(400), ROWS - 99)],
    "the end without the results": [done(None)],
    "the end with a part of the results": [rows(None, 60, bytes(240), 0), done(None)],
    "something after its end": [rows(None, 100, bytes(400), 0), rows(2, 100, b"", 1)],
    "its end twice": [rows(None, 100, bytes(400), 0), rows(None, 100, b"", 0)],
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_at_the_beginning_ends_the_worker(name: str) -> None:
    error, out, heard = ended_by(LIES[name])
    assert isinstance(error, WorkerCrashed)
    assert "protocol" in str(error)
    assert heard == [["loop", "add"], ["many", "add", ROWS]]
    assert out == array("i", [-1]) * ROWS
    assert error.row == 0


@pytest.mark.parametrize("name", LATER)
def test_a_lie_after_rows_ends_the_worker(name: str) -> None:
    error, out, heard = ended_by(FIRST, LATER[name])
    assert isinstance(error, WorkerCrashed)
    assert "protocol" in str(error)
    column = array("i", range(100)).tobytes()
    assert heard[2] == ["answer", 1, False, [column, column]]
    assert out is not None
    kept = error.row
    assert kept is not None
    assert kept in (0, 50, 60, 100)
    assert set(out[:kept]) <= {0}
    assert set(out[kept:]) == {-1}


def test_more_bytes_than_one_piece_has_are_not_given() -> None:
    big = 100_000
    script, _ = speaking([rows(1, 0, b"", 50_000)])
    sandbox, _ = lying(TEXT, script)
    with sandbox, pytest.raises(WorkerCrashed, match="protocol"):
        sandbox.call_many("add", [array("i", [0]) * big] * 2)


def test_results_of_a_function_without_any_are_not_taken() -> None:
    error, _, _ = ended_by(FIRST, [rows(2, 100, bytes(400), 1)], name="take")
    assert isinstance(error, WorkerCrashed)
    error, _, heard = ended_by([rows(1, 0, b"", 10)], [rows(2, 10, bytes(79), 1)], name="next")
    assert isinstance(error, WorkerCrashed)
    assert heard[2] == ["answer", 1, False, []]


def test_rows_are_nothing_outside_of_a_call_over_columns() -> None:
    for message in (rows(1, 0, b"", 1), rows(None, 0, b"", 0)):
        script = said(message)
        sandbox, _ = lying(TEXT, script)
        with sandbox, pytest.raises(WorkerCrashed, match="protocol"):
            sandbox.call("add", 1, 2)


def _keep(answers: list[Any], *answer: Any) -> None:
    answers.append(answer)


def test_values_that_their_type_does_not_have_are_not_results() -> None:
    """For a component, a bool is 0 or 1, and a char a code point."""
    for of, bad in (("bool", b"\2"), ("char", (0xD800).to_bytes(4, "little")), ("char", b"\xff\xff\xff\xff")):
        batch = ColumnBatch(lambda: "f", [], SCALARS[of], [], None, 4)
        calls = ColumnCalls()
        calls.under_way.append(RowExchange(batch))
        answers: list[Any] = []
        answer = partial(_keep, answers)
        serve_rows(calls, rows(1, 0, b"", 4), answer)
        assert answers == [(1, False, [])]
        with pytest.raises(ProtocolError, match="another type"):
            serve_rows(calls, rows(None, 1, bad, 0), answer)
        assert batch.done == 0


@pytest.mark.parametrize("answer", [done(0), done([]), rows(1, 0, b"", 1), ["prepared"], ["rejected", None, GOOD, []]])
def test_the_answer_to_a_wish_for_a_loop_is_nothing(answer: Any) -> None:
    sandbox, _ = lying(TEXT, said(answer, ["what"]))
    with sandbox:
        with pytest.raises(WorkerCrashed) as caught:
            sandbox.call_many("add", [array("i", [0]) * ROWS] * 2)
        assert caught.value.row is None, "no row began"


def test_a_worker_that_never_ends_its_rows_is_killed_at_the_deadline() -> None:
    script, _ = speaking(FIRST, [])
    sandbox, liar = lying(TEXT, script, timeout="0.3s")
    with sandbox:
        with pytest.raises(DeadlineExceeded, match="in row 0") as caught:
            sandbox.call_many("add", [array("i", [0]) * ROWS] * 2)
        assert caught.value.partial == array("i")
        assert liar.killed.is_set()


def test_an_error_of_the_worker_keeps_the_reported_rows() -> None:
    trap = ["fail", ["GuestTrap", "the guest trapped: x", {"code": "unreachable", "frames": []}], GOOD, []]
    error, out, _ = ended_by(FIRST, [rows(None, 60, array("i", [7] * 60).tobytes(), 0), trap, done(None)])
    assert isinstance(error, GuestTrap)
    assert str(error) == "in row 60: the guest trapped: x"
    assert error.row == 60
    assert out == array("i", [7] * 60 + [-1] * (ROWS - 60))
