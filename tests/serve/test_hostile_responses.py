"""For all that a guest or its worker sends, the server gets a valid response, an error, or an abnormal end."""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.host.net.http.served_frames import (
    DATA,
    END,
    FAULT,
    HEAD,
    FrameError,
    ServedFrames,
    ServedHead,
    frame,
    pack_fields,
    unpack_fields,
)
from aegis.limits import Limits
from aegis.serve import ResponseCutOff
from aegis.serve.connection import connected
from aegis.serve.response import ResponseWriter, max_frame_bytes
from tests.serve.asgi_client import Answer, ask, ask_now
from tests.serve.served import GUESTS, IDS, PLACES, component, runtime, served

pytestmark = pytest.mark.usual(one_of="guest")
in_both_places = pytest.mark.parametrize(("guest", "isolate"), PLACES, ids=IDS)
both_versions = pytest.mark.parametrize("guest", GUESTS)


@in_both_places
def test_a_field_with_a_line_break_or_of_the_connection_is_refused(guest: str, isolate: bool) -> None:
    app = served(guest, isolate).app
    for path, code in (("/inject", b"InvalidSyntax"), ("/forbidden", b"Forbidden")):
        answer = ask_now(app, path)
        assert answer.body == b"HeaderError_" + code + b"\n"
        assert answer.headers == []


@in_both_places
def test_fields_beyond_the_limits_are_a_500(guest: str, isolate: bool) -> None:
    made = served(guest, isolate)
    for path, limit in (("/fields/300", "http_fields"), ("/fields/3/30000", "http_field_bytes")):
        assert ask_now(made.app, path).status == 500
        outcome = made.reports.pop().outcome
        assert outcome is not None
        assert outcome.exceeded(limit)
    assert ask_now(made.app, "/fields/200").status == 200


@pytest.mark.usual(every=3)
@in_both_places
def test_a_body_of_another_length_than_the_stated_one_is_cut_off(guest: str, isolate: bool) -> None:
    app = served(guest, isolate).app
    right = ask_now(app, "/length/5/5")
    assert (right.body, right.ended) == (b"xxxxx", True)
    for actual in (3, 7):
        wrong = ask_now(app, f"/length/5/{actual}")
        assert len(wrong.body) <= 5
        assert not wrong.ended
        assert isinstance(wrong.failure, ResponseCutOff)
    assert ask_now(app, "/length/x/3").status == 500


@both_versions
def test_informational_and_unknown_statuses_are_a_500(guest: str) -> None:
    app = served(guest).app
    for status in (101, 103, 600, 999):
        answer = ask_now(app, f"/status/{status}")
        assert (answer.status, answer.failure) == (500, None)


def test_a_guest_that_answers_twice_traps_and_the_first_answer_counts() -> None:
    made = served("py-handler")
    answer = ask_now(made.app, "/twice")
    assert (answer.status, answer.body, answer.ended, answer.failure) == (200, b"first\n", True, None)
    assert made.report.outcome is not None
    assert made.report.outcome.status == "trap"


@in_both_places
def test_an_answer_that_never_comes_or_never_ends_is_noticed(guest: str, isolate: bool) -> None:
    app = served(guest, isolate).app
    if guest == "py-handler":
        silent = ask_now(app, "/silent")
        assert (silent.status, silent.failure) == (500, None)
    unfinished = ask_now(app, "/unfinished")
    assert (unfinished.status, unfinished.body, unfinished.ended) == (200, b"before", False)
    assert isinstance(unfinished.failure, ResponseCutOff)


PATHS = ("/hello", "/echo", "/trap", "/late-trap", "/endless", "/length/5/7", "/head", "/size", "/count", "/status/404")


