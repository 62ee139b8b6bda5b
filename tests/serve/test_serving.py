"""A component that exports an HTTP handler answers requests, in WASI 0.2 and 0.3, in process and isolated."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from aegis import GuestTrap, NetworkCapability
from aegis.errors import DeadlineExceeded
from aegis.serve import ResponseCutOff
from tests.host.http.servers import server
from tests.serve.asgi_client import Answer, ask, ask_now, scope_of
from tests.serve.served import GUESTS, IDS, PLACES, served

TRAILERS = {"extensions": {"http.response.trailers": {}}}

pytestmark = pytest.mark.usual(one_of="guest")
in_both_places = pytest.mark.parametrize(("guest", "isolate"), PLACES, ids=IDS)
both_versions = pytest.mark.parametrize("guest", GUESTS)


def pieces(count: int) -> Iterator[bytes]:
    return (bytes([n % 251]) * 65536 for n in range(count))


@in_both_places
def test_the_head_of_a_request_and_of_its_response_pass_exactly(guest: str, isolate: bool) -> None:
    app = served(guest, isolate).app
    headers = [
        (b"x-a", b"1"), (b"x-a", b"2"), (b"x-latin", b"\xe9"), (b"te", b"trailers"), (b"keep-alive", b"5"),
        (b"connection", b"close, X-Hop"), (b"x-hop", b"3"), (b"transfer-encoding", b"chunked"),
    ]  # fmt: skip
    found = json.loads(ask_now(app, "/head?c=d&e=%2F", method="PATCH", headers=headers, scheme="https").body)
    assert found == {
        "method": "PATCH", "scheme": "https", "authority": "a.example", "path": "/head?c=d&e=%2F",
        "headers": [["x-a", "1"], ["x-a", "2"], ["x-latin", "\xe9"]],
    }  # fmt: skip
    answer = ask_now(app, "/hello")
    assert (answer.status, answer.headers, answer.body) == (200, [(b"content-type", b"text/plain")], b"hello\n")
    assert answer.ended
    assert ask_now(app, "/status/418").status == 418


@in_both_places
def test_bodies_stream_both_ways_with_trailers(guest: str, isolate: bool) -> None:
    sent = list(pieces(20))
    made = served(guest, isolate)
    answer = ask_now(made.app, "/echo", sent, method="POST", headers=[(b"te", b"trailers")], **TRAILERS)
    assert answer.body == b"".join(sent)
    assert answer.trailers == [(b"x-size", b"1310720")]
    assert made.report.complete
    assert made.report.status == 200
    assert not made.report.reason
    assert made.report.outcome is not None
    assert made.report.outcome.returned()
    assert made.report.outcome.usage.bytes_in >= 1310720


@both_versions
def test_trailers_are_left_out_without_the_extension_or_a_client_that_takes_them(guest: str) -> None:
    app = served(guest).app
    for answer in (
        ask_now(app, "/echo", [b"a"], headers=[(b"te", b"trailers")]),
        ask_now(app, "/echo", [b"a"], **TRAILERS),
    ):
        assert (answer.body, answer.trailers, answer.failure) == (b"a", None, None)


@in_both_places
def test_a_body_waits_for_its_reader(guest: str, isolate: bool) -> None:
    """While the client takes nothing, at most a few hundred KiB of an endless upload are read."""
    app = served(guest, isolate).app
    taken = 0
    closed = asyncio.Event()

    async def main() -> int:
        nonlocal taken

        async def receive() -> dict[str, object]:
            nonlocal taken
            if closed.is_set():
                return {"type": "http.disconnect"}
            taken += 65536
            return {"type": "http.request", "body": bytes(65536), "more_body": True}

        stopped = asyncio.Event()

        async def send(message: dict[str, object]) -> None:
            if message["type"] == "http.response.body":
                stopped.set()
                await closed.wait()

        task = asyncio.create_task(app(scope_of("/echo", "POST"), receive, send))
        await stopped.wait()
        before = -1
        while before != taken:  # until nothing moves any more
            before = taken
            for _ in range(50):
                await asyncio.sleep(0.001)
        closed.set()
        await task
        return before

    assert asyncio.run(main()) < 2 << 20


@in_both_places
def test_a_trap_before_the_head_is_a_500_without_details(guest: str, isolate: bool) -> None:
    made = served(guest, isolate)
    answer = ask_now(made.app, "/trap")
    assert (answer.status, answer.body, answer.failure) == (500, b"500 Internal Server Error\n", None)
    outcome = made.report.outcome
    assert outcome is not None
    assert outcome.trapped("unreachable")
    assert b"a secret of the guest" in outcome.stderr
    assert (made.report.status, made.report.complete) == (500, False)


@in_both_places
def test_a_trap_after_the_head_ends_the_connection_abnormally(guest: str, isolate: bool) -> None:
    answer = ask_now(served(guest, isolate).app, "/late-trap")
    assert (answer.status, answer.body, answer.ended) == (200, b"before", False)
    assert isinstance(answer.failure, ResponseCutOff)
    assert isinstance(answer.failure.__cause__, GuestTrap)


@in_both_places
def test_the_deadline_is_504_before_the_head_and_an_abnormal_end_after_it(guest: str, isolate: bool) -> None:
    app = served(guest, isolate, policy={"timeout": "700ms"}).app

    async def main() -> list[Answer]:
        await ask(app, "/hello")
        return await asyncio.gather(ask(app, "/loop"), ask(app, "/late-loop"))

    early, late = asyncio.run(main())
    assert (early.status, early.body, early.failure) == (504, b"504 Gateway Timeout\n", None)
    assert not late.ended
    assert late.status in (200, 504)
    if late.status == 200:
        assert isinstance(late.failure, ResponseCutOff)
        assert isinstance(late.failure.__cause__, DeadlineExceeded)


@in_both_places
def test_a_client_that_goes_ends_the_call(guest: str, isolate: bool) -> None:
    """The guest would write without end; its outcome is not waited for by the deadline of a minute."""
    made = served(guest, isolate)
    gone = asyncio.Event()

    async def on_piece(piece: bytes) -> None:
        gone.set()

    async def main() -> Answer:
        return await ask(made.app, "/endless", gone_after=gone, on_piece=on_piece)

    answer = asyncio.run(main())
    assert answer.failure is None
    assert (made.report.complete, made.report.reason) == (False, "the client is gone")
    assert made.report.seconds < 50
    assert made.app.running == 0


@both_versions
def test_a_request_that_is_cancelled_ends_the_call(guest: str) -> None:
    made = served(guest)

    async def main() -> None:
        task = asyncio.create_task(ask(made.app, "/loop"))
        while not made.app.running:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert made.app.running == 0


@both_versions
def test_a_client_that_takes_nothing_holds_no_place(guest: str) -> None:
    """It has the time of a call to take the rest of the response; meanwhile another request has its place."""
    made = served(guest, policy={"timeout": "2s"}, max_concurrent=1)
    never = asyncio.Event()

    async def on_piece(piece: bytes) -> None:
        await never.wait()

    async def main() -> tuple[Answer, Answer]:
        await ask(made.app, "/hello")
        slow = asyncio.create_task(ask(made.app, "/endless", on_piece=on_piece))
        while made.app.running == 0:
            await asyncio.sleep(0)
        while made.app.running == 1:
            await asyncio.sleep(0.001)
        return await ask(made.app, "/hello"), await slow

    other, slow = asyncio.run(main())
    assert other.status == 200
    assert isinstance(slow.failure, ResponseCutOff)
    assert str(slow.failure) == "the client did not take the response in time"


@in_both_places
def test_requests_see_nothing_of_each_other_unless_they_share_a_sandbox(guest: str, isolate: bool) -> None:
    app = served(guest, isolate).app
    assert [ask_now(app, "/count").body for _ in range(2)] == [b"1\n", b"1\n"]
    shared = served(guest, isolate, requests_per_sandbox=2)

    async def main() -> list[bytes]:
        found = [(await ask(shared.app, "/count")).body for _ in range(3)]
        await shared.app.aclose()
        return found

    assert asyncio.run(main()) == [b"1\n", b"2\n", b"1\n"]


@both_versions
def test_a_sandbox_is_not_shared_after_its_guest_trapped(guest: str) -> None:
    app = served(guest, requests_per_sandbox=10).app

    async def main() -> list[bytes]:
        found = [(await ask(app, path)).body for path in ("/count", "/trap", "/count", "/count")]
        await app.aclose()
        return found

    assert asyncio.run(main()) == [b"1\n", b"500 Internal Server Error\n", b"1\n", b"2\n"]


@both_versions
def test_two_requests_at_once_have_a_sandbox_each(guest: str) -> None:
    app = served(guest, requests_per_sandbox=10).app

    async def main() -> list[bytes]:
        answers = await asyncio.gather(*(ask(app, "/count") for _ in range(2)))
        await app.aclose()
        return [answer.body for answer in answers]

    assert asyncio.run(main()) == [b"1\n", b"1\n"]


@both_versions
def test_a_request_that_the_guest_keeps_is_empty_for_the_next_one(guest: str) -> None:
    app = served(guest, requests_per_sandbox=2).app

    async def main() -> list[bytes]:
        first = await ask(app, "/keep", [b"of the first client"])
        second = await ask(app, "/keep", [b"of the second"])
        await app.aclose()
        return [first.body, second.body]

    first, second = asyncio.run(main())
    assert first == b"first\n"
    assert second in (b"StreamError_LastOperationFailed\n", b"ErrorCode_ConnectionTerminated\n")


@in_both_places
def test_the_network_needs_its_grant(guest: str, isolate: bool) -> None:
    with server() as port:
        place = f"127.0.0.1:{port}"
        headers = [(b"x-target", place.encode())]
        made = served(guest, isolate)
        denied = ask_now(made.app, "/fetch", headers=headers)
        assert (denied.status, denied.body) == (502, b"ErrorCode_HttpRequestDenied\n")
        assert made.report.outcome is not None
        assert [one.remedy for one in made.report.outcome.denials] == [f"--allow-net 'GET http://{place}'"]
        network = NetworkCapability(allow=[f"GET http://{place}"])
        granted = ask_now(served(guest, isolate, policy={"network": network}).app, "/fetch", headers=headers)
        assert (granted.status, granted.body) == (200, b"200\n")


@pytest.mark.parametrize("isolate", [False, True], ids=["in process", "isolated"])
def test_a_response_of_another_server_is_passed_on_unread(isolate: bool) -> None:
    with server() as port:
        network = NetworkCapability(allow=[f"GET http://127.0.0.1:{port}"])
        app = served("py-async-handler", isolate, policy={"network": network}).app
        headers = [(b"x-target", f"127.0.0.1:{port}".encode()), (b"te", b"trailers")]
        answer = ask_now(app, "/relay", headers=headers, **TRAILERS)
        assert (answer.status, answer.body) == (200, b"hellohellohello")
        assert answer.trailers == [(b"x-trailer", b"done")]
        assert answer.failure is None


@pytest.mark.parametrize("isolate", [False, True], ids=["in process", "isolated"])
def test_a_handler_may_answer_with_the_stream_of_the_request(isolate: bool) -> None:
    sent = list(pieces(8))
    answer = ask_now(served("py-async-handler", isolate).app, "/forward", sent, method="POST")
    assert (answer.body, answer.ended, answer.failure) == (b"".join(sent), True, None)


@both_versions
def test_an_unread_request_does_not_hold_up_the_answer(guest: str) -> None:
    answer = ask_now(served(guest).app, "/hello", list(pieces(40)), method="POST")
    assert (answer.status, answer.body, answer.failure) == (200, b"hello\n", None)


@both_versions
def test_responses_without_a_body_have_none(guest: str) -> None:
    app = served(guest).app
    head = ask_now(app, "/hello", method="HEAD")
    assert (head.status, head.body, head.ended) == (200, b"", True)
    for status in (204, 304):
        answer = ask_now(app, f"/status/{status}")
        assert (answer.status, answer.body, answer.failure) == (status, b"", None)


@both_versions
def test_the_error_of_a_handler_is_a_status(guest: str) -> None:
    made = served(guest)
    assert ask_now(made.app, "/denied").status == 413
    answer = ask_now(made.app, "/error")
    assert (answer.status, answer.body) == (500, b"500 Internal Server Error\n")
    assert [one.reason for one in made.reports] == [
        "the guest answered with the error HttpRequestBodySize", "the guest answered with the error InternalError",
    ]  # fmt: skip


@both_versions
def test_a_guest_that_goes_on_after_its_response_has_answered(guest: str) -> None:
    made = served(guest, policy={"timeout": "700ms"})
    asyncio.run(ask(made.app, "/hello"))
    answer = ask_now(made.app, "/after")
    if answer.status == 200:  # the machine may be so slow that the deadline comes before
        assert (answer.body, answer.failure) == (b"whole\n", None)
        assert made.reports[-1].complete
        assert made.reports[-1].outcome is not None
        assert made.reports[-1].outcome.status == "timeout"
