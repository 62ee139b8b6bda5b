"""A request that a worker serves which lies: what it writes is checked, and what it answers is bytes or its end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from aegis import WorkerCrashed
from aegis.host.net.http.served_frames import DATA, END, HEAD, ServedHead, frame, pack_fields
from aegis.limits import Limits
from aegis.serve.connection import connected
from aegis.serve.response import max_frame_bytes
from tests.isolation.isolated import only_where_there_are_workers
from tests.isolation.liar import GOOD, Peer, done, lying

pytestmark = only_where_there_are_workers
HANDLER = """(component
  (import "wasi:http/types@0.2.12" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $outparam))
  (core module $m (func (export "handle") (param i32 i32)))
  (core instance $m (instantiate $m))
  (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
    (canon lift (core func $m "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.12" (instance $handler)))"""
WHOLE = frame(HEAD, pack_fields([(b":status", b"200")])) + frame(DATA, b"body") + frame(END, b"")


def serving(answer: Callable[[Peer, int], Any]) -> Callable[[Peer, Any], None]:
    """Return the script of a worker that gets a request; ``answer`` gets the descriptor of its connection."""

    def script(peer: Peer, message: Any) -> None:
        if message[0] != "connect":
            return
        peer.send(done(None))
        request, (descriptor,) = peer.recv_with(1)
        assert request[:5] == ["serve", "GET", "http", "a.example", "/hello"]
        peer.send(answer(peer, descriptor))
        os.close(descriptor)

    return script


def write(descriptor: int, data: bytes) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as end:
        end.sendall(data)


def request_to(script: Callable[[Peer, Any], None]) -> tuple[Any, bytes, list[Any]]:
    """Return the outcome of a request to a lying worker, the rest of its response, and the frames that it wrote."""
    sandbox, liar = lying(HANDLER, script)

    async def main() -> tuple[Any, bytes, list[Any]]:
        end, far = connected(max_frame_bytes(Limits()))
        try:
            outcome, rest = await sandbox.aserve(ServedHead("GET", "http", "a.example", "/hello", []), far)
            return outcome, rest, [one async for one in end.frames()]
        finally:
            end.close()

    try:
        return asyncio.run(asyncio.wait_for(main(), 60))
    finally:
        sandbox.close()
        liar.discard()


def test_frames_pass_by_the_connection_and_by_the_answer() -> None:
    def answer(peer: Peer, descriptor: int) -> Any:
        write(descriptor, WHOLE[:-3])
        return done(WHOLE[-3:])

    outcome, rest, frames = request_to(serving(answer))
    assert outcome.status == "returned"
    assert rest == WHOLE[-3:]
    assert [kind for kind, _ in frames] == [HEAD, DATA]


@pytest.mark.parametrize("value", [None, 1, "text", [b"x"], b"x" * (2 << 20)], ids=lambda value: str(value)[:9])
def test_an_answer_that_is_no_rest_of_a_response_ends_the_worker(value: Any) -> None:
    outcome, rest, _ = request_to(serving(lambda peer, descriptor: done(value)))
    assert isinstance(outcome.error, WorkerCrashed)
    assert rest == b""


def test_a_worker_that_keeps_the_connection_does_not_hold_the_request() -> None:
    kept = []

    def answer(peer: Peer, descriptor: int) -> Any:
        kept.append(os.dup(descriptor))
        return done(b"")

    try:
        assert request_to(serving(answer))[1:] == (b"", [])
    finally:
        for descriptor in kept:
            os.close(descriptor)


def test_a_worker_that_rejects_the_connection_ends() -> None:
    def script(peer: Peer, message: Any) -> None:
        peer.send(["rejected", None, GOOD, []])

    outcome, _, _ = request_to(script)
    assert isinstance(outcome.error, WorkerCrashed)