@pytest.mark.parametrize("requests", [40, pytest.param(200, marks=pytest.mark.long)])
@both_versions
def test_bad_guests_do_not_disturb_others_at_the_same_time(guest: str, requests: int) -> None:
    """A quarter of the requests traps, lies or is left by its client; every other has its own right answer."""
    made = served(guest, max_concurrent=requests)
    bad = ("/late-trap", "/endless", "/length/5/7", "/trap")

    async def one(n: int) -> tuple[int, Answer]:
        gone = asyncio.Event()
        if n % 4 == 0:
            path = bad[n // 4 % len(bad)]

            async def leave(piece: bytes) -> None:
                if path == "/endless":
                    gone.set()

            return n, await ask(made.app, path, gone_after=gone, on_piece=leave)
        return n, await ask(made.app, "/echo", [b"%d" % n * 20_000, b"!"], method="POST")

    async def main() -> list[tuple[int, Answer]]:
        return await asyncio.gather(*map(one, range(requests)))

    for n, answer in asyncio.run(main()):
        if n % 4:
            assert (answer.status, answer.ended, answer.failure) == (200, True, None)
            assert answer.body == b"%d" % n * 20_000 + b"!"
        else:
            assert answer.status == 500 or not answer.ended
    assert made.app.running == 0
    assert len(made.reports) == requests


# -- frames of a worker that lies ----------------------------------------------------------------------


def written(frames: list[tuple[bytes, bytes]], **more: Any) -> tuple[list[dict[str, Any]], ResponseWriter]:
    """Return the ASGI messages for frames, and their writer."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    writer = ResponseWriter(send, Limits(), more.get("method", "GET"), trailers=True, offered=True)

    async def main() -> None:
        for kind, payload in frames:
            if not writer.over:
                await writer.take(kind, payload)

    asyncio.run(main())
    return sent, writer


def head_frame(*fields: tuple[bytes, bytes], status: bytes = b"200") -> tuple[bytes, bytes]:
    return HEAD, pack_fields([(b":status", status), *fields])


@pytest.mark.parametrize(
    "frames",
    [
        [(DATA, b"early")],
        [(END, b"")],
        [(b"X", b"")],
        [(HEAD, b"")],
        [(HEAD, b"\x00\x00\x00")],
        [(HEAD, pack_fields([(b"status", b"200")]))],
        [head_frame(status=b"2000")],
        [head_frame(status=b"+20")],
        [head_frame(status=b"100")],
        [head_frame((b"x-a", b"1\r\nx-b: 2"))],
        [head_frame((b"x-a\r\n", b"1"))],
        [head_frame((b"", b"1"))],
        [head_frame((b"Transfer-Encoding", b"chunked"))],
        [head_frame((b"connection", b"keep-alive"))],
        [head_frame((b"content-length", b"1"), (b"content-length", b"1"))],
        [head_frame((b"content-length", b"-1"))],
        [head_frame(*[(b"x-a", b"1")] * 300)],
        [head_frame((b"x-a", b"1" * 70_000))],
    ],
)
def test_a_malformed_head_is_not_passed_on(frames: list[tuple[bytes, bytes]]) -> None:
    sent, writer = written(frames)
    assert sent == []
    assert writer.over
    assert writer.fault.startswith("the guest's response is malformed: ")


@pytest.mark.parametrize(
    "frames",
    [
        [head_frame()],
        [head_frame(), (FAULT, b"InternalError")],
        [(DATA, b"12"), (DATA, b"3456")],
        [(DATA, b"1234"), (END, b"")],
        [(DATA, b"12345"), (END, pack_fields([(b"x-a", b"1\n")]))],
    ],
    ids=["head", "error", "longer", "shorter", "trailers"],
)
def test_a_malformed_body_has_no_end(frames: list[tuple[bytes, bytes]]) -> None:
    sent, writer = written([head_frame((b"content-length", b"5")), *frames])
    assert writer.over
    assert not writer.complete
    assert len(b"".join(one.get("body", b"") for one in sent)) <= 5
    assert all(one.get("more_body", True) for one in sent[1:])


def test_frames_longer_than_their_bound_are_refused() -> None:
    for kind, length in ((DATA, 65537), (HEAD, max_frame_bytes(Limits()) + 1), (END, 1 << 31)):
        frames = ServedFrames(max_frame_bytes(Limits()))
        frames.feed(frame(kind, b"")[:1] + length.to_bytes(4, "little"))
        with pytest.raises(FrameError):
            frames.next()


@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9))))
def test_fields_pass_unchanged(fields: list[tuple[bytes, bytes]]) -> None:
    assert unpack_fields(pack_fields(fields)) == fields


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_any_bytes_are_frames_or_an_error(data: bytes, cuts: list[int]) -> None:
    """However the bytes arrive, they are the same frames, and no other exception than ``FrameError`` is raised."""

    def read(parts: list[bytes]) -> list[Any]:
        frames, found = ServedFrames(100), []
        try:
            for part in parts:
                frames.feed(part)
                while (one := frames.next()) is not None:
                    found.append(one)
                    if one[0] != DATA:
                        unpack_fields(one[1])
        except FrameError as error:
            found.append(str(error))
        return found

    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    assert read([data]) == read([data[a:b] for a, b in pairwise(places)])


def test_a_worker_that_keeps_its_end_of_the_connection_does_not_hold_the_request() -> None:
    """The end of the call shuts the connection down, also for copies of its descriptor."""
    kept: list[int] = []

    async def main() -> None:
        sandbox = await runtime().asandbox(component("py-handler", runtime()))
        end, far = connected(100)
        kept.append(os.dup(far.fileno()))
        try:
            await sandbox.aserve(ServedHead("GET", "http", "a.example", "/silent", []), far)
            assert [one async for one in end.frames()] == []
        finally:
            end.close()
            os.close(kept.pop())
            await sandbox.aclose()

    asyncio.run(asyncio.wait_for(main(), 60))
